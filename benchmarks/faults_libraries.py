"""The libraries that faults are injected into, each with the same few verbs."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skorch
import torch
from skorch.callbacks import Callback, Checkpoint, LoadInitState
from torch import nn
from torchvision.models import resnet18

import sktransfer
from sktransfer import load as load_ours  # imports what reads files

Hook = Callable[[int], None]
Weights = dict[str, np.ndarray]


class Small(nn.Sequential):
    """A network of few weights, with dropout, for images of any size."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(16, 3),
        )


class Large(nn.Module):
    """A ResNet-18, 45 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet18(num_classes=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits."""
        return self.network(x)  # type: ignore[no-any-return]


class Hooked(Callback):
    """Calls a hook after every training step with the number of the epoch."""

    def __init__(self, hook: Hook | None) -> None:
        self.hook = hook

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Call it."""
        if training and self.hook is not None:
            self.hook(len(net.history))

    def state_dict(self) -> dict[str, Any]:
        """Have no state, but say so: checkpoints ask for it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Forget it."""


def to_channels_first(X: np.ndarray) -> np.ndarray:
    """Return images as torch has them."""
    return np.ascontiguousarray(X.transpose(0, 3, 1, 2))


def get_arrays(module: nn.Module) -> Weights:
    """Return copies of the weights of a network."""
    return {k: v.numpy().copy() for k, v in module.state_dict().items()}


class Items(list[Any]):
    """Images with their labels, of which fastai makes an empty copy to export."""

    def new_empty(self) -> Items:
        """Make an empty copy."""
        return Items()


class Ours:
    """sktransfer: ``save`` and ``load``, and ``checkpoint=``."""

    name, ending = "sktransfer", ".sktransfer"

    def make(
        self,
        epochs: int = 1,
        large: bool = False,
        folder: Path | None = None,
        hook: Hook | None = None,
        **more: Any,
    ) -> Any:
        """Make an estimator."""
        if folder is not None:
            more["checkpoint"] = folder / "fit.checkpoint"
        common = {
            "max_epochs": epochs,
            "callbacks": None if hook is None and folder is None else [Hooked(hook)],
            "random_state": 0,
            "device": "cpu",
            "precision": "float32",
            "augment": None,
            **more,
        }
        if not large:
            own = {"width": 8, "dropout": 0.3, "batch_size": 20}
            return sktransfer.ScratchCNNClassifier(**{**own, **common})
        return sktransfer.ResNetTransferClassifier(
            "resnet18",
            weights=None,
            image_size=32,
            head_init="random",
            unfreeze_depth=5,
            unfreeze_schedule="immediate",
            **common,
        )

    def fit(self, X: np.ndarray, y: np.ndarray, **more: Any) -> Any:
        """Fit an estimator, without its callbacks afterwards."""
        clf = self.make(**more).fit(X, y)
        return clf.set_params(callbacks=None, checkpoint=None)

    def save(self, model: Any, path: Path) -> None:
        """Save an estimator."""
        model.save(path)

    def load(self, path: Path) -> Any:
        """Load an estimator."""
        return load_ours(path)

    def weights(self, model: Any) -> Weights:
        """Return the weights of the network."""
        return get_arrays(model.net_.module_)

    def proba(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Predict."""
        return model.predict_proba(X)  # type: ignore[no-any-return]

    def losses(self, model: Any) -> list[float]:
        """Return the training loss of every epoch."""
        return [row["train_loss"] for row in model.history_]

    def checkpoints(self, folder: Path) -> list[Path]:
        """Return the files that hold the newest checkpoint."""
        return [folder / "fit.checkpoint"]

    def read_checkpoint(self, folder: Path) -> None:
        """Read the newest checkpoint, or what the library falls back to."""
        from sktransfer._files.model_file import open_model_file
        from sktransfer._training.callbacks.checkpoint import CODECS

        path, errors = folder / "fit.checkpoint", []
        for one in (path, path.with_name(path.name + ".previous")):
            try:
                with open_model_file(one, CODECS) as opened:
                    opened.read_tensors()
                return
            except (OSError, ValueError) as error:
                errors.append(error)
        raise errors[0]

    def continue_fit(self, X: np.ndarray, y: np.ndarray, **more: Any) -> Any:
        """Make the same call again."""
        return self.fit(X, y, **more)


