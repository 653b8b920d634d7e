"""The interface between the training of a pack and its networks, and the implementation by stacked layers."""

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
    """The networks of K members, run as one."""

    @property
    def weights(self) -> FlatBuffer:
        """Trained tensors, (K, …) each."""

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the state, (K, …) each."""

    @property
    def dropouts(self) -> list[PackedDropout]:
        """Dropout layers, in the order of execution."""

    @property
    def widths(self) -> list[list[int] | None]:
        """For each dropout layer, the widths of the members' signals if they are padded, otherwise None."""

    def flags(self, chosen: Callable[[Tensor], bool], model: nn.Module) -> list[bool]:
        """Return for each trained tensor whether its parameter in ``model``, the first member's, is chosen."""

    def prepare(self, gradients: Sequence[Tensor], loss: PackedLoss) -> None:
        """Prepare for steps with this loss that write gradients to these tensors."""

    def train(self) -> None:
        """Set training mode."""

    def differentiate(
        self, batch: Batch, loss: PackedLoss, gradients: FlatBuffer, share: float | None, *, first: bool
    ) -> Tensor:
        """Return mean losses (K,) times the batch's share of the step, and compute their gradients.

        Gradients are overwritten by those of the first batch of a step; those of later batches are added.
        """

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return raw outputs (K, n, C) in evaluation mode, for inputs (K, n, …) or, shared by all, (1, n, …)."""

    def state(self, member: int, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return a member's state dict from stacked tensors."""

    def select(self, places: list[int]) -> Network:
        """Return the networks of the members at these places."""


class StackedNetwork:
    """Networks run as one stack of packed layers.

    Args:
        stack: of the networks; its parameters are moved to one flat buffer.
        arithmetic: context of the forward pass, e.g. autocast for mixed precision.
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
        """Stacked tensors of the state."""
        return [entry.tensor for entry in self._stack.entries]

    @property
    def dropouts(self) -> list[PackedDropout]:
        """Dropout layers, in the order of execution."""
        return self._stack.dropouts

    @property
    def widths(self) -> list[list[int] | None]:
        """The members' widths at each dropout layer, None where they are not padded."""
        result: list[list[int] | None] = []
        current: list[int] | None = None
        for layer in self._stack.network:
            for entry in self._stack.entries:
                if entry.owner is layer and entry.name == "weight" and len(entry.shapes[0]) >= 2:
                    sizes = [shape[0] for shape in entry.shapes]
                    # After compaction all members may be equally narrow in a stack that is still as wide as before.
                    current = sizes if min(sizes) < entry.tensor.shape[1] else None
            if isinstance(layer, PackedDropout):
                result.append(current)
        return result

    def flags(self, chosen: Callable[[Tensor], bool], model: nn.Module) -> list[bool]:
        """Return for each trained tensor whether its parameter is chosen."""
        named = dict(model.named_parameters())
        return [chosen(named[entry.names[0]]) for entry in self._stack.entries if entry.trained]

    def prepare(self, gradients: Sequence[Tensor], loss: PackedLoss) -> None:
        """Collect the differentiation rules of the layers."""
        self._chain = chain_of(self._stack, gradients, self._arithmetic, rows_last=loss.rows_last)
        # Indices of the gradients that the rules do not write to their buffers, known after the first step.
        self._to_copy: list[int] | None = None

    def train(self) -> None:
        """Set training mode."""
        self._stack.network.train()

    def differentiate(
        self, batch: Batch, loss: PackedLoss, gradients: FlatBuffer, share: float | None, *, first: bool
    ) -> Tensor:
        """Return losses, and write their gradients to the buffer."""
        previous = None if first else gradients.vector.clone()
        outputs, saved = self._chain.forward(batch.inputs)
        values, derivative = loss(
            outputs.float() if self._arithmetic else outputs, batch.targets, batch.weights
        )
        if share is not None:
            values, derivative = values * share, derivative * share
        computed = self._chain.backward(derivative, saved)
        if self._to_copy is None:
            pairs = enumerate(zip(gradients.views, computed, strict=True))
            self._to_copy = [place for place, (view, g) in pairs if view.data_ptr() != g.data_ptr()]
        if self._to_copy:
            views = gradients.views
            torch._foreach_copy_(
                [views[place] for place in self._to_copy], [computed[place] for place in self._to_copy]
            )
        if previous is not None:
            gradients.vector.add_(previous)
        return values

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return raw outputs in evaluation mode."""
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
        """Return a member's state dict."""
        return self._stack.state(member, tensors)

    def select(self, places: list[int]) -> StackedNetwork:
        """Return the networks of the members at these places."""
        return StackedNetwork(self._stack.select(places), self._arithmetic)
