"""Where an estimator computes, in which number format and from which seed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from sktransfer._estimators.workers.travelling import (
    cloning,
    hand_on,
    pack,
    refuse_other_versions,
    unpack,
)

if TYPE_CHECKING:
    import torch


class Computing:
    """The parameters `device`, `precision` and `random_state`, resolved.

    A fitted estimator has the results in ``device_`` and ``precision_``.
    """

    device: str
    precision: str
    random_state: Any
    device_: str
    precision_: str

    _computing_constraints: ClassVar[dict[str, list[Any]]] = {
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "random_state": ["random_state"],
    }

    def _resolve_device(self) -> tuple[torch.device, str]:
        """Return the device and the number format that the parameters mean here."""
        from sktransfer._networks.device import resolve_device, resolve_precision
        from sktransfer._networks.processes import enter_process

        refuse_other_versions(self)
        device = resolve_device(self.device)
        enter_process()
        return device, resolve_precision(self.precision, device)

    def _fitted_device(self) -> torch.device:
        """Return the device that the fitted network is on."""
        from sktransfer._networks.device import resolve_device

        return resolve_device(self.device_)

    def _recheck_precision(self) -> str:
        """Return the number format of a fitted network that came out of a pickle."""
        from sktransfer._networks.device import recheck_precision

        return recheck_precision(self.precision_, self.precision, self._fitted_device())

    def _draw_seed(self) -> int:
        """Draw a seed for torch."""
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy goes nowhere: it takes nothing along, and may hold what cannot travel.
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return pack(self, state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpack(state))  # type: ignore[misc]

    def __sklearn_clone__(self) -> Self:
        with cloning(self):
            cloned: Self = super().__sklearn_clone__()  # type: ignore[misc]
        hand_on(self, cloned)
        return cloned
