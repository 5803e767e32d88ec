"""Checkpoints as a skorch callback: a fit that died goes on where it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer._feedback import warn
from sktransfer._files.encoding import Codec, EncodingError
from sktransfer._files.model_file import (
    ModelFileError,
    open_model_file,
    write_model_file,
)
from sktransfer._files.opening import open_regular
from sktransfer._training.ranks.group import Group

KIND = "checkpoint"
PREVIOUS = ".previous"

# What the name of a checkpoint ends in.
ENDING = ".checkpoint"

# By these a file is known that is damaged further on.
READ_TO_TELL, MARKS = 2**22, (b'"format":"sktransfer"', b'"kind":"checkpoint"')

# Characters; longer descriptions say nothing to people.
MOST_SHOWN = 60


class TensorName(NamedTuple):
    """Stands in a state for a tensor, which a file holds under this name."""

    name: str


CODECS = {
    "tensor": Codec(
        lambda value: type(value) is TensorName,
        lambda value: value.name,
        lambda name: TensorName(str(name)),
    )
}


class Checkpoint(Callback):
    """Write the state of training after every epoch; resume from a state that is there.

    The file is replaced as a whole, and the one before is kept beside it, with
    ``.previous`` at the end of its name. No other file is ever replaced.

    Parameters
    ----------
    path : Path
        Of the file.

    fingerprint : mapping of str to str
        What the fit depends on. A file of another fit is refused.

    is_named_here : bool, default=False
        Whether the name is ours, and so everything under it.

    group : Group or None, default=None
        The ranks that train together: all of them read, and the first one writes.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, str],
        is_named_here: bool = False,
        group: Group | None = None,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.fingerprint = dict(fingerprint)
        self.is_named_here = is_named_here
        self.group = group

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Resume, if there is something to resume from."""
        self.can_write_ = True
        # Whether the newest file is whole, so that it may take the place of the
        # previous one.
        self.is_whole_ = False
        if self.path.exists():
            self._resume(net)
        if self.group is not None:
            self._compare_ranks(len(net.history), self.group)

    def _resume(self, net: NeuralNet) -> None:
        """Resume from the newest state that is whole."""
        for path in (self.path, _name_previous(self.path)):
            state = self._read(path)
            if state is not None:
                self.is_whole_ = path == self.path
                _restore(net, state, path)
                if net.verbose:
                    print(
                        f"checkpoint: {path} resumed after epoch {len(net.history)} "
                        f"of {net.max_epochs}."
                    )
                return

    def _compare_ranks(self, n_epochs: int, group: Group) -> None:
        """Raise a RuntimeError unless all ranks resume after the same epoch."""
        every = group.collect(n_epochs)
        if len(set(every)) > 1:
            raise RuntimeError(
                f"checkpoint={str(self.path)!r}: the ranks of this job resume after "
                f"different epochs ({', '.join(map(str, every))}); all of them have to "
                "see the same file, so pass a path that their machines share."
            )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the state, or warn if that is impossible."""
        if self.group is not None and not self.group.is_first:
            return
        tensors: dict[str, torch.Tensor] = {}
        state = take_out(collect_state(net), "", tensors)
        content = {"fingerprint": self.fingerprint, "state": state}
        try:
            if self.is_whole_:
                _keep_previous(self.path)
            write_model_file(self.path, KIND, content, tensors, CODECS)
            self.is_whole_ = True
        except EncodingError as error:
            raise ValueError(
                f"checkpoint={str(self.path)!r}: a callback or an optimizer has state "
                f"that cannot be saved ({error}); pass checkpoint=None."
            ) from error
        except OSError as error:
            self._warn_once(error, tensors)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the other ranks, which a pickle cannot hold."""
        self.group = None

    def _warn_once(self, error: OSError, tensors: Mapping[str, torch.Tensor]) -> None:
        """Warn that a checkpoint could not be written, and train on."""
        if not self.can_write_:
            return
        self.can_write_ = False
        n_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
        try:
            free = f"{shutil.disk_usage(self.path.parent).free:,} are free"
        except OSError:
            free = "the folder is not there"
        warn(
            f"checkpoint={str(self.path)!r} could not be written ({error}); about "
            f"{n_bytes:,} bytes are needed, and {free}. Training goes on, and tries "
            "again after the next epoch."
        )

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Read the state of this fit; None if there is no file, or a damaged one."""
        try:
            with open_model_file(path, KIND, CODECS) as opened:
                tensors = opened.read_tensors()
                content = opened.content
        except FileNotFoundError:
            return None
        except ModelFileError as error:
            if not (self.is_named_here or _is_ours(self.path)):
                raise ValueError(
                    f"checkpoint={str(path)!r} is a file of something else, and is not "
                    "replaced; pass another name."
                ) from error
            warn(f"{error} The fit does not resume from it.")
            return None
        self._compare(path, content.get("fingerprint"))
        try:
            state: dict[str, Any] = put_back(content["state"], tensors)
        except (KeyError, TypeError) as error:
            raise ModelFileError(f"{str(path)!r} is incomplete: {error}.") from error
        return state

    def _compare(self, path: Path, saved: Any) -> None:
        """Raise a ValueError if a file is of another fit."""
        saved = saved if isinstance(saved, dict) else {}
        names = sorted(
            name
            for name in {**self.fingerprint, **saved}
            if saved.get(name) != self.fingerprint.get(name)
        )
        if names:
            shown = "; ".join(
                _show(name, saved.get(name), self.fingerprint.get(name))
                for name in names[:5]
            )
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ValueError(
                f"checkpoint={str(path)!r} belongs to another fit. What differs: "
                f"{shown}{more}. Pass another path, or delete the file to begin anew; "
                "for several fits, as in a search, pass a folder."
            )


