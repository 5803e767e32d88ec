"""Everything that is measured on a GPU, in one command that can be resumed.

    SKTRANSFER_DATA=FOLDER python benchmarks/gpu.py --airbench FILE --seeds 1
    SKTRANSFER_DATA=FOLDER python benchmarks/gpu.py --airbench FILE

FOLDER holds ``cifar10`` and ``tinyimagenet32`` as folders of images; the latter has 200
classes of ImageNet at 32 pixels, as ``train/<class>/*`` and ``val/<class>/*``. FILE is
``legacy/airbench94.py`` of a clone (see ``airbench.py``); without it, that peer is left
out. Each experiment writes ``gpu_<name>.json`` to ``--out``, with separate rows per
card. Rows that exist are not run again, no run starts after ``--minutes``, and a run
that fails is recorded with its error. A first command with one seed therefore covers
all experiments, and later ones add the other seeds. The pretrained weights are kept in
``work/``; if they are lost, pretraining is repeated. Without a GPU the same experiments
run on a few images as a rehearsal, and write to ``work/`` as well, which is not kept.

- scratch: `ScratchCNNClassifier` as the speed run, with and without ``compile``, and
  airbench94, ten seeds each; and at 18 epochs, three seeds;
- pretrain: a ResNet-50 on the 200 classes of 32-pixel ImageNet, trained by our own
  estimator and saved for the experiments that follow;
- transfer: that ResNet-50 and the bundled backbone on CIFAR-10, after each of 5 epochs,
  by depth and image size;
- defaults: batch norm, image size, schedule and dropout, changed one at a time, scored
  on 10,000 training images that are set aside;
- bare_loop: seconds per epoch with every stage open, against a plain torch loop;
- throughput: images per second in encode, fit and predict, as a share of what the
  machine's matrix products allow.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import airbench
import numpy as np
import torch
from batch_norm import KeepStatistics
from record import RESULTS, WORK, Record
from safetensors.torch import save_file
from scratch import SPEED_RUN
from scratch import ours as scratch_run
from sklearn.model_selection import train_test_split
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sktransfer import (
    ActivationCache,
    ResNetFeatureExtractor,
    ResNetTransferClassifier,
    datasets,
)
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.device import (
    autocast,
    move_to,
    resolve_device,
    resolve_precision,
)

DEVICE = resolve_device("auto")
HAS_GPU = DEVICE.type == "cuda"
CARD = torch.cuda.get_device_name() if HAS_GPU else "none"
STARTED = time.perf_counter()
Images = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """How many images, epochs, seeds and variants are run."""

    n_train: int
    n_test: int
    n_pretrain: int
    pretrain_epochs: int
    pretrain_size: int
    scratch_seeds: int
    seeds: int
    depths: tuple[int, ...]
    sizes: tuple[int, ...]
    big_backbone: str


FULL = Plan(
    50_000, 10_000, 100_000, 16, 64, 10, 3, (0, 2, 5), (32, 64, 128, 224), "resnet50"
)
REHEARSAL = Plan(1100, 100, 400, 1, 16, 1, 1, (0, 2), (32,), "resnet18")
PLAN = FULL if HAS_GPU else REHEARSAL


class Bench:
    """The images, the command line, and where results go."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.train = self._cifar10("train", PLAN.n_train)
        self.test = self._cifar10("test", PLAN.n_test)

    def _cifar10(self, subset: str, n: int) -> Images:
        X, y = datasets.fetch_cifar10(subset=subset, return_X_y=True)
        rows = np.sort(np.random.default_rng(0).permutation(len(y))[:n])
        return X[rows], y[rows]

    def tiny(self, subset: str, n: int) -> Images:
        """Return `n` images of the 200 ImageNet classes and their labels."""
        folder = Path(os.environ["SKTRANSFER_DATA"]) / "tinyimagenet32" / subset
        X, y = datasets.load_image_folder(folder, as_arrays=True, return_X_y=True)
        rows = np.sort(np.random.default_rng(0).permutation(len(y))[:n])
        return X[rows], np.asarray(y)[rows]

    @property
    def weights(self) -> Path:
        """File of the pretrained network, kept between experiments; not in git."""
        WORK.mkdir(exist_ok=True)
        return WORK / f"{PLAN.big_backbone}_tinyimagenet.safetensors"

    def seeds(self, most: int) -> range:
        """Return the seeds to run: at most `most`, and at most ``--seeds``."""
        return range(min(most, self.args.seeds or most))

    def recorded(
        self,
        name: str,
        keys: list[dict[str, Any]],
        run: Callable[..., dict[str, Any]],
        anew: bool = False,
    ) -> None:
        """Run what the record lacks, or all if `anew`, until time is up."""
        record = Record(f"gpu_{name}", self.args.out if HAS_GPU else WORK)
        for key in keys:
            if not anew and self._is_done(record, key):
                continue
            if time.perf_counter() - STARTED > 60 * self.args.minutes:
                print(f"no time left for {name}: {key}", flush=True)
                continue
            record.add(**key, card=CARD, **measured(run, key))

    def _is_done(self, record: Record, key: dict[str, Any]) -> bool:
        """Whether the record has a row of this card that did not fail."""
        return any("error" not in row for row in record.find(**key, card=CARD))


