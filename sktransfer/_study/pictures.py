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


def history_name(model_name: str) -> str:
    """Name of the picture of a model's training history."""
    return f"history_{model_name}"


def png_files(folder: Path, model_names: Iterable[str]) -> dict[str, Path]:
    """Path in `folder` of every picture that a study may draw, by name."""
    names = [*OF_THE_STUDY, *map(history_name, model_names), *IMAGE_BY_IMAGE]
    return {name: folder / f"{name}.png" for name in names}
