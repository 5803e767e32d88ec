"""X as every estimator takes it: checked once, then (n, height, width, channels)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from sktransfer._estimators.documentation import Documented
from sktransfer._estimators.persistence.saved import Saved
from sktransfer._feedback import Bar, warn
from sktransfer._images.containers import (
    as_pictures,
    is_pictures,
    list_pictures,
    refuse_a_single_image,
    refuse_bad_container,
    unpack,
)
from sktransfer._images.geometry import RESIZE, stored_shape
from sktransfer._images.levels import BLACK, DARK, find_brightest, judge, rescale
from sktransfer._images.pictures.decoding import GREY
from sktransfer._images.pictures.opening import check_files, describe_picture
from sktransfer._images.pictures.reading import PictureShapes, Reading, survey
from sktransfer._images.shapes import (
    Shape,
    array_shape,
    check_shape,
    find_range,
    looks_channels_first,
    row_shape,
    scale_of,
)
from sktransfer._images.streams.ahead import Images
from sktransfer._images.streams.lazy import ArrayStream, LazyImages
from sktransfer._images.streams.pictures import PictureStream
from sktransfer._images.streams.spool import Spool

# Floats slightly above 1 may come from resizing or from brightened images.
UNSCALED = 2

# scikit-learn's digits, 8 x 8 pixels, are the smallest images in common use.
SMALLEST_GUESS = 8

# scikit-learn's word for checking X alone, since y=None would be an error.
NO_LABELS = "no_validation"


@contextmanager
def restore_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """Restore an estimator's attributes if the block raises an error."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def warn_of_a_guess(shape: Shape) -> None:
    """Warn if rows of numbers are hardly images."""
    if min(shape[:2]) < SMALLEST_GUESS:
        warn(
            f"rows of {int(np.prod(shape))} numbers are read as images of shape "
            f"{shape}; pass image_shape={shape} if that is right."
        )


def warn_of_channels_first(rows: np.ndarray, shape: Shape, *, are_rows: bool) -> None:
    """Warn if the channels of images hardly come last."""
    height, width, n_channels = shape
    if are_rows and looks_channels_first(rows.reshape(len(rows), *shape)):
        warn(
            f"rows of X are read as RGB images of shape {shape}, but look as if one "
            "channel came after the other; if so, pass "
            f"X.reshape(-1, 3, {height}, {width}).transpose(0, 2, 3, 1)."
        )
    elif not are_rows and height == n_channels == 3 and width > 3:
        warn(
            f"X holds images of shape {shape}, 3 pixels high; if their channels come "
            "first, pass X.transpose(0, 2, 3, 1)."
        )


def warn_of_findings(images: Images, grey_is_meant: bool = False) -> None:
    """Warn of pictures of which not everything is used, once per kind.

    Of those that were read so far; images of other kinds have none.
    """
    stream = images.stream if isinstance(images, Spool) else images
    if not isinstance(stream, PictureStream):
        return
    findings = stream.get_findings()
    kinds = {
        "hold several frames or pages, of which one is used": findings.with_frames,
        "show colours, but are seen in grey, as images of one channel": (
            [] if grey_is_meant else findings.coloured
        ),
        "end in uniform grey, as if data were missing": findings.cut_off,
    }
    for what, indices in kinds.items():
        if indices:
            first, name = indices[0], stream.name
            warn(
                f"{len(indices)} of {len(stream)} pictures {what}; the first of them "
                f"is {name}[{first}], {describe_picture(stream.pictures[first])}."
            )


