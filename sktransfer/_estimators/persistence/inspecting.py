"""Inspecting: what a model file says of itself, without loading it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from sktransfer._estimators.persistence.kinds import KIND, list_codecs
from sktransfer._files.model_file import open_model_file


# numpydoc does not recognise the fields of a dataclass as its parameters.
@dataclass(frozen=True)
class ModelInfo:  # numpydoc ignore=PR02
    """What a model file says of itself; ``print(info)`` shows the model card.

    Parameters
    ----------
    path : path-like
        Of the file.

    estimator : str
        Name of the class.

    params : dict
        Its parameters, except those that were left out.

    omitted : list of str
        Parameters that were left out.

    attributes : dict
        Its fitted attributes, among them ``classes_`` and ``history_``.

    versions : dict of str to str
        Releases of Python and of packages that it was saved with.

    n_bytes : int
        Size of the file.

    n_weights : int
        Numbers in the tensors that the file holds.

    card : str
        The model card, as Markdown.

    See Also
    --------
    inspect : Makes one, and has an example.
    """

    __module__ = "sktransfer"

    path: PathLike[str]
    estimator: str
    params: dict[str, Any] = field(repr=False)
    omitted: list[str] = field(repr=False)
    attributes: dict[str, Any] = field(repr=False)
    versions: dict[str, str] = field(repr=False)
    n_bytes: int
    n_weights: int
    card: str = field(repr=False)

    def __str__(self) -> str:
        """Return the model card, without what would control a terminal."""
        return "".join(c for c in self.card if c.isprintable() or c == "\n")


def inspect(path: str | PathLike[str]) -> ModelInfo:
    """Show what is in a model file, without loading the model.

    Only the description is read. Neither the weights nor the hash of the file are, so
    what is shown may be wrong if the file is damaged or forged; :func:`sktransfer.load`
    checks everything.

    Parameters
    ----------
    path : str or path-like
        Of a file that ``save`` of an estimator has written.

    Returns
    -------
    ModelInfo

    Raises
    ------
    ModelFileError
        If it is no such file, or its description is damaged.
    OSError
        If it cannot be read.

    See Also
    --------
    load : Loads the model.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> import sktransfer
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = sktransfer.ScratchCNNClassifier(width=8, max_epochs=1, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "digits.sktransfer"
    ...     clf.fit(X / 16, y).save(path)
    ...     info = sktransfer.inspect(path)
    >>> info.estimator, info.params["width"], info.attributes["classes_"].tolist()
    ('ScratchCNNClassifier', 8, [0, 1])
    """
    with open_model_file(Path(path), KIND, list_codecs()) as opened:
        content = opened.content
        parts = {
            name: part if isinstance(part := content.get(name), dict) else {}
            for name in ("params", "attributes", "versions")
        }
        return ModelInfo(
            path=Path(path),
            estimator=str(content.get("estimator")),
            omitted=list_omitted(content),
            n_bytes=opened.n_bytes,
            n_weights=sum(math.prod(form.shape) for form in opened.forms.values()),
            card=opened.card,
            **parts,
        )


def list_omitted(content: Mapping[str, Any]) -> list[str]:
    """List the parameters that were left out of a file."""
    omitted = content.get("omitted")
    return [str(name)[:80] for name in omitted] if isinstance(omitted, list) else []


inspect.__module__ = "sktransfer"
