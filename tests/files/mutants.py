"""Damaged and forged model files, made of a good one at random."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.files.forging import Tensor, compute_hash, join, put_together, take_apart

BYTES = [0, 1, 9, 32, 34, 39, 44, 45, 47, 58, 91, 92, 93, 123, 125, 127, 128, 192, 255]

# What stands where something else was expected.
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    10**6,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    0.5,
    -0.0,
    1e308,
    "",
    "auto",
    "cpu",
    "cuda",
    "meta",
    "x" * 10_000,
    "\ud800",
    "\0",
    "../../etc/passwd",
    "/dev/zero",
    "resnet152",
    "efficientnet_lite0",
    "timm/vit_gigantic_patch14_224",
    "timm/hf-hub:someone/something",
    "timm/local-dir:/tmp",
    "builtins.eval",
    "head",
    "stem.conv1",
    [],
    [[]],
    [0] * 1_000,
    [1, 2, 3],
    [64, 64, 64],
    [10**6] * 3,
    {},
    {"a": 1},
    {"$": "tuple", "v": []},
    {"$": "tuple", "v": [8, 8, 3]},
    {"$": "tuple", "v": [10**6, 10**6, 3]},
    {"$": "tuple", "v": ["red"]},
    {"$": "float", "v": "nan"},
    {"$": "float", "v": "inf"},
    {"$": "bytes", "v": "80"},
    {"$": "path", "v": "/tmp"},
    {"$": "path", "v": "\0"},
    {"$": "dict", "v": [[1, 2], [None, 3]]},
    {"$": "dict", "v": [[{"$": "float", "v": "nan"}, 1]]},
    {"$": "array", "v": ["<i8", [0], 0]},
    {"$": "array", "v": ["<i8", [3], 0]},
    {"$": "array", "v": ["|u1", [24], 0]},
    {"$": "array", "v": ["<M8[s]", [3], 0]},
    {"$": "scalar", "v": ["<f4", "0000807f"]},
    {"$": "scalar", "v": ["<i8", "ff" * 8]},
    {"$": "scalar", "v": ["|b1", "01"]},
    {"$": "objects", "v": [False, [3], [1, "two", None]]},
    {"$": "objects", "v": [False, [2], [[], {}]]},
    {"$": "optimizer", "v": "SGD"},
    {"$": "optimizer", "v": "__class__"},
    {"$": "dtype", "v": "float32"},
    {"$": "views", "v": {"n_views": 3, "random_state": 0, "mirror": True}},
    {"$": "views", "v": {"n_views": 10**9, "random_state": [], "mirror": {}}},
    {"$": "cache", "v": 100},
    {"$": "cache", "v": "/tmp/place"},
    {"$": "cache_info", "v": [1, 2, 3, 4.0, 5]},
    {"$": "backbone", "v": "mine"},
    {"$": "pickle", "v": "gASVIAAAAAAAAACMBXBvc2l4"},
]


def mutate(rng: Random, packed: bytes) -> tuple[str, bytes]:
    """Return how a file was changed, and the result."""
    kind = rng.choice(list(KINDS))
    return kind, KINDS[kind](rng, packed)


def _split(packed: bytes) -> tuple[bytes, bytes]:
    n_bytes = int.from_bytes(packed[:8], "little")
    return packed[8 : 8 + n_bytes], packed[8 + n_bytes :]


def change_bytes(rng: Random, text: bytes) -> bytes:
    """Change, repeat, insert or delete a few bytes of a text."""
    changed = bytearray(text)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at, n = rng.randrange(len(changed)), rng.choice([1, 1, 2, 8, 60])
        how = rng.randrange(5)
        if how == 0:
            changed[at] = rng.choice(BYTES)
        elif how == 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 2 and len(changed) > n + 1:
            del changed[at : at + n]
        elif how == 3:
            changed[at:at] = changed[at : at + n] * rng.choice([1, 2, 100])
        else:
            changed[at:at] = bytes([rng.choice(BYTES)]) * n
    return bytes(changed)


def _change_header(rng: Random, packed: bytes) -> bytes:
    text, payload = _split(packed)
    return join(change_bytes(rng, text), payload)


def _change_length(rng: Random, packed: bytes) -> bytes:
    n_bytes = int.from_bytes(packed[:8], "little")
    choices = [0, 1, 2, n_bytes - 1, n_bytes + 1, len(packed), 2**22 + 1, 2**63, 10**8]
    return rng.choice(choices).to_bytes(8, "little") + packed[8:]


def _change_payload(rng: Random, packed: bytes) -> bytes:
    text, payload = _split(packed)
    changed = bytearray(payload)
    for _ in range(rng.choice([1, 1, 4])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return join(text, bytes(changed))


def _cut_off(rng: Random, packed: bytes) -> bytes:
    return packed[: rng.randrange(len(packed))]


def _append(rng: Random, packed: bytes) -> bytes:
    return packed + bytes(rng.choice([1, 8, 10_000]))


def _change_parts(
    change: Callable[[Random, Any, dict[str, Tensor]], None],
) -> Callable[[Random, bytes], bytes]:
    """Make a change of the description and of tensors, with a right hash."""

    def mutate_parts(rng: Random, packed: bytes) -> bytes:
        metadata, tensors = take_apart(packed)
        content = json.loads(metadata["content"])
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            change(rng, content, tensors)
        changed = {**metadata, "content": json.dumps(content)}
        return put_together(changed, tensors)

    return mutate_parts


def list_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the places of all values within a value of JSON."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = [*value.items()]
    elif isinstance(value, list):
        items = [*enumerate(value)]
    places = [(*path, key) for key, _ in items]
    for key, item in items:
        places += list_places(item, (*path, key))
    return places


def put(content: Any, place: tuple[Any, ...], value: Any) -> None:
    """Replace what is at a place."""
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = copy.deepcopy(value)


def _get(content: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        content = content[key]
    return content


def _change_content(rng: Random, content: Any, tensors: dict[str, Tensor]) -> None:
    places = list_places(content)
    place = rng.choice(places)
    how = rng.randrange(6)
    parent = _get(content, place[:-1])
    if how == 0:
        del parent[place[-1]]
    elif how == 1 and isinstance(parent, dict):
        name = rng.choice(["x", "widths", "backbone", "reference", "$"])
        put(parent, (name,), rng.choice(VALUES))
    elif how == 2:
        put(content, place, _get(content, rng.choice(places)))
    else:
        put(content, place, rng.choice(VALUES))


def _change_tensors(rng: Random, content: Any, tensors: dict[str, Tensor]) -> None:
    name = rng.choice(list(tensors))
    dtype, shape, held = tensors[name]
    how = rng.randrange(6)
    if how == 0:
        del tensors[name]
    elif how == 1:
        tensors[rng.choice(["array.1", "array.9", "head.linear.x", "\ud800", ""])] = (
            tensors[name]
        )
    elif how == 2:
        tensors[name] = Tensor(
            rng.choice(["F64", "BF16", "C64", "I8", "BOOL"]), shape, held
        )
    elif how == 3:
        tensors[name] = Tensor(
            dtype, rng.choice([[], [0], [1, *shape], shape[::-1]]), held
        )
    elif how == 4:
        tensors[name] = Tensor(
            dtype, shape, rng.choice([b"", held[:-4], bytes(len(held))])
        )
    else:
        filler = rng.choice([b"\xff", b"\x7f\x80", b"\0\0\x80\x7f"])
        changed = (filler * len(held))[: len(held)]
        tensors[name] = Tensor(dtype, shape, changed)


def _change_metadata(rng: Random, packed: bytes) -> bytes:
    metadata, tensors = take_apart(packed)
    name = rng.choice(["format", "version", "kind", "content", "card", "more"])
    texts = ["", "1", "2", "sktransfer", "{}", "[]", "null", "\ud800", "[" * 10_000]
    changed = {**metadata, name: rng.choice(texts)}
    header = json.loads(_split(packed)[0])
    header["__metadata__"] = {**changed, "sha256": compute_hash(changed, tensors)}
    return join(header, _split(packed)[1])


KINDS: dict[str, Callable[[Random, bytes], bytes]] = {
    "bytes of the header": _change_header,
    "length of the header": _change_length,
    "bytes of tensors": _change_payload,
    "cut off": _cut_off,
    "more": _append,
    "description": _change_parts(_change_content),
    "description again": _change_parts(_change_content),
    "tensors": _change_parts(_change_tensors),
    "metadata": _change_metadata,
}

# Of these, the hash within the file is right.
FORGED = {"description", "description again", "tensors", "metadata"}
