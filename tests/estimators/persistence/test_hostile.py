"""Files by somebody who means harm, with a right hash: no code, no blow-up."""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest

import sktransfer
from sktransfer import ModelFileError
from tests.estimators.persistence.fitted import fit, outputs, see
from tests.files.forging import Tensor, forge
from tests.files.mutants import VALUES, list_places, mutate, put


@cache
def good(kind):
    """Return a good file of a kind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        fit(kind).save(path)
        return path.read_bytes()


@pytest.fixture
def model(tmp_path):
    return tmp_path / "model"


def of_every_part():
    """List the places of a description that are checked one by one."""
    fixed = ["estimator", "params", "attributes", "network", "n_prefix", "reference"]
    attributes = (
        "n_features_in_ image_shape_ device_ precision_ _own_shape _brightness "
        "_had_pictures _reading _fitted_network classes_ history_ n_iter_ best_epoch_ "
        "cache_info_ fit_time_ _trained_on probe_share_ unfreeze_depth_ depth_reason_"
    )
    network = (
        "n_classes n_features dropout image_size interpolation resize n_channels "
        "fixed_statistics unfreeze_depth backbone made_for stages widths"
    )
    params = "backbone weights image_size activation_cache device precision augment"
    params += " batch_size class_weight random_state verbose tta callbacks net_params"
    return [
        *((name,) for name in fixed),
        *(("attributes", name) for name in attributes.split()),
        *(("network", name) for name in network.split()),
        *(("params", name) for name in params.split()),
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", of_every_part(), ids=".".join)
def test_anything_in_place_of_a_part_is_refused_or_does_no_harm(place, model):
    packed, X = good("mini_resnet18"), see("mini_resnet18")
    # Each part is given a third of them; mutants take any.
    for value in VALUES[of_every_part().index(place) % 3 :: 3]:
        model.write_bytes(forge(packed, lambda c, _, v=value: put(c, place, v)))
        try:
            loaded = sktransfer.load(model)
        except (ModelFileError, OSError):
            continue
        assert outputs(loaded, X).shape[0] == len(X)


@pytest.mark.filterwarnings("ignore")
def test_no_part_can_be_missing_but_what_does_not_matter(model):
    packed = good("scratch")
    places = []
    model.write_bytes(forge(packed, lambda c, _: places.extend(list_places(c))))
    for place in places:

        def drop(content, _, place=place):
            for key in place[:-1]:
                content = content[key]
            del content[place[-1]]

        model.write_bytes(forge(packed, drop))
        try:
            sktransfer.load(model)
        except ModelFileError:
            continue
        parts = "params", "versions", "omitted", "reference", "check", "attributes"
        assert place[0] in parts
        if place[0] == "attributes":
            # A column of a row of a history, say.
            optional = "history_", "_fitted_network", "_reading", "cache_info_"
            assert place[1] in optional


def stages_of(children):
    def change(content, _):
        content["network"]["stages"] = children

    return change


LAYERS = ["layer1", "layer2", "layer3", "layer4"]
STEM = {"stem": ["conv1", "bn1", "relu"]}


@pytest.mark.parametrize(
    "stages",
    [
        {},
        {"stem": "conv1"},
        {"stem": ["no_such"]},
        {"stem": [""]},
        {"": ["conv1"]},
        {"a.b": ["conv1"]},
        {"head": ["conv1"]},
        {"preprocess": ["conv1", "bn1", "relu"], **{n: [n] for n in LAYERS}},
        {"names": ["conv1"]},
        {"training": ["conv1"]},
        {"forward": ["conv1", "bn1", "relu"], **{n: [n] for n in LAYERS}},
        {"__class__": ["conv1"]},
        {**STEM, **{n: [n] for n in reversed(LAYERS)}},
        {**STEM, "all": LAYERS * 2},
        {**STEM, **{n: [n] for n in LAYERS}, "again": ["relu"] * 100_000},
        {f"s{i}": [] for i in range(100_000)},
        {"layer1": ["layer1.__class__"]},
    ],
)
def test_strange_stages_are_refused(stages, model):
    model.write_bytes(forge(good("mini_resnet18"), stages_of(stages)))
    with pytest.raises(ModelFileError):
        sktransfer.load(model)


@pytest.mark.parametrize("place", ["network", "_fitted_network"])
@pytest.mark.parametrize(
    "name", ["resnet18", {"$": "objects", "v": [False, [2], [0, 0]]}]
)
def test_a_network_has_the_backbone_that_is_noted(place, name, model):
    def rename(content, _):
        notes = {**content, **content["attributes"]}
        notes[place]["backbone"] = name

    model.write_bytes(forge(good("mini_resnet18"), rename))
    with pytest.raises(
        ModelFileError, match=r"not that of its backbone|_fitted_network"
    ):
        sktransfer.load(model)


@pytest.mark.parametrize("name", ["ScratchCNNClassifier", "TransferClassifier"])
def test_a_network_is_of_the_kind_that_its_estimator_builds(name, model):
    other = "scratch" if name == "TransferClassifier" else "mini_resnet18"
    packed = good(other)

    def rename(content, _):
        content["estimator"], content["params"] = name, {}
        attributes = content["attributes"]
        for extra in ("probe_share_", "unfreeze_depth_", "depth_reason_"):
            attributes.pop(extra, None)
        if name == "TransferClassifier":
            more = {"probe_share_": 0.0, "unfreeze_depth_": 0, "depth_reason_": ""}
            attributes.update(more)

    model.write_bytes(forge(packed, rename))
    with pytest.raises(ModelFileError, match="not that of its backbone"):
        sktransfer.load(model)


@pytest.mark.parametrize("shape", [[], [9, 9, 3], ["red"], [None] * 3, [8, 8]])
def test_a_shape_that_contradicts_the_images_is_refused(shape, model):
    changed = {"$": "tuple", "v": shape}
    packed = forge(
        good("scratch"), lambda c, _: c["params"].update(image_shape=changed)
    )
    model.write_bytes(packed)
    with pytest.raises(ModelFileError, match="its image_shape is not that"):
        sktransfer.load(model)


def test_a_network_that_cannot_see_the_images_is_refused(model):
    def shrink(content, _):
        attributes = content["attributes"]
        attributes["image_shape_"]["v"] = [2, 2, 3]
        attributes["n_features_in_"] = 12
        content["network"]["image_size"] = None

    model.write_bytes(forge(good("scratch"), shrink))
    with pytest.raises(ModelFileError, match="cannot be built"):
        sktransfer.load(model)


def test_pictures_are_not_brought_to_a_size_that_fills_the_memory(model):
    def blow_up(content, _):
        attributes = content["attributes"]
        attributes["_had_pictures"] = True
        attributes["image_shape_"]["v"] = [100_000, 100_000, 3]
        attributes["n_features_in_"] = 3 * 10**10

    model.write_bytes(forge(good("mini_resnet18"), blow_up))
    with pytest.raises(ModelFileError, match="image_shape_"):
        sktransfer.load(model)


def test_a_card_of_a_forger_is_only_text(model):
    fit("scratch").save(model, description="{0.__class__} %s ${x} \x1b[2J")
    info = sktransfer.inspect(model)
    assert "{0.__class__} %s ${x}" in str(info)
    assert "{0" not in repr(info)


BLOW_UP = """
import json, sys
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
import sktransfer
sktransfer.load(sys.argv[1])
from sktransfer._networks.timm_models.describe import check_name
check_name("resnet18")  # imports what is measured otherwise
found = {}

