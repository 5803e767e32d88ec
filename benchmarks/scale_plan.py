"""A hundred million images on 64 GPUs: assumptions, seconds, bytes and failures.

For `simulate_scale.py`. What was measured comes from `scale_costs.py`; what no program
of ours has measured is an assumption, with where it comes from and how far it may be
off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scale_costs import Costs, Network, read, read_network
from scale_ranks import Link, Work, draw_slowest, time_steps

from sktransfer._activations.storage.tiers import BLOCK_ROWS

GUESS = "a guess"
LLAMA = "419 stops in 54 days of 16,384 GPUs in hosts of 8 (Llama 3, arXiv:2407.21783)"


class Assumption(NamedTuple):
    """A number that was not measured here.

    Attributes
    ----------
    value, low, high : float
        What is assumed, and what it is varied between.

    unit : str
        Of all three.

    source : str
        Where it comes from.
    """

    value: float
    low: float
    high: float
    unit: str
    source: str


ASSUMPTIONS = {
    "n_images": Assumption(1e8, 1e7, 1e9, "images", "the question"),
    "n_gpus": Assumption(64, 8, 256, "GPUs", "the question"),
    "n_decoders": Assumption(32, 8, 128, "hosts", "the question"),
    "cores": Assumption(32, 8, 128, "cores of a decoding host", GUESS),
    "gpus_per_host": Assumption(8, 4, 16, "GPUs of a host", GUESS),
    "host_memory": Assumption(1e12, 5e11, 2e12, "bytes of a GPU host", GUESS),
    "store_rate": Assumption(2e10, 2e9, 1e11, "bytes/s read from the store", GUESS),
    "write_rate": Assumption(5e9, 1e9, 5e10, "bytes/s written to the store", GUESS),
    "decoder_rate": Assumption(
        3.1e9, 1.25e9, 1.25e10, "bytes/s sent by a decoding host", "25 Gbit/s; a guess"
    ),
    "gpu_host_rate": Assumption(
        1.25e10, 3.1e9, 5e10, "bytes/s received by a GPU host", "100 Gbit/s; a guess"
    ),
    "encode_rate": Assumption(
        5000, 1500, 15000, "images/s of EfficientNet-Lite0 on a GPU, 288 pixels", GUESS
    ),
    "train_rate": Assumption(
        2600,
        1300,
        5200,
        "images/s of ResNet50 training on a GPU, 224 pixels",
        "one A100, github.com/huggingface/pytorch-image-models/issues/1491",
    ),
    "backward": Assumption(3, 2.5, 4, "steps over forward passes", "customary"),
    "head_seconds": Assumption(2e-8, 1e-8, 1e-7, "s of a row in the head", GUESS),
    "head_fixed": Assumption(5e-4, 2e-4, 5e-3, "s of a step of the head", GUESS),
    "last_fixed": Assumption(5e-3, 2e-3, 2e-2, "s of a step of last stages", GUESS),
    "whole_fixed": Assumption(1.5e-2, 5e-3, 5e-2, "s of a step of ResNet50", GUESS),
    "n_epochs": Assumption(5, 1, 20, "epochs", GUESS),
    "batch_size": Assumption(8192, 1024, 65536, "images of a batch", GUESS),
    "bandwidth": Assumption(
        2e10, 1.25e9, 3e11, "bytes/s of a rank in a sum", "InfiniBand; a guess"
    ),
    "latency": Assumption(1e-5, 3e-6, 5e-5, "s of a message in a sum", GUESS),
    "mtbf": Assumption(
        54 * 86400 * 16384 / 8 / 419, 86400, 1e8, "s between failures of a host", LLAMA
    ),
    "restart": Assumption(300, 60, 1800, "s until a job runs again", GUESS),
    "checkpoint": Assumption(600, 60, 3600, "s between checkpoints", GUESS),
    "spread": Assumption(0.1, 0.03, 0.3, "spread of the speed of workers", GUESS),
    "round_trip": Assumption(
        5e-4, 0, 5e-3, "s of a question to a shared file system", GUESS
    ),
}

# What connects ranks in the tables of efficiency; guesses of the right order.
LINKS = {
    "Ethernet, gloo": Link(1e9, 5e-5),
    "InfiniBand": Link(2e10, 1e-5),
    "NVLink-like": Link(3e11, 3e-6),
}


@dataclass(frozen=True)
class Plan:
    """The values of `ASSUMPTIONS`, by their names."""

    n_images: float
    n_gpus: float
    n_decoders: float
    cores: float
    gpus_per_host: float
    host_memory: float
    store_rate: float
    write_rate: float
    decoder_rate: float
    gpu_host_rate: float
    encode_rate: float
    train_rate: float
    backward: float
    head_seconds: float
    head_fixed: float
    last_fixed: float
    whole_fixed: float
    n_epochs: float
    batch_size: float
    bandwidth: float
    latency: float
    mtbf: float
    restart: float
    checkpoint: float
    spread: float
    round_trip: float

    @property
    def n_hosts(self) -> float:
        """Hosts with GPUs."""
        return self.n_gpus / self.gpus_per_host

    @property
    def n_segments(self) -> float:
        """Files of activations, of the most rows that a file holds."""
        return self.n_images / BLOCK_ROWS


def make_plan(**changes: float) -> Plan:
    """Return the plan as assumed, but for some changes."""
    values = {name: one.value for name, one in ASSUMPTIONS.items()}
    return Plan(**{**values, **changes})


HEAD = "head", "efficientnet_lite0", 0
LAST = "last stages", "efficientnet_lite0", 1
WHOLE = "whole ResNet50", "resnet50", 5


def list_networks() -> dict[str, Network]:
    """Return what each way of training learns."""
    return {name: read_network(*cut) for name, *cut in (HEAD, LAST, WHOLE)}


def list_work(plan: Plan) -> dict[str, Work]:
    """Return what a rank does in a step, for each way of training."""
    networks = list_networks()
    (cut,) = read("timm_cuts", name="tf_efficientnet_lite0", depth=1)
    last = plan.backward * cut["suffix_share"] / plan.encode_rate
    seconds = {
        HEAD[0]: (plan.head_seconds, plan.head_fixed),
        LAST[0]: (last, plan.last_fixed),
        WHOLE[0]: (1 / plan.train_rate, plan.whole_fixed),
    }
    return {
        name: Work(*seconds[name], 4 * network.n_parameters, network.n_batch_norms)
        for name, network in networks.items()
    }


def time_decoding(costs: Costs, plan: Plan, pixel_bytes: float) -> dict[str, float]:
    """Compute the seconds of bringing all images to the GPUs as pixels."""
    n, files = plan.n_images, plan.n_images * costs.jpeg_bytes
    return {
        "read files from the store": files / plan.store_rate,
        "receive files on decoding hosts": files / plan.n_decoders / plan.decoder_rate,
        "decode": n * costs.decode_image / (plan.n_decoders * plan.cores),
        "send pixels from decoding hosts": (
            n * pixel_bytes / plan.n_decoders / plan.decoder_rate
        ),
        "receive pixels on GPU hosts": n
        * pixel_bytes
        / plan.n_hosts
        / plan.gpu_host_rate,
    }


def time_encoding(costs: Costs, plan: Plan) -> dict[str, float]:
    """Compute the seconds of each part of encoding, all of which run at once."""
    n, row = plan.n_images, list_networks()[HEAD[0]].row_bytes
    pixels = read_network("efficientnet_lite0", 5).row_bytes
    return {
        **time_decoding(costs, plan, pixels),
        "encode on GPUs": n / plan.n_gpus / plan.encode_rate,
        "pack and write rows": n * (costs.write_row + costs.put_row) / plan.n_gpus,
        "write rows to the store": n * row / plan.write_rate,
    }


def time_training(costs: Costs, plan: Plan) -> dict[str, dict[str, float]]:
    """Compute the seconds of each way of training, by part; the parts run at once."""
    networks, found = list_networks(), {}
    link, n_ranks = Link(plan.bandwidth, plan.latency), int(plan.n_gpus)
    batch = int(plan.batch_size)
    n_steps = plan.n_epochs * plan.n_images / batch
    shares = draw_slowest(10**7, batch, n_ranks, 500)
    for name, work in list_work(plan).items():
        # By default, backbones keep the statistics of their batch norm.
        work = work._replace(n_batch_norms=0)
        parts = {
            "steps": n_steps * float(time_steps(shares, n_ranks, work, link).mean())
        }
        if name == WHOLE[0]:
            images = time_decoding(costs, plan, networks[name].row_bytes)
            parts |= {part: plan.n_epochs * s for part, s in images.items()}
        elif not fits_memory(plan, networks[name].row_bytes):
            n_bytes = plan.n_images * networks[name].row_bytes
            parts["read rows from the store"] = (
                plan.n_epochs * n_bytes / plan.store_rate
            )
        found[name] = parts
    return found


def fits_memory(plan: Plan, row_bytes: float) -> bool:
    """Whether a quarter of the hosts' memory, as by default, holds all rows."""
    return plan.n_images * row_bytes <= plan.n_hosts * plan.host_memory / 4


