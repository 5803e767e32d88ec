import json
import math
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from sktransfer._files.encoding import (
    MOST_COLLISIONS,
    MOST_NESTING,
    Codec,
    Decoder,
    Encoder,
    EncodingError,
)

CODECS = {
    "complex number": Codec(
        lambda value: type(value) is complex,
        lambda value: [value.real, value.imag],
        lambda parts: complex(*parts),
    )
}


def encode(value):
    """Return JSON, having been text, and the bytes of the arrays."""
    encoder = Encoder(CODECS)
    item = json.loads(json.dumps(encoder.encode(value), allow_nan=False))
    return item, [bytearray(array.tobytes()) for array in encoder.arrays]


def decode(item, arrays=()):
    return Decoder(CODECS, list(arrays)).decode(item)


def tagged(kind, value):
    return {"$": kind, "v": value}


def nest(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


INTEGERS = [f"{c}{n}" for c in "iu" for n in (1, 2, 4, 8)]
LABELS = {
    **{f"integers {name}": np.array([0, 1, 100], name) for name in INTEGERS},
    **{f"floats {n}": np.array([0, -0.0, 0.1], f"f{n}") for n in (2, 4, 8)},
    "long floats": np.array([0, 0.1], np.longdouble),
    "big-endian": np.array([1, 2, 300], ">i4"),
    "big-endian floats": np.array([1, 0.1], ">f8"),
    "big-endian texts": np.array(["ant", "bee"], ">U3"),
    "truth values": np.array([False, True]),
    "texts": np.array(["ant", "Biene", "蜂", ""]),
    "half of a pair": np.array(["\ud800"]),
    "objects": np.array(["ant", "bee"], object),
    "mixed": np.array([1, "bee", None, 2.5, True, (1, 2)], object),
    "bytes": np.array([b"ant", b"b\0e"]),
    "dates": np.array(["2020-01-01", "NaT"], "M8[D]"),
    "times": np.array(["2020-01-01T01:02:03.5"], "M8[ns]"),
    "25 seconds": np.array([1, 2], "M8[25s]"),
    "durations": np.array([1, 2], "m8[us]"),
    "unitless durations": np.array([1, 2], "m8"),
    "complex": np.array([1 + 2j]),
    "no rows": np.array([], np.int64),
    "no rows of three": np.zeros((0, 3)),
    "a matrix": np.arange(6).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "every other": np.arange(6)[::2],
    "a point": np.array(5),
    "a text point": np.array("ant"),
    "not finite": np.array([np.nan, np.inf, -np.inf]),
    "a payload": np.array([0x7FF8000000000123], "u8").view("f8"),
    "object matrix": np.array([["a", 1], ["b", None]], object),
}
if hasattr(np.dtypes, "StringDType"):
    LABELS["strings"] = np.array(["ant", "a long bee"], np.dtypes.StringDType())


@pytest.mark.parametrize("name", LABELS)
def test_arrays_come_back_in_every_bit(name):
    value = LABELS[name]
    found = decode(*encode(value))
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    if value.dtype.kind in ("O", "T"):
        assert found.tolist() == value.tolist()
        assert list(map(type, found.flat)) == list(map(type, value.flat))
    else:
        assert found.tobytes() == value.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize(
    "name", [n for n in LABELS if LABELS[n].dtype.kind not in ("O", "T")]
)
def test_scalars_come_back_in_every_bit(name):
    for value in LABELS[name].ravel():
        found = decode(*encode(value))
        assert type(found) is type(value)
        assert found.dtype == value.dtype
        assert found.tobytes() == value.tobytes()


def test_scalars_take_no_room_among_the_tensors():
    assert encode({"history": [np.float64(0.5)] * 100})[1] == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**64,
        -(10**1000),
        0.1,
        5e-324,
        1.7976931348623157e308,
        math.inf,
        -math.inf,
        "",
        "text \0 \ud800 蜂",
        b"",
        b"\0\xff",
        (),
        (1,),
        ((1, (2,)), [3, (4,)]),
        [],
        [[], [None]],
        {},
        {"a": {"b": (1,)}},
        {"$": "tuple", "v": [1]},
        {"$": 1},
        {1: "one", 2: "two"},
        {(1, "a"): None, None: 1, True: 2, 2.5: 3},
        {"a": 1, 2: "b"},
        Path("folder/file"),
        1 + 2j,
        [1j, {"z": (2j,)}],
    ],
)
def test_values_come_back_equal_and_of_their_type(value):
    found = decode(*encode(value))
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_nan_and_minus_zero_come_back():
    assert math.isnan(decode(*encode(math.nan)))
    assert math.copysign(1, decode(*encode(-0.0))) == -1


def test_a_mapping_keeps_its_order_and_numpy_keys():
    value = {np.int64(3): 1, np.str_("b"): 2, np.int64(1): 3}
    found = decode(*encode(value))
    assert list(found) == list(value)
    assert list(map(type, found)) == list(map(type, value))


def test_a_path_of_another_system_becomes_one_of_this():
    assert decode(*encode(PurePosixPath("a/b"))) == Path("a/b")


def test_nesting_up_to_the_bound_comes_back():
    value = nest(MOST_NESTING)
    assert decode(*encode(value)) == value


class Number(int):
    pass


class Matrix(np.ndarray):
    pass


def _holds_itself():
    value = []
    value.append(value)
    return value


