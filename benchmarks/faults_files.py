"""Faults of files: killed or full while saving, damaged, hostile, lying, or no file."""

from __future__ import annotations

import os
import pickle
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from faults_tools import (
    FORMS,
    N_KILLS,
    PATIENCE,
    cost,
    fork,
    kill,
    limit_files,
    list_folder,
    make_data,
    observe,
    same,
    word,
    write_claims,
    write_hostile,
)
from joblib.numpy_pickle import NumpyArrayWrapper

import sktransfer

Row = dict[str, Any]
N_FLIPS, MANY, MUCH = 20, 300_000, 10**12


def fit_two(lib: Any, **more: Any) -> tuple[Any, Any]:
    """Fit two models that differ."""
    X, y = make_data(20)
    old, new = (lib.fit(X, y, random_state=seed, **more) for seed in (0, 1))
    return old, new


def kill_saving(lib: Any, folder: Path) -> Row:
    """Kill a process at random moments of its writing over an old model."""
    old, new = fit_two(lib, large=True)
    weights = {"old": lib.weights(old), "new": lib.weights(new)}
    path = folder / f"model{lib.ending}"
    lib.save(old, path)
    content = path.read_bytes()
    taken = sorted(_time_writing(lib, new, path) for _ in range(3))[1]
    rng, counts = random.Random(0), Counter[str]()
    for _ in range(N_KILLS):
        path.write_bytes(content)
        pid = _begin_saving(lib, new, path)
        time.sleep(rng.uniform(0, taken))
        kill(pid)
        counts[_classify(lib, path, weights)] += 1
    left = len([p for p in folder.iterdir() if p != path and p.is_file()])
    bad = N_KILLS - counts["old"] - counts["new"]
    outcome = f"destroyed {bad} of {N_KILLS}" if bad else "old or new"
    return {
        "outcome": outcome,
        **counts,
        "left_files": left,
        "mb": len(content) // 10**6,
        "seconds_of_writing": round(taken, 2),
    }


def _begin_saving(lib: Any, model: Any, path: Path) -> int:
    """Let a child save, and return once it writes."""
    before = list_folder(path.parent)
    pid = fork(lambda: lib.save(model, path))
    while list_folder(path.parent) == before:
        time.sleep(0.0005)
    return pid


def _time_writing(lib: Any, model: Any, path: Path) -> float:
    pid = _begin_saving(lib, model, path)
    started = time.perf_counter()
    os.waitpid(pid, 0)
    return time.perf_counter() - started


def _classify(lib: Any, path: Path, weights: dict[str, Any]) -> str:
    try:
        found = lib.weights(lib.load(path))
    except Exception:
        return "neither"
    return next((k for k, known in weights.items() if same(found, known)), "wrong")


def fill_disk(lib: Any, folder: Path) -> Row:
    """Save over an old model while a file may have 60 % of its bytes only."""
    old, new = fit_two(lib, large=True)
    path = folder / f"model{lib.ending}"
    lib.save(old, path)
    room = int(0.6 * path.stat().st_size)

    def save() -> None:
        limit_files(room)
        lib.save(new, path)

    seen = observe(save, folder)
    kept = _classify(lib, path, {"old": lib.weights(old), "new": lib.weights(new)})
    names = {"old": "old one kept", "neither": "old one destroyed"}
    left = len([p for p in folder.iterdir() if p != path and p.is_file()])
    outcome = f"{word(seen, 'no error')[:60]}; {names.get(kept, kept)}"
    return {"outcome": outcome, "kept": kept, "left_files": left, "seen": seen}