def measure(name):
    status = Path("/proc/self/status").read_text()
    return int(status.partition(name + ":")[2].split()[0]) / 1024

for path in sorted(Path(sys.argv[2]).iterdir()):
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = measure("VmRSS")
    for read in (sktransfer.load, sktransfer.inspect):
        try:
            read(path)
            error = "none"
        except (sktransfer.ModelFileError, OSError) as caught:
            error = type(caught).__name__
        except BaseException as caught:
            error = f"ESCAPED {caught!r}"[:200]
        found[f"{path.name} {read.__name__}"] = error
    found[path.name] = measure("VmHWM") - before
print(json.dumps(found))
"""


def _grow(**entries):
    def change(content, tensors):
        content["network"].update(entries)

    return change


def _fill(text):
    """Fill a description with many small parts."""

    def change(content, tensors):
        n = 3 * 2**20 // len(text)
        content["more"] = json.loads("[" + ",".join([text] * n) + "]")

    return change


def _name_timm(name, size=None):
    def change(content, tensors):
        content["network"].update(
            backbone=f"timm/{name}", image_size=size and [size, size]
        )
        content["attributes"]["_fitted_network"]["backbone"] = f"timm/{name}"

    return change


def _use_often(content, tensors):
    tensors["array.2"] = Tensor("U8", [2**20], bytes(2**20))
    content["more"] = [{"$": "array", "v": ["|u1", [2**20], 2]}] * 1_000


def _collide(content, tensors):
    pairs = [[i * (2**61 - 1), 0] for i in range(1, 60_000)]
    content["more"] = {"$": "dict", "v": pairs}


def _nest(content, tensors):
    value = []
    for _ in range(900):
        value = [value]
    content["more"] = value


BOMBS = {
    "classes": _grow(n_classes=10**6),
    "features": _grow(n_features=10**6),
    "size": _grow(image_size=[4_096, 4_096]),
    "too large": _grow(image_size=[10**6, 10**6]),
    "channels": _grow(n_channels=10**6),
    "cnn": _grow(widths=[10**6] * 3, n_filters=10**6, whiten=True, global_pool="avg"),
    "resnet152": _grow(backbone="resnet152"),
    "giant": _name_timm("vit_gigantic_patch14_224"),
    "wide": _name_timm("vit_tiny_patch16_224", 1_024),
    "wider": _name_timm("swin_tiny_patch4_window7_224", 4_096),
    "hub": _name_timm("hf-hub:someone/something"),
    "folder": _name_timm("local-dir:/tmp"),
    "lists": _fill("[]"),
    "objects": _fill('{"a":0}'),
    "texts": _fill('"aa"'),
    "numbers": _fill("1e9"),
    "tuples": _fill('{"$":"tuple","v":[]}'),
    "often": _use_often,
    "collisions": _collide,
    "nesting": _nest,
    "dates": lambda content, _: content.update(
        more=[{"$": "scalar", "v": ["<M8[s]", "00" * 8]}] * 20_000
    ),
}


@pytest.fixture(scope="module")
def burst(tmp_path_factory):
    """What a process saw that read files which want its time or memory."""
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "bombs").mkdir()
    fit("mini_resnet18").save(folder / "good")
    packed = (folder / "good").read_bytes()
    for name, change in BOMBS.items():
        (folder / "bombs" / name).write_bytes(forge(packed, change))
    (folder / "bombs" / "long header").write_bytes(
        (100 * 2**20).to_bytes(8, "little") + b"{" * 2**20
    )
    done = subprocess.run(
        [sys.executable, "-c", BLOW_UP, str(folder / "good"), str(folder / "bombs")],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise")
@pytest.mark.parametrize("name", [*BOMBS, "long header"])
def test_a_bomb_is_refused_within_little_memory(burst, name):
    megabytes = burst[name]
    is_harmless = name in ("size", "dates")
    assert burst[f"{name} load"] == ("none" if is_harmless else "ModelFileError")
    assert burst[f"{name} inspect"] in ("ModelFileError", "none")
    assert megabytes < 64


AUDITED = """
import json, sys
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
import sktransfer
X = np.load(sys.argv[2])
sktransfer.load(sys.argv[1]).predict_proba(X)  # imports what loading needs
from sktransfer._networks.timm_models.describe import check_name, describe_timm
describe_timm("resnet18")
seen = []
FORBIDDEN = {
    "exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork",
    "subprocess.Popen", "pickle.find_class", "marshal.loads", "ctypes.dlopen",
    "socket.__new__", "socket.connect", "socket.getaddrinfo", "urllib.Request",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.chmod",
}
watching = False

