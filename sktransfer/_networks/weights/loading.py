"""Pretrained weights, loaded into the stages of a backbone."""

from __future__ import annotations

import torch

from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.stages import Stages
from sktransfer._networks.weights.naming import (
    State,
    fit_names,
    list_names,
    restore_name,
)


def load_backbone(
    backbone: Backbone, stages: Stages, state: State, source: str
) -> None:
    """Copy pretrained weights into every stage but the head.

    Batch counts that old files lack are set to 0.

    Parameters
    ----------
    backbone : Backbone
        What the stages are of.

    stages : Stages
        Changed in place.

    state : mapping of str to tensor
        Names as in the original network (``conv1.weight``) or in stages
        (``stem.conv1.weight``), with any prefix; entries of a head are ignored.

    source : str
        What the user passed, for the error message.

    Raises
    ------
    ValueError
        If names or shapes do not match the backbone, or its weights are not finite.
    """
    rename, head = list_names(backbone.stages), backbone.head
    own = {stages.names[-1], "preprocess"}
    wanted = {
        name: tensor
        for name, tensor in stages.state_dict().items()
        if name.split(".")[0] not in own
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    ignored = own if head is None else own | {head}
    fitted = fit_names(state, shapes, rename, ignored, source)
    by_path = {path: child for child, path in rename.items()}
    for name, tensor in fitted.items():
        fault = _find_fault(tensor, wanted[name].is_floating_point())
        if fault:
            called = restore_name(name, by_path)
            raise ValueError(f"weights={source}: {called} holds {fault}")
    counts = {
        name: torch.zeros_like(wanted[name]) for name in shapes.keys() - fitted.keys()
    }
    stages.load_state_dict({**fitted, **counts}, strict=False)


def _find_fault(tensor: torch.Tensor, is_real: bool) -> str | None:
    """Say what is wrong with the numbers of a tensor, as the fault of the file."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_complex():
        return f"{kind} numbers; pass the weights of a network of real numbers."
    if is_real and not tensor.is_floating_point():
        return (
            f"{kind} numbers, as a quantized network does; pass its weights before "
            "quantization."
        )
    # In float32 as they will be used, which is too narrow for some of float64.
    numbers = tensor.to(torch.float32)
    # A sum takes a tenth of the time. Not finite, it may also be too large.
    if numbers.sum().isfinite():
        return None
    wrong = ~numbers.isfinite()
    if not wrong.any():
        return None
    return (
        f"{int(wrong.sum())} NaN or infinite of {wrong.numel()} numbers. The file is "
        "at fault: it is damaged, or its training diverged."
    )
