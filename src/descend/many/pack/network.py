"""What the training of a pack asks of the members' networks as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.many.pack.flat_buffer import FlatBuffer
from descend.many.pack.gradients import chain_of
from descend.many.pack.layers import PackedDropout
from descend.many.pack.losses import PackedLoss
from descend.many.pack.stacking import Stack

__all__ = ["Network", "StackedNetwork"]


class Network(Protocol):
    """The networks of K members as one."""

    @property
    def weights(self) -> FlatBuffer:
        """The trained tensors, (K, …) each."""

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the state, (K, …) each."""

    @property
    def dropouts(self) -> list[PackedDropout]:
        """The layers that draw, in the order in which they do."""

    @property
    def widths(self) -> list[list[int] | None]:
        """For each of these the widths of the members' signals, where they are padded."""

    def flags(self, chosen: Callable[[Tensor], bool], model: nn.Module) -> list[bool]:
        """For each trained tensor whether a member's parameter is chosen; ``model`` is the first member's."""

    def prepare(self, gradients: Sequence[Tensor], loss: PackedLoss) -> None:
        """Get ready for steps whose gradients go to given tensors, for a loss."""

    def train(self) -> None:
        """Training mode."""

    def differentiate(
        self, batch: Batch, loss: PackedLoss, gradients: FlatBuffer, share: float | None, *, first: bool
    ) -> Tensor:
        """Mean losses (K,) times the batch's share of the step; gradients are written, or added if not the first."""

    def outputs(self, inputs: Tensor) -> Tensor:
        """Raw outputs (K, n, C) in evaluation mode, for inputs (K, n, …) or, the same for all, (1, n, …)."""

    def state(self, member: int, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """A member's state dict from stacked tensors."""

    def select(self, places: list[int]) -> Network:
        """The networks of some members."""


class StackedNetwork:
    """Networks as one stack of packed layers.

    Args:
        stack: of the networks; its parameters are moved into one piece of memory.
        arithmetic: autocast, for mixed precision.
    """

    def __init__(
        self, stack: Stack, arithmetic: Callable[[], AbstractContextManager[object]] | None = None
    ) -> None:
        self._stack, self._arithmetic = stack, arithmetic
        parameters = [entry.tensor for entry in stack.entries if entry.trained]
        self.weights = FlatBuffer(parameters)
        for parameter, view in zip(parameters, self.weights.views, strict=True):
            parameter.data = view

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the state."""
        return [entry.tensor for entry in self._stack.entries]

    @property
    def dropouts(self) -> list[PackedDropout]:
        """The layers that draw."""
        return self._stack.dropouts

    @property
    def widths(self) -> list[list[int] | None]:
        """The members' widths at each of them."""
        found: list[list[int] | None] = []
        current: list[int] | None = None
        for layer in self._stack.network:
            for entry in self._stack.entries:
                if entry.owner is layer and entry.name == "weight" and len(entry.shapes[0]) >= 2:
                    sizes = [shape[0] for shape in entry.shapes]
                    # After compaction all may be equally narrow, and the stack still as wide as it was.
                    current = sizes if min(sizes) < entry.tensor.shape[1] else None
            if isinstance(layer, PackedDropout):
                found.append(current)
        return found

    def flags(self, chosen: Callable[[Tensor], bool], model: nn.Module) -> list[bool]:
        """Whether each trained tensor is chosen."""
        named = dict(model.named_parameters())
        return [chosen(named[entry.names[0]]) for entry in self._stack.entries if entry.trained]

    def prepare(self, gradients: Sequence[Tensor], loss: PackedLoss) -> None:
        """Gather the rules that differentiate the layers."""
        self._chain = chain_of(self._stack, gradients, self._arithmetic, rows_last=loss.rows_last)
        # Of the gradients that the rules do not write to their places; the first step tells.
        self._apart: list[int] | None = None

    def train(self) -> None:
        """Training mode."""
        self._stack.network.train()

    def differentiate(
        self, batch: Batch, loss: PackedLoss, gradients: FlatBuffer, share: float | None, *, first: bool
    ) -> Tensor:
        """Losses, and gradients where they belong."""
        kept = None if first else gradients.vector.clone()
        outputs, saved = self._chain.forward(batch.inputs)
        values, derivative = loss(
            outputs.float() if self._arithmetic else outputs, batch.targets, batch.weights
        )
        if share is not None:
            values, derivative = values * share, derivative * share
        found = self._chain.backward(derivative, saved)
        if self._apart is None:
            pairs = enumerate(zip(gradients.views, found, strict=True))
            self._apart = [place for place, (g, f) in pairs if g.data_ptr() != f.data_ptr()]
        if self._apart:
            views = gradients.views
            torch._foreach_copy_([views[at] for at in self._apart], [found[at] for at in self._apart])
        if kept is not None:
            gradients.vector.add_(kept)
        return values

    def outputs(self, inputs: Tensor) -> Tensor:
        """Raw outputs in evaluation mode."""
        network = self._stack.network
        training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                if self._arithmetic is None:
                    return self._stack(inputs.expand(self._stack.members, *inputs.shape[1:]))
                with self._arithmetic():
                    return self._stack(inputs.expand(self._stack.members, *inputs.shape[1:])).float()
        finally:
            network.train(training)

    def state(self, member: int, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """A member's state dict."""
        return self._stack.state(member, tensors)

    def select(self, places: list[int]) -> StackedNetwork:
        """The networks of some members."""
        return StackedNetwork(self._stack.select(places), self._arithmetic)
