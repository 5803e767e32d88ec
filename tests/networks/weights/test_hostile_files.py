"""Weight files that somebody made to do harm cost little, and end with one error."""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sktransfer._networks.weights.checkpoints import read_state
from sktransfer._networks.weights.formats.pickles import MOST_STEPS
from tests.helpers import pictures, transfer

START = b"\x80\x02"

# Reads payloads under every kind of name, and prints what was run, or looked up by a
# name in a pickle. Hooks cannot be removed, so this is a process of its own.
READ_PAYLOADS = """
import hashlib, os, pickle, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from huggingface_hub import constants
from sktransfer._networks.backbones import lite
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.timm_models.files import HubWeights
from sktransfer._networks.weights.sources import DownloadedFile, find_weights

folder = Path(sys.argv[1])

class Evil:
    def __reduce__(self):
        return os.system, (f"echo ran > {folder / 'ran'}",)

def write_raw(content, path):
    path.write_bytes(pickle.dumps(content, 2))

def write_old(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)

constants.HF_HUB_CACHE = str(folder / "hf")
torch.hub.set_dir(str(folder / "torch"))
(folder / "torch" / "checkpoints").mkdir(parents=True)
model = folder / "hf" / "models--timm--test_resnet.r160_in1k"
(model / "refs").mkdir(parents=True)
(model / "refs" / "main").write_text("a" * 40)
(model / "snapshots" / ("a" * 40)).mkdir(parents=True)
cached = model / "snapshots" / ("a" * 40) / "pytorch_model.bin"
user = folder / "mine.pth"
resnet = find_backbone("resnet18").weights["IMAGENET1K_V1"]
hub = resnet.path.parent

ran = []
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle")

def watch(event, args):
    if event.startswith(WATCHED):
        ran.append((event, str(args)))

sys.addaudithook(watch)

for content in (Evil(), {"a": Evil(), "b": torch.ones(1)}):
    for write in (torch.save, write_old, write_raw):
        for path in (resnet.path, hub / "seresnet18-4bb0ce65.pth", cached, user):
            write(content, path)
        payload = user.read_bytes()
        digest = hashlib.sha256(payload).hexdigest()
        same = hub / f"same-{digest[:8]}.pth"
        same.write_bytes(payload)
        entry = SimpleNamespace(url=f"http://127.0.0.1:9/{same.name}", name="A")
        lite.PackagedFile.find = lambda self: user
        sources = [
            resnet,
            DownloadedFile("resnet18", entry),
            lite.PackagedFile("efficientnet_lite0", digest),
            find_weights(find_backbone("mini_resnet18"), user),
            HubWeights("test_resnet"),
            HubWeights("legacy_seresnet18"),
        ]
        for source in sources:
            try:
                source.read()
            except (OSError, ValueError) as error:
                print(type(source).__name__, error)
            else:
                print("READ", source)
print("RAN", ran, (folder / "ran").exists())
user.write_bytes(pickle.dumps(Evil()))
pickle.loads(user.read_bytes())
print("CHECK", len(ran), (folder / "ran").exists())
"""


def test_a_payload_runs_nothing_under_any_name(tmp_path):
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ_PAYLOADS, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    *errors, found, check = done.stdout.splitlines()
    assert found == "RAN [] False", done.stdout
    assert check == "CHECK 2 True"
    assert len(errors) == 36
    assert not any(line.startswith("READ") for line in errors)
    assert sum("SHA-256 begins with" in line for line in errors) == 12
    assert sum("reading that would run code" in line for line in errors) == 24


