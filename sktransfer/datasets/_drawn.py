"""Coloured shapes, drawn at random: an image set that needs no download."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

# Shapes are drawn this many times as large and then averaged, for smooth edges.
OVERSAMPLING = 4
SHAPES_CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "image_size": [Interval(Integral, 8, None, closed="left")],
    "n_classes": [Interval(Integral, 2, 8, closed="both")],
    "noise": [Interval(Real, 0, 1, closed="both")],
    "random_state": ["random_state"],
    "return_X_y": ["boolean"],
}


def make_shapes(
    n_samples: int = 200,
    *,
    image_size: int = 32,
    n_classes: int = 4,
    noise: float = 0.1,
    random_state: Any = None,
    return_X_y: bool = False,
) -> Any:
    """Draw one coloured shape of random size and position per image.

    An image set for examples and tests that needs no download. Colours do not depend
    on the class: those of shape and background are random, and differ by at least a
    quarter of full brightness in each channel.

    Parameters
    ----------
    n_samples : int, default=200
        Number of images, at least `n_classes`.

    image_size : int, default=32
        Height and width in pixels, at least 8.

    n_classes : int, default=4
        Number of shapes, in [2, 8]: the first of circle, square, triangle, cross, ring,
        star, diamond and bar. Class sizes differ by at most one image.

    noise : float, default=0.1
        Standard deviation of the Gaussian noise added to each channel of each pixel,
        as a fraction of full brightness, in [0, 1].

    random_state : int, RandomState instance or None, default=None
        Seed for sizes, positions, colours, noise and the order of the images.

    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        ``data``: uint8 array of shape (n_samples, image_size, image_size, 3) with
        values in [0, 255]; ``target``: array of str of shape (n_samples,), the name of
        each shape; ``target_names``: sorted list of str; ``DESCR``: str.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    See Also
    --------
    load_image_folder : Load your own images from a folder.

    Examples
    --------
    >>> from sktransfer.datasets import make_shapes
    >>> shapes = make_shapes(100, random_state=0)
    >>> shapes.data.shape
    (100, 32, 32, 3)
    >>> shapes.target_names
    ['circle', 'cross', 'square', 'triangle']
    """
    given = {
        "n_samples": n_samples,
        "image_size": image_size,
        "n_classes": n_classes,
        "noise": noise,
        "random_state": random_state,
        "return_X_y": return_X_y,
    }
    validate_parameter_constraints(SHAPES_CONSTRAINTS, given, "make_shapes")
    if n_samples < n_classes:
        raise ValueError(
            f"n_samples={n_samples} must be at least n_classes={n_classes}, so that "
            "each class has an image."
        )
    rng = check_random_state(random_state)
    corners = _make_outlines()
    names = np.array(list(corners)[:n_classes])
    target = rng.permutation(names[np.arange(n_samples) % n_classes])
    data = np.stack([_draw(corners[name], image_size, noise, rng) for name in target])
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=sorted(names.tolist()),
        DESCR=f"{n_samples} drawn images of {n_classes} coloured shapes.",
    )


def _draw(
    corners: np.ndarray, image_size: int, noise: float, rng: np.random.RandomState
) -> np.ndarray:
    """Draw a shape with these corners, uint8 (image_size, image_size, 3)."""
    radius = image_size * rng.uniform(0.22, 0.45)
    centre = rng.uniform(radius, image_size - radius, 2)
    background = rng.randint(0, 256, 3)
    # Modulo 256, 64 to 192 steps away: each channel differs by at least 64.
    colour = (background + rng.randint(64, 193, 3)) % 256
    outline = (centre + radius * corners) * OVERSAMPLING
    large = Image.new("L", (image_size * OVERSAMPLING,) * 2)
    ImageDraw.Draw(large).polygon([(x, y) for x, y in outline.tolist()], fill=255)
    covered = np.asarray(large.reduce(OVERSAMPLING))[:, :, None] / 255
    clean = background + covered * (colour - background)
    noisy = clean + rng.normal(0, 255 * noise, clean.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def _make_outlines() -> dict[str, np.ndarray]:
    """Corners (n, 2) of each shape, x right and y down, at most 1 from the centre."""
    circle = _make_polygon(48)
    ring = np.concatenate([circle, circle[:1], 0.55 * circle[::-1], 0.55 * circle[-1:]])
    arm = np.array([[-0.3, -0.95], [0.3, -0.95], [0.3, -0.3]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    turns = [np.linalg.matrix_power(quarter_turn, k) for k in range(4)]
    return {
        "circle": circle,
        "square": _make_polygon(4, start=1 / 8),
        "triangle": _make_polygon(3),
        "cross": np.concatenate([arm @ turn for turn in turns]),
        "ring": ring,
        "star": _make_polygon(10, distances=(1, 0.4)),
        "diamond": _make_polygon(4, distances=(1, 0.6)),
        "bar": np.array([[-0.95, -0.3], [0.95, -0.3], [0.95, 0.3], [-0.95, 0.3]]),
    }


def _make_polygon(
    n: int, *, start: float = 0.0, distances: tuple[float, ...] = (1.0,)
) -> np.ndarray:
    """Corners (n, 2) clockwise from the top, cycling through distances from 0."""
    angles = 2 * np.pi * (np.arange(n) / n + start)
    reach = np.resize(distances, n)
    return np.column_stack([reach * np.sin(angles), -reach * np.cos(angles)])