def find_slowest(parts: Mapping[str, float]) -> tuple[str, float]:
    """Return the part that takes longest, and its seconds."""
    name = max(parts, key=lambda part: parts[part])
    return name, parts[name]


def count_bytes(costs: Costs, plan: Plan) -> dict[str, float]:
    """Count what is read, sent, stored and kept in memory, if each is done once."""
    n, networks = plan.n_images, list_networks()
    return {
        "files read": n * costs.jpeg_bytes,
        "pixels sent": n * read_network("efficientnet_lite0", 5).row_bytes,
        "rows stored, head": n * networks[HEAD[0]].row_bytes,
        "rows stored, last stages": n * networks[LAST[0]].row_bytes,
    }


def burden(costs: Costs, plan: Plan) -> dict[str, float]:
    """Compute what the present code makes of one list that all processes get.

    Seconds of each process, except for locks, which are taken one after the other;
    bytes of each process.
    """
    n, segments, workers = plan.n_images, plan.n_segments, plan.n_gpus
    held = min(workers * BLOCK_ROWS, float(costs.n_held[-1]))
    of_locks = np.interp(held, costs.n_held, costs.take)
    of_locks += np.interp(held, costs.n_held, costs.give)
    # Each of its blocks lists the folder twice, which holds more and more files.
    some = np.linspace(0, segments, 1000)
    of_lists = 2 * segments / workers * costs.list_folder(some).mean()
    return {
        "open every file at the start": n * costs.open_file,
        "read every file for its hash": (
            workers * n * costs.jpeg_bytes / plan.store_rate
        ),
        "list the folder": float(of_lists),
        "index the rows of others": (
            segments * costs.read_file_of_many + n * costs.read_key
        ),
        "locks": n * float(of_locks),
        "size of the folder, once": segments * costs.stat_file,
    }