def _holds_itself_twice():
    value = []
    value += [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda x: x, "builtins.function"),
        (print, "builtin_function"),
        (int, "builtins.type"),
        (Number, "builtins.type"),
        (Number(3), "Number"),
        ({1, 2}, "builtins.set"),
        (frozenset(), "frozenset"),
        (range(3), "range"),
        (bytearray(b"a"), "bytearray"),
        (object(), "builtins.object"),
        (np.random.RandomState(0), "RandomState"),
        (np.random.default_rng(0), "Generator"),
        (np.zeros(3).view(Matrix), "Matrix"),
        (np.ma.masked_array([1]), "MaskedArray"),
        (np.rec.array([(1,)], dtype=[("a", int)]), "recarray"),
        (np.zeros(2, [("a", int)]), "dtype"),
        (np.zeros(2, [("a", int)])[0], "dtype"),
        (np.zeros(2, "V4"), "dtype"),
        (np.array([print], object), "builtin_function"),
        ([{"a": (1, {2: print})}], "builtin_function"),
        ({print: 1}, "builtin_function"),
        (_holds_itself(), "nested"),
        (_holds_itself_twice(), "so large"),
        (nest(MOST_NESTING + 1), "nested"),
        (1 << 5_000, "digits"),
        (np, "builtins.module"),
    ],
)
def test_values_of_other_kinds_are_refused_by_name(value, named):
    with pytest.raises(EncodingError, match=named):
        encode(value)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy before 2")
def test_strings_that_may_be_missing_are_refused():
    dtype = np.dtypes.StringDType(na_object=np.nan)
    with pytest.raises(EncodingError, match="StringDType"):
        encode(np.array(["a", np.nan], dtype))


ARRAY = ("array", ["<i8", [2], 0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "item",
    [
        {"$": "tuple"},
        {"$": "tuple", "v": [], "w": 1},
        {"$": 1, "v": []},
        {"$": ["tuple"], "v": []},
        tagged("", []),
        tagged("pickle", "80"),
        tagged("builtins.eval", "1"),
        tagged("tuple", 5),
        tagged("tuple", None),
        tagged("float", 1.5),
        tagged("float", "1.5"),
        tagged("float", []),
        tagged("bytes", "8"),
        tagged("bytes", 8),
        tagged("path", 5),
        tagged("path", None),
        tagged("dict", 5),
        tagged("dict", [[1]]),
        tagged("dict", [[[], 1]]),
        tagged("dict", [[{}, 1]]),
        tagged("dict", [[1, 1], [1, 2]]),
        tagged("dict", [[1, 1], [True, 2]]),
        tagged("complex number", "text"),
        tagged("complex number", [1, 2, 3]),
        tagged("array", None),
        tagged("array", ["<i8", [2]]),
        tagged("array", ["<i8", [2], 1]),
        tagged("array", ["<i8", [2], -1]),
        tagged("array", ["<i8", [2], True]),
        tagged("array", ["<i8", [2], 0.0]),
        tagged("array", ["<i8", [2], "0"]),
        tagged("array", ["<i8", [3], 0]),
        tagged("array", ["<i8", [2.0], 0]),
        tagged("array", ["<i8", [True, 2], 0]),
        tagged("array", ["<i8", [-1, -2], 0]),
        tagged("array", ["<i8", [-1], 0]),
        tagged("array", ["<i8", "2", 0]),
        tagged("array", ["<i8", None, 0]),
        tagged("array", ["<i8", [1] * 40 + [2], 0]),
        tagged("array", ["<i8", [10**12], 0]),
        tagged("array", ["<i8", [0, 10**30], 0]),
        tagged("array", ["int64", [2], 0]),
        tagged("array", ["O", [2], 0]),
        tagged("array", ["|O8", [2], 0]),
        tagged("array", ["|V8", [2], 0]),
        tagged("array", ["i4,i4", [2], 0]),
        tagged("array", ["2i4", [2], 0]),
        tagged("array", [[["a", "<i8"]], [2], 0]),
        tagged("array", [{"names": [], "formats": []}, [2], 0]),
        tagged("array", [None, [2], 0]),
        tagged("array", ["<U0", [10**12], 0]),
        tagged("array", ["|S0", [16], 0]),
        tagged("array", ["<U4", [1], 0]),
        tagged("array", ["|b1", [16], 0]),
        tagged("array", ["a16", [1], 0]),
        tagged("array", ["<M8[parsec]", [2], 0]),
        tagged("array", ["\ud800", [2], 0]),
        tagged("scalar", ["<i8", "00"]),
        tagged("scalar", ["<i8", 0]),
        tagged("scalar", ["O", "00" * 8]),
        tagged("scalar", ["<U1", "ffffffff"]),
        tagged("scalar", ["|b1", "02"]),
        tagged("scalar", None),
        tagged("objects", [False, [2], [1]]),
        tagged("objects", [False, [10**12], []]),
        tagged("objects", [False, [], []]),
        tagged("objects", [False, "", [1]]),
        tagged("objects", [False, [1], 5]),
        tagged("objects", [False]),
        [tagged(*ARRAY), tagged(*ARRAY)],
        nest(MOST_NESTING + 1),
    ],
)
def test_what_encodes_nothing_is_refused(item):
    with pytest.raises(EncodingError):
        decode(item, [bytearray(b"\xff" * 16)])


def test_an_array_is_used_once_and_the_file_keeps_its_own():
    arrays = [bytearray(16)]
    found = decode(tagged(*ARRAY), arrays)
    found[0] = 1
    assert arrays == [bytearray(16)]


def test_keys_that_were_made_to_collide_are_refused_at_once():
    keys = [i * (2**61 - 1) for i in range(1, 60_000)]
    assert len(set(map(hash, keys[:9]))) == 1
    with pytest.raises(EncodingError, match="same hash"):
        decode(tagged("dict", [[key, 0] for key in keys]))
    few = dict.fromkeys(keys[: MOST_COLLISIONS // 2], 0)
    assert decode(*encode(few)) == few
