"""Early stopping as a skorch callback that can be resumed."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from skorch.callbacks import EarlyStopping


class StopEarly(EarlyStopping):
    """Stop when the validation loss no longer falls; restore the best weights.

    Parameters
    ----------
    patience : int
        Epochs without a lower loss.
    """

    def __init__(self, patience: int) -> None:
        super().__init__(
            "valid_loss", patience, threshold=0, load_best=True, sink=_discard
        )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Stop, and say so: whoever prints the table would not be told any more."""
        try:
            super().on_epoch_end(net, **kwargs)
        except KeyboardInterrupt:
            if net.verbose:
                dict(net.callbacks_)["print_log"].on_epoch_end(net)
                print(
                    f"early_stopping: no lower valid_loss in {self.patience} epochs; "
                    f"the weights of epoch {self.best_epoch_} are restored."
                )
            raise

    def get_progress(self) -> dict[str, Any]:
        """Return what the epochs to come depend on."""
        return {
            "misses": self.misses_,
            "threshold": float(self.dynamic_threshold_),
            "best_epoch": self.best_epoch_,
            "best_weights": dict(self.best_model_weights_ or {}),
        }

    def set_progress(self, net: NeuralNet, progress: dict[str, Any]) -> None:
        """Go on from what :meth:`get_progress` returned."""
        self.misses_ = progress["misses"]
        self.dynamic_threshold_ = progress["threshold"]
        self.best_epoch_ = progress["best_epoch"]
        self.best_model_weights_ = progress["best_weights"] or None


def _discard(*args: Any, **kwargs: Any) -> None:
    """Swallow a message of skorch's."""