def _show(name: str, then: object, now: object) -> str:
    """Show what differs, unless it is a hash."""
    texts = [str(some) for some in (then, now)]
    if any(len(text) > MOST_SHOWN for text in texts):
        return name
    return f"{name} (then {texts[0]}, now {texts[1]})"


def _name_previous(path: Path) -> Path:
    return path.with_name(path.name + PREVIOUS)


def _keep_previous(path: Path) -> None:
    """Give a checkpoint a second name, under which it outlives the next one."""
    previous = _name_previous(path)
    if not path.exists():
        return
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # some file systems give a file one name only
        shutil.copyfile(path, previous)


def _is_ours(path: Path) -> bool:
    """Return whether a file that cannot be read begins as a checkpoint does.

    A damaged one may be replaced, any other file may not.
    """
    if _name_previous(path).is_file():
        return True  # nobody else makes two such files
    with open_regular(path) as file:
        start = file.read(READ_TO_TELL) or b""
    return not start or all(mark in start for mark in MARKS)


def collect_state(net: NeuralNet) -> dict[str, Any]:
    """Collect everything that the epochs to come depend on."""
    cuda = torch.device(net.device).type == "cuda"
    return {
        "stages": {**_open_tensors(net)},
        "optimizer": net.optimizer_.state_dict(),
        "callbacks": {
            name: _get_progress(callback)
            for name, callback in net.callbacks_
            if has_progress(callback)
        },
        "history": [
            {key: value for key, value in row.items() if key != "batches"}
            for row in net.history
        ],
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(net.device) if cuda else None,
        "batches": net.batches_.get_progress(),
        "most_at_once": net.most_at_once_,
    }


def _restore(net: NeuralNet, state: Mapping[str, Any], path: Path) -> None:
    """Bring a net, whose training has just begun, into a state."""
    try:
        callbacks = dict(net.callbacks_)
        for row in state["history"]:
            net.history.new_epoch()
            for name, value in row.items():
                net.history.record(name, value)
        # The schedule makes the groups of the optimizer.
        for name, progress in state["callbacks"].items():
            _set_progress(callbacks[name], net, progress)
        net.optimizer_.load_state_dict(state["optimizer"])
        own = _open_tensors(net)
        if own.keys() != state["stages"].keys():
            raise KeyError("stages")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state["stages"][name])
        net.most_at_once_ = state["most_at_once"]
        net.resumed_batches_ = state["batches"]
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], net.device)
        torch.set_rng_state(state["random"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelFileError(
            f"{str(path)!r} cannot be resumed from: {type(error).__name__}, {error}."
        ) from error


def _open_tensors(net: NeuralNet) -> dict[str, torch.Tensor]:
    """Return the tensors of the stages that may learn, by name."""
    stages = net.module_
    own = stages.names[net.n_prefix :]
    state: dict[str, torch.Tensor] = stages.state_dict()
    return {name: t for name, t in state.items() if name.split(".")[0] in own}


def has_progress(callback: Any) -> bool:
    """Return whether a callback can be asked for its state, and given one back."""
    return any(
        hasattr(callback, get) and hasattr(callback, put)
        for get, put in (
            ("get_progress", "set_progress"),
            ("state_dict", "load_state_dict"),
        )
    )


def _get_progress(callback: Any) -> Any:
    ours = hasattr(callback, "get_progress")
    return callback.get_progress() if ours else callback.state_dict()


def _set_progress(callback: Any, net: NeuralNet, progress: Any) -> None:
    if hasattr(callback, "set_progress"):
        callback.set_progress(net, progress)
    else:
        callback.load_state_dict(progress)


def take_out(tree: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Replace every tensor in dictionaries, lists and tuples by its name.

    The tensors are added to `tensors`.
    """
    if isinstance(tree, torch.Tensor):
        name = f"{len(tensors)}{name}"
        tensors[name] = tree
        return TensorName(name)
    if isinstance(tree, Mapping):
        return {k: take_out(v, f"{name}.{k}", tensors) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [take_out(v, f"{name}.{i}", tensors) for i, v in enumerate(tree)]
        return items if isinstance(tree, list) else tuple(items)
    return tree


def put_back(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Undo :func:`take_out`."""
    if isinstance(tree, TensorName):
        return tensors[tree.name]
    if isinstance(tree, dict):
        return {k: put_back(v, tensors) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [put_back(v, tensors) for v in tree]
        return items if isinstance(tree, list) else tuple(items)
    return tree