def flip_bits(lib: Any, folder: Path) -> Row:
    """Flip one random bit of the weights, some times."""
    X, y = make_data()
    model = lib.fit(X, y)
    weights, path = lib.weights(model), folder / f"model{lib.ending}"
    lib.save(model, path)
    content = path.read_bytes()
    array = max(weights.values(), key=lambda a: a.size if a.dtype == np.float32 else 0)
    begin = content.find(array.tobytes())
    if begin < 0:
        raise LookupError("the weights are not in the file as they are")
    rng, counts = random.Random(0), Counter[str]()
    for _ in range(N_FLIPS):
        damaged = bytearray(content)
        damaged[begin + rng.randrange(array.nbytes)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        found = _classify(lib, path, {"silently the old weights": weights})
        counts[{"neither": "noticed", "wrong": "silent"}.get(found, found)] += 1
    noticed = counts["noticed"]
    outcome = (
        "noticed" if noticed == N_FLIPS else f"silent, {counts['silent']} of {N_FLIPS}"
    )
    return {"outcome": outcome, **counts}


def run_code(lib: Any, folder: Path) -> Row:
    """Put hostile files under the names that a library reads."""
    marker, found, ran_by = folder / "marker", {}, []
    for name, (paths, read) in ENTRIES[lib.name](lib, folder).items():
        for form in FORMS:
            for path in paths:
                write_hostile(form, marker, path)
            seen = observe(read, folder)
            ran = marker.exists()
            found[f"{name}, {form}"] = (
                "runs code" if ran else word(seen, "ignored")[:120]
            )
            if ran:
                marker.rmdir()
                ran_by.append(name)
    names = ", ".join(dict.fromkeys(ran_by))
    outcome = f"runs code: {names}" if names else "runs nothing"
    return {"outcome": outcome, **found}


Entries = dict[str, tuple[list[Path], Callable[[], Any]]]


def _call(work: Callable[..., Any], *args: Any) -> Callable[[], None]:
    """Make a call that returns nothing, since its value may have no JSON."""

    def call() -> None:
        work(*args)

    return call


def _enter_ours(lib: Any, folder: Path) -> Entries:
    X, y = make_data()
    cache, weights = (
        folder / "cache",
        {n: folder / f"w.{n}" for n in ("pth", "safetensors")},
    )
    hub = folder / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    hub.parent.mkdir(parents=True)
    torch.hub.set_dir(str(folder / "hub"))

    def fit(backbone: str = "mini_resnet18", **more: Any) -> None:
        sktransfer.ResNetTransferClassifier(
            backbone,
            max_epochs=1,
            random_state=0,
            unfreeze_depth=1,
            augment=None,
            **more,
        ).fit(X, y)

    def fill() -> None:
        fit(activation_cache=cache)

    os.waitpid(fork(fill), 0)
    resumed = folder / "fit.checkpoint"
    return {
        "load": ([folder / "m.sktransfer"], _call(lib.load, folder / "m.sktransfer")),
        "inspect": (
            [folder / "i.sktransfer"],
            _call(sktransfer.inspect, folder / "i.sktransfer"),
        ),
        **{
            f"weights='w.{n}'": ([path], lambda path=path: fit(weights=path))
            for n, path in weights.items()
        },
        "torch.hub's cache": ([hub], lambda: fit("resnet18")),
        "activation_cache": (list(cache.rglob("*.safetensors")), fill),
        "checkpoint": ([resumed], lambda: _resume(lib, folder)),
    }


def _resume(lib: Any, folder: Path) -> None:
    X, y = make_data()
    lib.fit(X, y, folder=folder)


def _enter_skorch(lib: Any, folder: Path) -> Entries:
    names = ("params.pt", "optimizer.pt")
    history = folder / "history.json"
    history.write_text("[]")
    return {
        "load_params": ([folder / "m.pt"], _call(lib.load, folder / "m.pt")),
        "LoadInitState": ([folder / n for n in names], lambda: _resume(lib, folder)),
    }


def _double(x: np.ndarray) -> np.ndarray:
    return 2 * x


def _enter_joblib(lib: Any, folder: Path) -> Entries:
    cached = joblib.Memory(folder / "memory", verbose=0).cache(_double)
    cached(np.ones(3))
    outputs = list((folder / "memory").rglob("output.pkl"))
    return {
        "load": ([folder / "m.joblib"], _call(joblib.load, folder / "m.joblib")),
        "Memory": (outputs, _call(cached, np.ones(3))),
    }


def _enter_pickle(lib: Any, folder: Path) -> Entries:
    return {"load": ([folder / "m.pkl"], _call(lib.load, folder / "m.pkl"))}


def _enter_fastai(lib: Any, folder: Path) -> Entries:
    X, y = make_data(20)
    learner = lib.make(X, y, 0, False, folder)
    return {
        "load_learner": ([folder / "m.pkl"], _call(lib.load, folder / "m.pkl")),
        "Learner.load": ([folder / "m.pth"], _call(learner.load, "m")),
    }


ENTRIES: dict[str, Callable[[Any, Path], Entries]] = {
    "sktransfer": _enter_ours,
    "skorch": _enter_skorch,
    "joblib": _enter_joblib,
    "pickle": _enter_pickle,
    "fastai": _enter_fastai,
}


def claim_much(lib: Any, folder: Path) -> Row:
    """Let a small file claim 300,000 tensors, or an array of a trillion numbers."""
    claims = CLAIMS[lib.name](lib, folder)
    fit_two(lib)  # all is imported
    seen = {name: observe(read, folder, 300) for name, read in claims.items()}
    shown = [f"{name}: {word(s)[:60]} ({cost(s)})" for name, s in seen.items()]
    return {"outcome": "; ".join(shown), "seen": seen}


def _claim_ours(lib: Any, folder: Path) -> dict[str, Callable[[], None]]:
    X, y = make_data()
    many, much = folder / "many.safetensors", folder / "much.safetensors"
    write_claims(many, MANY, [1])
    write_claims(much, 1, [MUCH])

    def fit(path: Path) -> None:
        sktransfer.ResNetTransferClassifier("mini_resnet18", weights=path).fit(X, y)

    return {
        "load, tensors": _call(lib.load, many),
        "load, numbers": _call(lib.load, much),
        "weights=, tensors": _call(fit, many),
        "weights=, numbers": _call(fit, much),
    }


def _expand(lib: Any, path: Path) -> None:
    """Save a network one of whose weights is one number that is shown often."""
    state = lib.make().initialize().module_.state_dict()
    torch.save({**state, "0.weight": torch.zeros(1).expand(MUCH)}, path)


def _claim_skorch(lib: Any, folder: Path) -> dict[str, Callable[[], None]]:
    many, much = folder / "many.safetensors", folder / "much.safetensors"
    write_claims(many, MANY, [1])
    write_claims(much, 1, [MUCH])
    _expand(lib, folder / "expanded.pt")

    def load(path: Path) -> None:
        lib.make().initialize().load_params(f_params=path, use_safetensors=True)

    return {
        "load_params, tensors": _call(load, many),
        "load_params, numbers": _call(load, much),
        "load_params of torch, numbers": _call(lib.load, folder / "expanded.pt"),
    }


def _claim_joblib(lib: Any, folder: Path) -> dict[str, Callable[[], None]]:
    path = folder / "much.joblib"
    array = NumpyArrayWrapper(np.ndarray, (MUCH,), "C", np.dtype("f4"))
    path.write_bytes(pickle.dumps(array))
    return {"load, numbers": _call(joblib.load, path)}


class _Much:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (MUCH,)


def _claim_pickle(lib: Any, folder: Path) -> dict[str, Callable[[], None]]:
    path = folder / "much.pkl"
    path.write_bytes(pickle.dumps(_Much()))
    return {"load, numbers": _call(lib.load, path)}


def _claim_fastai(lib: Any, folder: Path) -> dict[str, Callable[[], None]]:
    X, y = make_data(20)
    learner = lib.make(X, y, 0, False, folder)
    state = {**learner.model.state_dict(), "0.weight": torch.zeros(1).expand(MUCH)}
    torch.save(state, folder / "expanded.pth")
    torch.save(_Much(), folder / "much.pkl")
    return {
        "Learner.load, numbers": _call(learner.load, "expanded"),
        "load_learner, numbers": _call(lib.load, folder / "much.pkl"),
    }


CLAIMS: dict[str, Callable[[Any, Path], dict[str, Callable[[], None]]]] = {
    "sktransfer": _claim_ours,
    "skorch": _claim_skorch,
    "joblib": _claim_joblib,
    "pickle": _claim_pickle,
    "fastai": _claim_fastai,
}


def name_a_pipe(lib: Any, folder: Path) -> Row:
    """Put a named pipe where a model is expected."""
    path = folder / f"model{lib.ending}"
    os.mkfifo(path)
    seen = observe(_call(lib.load, path), folder, PATIENCE)
    return {"outcome": word(seen)[:160], "seen": seen}


FAULTS: dict[str, Callable[[Any, Path], Row]] = {
    "kill while saving": kill_saving,
    "disk full while saving": fill_disk,
    "flipped bit": flip_bits,
    "hostile file": run_code,
    "claims of a file": claim_much,
    "named pipe": name_a_pipe,
}
