"""Levels: which value of an image is white, and whether the data speak against it."""

from __future__ import annotations

import numpy as np

from sktransfer._images.shapes import scale_of

# Images darker than one of 255 levels are all but black. Those of 12 bits among 16 keep
# 15 of them, and sklearn's digits as bytes 16.
BLACK, DARK = 1 / 255, 1 / 15

# White of cameras, scanners and microscopes: of so many bits.
BITS = 1, 4, 8, 10, 12, 14, 16

BYTE = 255.0

# Images are rescaled so many at a time.
N_AT_A_TIME = 256


def guess_white(brightest: float) -> float:
    """Guess which value is white if nothing is brighter than this."""
    whites = (2.0**n - 1 for n in BITS)
    return next((white for white in whites if brightest <= white), brightest)


def judge(what: str, brightest: float, white: float) -> str | None:
    """Say it if images use few of their levels.

    Parameters
    ----------
    what : str
        What holds the images, such as ``"X"``.

    brightest : float
        The highest value of all images.

    white : float
        The value that is taken for white.

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
    guess = guess_white(brightest) if brightest >= 1 else brightest
    found = f"the highest value of {what} is {brightest:g}, but {white:g} is white"
    remedy = f"pass max_value={guess:g} if that is white"
    if white == BYTE:
        remedy = f"if {guess:g} is white, multiply them by {white / guess:g}"
    if brightest <= BLACK * white:
        raise ValueError(f"{found}: all images are all but black; {remedy}.")
    return f"{found}; {remedy}."


def rescale(images: np.ndarray, max_value: float | str) -> np.ndarray:
    """Make a value white: 65,535 of uint16, 1 of float32; of uint8, 255 always is.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, n_channels)
        Of any real dtype.

    max_value : float or "auto"
        The value that is white now. ``"auto"``: it is white already.

    Returns
    -------
    ndarray of shape (n_images, height, width, n_channels)
        Of uint8 unchanged, of uint16 in uint16, and of all others in float32.

    Raises
    ------
    ValueError
        If an image is brighter than white.
    """
    white = scale_of(images.dtype)
    if isinstance(max_value, str) or white in (BYTE, max_value):
        return images
    is_whole = white > 1
    scaled = np.empty(images.shape, np.uint16 if is_whole else np.float32)
    for start in range(0, len(images), N_AT_A_TIME):
        part = images[start : start + N_AT_A_TIME]
        highest = part.max(axis=(1, 2, 3))
        if highest.max() > max_value:
            index = start + int(np.argmax(highest))
            raise ValueError(
                f"X[{index}] holds the value {highest.max():g}, which is more than "
                f"max_value={max_value:g}."
            )
        units = part.astype(np.float64) / max_value
        scaled[start : start + N_AT_A_TIME] = (
            np.rint(units * white) if is_whole else units
        )
    return scaled
