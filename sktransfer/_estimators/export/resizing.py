"""Resizing as products with fixed matrices, which every runtime can compute.

torch resizes bytes in whole numbers: along the width, then along the height, with
weights that are multiples of a power of one half, and bytes in between. The products
below have the same results, level for level: float32 holds all their numbers exactly.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

# As in torch: weights of bytes have less than 16 bits with their sign, of which at most
# so many stand behind the point.
MOST_WEIGHT, MOST_BITS = 2**15, 22

# Whole numbers below this one are exact in float32.
EXACT = 2**24

# Where weights are cut in two if sums of them would not be exact.
LOW_BITS = 8


def find_weights(n_in: int, n_out: int, interpolation: str) -> torch.Tensor:
    """Return the matrix that resizes a row of pixels, (n_in, n_out), float64."""
    eye = torch.eye(n_in, dtype=torch.float64)[None, None]
    size = (n_in, n_out)
    return F.interpolate(eye, size, mode=interpolation, antialias=True)[0, 0]


def round_weights(weights: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Round weights to whole numbers as torch does for bytes.

    Parameters
    ----------
    weights : tensor of shape (n_in, n_out), float64
        As :func:`find_weights` returns them.

    Returns
    -------
    tensor of shape (n_in, n_out), float64
        The weights times two to the power of `n_bits`.

    n_bits : int
        How many bits stand behind the point.
    """
    largest, n_bits = float(weights.max()), 0
    while n_bits < MOST_BITS and int(0.5 + largest * 2 ** (n_bits + 1)) < MOST_WEIGHT:
        n_bits += 1
    scaled = weights * 2**n_bits
    return torch.trunc(scaled + 0.5 * scaled.sign()), n_bits


class ResizeFloats(nn.Module):
    """Resize the last axis of floats.

    Parameters
    ----------
    n_in, n_out : int
        Pixels before and after.

    interpolation : {"bilinear", "bicubic"}
        Kind of resizing, with antialiasing.
    """

    weights: torch.Tensor

    def __init__(self, n_in: int, n_out: int, interpolation: str) -> None:
        super().__init__()
        weights = find_weights(n_in, n_out, interpolation)
        self.register_buffer("weights", weights.float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., n_in) to (..., n_out)."""
        return x @ self.weights


class ResizeBytes(nn.Module):
    """Resize the last axis of bytes, held as float32, to bytes.

    Parameters
    ----------
    n_in, n_out : int
        Pixels before and after.

    interpolation : {"bilinear", "bicubic"}
        Kind of resizing, with antialiasing.
    """

    weights: torch.Tensor
    low: torch.Tensor | None

    def __init__(self, n_in: int, n_out: int, interpolation: str) -> None:
        super().__init__()
        weights, n_bits = round_weights(find_weights(n_in, n_out, interpolation))
        # Sums of bytes times weights, and what is added to round them.
        largest = 255 * float(weights.abs().sum(0).max()) + 2 ** (n_bits - 1)
        low = None
        if largest >= EXACT:
            high = torch.floor(weights / 2**LOW_BITS)
            low, weights = (weights - high * 2**LOW_BITS).float(), high
            n_bits -= LOW_BITS
        self.n_bits = n_bits
        self.register_buffer("weights", weights.float())
        self.register_buffer("low", low)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., n_in) to (..., n_out), whole numbers in [0, 255]."""
        sums = x @ self.weights
        if self.low is not None:
            sums = sums + torch.floor((x @ self.low) * 0.5**LOW_BITS)
        halves = 2.0 ** (self.n_bits - 1)
        return torch.floor((sums + halves) * 0.5**self.n_bits).clamp(0, 255)


class Resize(nn.Module):
    """Resize images from one fixed size to another.

    Parameters
    ----------
    own, size : tuple of (int, int)
        Height and width before and after.

    interpolation : {"bilinear", "bicubic"}
        Kind of resizing, with antialiasing.

    in_bytes : bool
        Whether pixels are rounded to bytes, as torch does on a CPU.
    """

    def __init__(
        self,
        own: tuple[int, int],
        size: tuple[int, int],
        interpolation: str,
        in_bytes: bool,
    ) -> None:
        super().__init__()
        kind = ResizeBytes if in_bytes else ResizeFloats
        along = [
            kind(n_in, n_out, interpolation) if n_in != n_out else None
            for n_in, n_out in zip(own, size, strict=True)
        ]
        self.height, self.width = along

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Resize (n, channels, *own), float32 in [0, 255], to (n, channels, *size)."""
        if self.width is not None:
            x = self.width(x)
        if self.height is not None:
            x = self.height(x.transpose(2, 3)).transpose(2, 3)
        return x.clamp(0, 255)  # bicubic floats, as everywhere in uint8 images