def measured(run: Callable[..., dict[str, Any]], key: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a run and its peak memory, or its error, and go on."""
    if HAS_GPU:
        # Memory that earlier runs still hold would lower the limits of the caches.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        result = run(**key)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if HAS_GPU:
        result["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    return result


def scratch(bench: Bench) -> None:
    """Measure accuracy and seconds of the scratch CNN and of airbench94."""
    settings: dict[str, dict[str, Any]] = {
        "speed run": SPEED_RUN,
        "speed run, compiled": {**SPEED_RUN, "compile": True},
        "18 epochs": {"max_epochs": 18, "tta": "flip_shift"},
    }
    is_warm = set()

    def run(model: str, seed: int) -> dict[str, Any]:
        result = {}
        if model not in is_warm:  # loads, selects and compiles kernels
            started = time.perf_counter()
            params = {**settings[model], "max_epochs": 1}
            scratch_run(bench.train, bench.test, 0, **params)
            result["first_fit_seconds"] = time.perf_counter() - started
            is_warm.add(model)
        return {
            **scratch_run(bench.train, bench.test, seed, **settings[model]),
            **result,
        }

    keys = [
        {"model": model, "seed": seed}
        for seed in bench.seeds(PLAN.scratch_seeds)
        for model in settings
        if model != "18 epochs" or seed < PLAN.seeds
    ]
    bench.recorded("scratch", keys, run)
    if bench.args.airbench is None:
        return
    n_runs = len(bench.seeds(PLAN.scratch_seeds))
    runs: Iterator[dict[str, float]] = airbench.speed_run(
        bench.args.airbench,
        bench.train,
        bench.test,
        n_runs,
        None if HAS_GPU else 1,
    )
    keys = [{"model": "airbench94", "seed": s} for s in range(n_runs)]
    bench.recorded("scratch", keys, lambda **key: dict(next(runs)))


def pretrain(bench: Bench) -> None:
    """Pretrain a ResNet on the 200 classes, with the estimator that fine-tunes it."""

    def run(backbone: str, epochs: int, size: int) -> dict[str, Any]:
        X, y = bench.tiny("train", PLAN.n_pretrain)
        X_valid, y_valid = bench.tiny("val", PLAN.n_test)
        known = np.isin(y_valid, y)
        clf = ResNetTransferClassifier(
            backbone,
            weights=None,
            image_size=size,
            unfreeze_depth=5,
            unfreeze_schedule="immediate",
            backbone_lr_factor=1.0,
            lr=0.2 if HAS_GPU else 0.005,
            batch_size=256,
            augment="flip_crop",
            label_smoothing=0.1,
            dropout=0.0,
            max_epochs=epochs,
            early_stopping=False,
            activation_cache=None,
            random_state=0,
        ).fit(X, y)
        state = {
            name: tensor.contiguous().cpu()
            for name, tensor in clf.net_.module_.state_dict().items()
            if name.split(".")[0] not in ("head", "preprocess")
            and not name.endswith("num_batches_tracked")
        }
        save_file(state, bench.weights)
        return {
            "val_top1": clf.score(X_valid[known], y_valid[known]),
            "seconds": clf.fit_time_,
            "train_loss": [row["train_loss"] for row in clf.history_],
        }

    key = {
        "backbone": PLAN.big_backbone,
        "epochs": PLAN.pretrain_epochs,
        "size": PLAN.pretrain_size,
    }
    bench.recorded("pretrain", [key], run, anew=not bench.weights.exists())


def backbones(bench: Bench) -> dict[str, dict[str, Any]]:
    """Return the backbones to transfer: name and weights."""
    known: dict[str, dict[str, Any]] = {"mini_resnet18": {"backbone": "mini_resnet18"}}
    if bench.weights.exists():
        big = PLAN.big_backbone
        known[big] = {"backbone": big, "weights": str(bench.weights)}
    return known


def is_of_use(model: str, size: int) -> bool:
    """Whether to run a backbone at an image size; the bundled one is for small ones."""
    return model != "mini_resnet18" or size <= 64


def fine_tuned(
    train: Images, valid: Images, seed: int, **params: Any
) -> dict[str, Any]:
    """Return accuracy after each epoch, and seconds, including validation."""
    clf = ResNetTransferClassifier(
        activation_cache=ActivationCache(),
        early_stopping=False,
        random_state=seed,
        **params,
    ).fit(*train, X_val=valid[0], y_val=valid[1])
    return {
        "accuracy_by_epoch": [row["valid_accuracy"] for row in clf.history_],
        "seconds_by_epoch": [row["dur"] for row in clf.history_],
        "seconds": clf.fit_time_,
    }


def transfer(bench: Bench) -> None:
    """Measure both backbones by depth and image size."""
    known = backbones(bench)

    def run(model: str, depth: int, size: int, seed: int) -> dict[str, Any]:
        params = {**known[model], "unfreeze_depth": depth, "image_size": size}
        return fine_tuned(bench.train, bench.test, seed, **params)

    keys = [
        {"model": model, "depth": depth, "size": size, "seed": seed}
        for seed in bench.seeds(PLAN.seeds)
        for model in known
        for size in PLAN.sizes
        if is_of_use(model, size)
        for depth in PLAN.depths
    ]
    bench.recorded("transfer", keys, run)


def bare_loop(bench: Bench) -> None:
    """Measure the seconds per epoch of ours and of a plain loop."""
    known = backbones(bench)
    keys = [
        {"model": model, "depth": 5, "size": PLAN.sizes[0], "repeat": i}
        for i in bench.seeds(PLAN.seeds)
        for model in known
    ]
    bench.recorded(
        "bare_loop", keys, lambda **key: against_bare_loop(bench, known, **key)
    )


def against_bare_loop(
    bench: Bench, known: dict[str, Any], model: str, depth: int, size: int, repeat: int
) -> dict[str, Any]:
    """Return the seconds of the fastest epoch, all stages open: ours and bare torch."""
    X, y = bench.train
    labels = torch.from_numpy(np.unique(y, return_inverse=True)[1]).to(DEVICE)
    images = torch.from_numpy(X).to(DEVICE)
    precision = resolve_precision("auto", DEVICE)
    net = make_stages(known[model]["backbone"], 10, 0.2, (size, size))
    net = move_to(net, DEVICE)
    optimizer = torch.optim.SGD(
        net.train().parameters(), 0.01, momentum=0.9, nesterov=True, fused=True
    )
    seconds = []
    for _ in range(3):
        wait()
        started = time.perf_counter()
        for rows in torch.randperm(len(X), device=DEVICE).split(128):
            with autocast(precision, DEVICE):
                logits = net(images[rows])
            loss = F.cross_entropy(logits.float(), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wait()
        seconds.append(time.perf_counter() - started)
    clf = ResNetTransferClassifier(
        **known[model],
        unfreeze_depth=depth,
        unfreeze_schedule="immediate",
        image_size=size,
        augment=None,
        batch_size=128,
        max_epochs=3,
        early_stopping=False,
        random_state=repeat,
    ).fit(X, y)
    ours = [row["dur"] for row in clf.history_]
    return {
        "bare_seconds": min(seconds),
        "our_seconds": min(ours),
        "ours_over_bare": min(ours) / min(seconds),
    }


def wait() -> None:
    """Wait until the device has finished."""
    if HAS_GPU:
        torch.cuda.synchronize()


def best_of(function: Callable[[], object], n: int = 5) -> float:
    """Return the shortest of `n` calls, in seconds."""
    seconds = []
    for _ in range(n):
        wait()
        started = time.perf_counter()
        function()
        wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def ceiling() -> float:
    """Measure the FLOP per second of bfloat16 matrix products."""
    side = 8192 if HAS_GPU else 1024
    a = torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16)
    b = torch.empty_like(a).normal_()
    return 2 * side**3 / best_of(lambda: a @ b)


def throughput(bench: Bench) -> None:
    """Measure images per second, as a share of the ceiling."""
    flop_per_second = ceiling()
    known = backbones(bench)

    def run(model: str, size: int) -> dict[str, Any]:
        net = make_stages(known[model]["backbone"], 10, 0.0, (size, size)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
        flop, X = counter.get_total_flops(), bench.train[0]
        common = {**known[model], "image_size": size}
        extractor = ResNetFeatureExtractor(**common, activation_cache=None).fit(X[:2])
        clf = ResNetTransferClassifier(
            **common,
            unfreeze_depth=5,
            unfreeze_schedule="immediate",
            augment=None,
            max_epochs=2,
            early_stopping=False,
            activation_cache=None,
            random_state=0,
        ).fit(*bench.train)
        seconds = {
            "encode": best_of(lambda: extractor.transform(X), 3),
            "fit": min(row["dur"] for row in clf.history_),
            "predict": best_of(lambda: clf.predict(X), 3),
        }
        work = {"encode": flop, "fit": 3 * flop, "predict": flop}
        rates = {name: len(X) / s for name, s in seconds.items()}
        shares = {
            f"{name}_share_of_ceiling": rate * work[name] / flop_per_second
            for name, rate in rates.items()
        }
        return {
            "images_per_second": rates,
            "flop_per_image": flop,
            "flop_per_second": flop_per_second,
            **shares,
        }

    keys = [
        {"model": model, "size": size}
        for model in known
        for size in PLAN.sizes
        if is_of_use(model, size)
    ]
    bench.recorded("throughput", keys, run)


def defaults(bench: Bench) -> None:
    """Measure the effect of one changed default at a time."""
    known = backbones(bench)
    # In a rehearsal the pretrained network is too weak to keep its statistics.
    model = PLAN.big_backbone if HAS_GPU else "mini_resnet18"
    if model not in known:
        print(f"defaults: {model} is not pretrained yet; skipped", flush=True)
        return
    size = PLAN.sizes[min(2, len(PLAN.sizes) - 1)]
    largest = PLAN.sizes[-1]
    changes: dict[str, dict[str, Any]] = {
        "as it is": {},
        "statistics of open stages kept": {"callbacks": [KeepStatistics()]},
        f"{largest} px": {"image_size": largest},
        "immediate": {"unfreeze_schedule": "immediate"},
        "immediate, 4 epochs": {"unfreeze_schedule": "immediate", "max_epochs": 4},
        "dropout 0": {"dropout": 0.0},
        "dropout 0.5": {"dropout": 0.5},
    }

    def run(change: str, seed: int) -> dict[str, Any]:
        params = {**known[model], "image_size": size, **changes[change]}
        X, X_valid, y, y_valid = train_test_split(
            *bench.train,
            test_size=len(bench.train[1]) // 5,
            stratify=bench.train[1],
            random_state=seed,
        )
        return fine_tuned((X, y), (X_valid, y_valid), seed, **params)

    keys = [{"change": c, "seed": s} for s in bench.seeds(PLAN.seeds) for c in changes]
    bench.recorded("defaults", keys, run)


EXPERIMENTS: dict[str, Callable[[Bench], None]] = {
    "scratch": scratch,
    "pretrain": pretrain,
    "transfer": transfer,
    "defaults": defaults,
    "bare_loop": bare_loop,
    "throughput": throughput,
}


def main() -> None:
    """Run what the record lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--airbench", type=Path, help="airbench94.py of a clone")
    parser.add_argument(
        "--only", nargs="+", default=list(EXPERIMENTS), choices=EXPERIMENTS
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of the JSON files, on a GPU"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=25,
        help="no run starts after these minutes (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, help="maximum number per experiment")
    args = parser.parse_args()
    if "SKTRANSFER_DATA" not in os.environ:
        parser.error("SKTRANSFER_DATA is not set; set it to the folder of the images.")
    args.out = args.out.resolve()  # airbench94 changes the working directory
    bench = Bench(args)
    for name in args.only:
        started = time.perf_counter()
        EXPERIMENTS[name](bench)
        print(f"== {name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
