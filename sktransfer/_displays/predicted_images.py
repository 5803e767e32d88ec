"""The common base of displays of single images and their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from sktransfer._displays.content.predictions import Predictions, check_counts
from sktransfer._displays.content.shown_images import prepare_images
from sktransfer._displays.drawing.captions import write_captions
from sktransfer._displays.drawing.image_grid import draw_grid


class PredictedImagesDisplay:
    """A grid of images, each with its true class, its predicted class and a detail.

    Subclasses choose the images and write the details. Their public methods spell out
    their parameters, so that signatures and documentation are complete.

    Parameters
    ----------
    images, y_true, y_pred, classes, display_labels, indices, title : object
        As documented by each subclass.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        y_true: np.ndarray,
        y_pred: np.ndarray,
        classes: np.ndarray,
        display_labels: Sequence[Any] | None,
        indices: np.ndarray | None,
        title: str | None,
    ) -> None:
        self.images = images
        self.y_true = y_true
        self.y_pred = y_pred
        self.classes = classes
        self.display_labels = display_labels
        self.indices = indices
        self.title = title

    @classmethod
    def _from_rows(
        cls, predictions: Predictions, rows: np.ndarray, title: str, **details: Any
    ) -> Self:
        """Create the display of some rows; `details` are parameters of the subclass."""
        return cls(
            images=prepare_images(predictions.X, rows, predictions.image_shape),
            y_true=predictions.classes[predictions.y_true[rows]],
            y_pred=predictions.classes[predictions.y_pred[rows]],
            classes=predictions.classes,
            display_labels=predictions.display_labels,
            indices=rows,
            title=title,
            **details,
        )

    def _draw(
        self,
        details: Sequence[str],
        ax: Any,
        n_columns: int,
        im_kw: Mapping[str, Any] | None,
    ) -> Self:
        """Draw the images with captions that end in the details."""
        check_counts(n_columns=n_columns)
        captions = write_captions(
            self.y_true, self.y_pred, details, self.classes, self.display_labels
        )
        self.ax_, self.axes_, _ = draw_grid(
            ax,
            self.images,
            captions,
            n_columns,
            f"{type(self).__name__}.plot",
            title=self.title,
            im_kw=im_kw,
        )
        self.figure_ = self.ax_.figure
        return self
