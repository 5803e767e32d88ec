"""The methods ``to_torch`` and ``to_onnx`` of fitted estimators."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer._estimators.inputs import UNSCALED
from sktransfer._images.shapes import Shape

if TYPE_CHECKING:
    import torch


def _check_scale(brightness: float) -> None:
    """Raise a ValueError if a network was fitted on images on another scale."""
    if brightness > UNSCALED:
        raise ValueError(
            f"fit has seen values of X up to {brightness:g}, but an exported network "
            "takes uint8, where 255 stands for 1; fit it on uint8 or on floats in "
            "[0, 1], or pass max_value."
        )


class ExportedClasses:
    """Export of a classifier: from uint8 images to probabilities."""

    image_shape_: Shape
    classes_: np.ndarray
    net_: Any
    tta: str | None
    _brightness: float

    def to_torch(self) -> torch.nn.Module:
        """Return the fitted network as one module, from uint8 images to probabilities.

        ``torch.export`` makes a program of it that runs where this package is not
        installed.

        Returns
        -------
        torch.nn.Module
            Maps a uint8 tensor of shape (n_images, height, width, n_channels), of which
            the last three are ``image_shape_``, to a float32 tensor of shape (n_images,
            n_classes): what :meth:`predict_proba` returns with
            ``precision="float32"``. Resizing, normalising, the views of `tta` and
            softmax are inside. It is a copy on the CPU in eval mode, and its weights
            have no gradients.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        ValueError
            If the values that :meth:`fit` has seen were not scaled to [0, 1].

        See Also
        --------
        to_onnx : The same, in a file for other runtimes.
        """
        program: torch.nn.Module = self._make_program()
        return program

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted network to a file of ONNX, from uint8 images to labels.

        The input ``images`` is uint8, of shape (n_images, height, width, n_channels),
        for any number of images; the last three are ``image_shape_``. The output
        ``probabilities`` is float32, of shape (n_images, n_classes): what
        :meth:`predict_proba` returns with ``precision="float32"``. The output
        ``labels``, of shape (n_images,), is what :meth:`predict` returns: int64 if
        ``classes_`` holds integers, and strings if it holds strings. Of other classes,
        it is the position in ``classes_``, int64. Resizing, normalising and the views
        of `tta` are inside. The metadata of the file are ``image_shape`` and
        ``classes``, as JSON, and ``labels``, which says what the labels are:
        ``"classes"`` or ``"positions in classes"``.

        Parameters
        ----------
        path : str or path-like
            The file. One that exists is replaced once the new one is whole.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        ImportError
            If the packages of ``sktransfer[onnx]`` are not installed.
        ValueError
            If the values that :meth:`fit` has seen were not scaled to [0, 1], or the
            weights take more than 2 GiB.
        OSError
            If the file cannot be written.

        See Also
        --------
        to_torch : The same as a module of torch.
        """
        from sktransfer._estimators.export.onnx import write_model
        from sktransfer._estimators.export.program import LabelProgram

        program = LabelProgram(self._make_program())
        write_model(program, self.image_shape_, path, self.classes_)

    def _make_program(self) -> Any:
        """Return the network from uint8 images to probabilities."""
        check_is_fitted(self)
        _check_scale(self._brightness)
        from sktransfer._estimators.export.program import ClassProgram
        from sktransfer._images.views import tta_views

        return ClassProgram(
            self.net_.module_,
            self.image_shape_,
            tta_views(self.tta, *self.image_shape_[:2]),
        )


class ExportedFeatures:
    """Export of an extractor: from uint8 images to features."""

    image_shape_: Shape
    stages_: Any
    _brightness: float

    def to_torch(self) -> torch.nn.Module:
        """Return the network as one module, from uint8 images to features.

        ``torch.export`` makes a program of it that runs where this package is not
        installed.

        Returns
        -------
        torch.nn.Module
            Maps a uint8 tensor of shape (n_images, height, width, n_channels), of which
            the last three are ``image_shape_``, to a float32 tensor of shape (n_images,
            n_features): what :meth:`transform` returns with ``precision="float32"``.
            Resizing and normalising are inside. It is a copy on the CPU in eval mode,
            and its weights have no gradients.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        ValueError
            If the values that :meth:`fit` has seen were not scaled to [0, 1].

        See Also
        --------
        to_onnx : The same, in a file for other runtimes.
        """
        return self._make_program()

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file of ONNX, from uint8 images to features.

        The input ``images`` is uint8, of shape (n_images, height, width, n_channels),
        for any number of images; the last three are ``image_shape_``. The output
        ``features`` is float32, of shape (n_images, n_features): what
        :meth:`transform` returns with ``precision="float32"``. Resizing and normalising
        are inside. The metadata of the file are ``image_shape``, as JSON.

        Parameters
        ----------
        path : str or path-like
            The file. One that exists is replaced once the new one is whole.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        ImportError
            If the packages of ``sktransfer[onnx]`` are not installed.
        ValueError
            If the values that :meth:`fit` has seen were not scaled to [0, 1], or the
            weights take more than 2 GiB.
        OSError
            If the file cannot be written.

        See Also
        --------
        to_torch : The same as a module of torch.
        """
        from sktransfer._estimators.export.onnx import write_model

        write_model(self._make_program(), self.image_shape_, path)

    def _make_program(self) -> torch.nn.Module:
        """Return the network from uint8 images to features."""
        check_is_fitted(self)
        _check_scale(self._brightness)
        from sktransfer._estimators.export.program import FeatureProgram

        return FeatureProgram(self.stages_, self.image_shape_)