def weigh_process(costs: Costs, plan: Plan) -> dict[str, float]:
    """Count the bytes that each process keeps in the present code, for one view."""
    n = plan.n_images
    return {
        "list of paths": n * costs.path_bytes,
        "stamps, hashes and findings": n * costs.stream_bytes,
        "slots": n * 8,
        "rows, views and positions in ensure_all": n * 4 * 8,
        "index of rows on disk": n * costs.key_bytes
        + plan.n_segments * costs.file_bytes,
        "features to solve the head, float32": n * 4 * 1280,
    }


def draw_finish(
    seconds: float, plan: Plan, n_hosts: float, n_trials: int, seed: int = 0
) -> np.ndarray:
    """Draw the seconds of a job that goes on from its last checkpoint after a failure.

    A failure while the job restarts is left out.
    """
    chance, finish = np.random.default_rng(seed), np.zeros(n_trials)
    for i in range(n_trials):
        done = 0.0
        while done < seconds:
            part = min(plan.checkpoint, seconds - done)
            failure = chance.exponential(plan.mtbf / n_hosts)
            if failure < part:
                finish[i] += failure + plan.restart
            else:
                finish[i] += part
                done += part
    return finish


def expect_finish(seconds: float, plan: Plan, n_hosts: float) -> float:
    """Compute the expected seconds of such a job."""
    mean = plan.mtbf / n_hosts
    whole, rest = divmod(seconds, plan.checkpoint)
    parts = [plan.checkpoint] * int(whole) + [rest]
    return sum((mean + plan.restart) * float(np.expm1(part / mean)) for part in parts)


def draw_stragglers(plan: Plan, n_trials: int, seed: int = 0) -> dict[str, float]:
    """Draw by how much workers of unequal speed take longer than equal ones."""
    chance = np.random.default_rng(seed)
    n_workers = int(plan.n_gpus)
    slowness = np.exp(plan.spread * chance.standard_normal((n_trials, n_workers)))
    mean = 1 / (1 / slowness).mean(axis=1)
    block = BLOCK_ROWS * n_workers / plan.n_images
    return {
        "a part for each": float((slowness.max(axis=1) / mean).mean()),
        "blocks from one list": float((1 + block * slowness.max(axis=1) / mean).mean()),
    }


def vary(costs: Costs) -> list[dict[str, float | str]]:
    """Vary each assumption; return the seconds of encoding and what sets them."""
    plan, rows = make_plan(), []
    usual = find_slowest(time_encoding(costs, plan))
    for name, one in ASSUMPTIONS.items():
        row: dict[str, float | str] = {"assumption": name}
        for side, value in (("low", one.low), ("high", one.high)):
            part, seconds = find_slowest(
                time_encoding(costs, replace(plan, **{name: value}))
            )
            row |= {side: value, f"{side}_seconds": seconds, f"{side}_slowest": part}
        if row["low_seconds"] != usual[1] or row["high_seconds"] != usual[1]:
            rows.append(row)
    return rows


def describe() -> dict[str, dict[str, float | str]]:
    """Return all assumptions as they go into the results."""
    return {name: one._asdict() for name, one in ASSUMPTIONS.items()}


def describe_costs(costs: Costs) -> dict[str, float | list[float]]:
    """Return all costs as they go into the results."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in costs._asdict().items()
    }