class ImageInput(Saved, Documented):
    """The base of every estimator here: it checks ``X`` and remembers its shape."""

    image_shape: Shape | None
    image_size: int | str | None
    max_value: float | str
    resize: str
    image_shape_: Shape
    _own_shape: Shape
    _brightness: float
    _had_pictures: bool
    _reading: dict[str, Any]

    _input_constraints: ClassVar[dict[str, list[Any]]] = {
        "image_size": [
            StrOptions({"auto"}),
            None,
            Interval(Integral, 1, None, closed="left"),
        ],
        "resize": [StrOptions(set(RESIZE))],
        "image_shape": [tuple, list, None],
        "max_value": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "verbose": ["verbose"],
    }

    def _check_images(
        self,
        X: Any,
        y: Any = NO_LABELS,
        *,
        reset: bool,
        min_samples: int = 1,
        name: str = "X",
    ) -> tuple[Images, Any]:
        """Validate X, and y if given; set or compare the image shape.

        Returns
        -------
        images : Images of shape (n_images, height, width, n_channels)
            An array, or a stream if `X` holds pictures or lazy images.

        y : ndarray of shape (n_images,), or unchanged if not given
        """
        refuse_bad_container(X)
        X = unpack(X)
        refuse_a_single_image(X, y)
        if reset:
            self._reading = self._choose_reading()
            self._had_pictures = is_pictures(X)
        elif self._had_pictures:
            X = as_pictures(X, self.image_shape_)
        if is_pictures(X):
            return self._check_pictures(X, y, reset, min_samples, name)
        if isinstance(X, LazyImages):
            return self._check_lazy(X, y, reset, min_samples)
        return self._check_array(X, y, reset, min_samples)

    def _check_array(
        self, X: Any, y: Any, reset: bool, min_samples: int
    ) -> tuple[np.ndarray, Any]:
        """Validate an array, and y if given."""
        shape = None
        if getattr(X, "ndim", None) is None:
            X = check_array(X, ensure_2d=False, allow_nd=True, ensure_min_samples=0)
        if X.ndim > 2:
            shape = array_shape(X.shape, self.image_shape)
            if not reset:
                self._compare_shapes(X.shape, shape)
            X = X.reshape(len(X), int(np.prod(shape)))
        options = {"reset": reset, "ensure_min_samples": min_samples}
        try:
            if isinstance(y, str) and y == NO_LABELS:
                X = validate_data(self, X, **options)
            else:
                X, y = validate_data(self, X, y, **options)
        except ValueError as error:
            if not reset and (*X.shape, 1) == self.image_shape_:
                raise ValueError(f"{error} For a single image pass X[None].") from None
            if "Input X contains" not in str(error):
                raise
            # scikit-learn's own message recommends imputing columns.
            bad = np.flatnonzero(~np.isfinite(np.asarray(X, float)).all(axis=1))
            raise ValueError(
                f"Input X contains NaN or infinity in {len(bad)} image(s), the first "
                f"of which is X[{bad[0]}]; leave them out, or repair them."
            ) from None
        if reset:
            self.image_shape_ = shape or row_shape(X.shape[1], self.image_shape)
            if self.image_shape is None:
                if shape is None:
                    warn_of_a_guess(self.image_shape_)
                warn_of_channels_first(X, self.image_shape_, are_rows=shape is None)
            self._note_own_shape(self.image_shape_)
        images = X.reshape(len(X), *self.image_shape_)
        self._check_values(images, reset)
        return rescale(images, self._reading["max_value"]), y

    def _compare_shapes(self, whole: tuple[int, ...], shape: Shape) -> None:
        """Raise a ValueError unless images have the shape of those in `fit`."""
        if shape == self.image_shape_:
            return
        hint = " For a single image pass X[None]." * (whole == self.image_shape_)
        raise ValueError(
            f"X holds images of shape {shape}, but {type(self).__name__} was fitted on "
            f"images of shape {self.image_shape_}.{hint}"
        )

    def _check_lazy(
        self, X: LazyImages, y: Any, reset: bool, min_samples: int
    ) -> tuple[ArrayStream, Any]:
        """Validate an array that is not in memory, and y if given."""
        if X.dtype.kind not in "buif":
            raise TypeError(f"X holds {X.dtype}, which is no type of pixels.")
        y = self._check_labels(X, y, min_samples)
        shape = array_shape(X.shape, self.image_shape)
        if reset:
            self.image_shape_ = shape
            self._note_own_shape(shape)
            self._forget_columns()
        else:
            self._compare_shapes(X.shape, shape)
        self._check_values(ArrayStream(X, shape), reset)
        return ArrayStream(X, shape, self._reading["max_value"]), y

    def _check_values(self, images: Images, reset: bool) -> None:
        """Raise, or warn, if the values of images cannot be right."""
        darkness, brightness = find_range(images)
        if reset and self._expects_unit_scale() and darkness >= 0:
            self._judge_array(images)
        max_value = self._reading["max_value"]
        if not isinstance(max_value, str) and images.dtype != np.uint8:
            if scale_of(images.dtype) != 1:  # uint16 in either order of bytes
                brightness = find_brightest(images, np.inf)
            darkness, brightness = darkness / max_value, brightness / max_value
        self._check_scale(images.dtype, darkness, brightness, reset)

    def _judge_array(self, images: Images) -> None:
        """Warn if the images of an array use few of their levels."""
        white, remedy = scale_of(images.dtype), "pass max_value={white:g}"
        if images.dtype == np.uint8:
            remedy = "multiply X by {factor:.3g}"
        elif not isinstance(self.max_value, str):
            white = self.max_value
        brightest = find_brightest(images, DARK * white)
        message = judge("X", brightest, white, remedy)
        if message is not None:
            warn(message)

    def _check_scale(
        self, dtype: Any, darkness: float, brightness: float, reset: bool
    ) -> None:
        """Warn if images are far brighter or darker than those that fit has seen.

        The lowest and the highest value are in units of full brightness.
        """
        if reset:
            self._brightness = brightness
            if self._expects_unit_scale() and brightness > UNSCALED:
                warn(
                    f"X holds {dtype} values up to {brightness:g}, but a "
                    "pretrained backbone expects uint8 or floats in [0, 1] and is of "
                    "little use otherwise; pass X as uint8, or divide it by its full "
                    "brightness."
                )
            elif self._expects_unit_scale() and darkness < 0:
                warn(
                    f"X holds {dtype} values down to {darkness:g}, as if it "
                    "were normalised already, but the network normalises by itself; "
                    "pass uint8 or floats in [0, 1]."
                )
            return
        is_brighter = brightness > UNSCALED * max(1.0, self._brightness)
        is_darker = brightness <= 1 and self._brightness > UNSCALED
        if not isinstance(self._reading["max_value"], str):
            is_darker |= 0 < brightness <= BLACK
        if is_brighter or is_darker:
            warn(
                f"X holds {dtype} values up to {brightness:g}, but the images "
                f"in fit had up to {self._brightness:g} (uint8 counts as 0 to 1); "
                "pass X on the same scale as in fit."
            )

    def _expects_unit_scale(self) -> bool:
        """Return whether the network was made for images scaled to [0, 1]."""
        raise NotImplementedError

    def _check_labels(self, X: Any, y: Any, min_samples: int) -> Any:
        """Validate the labels of pictures, or of lazy images, if there are some."""
        if len(X) < min_samples:
            raise ValueError(
                f"Found array with {len(X)} sample(s) while a minimum of "
                f"{min_samples} is required by {type(self).__name__}."
            )
        if isinstance(y, str) and y == NO_LABELS:
            return y
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None."
            )
        y = column_or_1d(check_array(y, ensure_2d=False, dtype=None), warn=True)
        check_consistent_length(X, y)
        return y

    def _warn_of_findings(self, images: Images) -> None:
        """Warn of pictures, once they were read, of which not everything is used."""
        warn_of_findings(images, grey_is_meant=self.image_shape is not None)

    def _forget_columns(self) -> None:
        """Note how many numbers an image has; a frame of numbers has more to tell."""
        self.n_features_in_ = int(np.prod(self.image_shape_))
        self.__dict__.pop("feature_names_in_", None)  # of a fit on a frame

    def _check_pictures(
        self, X: Any, y: Any, reset: bool, min_samples: int, name: str
    ) -> tuple[PictureStream, Any]:
        """Open files or PIL images, and read no more than headers; validate y."""
        pictures = list_pictures(X)
        y = self._check_labels(pictures, y, min_samples)
        if not reset:
            check_files(pictures)
            reading = Reading(self.image_shape_, **self._reading)
            return PictureStream(pictures, reading, name), y
        with Bar("open", len(pictures), int(self.verbose)) as bar:
            found = survey(pictures, self.max_value, bar.advance)
        self.image_shape_ = self._shape_of_pictures(found.shapes)
        self._note_own_shape(found.shapes.typical)
        self._brightness = 1.0
        self._forget_columns()
        reading = Reading(self.image_shape_, **self._reading)
        stream = PictureStream(pictures, reading, name)
        self._judge_pictures(stream, found.deep)
        return stream, y

    def _judge_pictures(self, stream: PictureStream, deep: np.ndarray) -> None:
        """Warn if pictures with more than 8 bits use few of their levels."""
        white = 65535.0 if isinstance(self.max_value, str) else self.max_value
        brightest = stream.find_brightest(deep, DARK * white)
        if brightest is not None:
            message = judge("pictures with more than 8 bits", brightest, white)
            if message is not None:
                warn(message)

    def _shape_of_pictures(self, found: PictureShapes) -> Shape:
        """Choose the shape at which pictures are read: given, or what is seen."""
        if self.image_shape is not None:
            shape = check_shape(self.image_shape)
            if min(shape) < 1 or shape[2] not in (1, 3):
                raise ValueError(
                    f"image_shape={self.image_shape!r}: pictures need a height and a "
                    "width in pixels and 1 or 3 channels."
                )
            return shape
        common, size = found.common, self._size_for_pictures()
        if common is None:
            return size, size, found.typical[2]
        return stored_shape(common, self._size_seen(common), self.resize)

    def _choose_reading(self) -> dict[str, Any]:
        """Choose how pictures are resized: options of :func:`read_pictures`."""
        return {
            "resize": self.resize,
            "interpolation": "bilinear",
            "fill": GREY,
            "max_value": self.max_value,
        }

    def _note_own_shape(self, image_shape: Shape) -> None:
        """Note the shape that images have, at which pictures may not be stored."""
        self._own_shape = image_shape
        self._compare_sizes(image_shape)

    def _compare_sizes(self, image_shape: Shape) -> None:
        """Warn if the network sees far less of such images than they show."""

    def _size_seen(self, image_shape: Shape) -> int | None:
        """Return height and width to which the network resizes images, None if not."""
        raise NotImplementedError

    def _size_for_pictures(self) -> int:
        """Return height and width at which pictures of different sizes are read."""
        raise NotImplementedError
