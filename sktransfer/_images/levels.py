"""Levels: which value of an image is white, and whether the data speak against it."""

from __future__ import annotations

import numpy as np

from sktransfer._images.shapes import needs_rescaling
from sktransfer._images.streams.ahead import Images, cut_all, read_ahead

# Images darker than one of 255 levels are all but black. Those of 12 bits among 16 keep
# 15 of them, and sklearn's digits as bytes 16.
BLACK, DARK = 1 / 255, 1 / 15

# White of cameras, scanners and microscopes: of so many bits.
BITS = 1, 4, 8, 10, 12, 14, 16


def guess_white(brightest: float) -> float:
    """Guess which value is white if nothing is brighter than this."""
    whites = (2.0**n - 1 for n in BITS)
    if brightest < 0.5:
        return brightest
    return next((white for white in whites if brightest <= white), brightest)


def find_brightest(images: Images, enough: float) -> float:
    """Find the highest value of images, or one above `enough`."""
    brightest = -np.inf
    for part in read_ahead(images, cut_all(images)):
        brightest = max(brightest, float(part.max()))
        if brightest > enough:
            break
    return brightest


def judge(
    what: str, brightest: float, white: float, remedy: str = "pass max_value={white:g}"
) -> str | None:
    """Say it if images use few of their levels.

    Parameters
    ----------
    what : str
        What holds the images, such as ``"X"``.

    brightest : float
        The highest value of all images.

    white : float
        The value that is taken for white.

    remedy : str, default="pass max_value={white:g}"
        What helps, with the value that may be white, and the factor to that.

    Returns
    -------
    str or None
        A warning, if there is something to say.

    Raises
    ------
    ValueError
        If all images are all but black.
    """
    if not 0 < brightest <= DARK * white:
        return None
    guess = guess_white(brightest)
    if guess >= white:
        guess = brightest
    found = f"the highest value of {what} is {brightest:g}, but {white:g} is white"
    remedy = remedy.format(white=guess, factor=white / guess)
    if brightest <= BLACK * white:
        raise ValueError(
            f"{found}: all images are all but black. If {guess:g} is white, {remedy}."
        )
    return f"{found}. If {guess:g} is white, {remedy}."


def rescale(images: np.ndarray, max_value: float | str) -> np.ndarray:
    """Make a value 1, except in uint8, where 255 is always white.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, n_channels)
        Of any real dtype.

    max_value : float or "auto"
        The value that is white now. ``"auto"``: it is that of the dtype already.

    Returns
    -------
    ndarray of shape (n_images, height, width, n_channels)
        Unchanged, or float32.
    """
    if not needs_rescaling(images.dtype, max_value):
        return images
    scaled = np.empty(images.shape, np.float32)
    for part in cut_all(images):
        scaled[part] = images[part] / np.float64(max_value)
    return scaled
