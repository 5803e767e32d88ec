"""Stages: a network cut into named, freezable stages, from the pixels to the logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from sktransfer._networks.depthwise import has_depthwise
from sktransfer._networks.device import autocast


class Head(nn.Module):
    """Average pooling, dropout and a linear layer: from activations to logits."""

    def __init__(self, n_features: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_features, n_classes)

    def pool(self, activation: torch.Tensor) -> torch.Tensor:
        """Average (n, channels, height, width), unless pooled, to (n, channels)."""
        if activation.ndim == 2:
            return activation
        pooled: torch.Tensor = activation.mean(dim=(2, 3))
        return pooled

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Map activations, pooled or not, to logits of shape (n, n_classes)."""
        activation = self.pool(activation)
        # Logits in bfloat16 would be rounded to hundredths, and different images tie.
        with autocast("float32", activation.device):
            logits: torch.Tensor = self.linear(self.dropout(activation.float()))
        return logits


def check_depth(depth: int, names: Sequence[str]) -> None:
    """Raise a ValueError unless a network of these stages can be unfrozen so deep."""
    deepest = len(names) - 1
    if not 0 <= depth <= deepest:
        raise ValueError(
            f"unfreeze_depth={depth!r} is out of range: this network has "
            f"{len(names)} stages ({', '.join(names)}); choose an "
            f"integer from 0 (head only) to {deepest} (every stage)."
        )


class Stages(nn.Module):
    """A network as an ordered row of named stages.

    The depth of unfreezing is counted from the output: at depth 0 only the last stage
    (the head) learns, at ``n_stages - 1`` every stage learns. A frozen stage gets no
    gradients and stays in eval mode, whoever calls :meth:`train`. Neither its
    parameters nor its batch-norm statistics change.

    Parameters
    ----------
    stages : mapping of str to torch.nn.Module
        The stages from input to output; the last one maps activations to logits.

    preprocess : torch.nn.Module, default=None
        Applied to the images before the first stage. It learns nothing and is not
        counted as a stage. ``None`` passes the images on unchanged.

    fixed_statistics : bool, default=False
        Whether batch norm in stages that learn keeps its statistics, and uses them in
        training as it does in prediction.

    Attributes
    ----------
    names : tuple of str
        Names of the stages, input first.

    unfreeze_depth : int
        How many stages besides the last one learn, in ``[0, n_stages - 1]``.
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        preprocess: nn.Module | None = None,
        *,
        fixed_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.fixed_statistics = fixed_statistics
        self.preprocess = nn.Identity() if preprocess is None else preprocess
        self.names = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.has_depthwise = has_depthwise(self)
        self.unfreeze_depth = len(self.names) - 1

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield ``(name, stage)`` pairs, input first."""
        for name in self.names:
            yield name, self.get_submodule(name)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map a batch of images to logits of shape (n_images, n_classes)."""
        return self.decode(self.encode(images, 0), 0)

    def encode(self, images: torch.Tensor, n_stages: int) -> torch.Tensor:
        """Map a batch of images to the activation after the first `n_stages`.

        After the last stage before a :class:`Head`, that is the pooled activation, of
        shape (n, n_features).
        """
        return self.advance(self.preprocess(images), 0, n_stages)

    def advance(
        self, activation: torch.Tensor, first: int, n_stages: int
    ) -> torch.Tensor:
        """Map the activation after the `first` stages to that after `n_stages`.

        After the last stage before a :class:`Head`, that is the pooled activation, of
        shape (n, n_features).
        """
        for name in self.names[first:n_stages]:
            activation = self.get_submodule(name)(activation)
        head = self.get_submodule(self.names[-1])
        if n_stages == self.n_frozen(0) and isinstance(head, Head):
            activation = head.pool(activation)
        return activation

    def decode(self, activation: torch.Tensor, n_stages: int) -> torch.Tensor:
        """Map the activation after the first `n_stages` to logits."""
        if self.has_depthwise and activation.ndim == 4:
            # As images come, but not what caches return; faster on a CPU
            # (benchmarks/depthwise.py).
            activation = activation.contiguous(memory_format=torch.channels_last)
        for name in self.names[n_stages:]:
            activation = self.get_submodule(name)(activation)
        return activation

    def learning(self) -> tuple[str, ...]:
        """List the names of the stages that learn, input first."""
        return self.names[self.n_frozen(self.unfreeze_depth) :]

    def frozen(self) -> tuple[str, ...]:
        """List the names of the stages that are frozen, input first."""
        return self.names[: self.n_frozen(self.unfreeze_depth)]

    def n_frozen(self, depth: int) -> int:
        """Count the stages that stay frozen while `depth` stages and the head learn.

        Parameters
        ----------
        depth : int
            Stages counted from the output, the head being 0; in ``[0, n_stages - 1]``.

        Returns
        -------
        int
            In ``[0, n_stages - 1]``.
        """
        return len(self.names) - 1 - depth

    def unfreeze(self, depth: int) -> Stages:
        """Let the last ``depth + 1`` stages learn, and only those.

        Parameters
        ----------
        depth : int
            Stages counted from the output, the head being 0.

        Returns
        -------
        Stages
            Itself.

        Raises
        ------
        ValueError
            If ``depth`` is not in ``[0, n_stages - 1]``.
        """
        check_depth(depth, self.names)
        self.unfreeze_depth = depth
        learning = self.learning()
        for name, stage in self.items():
            stage.requires_grad_(name in learning)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Stages:
        """Set training mode on the learning stages; frozen ones stay in eval mode."""
        self.training = mode
        # Training loops call train() before every step. In training mode the
        # batch-norm statistics of frozen stages would follow the new images.
        frozen = self.frozen()
        for name, module in self.named_children():
            module.train(mode and name not in frozen)
        if mode and self.fixed_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self