def pack(path, program, entries=(), compression=zipfile.ZIP_STORED):
    """Write an archive as torch does, with a pickle of our own."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in [("data.pkl", program), *dict(entries).items()]:
            archive.writestr(f"a/{name}", content)
    return path


def name(module, word):
    return f"c{module}\n{word}\n".encode()


def string(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def integers(*values):
    return b"(" + b"".join(b"\x8a\x09" + v.to_bytes(9, "little") for v in values) + b"t"


def tensor(shape, strides, size=4, offset=0, storage="FloatStorage"):
    """Write the program that makes a tensor."""
    place = string("storage") + name("torch", storage) + string("0") + string("cpu")
    start, count = (b"\x8a\x09" + v.to_bytes(9, "little") for v in (offset, size))
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"(("
        + place
        + count
        + b"tQ"
        + start
        + integers(*shape)
        + integers(*strides)
        + b"\x89"
        + name("collections", "OrderedDict")
        + b")RtR"
    )


def named(program):
    return START + b"}" + string("weight") + program + b"s."


NUMBERS = {"data/0": np.arange(4, dtype="<f4").tobytes()}


def refuse(path, match):
    with pytest.raises(ValueError, match=match) as caught:
        read_state(path)
    assert str(path) in str(caught.value)


def test_a_tensor_written_by_hand_is_read(tmp_path):
    path = pack(tmp_path / "a.pth", named(tensor((2, 2), (1, 2))), NUMBERS)
    assert read_state(path)["weight"].tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    ("claim", "match"),
    [
        (tensor((2**40,), (0,)), "bytes, but claims a tensor of shape"),
        (tensor((2**61, 2**61), (0, 0)), "bytes, but claims a tensor of shape"),
        (tensor((5,), (1,)), "claims more numbers than there are"),
        (tensor((2,), (1,), offset=3), "claims more numbers than there are"),
        (tensor((2, 2), (2**60, 1)), "claims more numbers than there are"),
        (tensor((40,), (1,), size=2**50), "claims more numbers than there are"),
        (tensor((2**40,), (1,), size=2**50), "bytes, but claims a tensor of shape"),
        (tensor((2**62,), (1,), size=2**50), "no valid shape"),
        (tensor((1,) * 17, (1,) * 17), "no valid shape"),
        (tensor((4,), ()), "damaged"),
        (tensor((4,), (1,), storage="QInt8Storage"), "weight is a quantized tensor"),
        (tensor((4,), (1,), storage="BreadStorage"), r"holds torch\.BreadStorage"),
    ],
)
def test_claims_of_a_tensor_beyond_the_file_are_refused(tmp_path, claim, match):
    refuse(pack(tmp_path / "a.pth", named(claim), NUMBERS), match)


def shared_dicts():
    """Five levels of a thousand keys, each of which leads to all of the next level."""
    program = START + b"}q\0"
    for _ in range(5):
        keys = (string(str(i)) + b"h\0" for i in range(1000))
        program += b"}(" + b"".join(keys) + b"uq\0"
    return program + b"."


LARGE = b"\x8a\x06" + (2**46).to_bytes(6, "little")
CALLS = {
    "an array of bytes": (name("__builtin__", "bytearray") + LARGE + b"\x85R", "dict"),
    "a tensor": (name("torch", "FloatTensor") + LARGE + b"\x85R", "FloatTensor"),
    "a size": (b"(" + LARGE + b"ttR", "damaged"),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_a_pickle_calls_takes_no_memory(tmp_path, call):
    program, match = CALLS[call]
    refuse(pack(tmp_path / "a.pth", named(program)), match)


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (START + b"](" + b"}" * MOST_STEPS + b"e.", "more than 1,000,000 steps"),
        (START + b"(" * (MOST_STEPS // 10), "damaged"),
        (START + b")" + b"\x85" * (MOST_STEPS // 10) + b".", "but a tuple"),
        # A tuple of two of the same, sixty times: to hash or to show it takes forever.
        (START + b"})q\0" + b"h\0\x86q\0" * 60 + b"Ns.", "but a dict"),
        (shared_dicts(), "more than 1,000,000 entries"),
        (START + b"}r\xff\xff\xff\xff.", "damaged"),
        (START + b"ctorch\n", "damaged"),
        (START + b"c" * 1000, "damaged"),
        (START + b"X\xff\xff\xff\xff.", "damaged"),
        (START + b"NN\x86Q.", "damaged"),
        (START + b"h\x07.", "damaged"),
        (START + b"u.", "damaged"),
        (START + b"0.", "damaged"),
        (START + string("x" * 2**25) + b".", "its pickle has 33,554,"),
    ],
)
def test_pickles_made_to_cost_much_are_refused(tmp_path, program, match):
    refuse(pack(tmp_path / "a.pth", program, NUMBERS), match)


@pytest.mark.parametrize("word", ["a" * 600, "." * 60])
def test_names_that_no_network_has_are_refused(tmp_path, word):
    program = START + b"}" + string(word) + tensor((1,), (1,)) + b"s."
    refuse(pack(tmp_path / "a.pth", program, NUMBERS), "letters and")
    save_file({word: torch.ones(1)}, tmp_path / "a.safetensors")
    refuse(tmp_path / "a.safetensors", "letters and")


def test_more_tensors_than_any_network_has_are_refused(tmp_path):
    first = string("first") + tensor((1,), (1,)) + b"q\0"
    others = b"".join(string(f"{i:05}") + b"h\0" for i in range(20_000))
    path = pack(tmp_path / "a.pth", START + b"}(" + first + others + b"u.", NUMBERS)
    refuse(path, "more than 20,000 tensors")


def test_keys_with_the_same_hash_are_not_kept(tmp_path):
    step = 2**61 - 1
    keys = b"".join(
        b"\x8a\x0c" + (i * step).to_bytes(12, "little") + b"N" for i in range(200_000)
    )
    refuse(pack(tmp_path / "a.pth", START + b"}(" + keys + b"u."), "but a dict")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "it is compressed"),
        ({"entries": {f"{i}": b"" for i in range(100_000)}}, "its directory has"),
        ({"entries": {}}, r"no entry 'data/0'"),
        ({"entries": {"data/0": b"12"}}, "more numbers than there are"),
    ],
)
def test_archives_that_torch_does_not_write_are_refused(tmp_path, change, match):
    settings = {"entries": NUMBERS, **change}
    path = pack(tmp_path / "a.pth", named(tensor((4,), (1,))), **settings)
    refuse(path, match)


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = pack(tmp_path / "a.pth", named(tensor((4,), (1,))), {"data/0": bytes(4000)})
    content = path.read_bytes()
    start, end = content.rindex(b"PK\1\2"), content.index(b"PK\5\6")
    entry = content[start:end]
    copies = [entry.replace(b"data/0", f"data/{i}".encode()) for i in range(1, 6)]
    last = bytearray(content[end:])
    last[8:16] = struct.pack(
        "<HHI", 7, 7, end - content.index(b"PK\1\2") + 5 * len(entry)
    )
    path.write_bytes(content[:end] + b"".join(copies) + last)
    refuse(path, r"it claims 24,\d+ bytes, but has 4,\d+")


def old(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(4)}, path, _use_new_zipfile_serialization=False)
    return path, path.read_bytes()


def test_claims_of_the_older_format_are_refused(tmp_path):
    path, content = old(tmp_path)
    for claim in (2**60, 2**63, 5):
        path.write_bytes(content[:-24] + struct.pack("<Q", claim) + content[-16:])
        refuse(path, "ends too early")
    path.write_bytes(content[:-24] + struct.pack("<Q", 2) + content[-16:])
    refuse(path, "claims more numbers than there are")


def write_safetensors(path, header, content=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)
    return path


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({f"{i}": entry([0], 0, 0) for i in range(20_001)}, "it lists 20,001 tensors"),
        ({f"{i}": entry([0], 0, 0) for i in range(100_000)}, "its header takes 6,"),
        (
            {"a": entry([2**40], 0, 2**42)},
            "has 109 bytes, but its header describes 4,398,046,511,",
        ),
        ({"a": entry([3], 0, 16)}, "'a' has a shape of other than its bytes"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, "its tensors overlap"),
        ({"a": entry([2], 8, 16)}, "or leave gaps"),
        ({"a": entry([2], 0, 8)}, "bytes, but its header describes"),
        ({"a": entry([4], 0, 16, "F4")}, "numbers of an unknown kind"),
        ({"a": entry([4.0], 0, 16)}, "impossible shape"),
        ({"a": entry([True], 0, 4)}, "impossible shape"),
        ({"a": entry([-4], 0, -16)}, "impossible shape"),
        ({"a": {**entry([4], 0, 16), "more": 1}}, "too little or too much"),
        ({"a": [1]}, "too little or too much"),
        (b"[" * 2**20, "too many parts"),
        (b"[]", "not a JSON object"),
        (b'{"a": ' + b"9" * 10**6 + b"}", "its JSON cannot be read"),
        (b'{"a": 1, "a": 2}', "one name twice"),
        (b"\xff\xfe{\0}\0", "its JSON cannot be read"),
    ],
)
def test_headers_of_safetensors_that_claim_too_much_are_refused(
    tmp_path, header, match
):
    refuse(write_safetensors(tmp_path / "a.safetensors", header, bytes(16)), match)


def test_a_header_that_is_longer_than_its_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    refuse(path, "is cut off")
    path.write_bytes(b"{}")
    refuse(path, "is cut off")


UNUSABLE = {
    "a sparse tensor": lambda: torch.eye(3).to_sparse(),
    "a quantized tensor": lambda: torch.quantize_per_tensor(
        torch.ones(3), 0.1, 0, torch.qint8
    ),
    "a tensor without numbers": lambda: torch.ones(3, device="meta"),
    "a conjugate or negative view": lambda: torch.ones(2, dtype=torch.cfloat).conj(),
    "a nested tensor": lambda: torch.nested.nested_tensor([torch.ones(1)] * 2),
}


@pytest.mark.filterwarnings("ignore")  # torch is about to give up some of them
@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("new", [True, False])
def test_tensors_that_no_backbone_has_are_named(tmp_path, kind, new):
    path = tmp_path / "a.pth"
    content = {"net": {"w": UNUSABLE[kind]()}}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    refuse(path, rf"net\.w is {kind}")


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
@pytest.mark.parametrize("place", ["stem.conv1.weight", "layer1.0.bn1.running_mean"])
def test_numbers_that_are_not_real_are_refused_with_their_name(tmp_path, dtype, place):
    X, y = pictures(12)
    clf = transfer(max_epochs=1).fit(X, y)
    state = clf.net_.module_.state_dict()
    state[place] = state[place].to(dtype)
    torch.save(state, tmp_path / "a.pth")
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(
        ValueError, match=rf"{place.removeprefix('stem.')} holds {kind}"
    ):
        transfer(weights=tmp_path / "a.pth").fit(X, y)


@pytest.mark.parametrize(
    "content",
    [{0: torch.ones(1)}, {"a": "b"}, {}, {"a": [torch.ones(1)]}, "weights", None],
)
def test_a_file_whose_tensors_have_no_names_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    refuse(tmp_path / "a.pth", "does not hold a state dict, but a")


def test_a_pipe_or_a_device_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    (tmp_path / "b.pth").symlink_to("/dev/zero")
    for path in (tmp_path / "a.pth", tmp_path / "b.pth"):
        with pytest.raises(FileNotFoundError, match="not a regular file") as caught:
            read_state(path)
        assert str(path) in str(caught.value)


def test_what_the_process_allows_torch_to_load_is_not_called(tmp_path):
    class Sly:
        def __reduce__(self):
            return (print, ("ran",))

    program = pickle.dumps({"a": Sly()}, 2)
    with torch.serialization.safe_globals([print]):
        refuse(pack(tmp_path / "a.pth", program), r"holds builtins\.print")