def watch(event, args):
    if not watching:
        return
    if event in FORBIDDEN:
        seen.append([event, str(args)[:100]])
    elif event == "open":
        path, mode, flags = args
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        if writes or (isinstance(flags, int) and flags & 3):
            seen.append([event, str(args)[:100]])
    elif event == "import":
        seen.append([event, str(args[0])])

sys.addaudithook(watch)
counts = {"read": 0, "refused": 0}
for path in sorted(Path(sys.argv[3]).iterdir()):
    watching = True
    try:
        loaded = sktransfer.load(path)
        counts["read"] += 1
    except (sktransfer.ModelFileError, OSError):
        counts["refused"] += 1
    watching = False
print(json.dumps([counts, seen]))
"""


def test_loading_runs_writes_fetches_and_imports_nothing(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    fit("mini_resnet18").save(tmp_path / "good")
    packed = (tmp_path / "good").read_bytes()
    (folder / "good").write_bytes(packed)
    fit("mini_resnet18").save(folder / "reference", backbone="reference")
    for i in range(60):
        (folder / f"mutant {i}").write_bytes(mutate(Random(i), packed)[1])
    for name, change in BOMBS.items():
        (folder / name).write_bytes(forge(packed, change))
    names = ["os.system", "evil_module", "evil_module:run", "cos\nsystem\n(S'id'\ntR."]
    for i, name in enumerate(names):
        for place in (("estimator",), ("network", "backbone"), ("params", "augment")):
            path = folder / f"name {i} {place[-1]}"
            path.write_bytes(forge(packed, lambda c, _, p=place, n=name: put(c, p, n)))
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    np.save(tmp_path / "images.npy", see("mini_resnet18"))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            AUDITED,
            *map(str, [tmp_path / "good", tmp_path / "images.npy", folder]),
        ],
        cwd=Path(__file__).parents[3],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(tmp_path)])),
            "PYTHONWARNINGS": "ignore",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    counts, seen = json.loads(done.stdout)
    assert seen == []
    assert counts["read"] > 2
    assert counts["read"] + counts["refused"] == len(list(folder.iterdir()))
