"""The pictures of a study: what each is called, and what is kept of it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Names of the pictures of the whole study, and of those that show single test images,
# in the order in which they appear. Histories are named after their models.
OF_THE_STUDY = ("comparison", "samples", "confusion")
IMAGE_BY_IMAGE = (
    "at_random",
    "most_confident_wrong",
    "top_losses",
    "confused_pairs",
    "saliency",
)

# Share of its width to which a picture is scaled down at most, as in the template, and
# the width inside its frame on a phone of 390 pixels.
READABLE, PHONE = 0.72, 340


@dataclass(frozen=True)
class Picture:
    """A PNG file and its words; `width` and `height` are in CSS pixels."""

    title: str
    caption: str
    alt: str
    png: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """Address for an image element that holds the picture itself."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


def is_large(picture: Picture) -> bool:
    """Whether a phone shows a part of a picture, so that its text can be read."""
    return READABLE * picture.width > PHONE


def history_name(model_name: str) -> str:
    """Name of the picture of a model's training history."""
    return f"history_{model_name}"


def png_files(folder: Path, model_names: Iterable[str]) -> dict[str, Path]:
    """Path in `folder` of every picture that a study may draw, by name."""
    names = [*OF_THE_STUDY, *map(history_name, model_names), *IMAGE_BY_IMAGE]
    return {name: folder / f"{name}.png" for name in names}
