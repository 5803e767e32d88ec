"""The method that writes a fitted estimator into a file."""

from __future__ import annotations

import os
from collections.abc import Collection


class Saved:
    """Gives an estimator :meth:`save`."""

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        backbone: str = "embed",
        omit: Collection[str] = (),
        description: str | None = None,
    ) -> None:
        """Write this fitted estimator into one file that runs no code when it is read.

        :func:`sktransfer.load` reads it again, in this and in later releases, and
        :func:`sktransfer.inspect` shows what is in it. The file is a safetensors file
        with parameters, classes, fitted attributes, the weights, a hash of everything,
        and a model card. If writing fails, an old file at `path` stays as it is.

        Parameters
        ----------
        path : str or path-like
            Of the file, such as ``"ants.sktransfer"``; replaced if it exists.

        backbone : {"embed", "reference"}, default="embed"
            ``"embed"``: the file holds all weights. ``"reference"``: weights that are
            still those of the pretrained backbone are left out, and loading takes them
            from this package, another package or an earlier download. Their hash is in
            the file. The frozen stages are most of a network.

        omit : collection of str, default=()
            Parameters to leave out, because a file cannot hold their values: functions,
            callbacks, fitted estimators, random generators. Loading sets them to their
            defaults, or to what :func:`sktransfer.load` is given.

        description : str, default=None
            Your own words about the model, the first part of its card.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a parameter has a value that a file cannot hold, or the estimator is of
            another class than those of this package.
        ValueError
            If `backbone` or `omit` is not as described, or a parameter is invalid.
        OSError
            If the file cannot be written.

        Notes
        -----
        Folders of this machine are not saved: an `activation_cache` that is a path
        becomes ``"auto"``. A :class:`Backbone` of your own is code; it is left out, and
        :func:`sktransfer.load` must be given it.
        """
        from sktransfer._estimators.persistence.saving import save_estimator

        save_estimator(self, path, backbone, omit, description)