class Skorch:
    """skorch's net: ``save_params``, ``Checkpoint`` and ``LoadInitState``."""

    name, ending = "skorch", ".pt"

    def make(
        self,
        epochs: int = 1,
        large: bool = False,
        folder: Path | None = None,
        hook: Hook | None = None,
        lr: float = 0.01,
    ) -> Any:
        """Make a net."""
        callbacks: list[Any] = [Hooked(hook)]
        if folder is not None:
            saving = Checkpoint(monitor=None, dirname=str(folder))
            callbacks += [saving, LoadInitState(saving)]
        return skorch.NeuralNetClassifier(
            Large if large else Small,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.SGD,
            optimizer__momentum=0.9,
            max_epochs=epochs,
            lr=lr,
            batch_size=20,
            train_split=None,
            callbacks=callbacks,
            verbose=0,
        )

    def fit(
        self, X: np.ndarray, y: np.ndarray, random_state: int = 0, **more: Any
    ) -> Any:
        """Fit a net, without its callbacks afterwards."""
        torch.manual_seed(random_state)
        net = self.make(**more).fit(to_channels_first(X), y)
        net.callbacks, net.callbacks_ = None, []
        return net

    def save(self, model: Any, path: Path) -> None:
        """Save the weights."""
        model.save_params(f_params=path)

    def load(self, path: Path) -> Any:
        """Load the weights into a net of the right kind."""
        for large in (False, True):
            net = self.make(large=large).initialize()
            try:
                net.load_params(f_params=path)
                return net
            except RuntimeError as error:
                if large or "Error(s) in loading state_dict" not in str(error):
                    raise
        raise AssertionError

    def weights(self, model: Any) -> Weights:
        """Return the weights of the network."""
        return get_arrays(model.module_)

    def proba(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Predict."""
        return model.predict_proba(to_channels_first(X))  # type: ignore[no-any-return]

    def losses(self, model: Any) -> list[float]:
        """Return the training loss of every epoch."""
        return list(model.history[:, "train_loss"])

    def checkpoints(self, folder: Path) -> list[Path]:
        """Return the files that hold the newest checkpoint."""
        return [folder / "params.pt"]

    def read_checkpoint(self, folder: Path) -> None:
        """Read the only checkpoint."""
        for name in ("params.pt", "optimizer.pt"):
            torch.load(folder / name, weights_only=True)

    def continue_fit(self, X: np.ndarray, y: np.ndarray, **more: Any) -> Any:
        """Make the same call again."""
        return self.fit(X, y, **more)


class Joblib(Skorch):
    """A fitted skorch net through ``joblib.dump``."""

    name, ending = "joblib", ".joblib"

    def save(self, model: Any, path: Path) -> None:
        """Save the net."""
        joblib.dump(model, path)

    def load(self, path: Path) -> Any:
        """Load it."""
        return joblib.load(path)


class Pickle(Skorch):
    """A fitted skorch net through ``pickle``."""

    name, ending = "pickle", ".pkl"

    def save(self, model: Any, path: Path) -> None:
        """Save the net."""
        with path.open("wb") as file:
            pickle.dump(model, file)

    def load(self, path: Path) -> Any:
        """Load it."""
        with path.open("rb") as file:
            return pickle.load(file)


class Fastai:
    """fastai's ``Learner``: ``export``, and ``SaveModelCallback``."""

    name, ending = "fastai", ".pkl"

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        random_state: int = 0,
        epochs: int = 1,
        large: bool = False,
        folder: Path | None = None,
        hook: Hook | None = None,
        lr: float = 0.01,
        begin: int = 0,
        **saving: Any,
    ) -> Any:
        """Fit a learner, from an epoch on if one was loaded."""
        from fastai.callback.tracker import SaveModelCallback

        learner = self.make(X, y, random_state, large, folder)
        callbacks = [make_hooked(hook)]
        if folder is not None:
            saving = {"every_epoch": False, "comp": lambda a, b: True, **saving}
            callbacks.append(SaveModelCallback(with_opt=True, **saving))
        if begin:
            learner.load(f"model_{begin - 1}")
        with learner.no_logging():
            learner.fit_one_cycle(epochs, lr, cbs=callbacks, start_epoch=begin)
        return learner

    def make(
        self, X: np.ndarray, y: np.ndarray, seed: int, large: bool, folder: Path | None
    ) -> Any:
        """Make a learner with data."""
        from fastai.data.core import DataLoaders
        from fastai.data.load import DataLoader
        from fastai.learner import Learner
        from fastai.torch_core import set_seed

        importlib.import_module("fastai.callback.schedule")  # defines fit_one_cycle
        set_seed(seed)
        labels = y if y.dtype.kind == "f" else y.astype(np.int64)
        items = Items(
            zip(
                torch.from_numpy(to_channels_first(X)),
                torch.from_numpy(labels),
                strict=True,
            )
        )
        train = DataLoader(items, bs=20, shuffle=True, num_workers=0)
        return Learner(
            DataLoaders(train, DataLoader(Items(items[:20]), bs=20, num_workers=0)),
            (Large if large else Small)(),
            loss_func=nn.CrossEntropyLoss(),
            path=folder,
            model_dir=".",
        )

    def save(self, model: Any, path: Path) -> None:
        """Export the learner."""
        model.export(path)

    def load(self, path: Path) -> Any:
        """Load it."""
        from fastai.learner import load_learner

        return load_learner(path)

    def weights(self, model: Any) -> Weights:
        """Return the weights of the network."""
        return get_arrays(model.model)

    def proba(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Predict."""
        from fastai.data.load import DataLoader

        items = [(x, 0) for x in torch.from_numpy(to_channels_first(X))]
        loader = DataLoader(items, bs=20, num_workers=0)
        return model.get_preds(dl=loader)[0].numpy()  # type: ignore[no-any-return]

    def losses(self, model: Any) -> list[float]:
        """Return the training loss of every epoch."""
        return [float(row[0]) for row in model.recorder.values]

    def checkpoints(self, folder: Path) -> list[Path]:
        """Return the files that hold the newest checkpoint."""
        numbered = folder.glob("model_*.pth")
        newest = sorted(numbered, key=lambda p: int(p.stem.split("_")[1]))[-1:]
        return newest or [folder / "model.pth"]

    def read_checkpoint(self, folder: Path) -> None:
        """Read the only checkpoint."""
        torch.load(folder / "model.pth", weights_only=False)

    def continue_fit(
        self, X: np.ndarray, y: np.ndarray, folder: Path, **more: Any
    ) -> Any:
        """Load the newest epoch by hand, and say where to begin."""
        begin = int(self.checkpoints(folder)[0].stem.split("_")[1]) + 1
        return self.fit(X, y, folder=folder, begin=begin, **more)


def make_hooked(hook: Hook | None) -> Any:
    """Make fastai's callback that calls a hook after every training step."""
    from fastai.callback.core import Callback as FastaiCallback

    class Call(FastaiCallback):  # type: ignore[misc]
        def after_batch(self) -> None:
            if self.training and hook is not None:
                hook(self.epoch + 1)

    return Call()


LIBRARIES: dict[str, Any] = {
    kind.name: kind() for kind in (Ours, Skorch, Joblib, Pickle, Fastai)
}
