"""Which convolutions this processor gets wrong in bfloat16.

    python benchmarks/convolutions.py

Convolutions of random kernels, strides, paddings, dilations, groups, channels and
images, each in a process of its own, since wrong ones also write to memory that is not
theirs. One is wrong if its result, or a gradient, is further from that in float32 than
rounding explains. The report counts them apart for those that the library computes in
float32 (`is_wrong_in_bfloat16`) and for all others, of which none should be wrong, and
lists the first few of the others that are.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from record import Record
from torch import nn

from sktransfer._networks.convolution import is_wrong_in_bfloat16

N_CASES, N_REPEATS, N_LISTED = 2000, 3, 5
# Rounding leaves less, as a share of the largest value, or of the norm of a gradient.
TOLERANCE = 0.03
MOST_PRODUCTS, LARGEST_INPUT = 1e8, 3e6
SIDES = [1, 2, 3, 4, 5, 7, 8, 12, 14, 16, 20, 28, 32, 56, 64, 112]
CHANNELS = [1, 3, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256]


class Case(NamedTuple):
    """A convolution, and the shape (n, channels, height, width) of its input."""

    shape: tuple[int, int, int, int]
    n_outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    is_channels_last: bool
    learns: bool

    def make(self) -> nn.Conv2d:
        """Make the convolution."""
        return nn.Conv2d(
            self.shape[1],
            self.n_outputs,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )

    def is_avoided(self) -> bool:
        """Return whether the library computes it in float32."""
        kernel = (self.n_outputs, self.shape[1] // self.groups, *self.kernel)
        return is_wrong_in_bfloat16(
            torch.Size(self.shape),
            torch.Size(kernel),
            self.stride,
            self.padding,
            self.dilation,
        )


def draw(rng: np.random.Generator) -> Case | None:
    """Draw a convolution; None if it is impossible or takes long."""

    def pair(*values: int) -> tuple[int, int]:
        first, second = (int(rng.choice(values)) for _ in range(2))
        return (first, first if rng.random() < 0.75 else second)

    kernel = pair(1, 2, 3, 3, 4, 5, 7, 8, 14, 16)
    stride = kernel if rng.random() < 0.3 else pair(1, 2, 2, 3, 4, 8, 14, 16)
    padding = tuple(int(rng.choice([0, side // 2, side - 1])) for side in kernel)
    dilation = pair(1, 1, 1, 1, 2, 3)
    n_inputs = int(rng.choice(CHANNELS))
    groups = int(rng.choice([1, 1, 1, 2, 4, 8, n_inputs]))
    n_outputs = groups * int(rng.choice([1, 2, 4, 8, 16, 32]))
    shape = (int(rng.choice([1, 2, 5])), n_inputs, *rng.choice(SIDES, 2).tolist())
    flags = rng.random() < 0.5, rng.random() < 0.4
    parts = zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    found = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts]
    if n_inputs % groups or n_outputs > 512 or min(found) < 1:
        return None
    n_products = np.prod(found) * np.prod(kernel) * shape[0] * n_outputs * n_inputs
    if n_products / groups > MOST_PRODUCTS or np.prod(shape) > LARGEST_INPUT:
        return None
    return Case(shape, n_outputs, kernel, stride, padding, dilation, groups, *flags)


def compare(case: Case, answer: Connection) -> None:
    """Send whether bfloat16 is as good as rounding lets it be."""
    torch.set_num_threads(1)
    conv = case.make()
    errors = [measure_error(case, conv) for _ in range(N_REPEATS)]
    # Values that cancel each other leave a large error once in a while, but never NaN.
    answer.send(bool(np.isfinite(errors).all() and np.median(errors) < TOLERANCE))


def measure_error(case: Case, conv: nn.Conv2d) -> float:
    """Measure the error of the result, and of gradients, on random values."""
    layout = torch.channels_last if case.is_channels_last else torch.contiguous_format
    x = torch.randn(case.shape).contiguous(memory_format=layout)
    x.requires_grad_(case.learns)
    with torch.set_grad_enabled(case.learns):
        exact = conv(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = conv(x).float()
    errors = [(found - exact).abs().max() / exact.abs().max()]
    if case.learns:
        weights = torch.randn_like(exact)
        pairs = zip(
            torch.autograd.grad((found * weights).sum(), [conv.weight, x]),
            torch.autograd.grad((exact * weights).sum(), [conv.weight, x]),
            strict=True,
        )
        errors += [(a - b).norm() / b.norm() for a, b in pairs if b.any()]
    # The maximum of numbers with NaN among them is NaN in torch, but not in Python.
    return float(torch.stack(errors).detach().max())


def try_out(case: Case) -> str:
    """Compare in a process of its own: "right", "wrong" or "crashed"."""
    context: Any = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=compare, args=(case, sending))
    process.start()
    sending.close()
    try:
        found = "right" if receiving.recv() else "wrong"
    except EOFError:
        found = "crashed"
    process.join()
    return "crashed" if process.exitcode else found


def main() -> None:
    """Try the convolutions, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=N_CASES)
    n_cases = parser.parse_args().n
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    counts: Counter[tuple[bool, str]] = Counter()
    missed: list[dict[str, Any]] = []
    while counts.total() < n_cases:
        case = draw(rng)
        if case is None:
            continue
        found = try_out(case)
        counts[case.is_avoided(), found] += 1
        if found != "right" and not case.is_avoided():
            missed.append(case._asdict())
            print(found, case, flush=True)
    record = Record("convolutions")
    for is_avoided in (True, False):
        by_result = {
            result: counts[is_avoided, result]
            for result in ("right", "wrong", "crashed")
        }
        listed = [] if is_avoided else missed[:N_LISTED]
        record.add(is_avoided=is_avoided, **by_result, missed=listed)


if __name__ == "__main__":
    main()
