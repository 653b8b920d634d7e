"""Optimizers that keep a matrix for each dimension of each block of the parameters, in stacks.

The state of a parameter is what belongs to it, in tensors and whole numbers, as PyTorch saves it: a state saved by one process
is loaded by another whatever else is trained there. The tensors are views of the stacks; when a state is loaded, or other
parameters have gradients than in the step before, the stacks are made anew from them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.errors import UserError
from descend.optim.base import catalogue_name
from descend.optim.blocks import Blocks, Cutting
from descend.optim.vector_step import restore_dtypes

__all__ = ["ParameterStack", "StackedStep", "multiply"]


@final
class ParameterStack:
    """Parameters of one group, type, device and age, their blocks in stacks, and what is remembered of them.

    Args:
        group: of the optimizer, with the settings.
        params: the parameters.
        states: of each, as the optimizer keeps it.
        dtype: of the arithmetic.

    Attributes:
        age: steps taken, this one included.
    """

    def __init__(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        states: list[dict[str, Any]],
        dtype: torch.dtype,
    ) -> None:
        self.group, self.params, self._states = group, params, states
        self._like: dict[str, Any] = {"dtype": dtype, "device": params[0].device}
        with_vectors = group.get("vectors") == "matrix"
        cutting = Cutting(group["block_size"], group["max_size"], group["one_sided"], with_vectors)
        self.blocks = Blocks([tuple(p.shape) for p in params], cutting, params[0].device)
        self.age: int = states[0].get("step", 0)
        self._vectors: dict[str, Tensor] = {}
        self._matrices: dict[str, list[list[Tensor]]] = {}
        self._scratch: dict[str, Tensor] = {}
        self._views: dict[int, list[Tensor]] = {}

    def remember(self, **numbers: int) -> None:
        """Set whole numbers in the state of each parameter."""
        for state in self._states:
            state.update(numbers)

    def recall(self, name: str) -> int:
        """A whole number of the state, 0 at first: all parameters of a fleet have the same."""
        found: int = self._states[0].get(name, 0)
        return found

    def vector(self, name: str) -> Tensor:
        """A vector remembered by this name, zeros at first: a number for each number of the parameters."""
        if name not in self._vectors:
            vector = torch.zeros(self.blocks.size, **self._like)
            for region, first, last in self.blocks.places:
                self._keep(region.tensor, f"{name}.{region.number}", vector[first:last].view(region.stacked))
            self._vectors[name] = vector
        return self._vectors[name]

    def matrices(self, name: str) -> list[list[Tensor]]:
        """Matrices remembered by this name, zeros at first: for each stack and each of its sides (count, d, d)."""
        if name not in self._matrices:
            found = []
            for stack in self.blocks.stacks:
                sides = [
                    torch.zeros(stack.count, stack.block[side], stack.block[side], **self._like)
                    for side in stack.sides
                ]
                at = 0
                for region in stack.regions:
                    for side, whole in zip(stack.sides, sides, strict=True):
                        key = f"{name}.{region.number}.{side}"
                        self._keep(region.tensor, key, whole[at : at + region.count])
                    at += region.count
                found.append(sides)
            self._matrices[name] = found
        return self._matrices[name]

    def _keep(self, place: int, key: str, view: Tensor) -> None:
        state = self._states[place]
        if key in state:
            view.copy_(state[key])
        state[key] = view

    def scratch(self, name: str) -> Tensor:
        """A vector to write on. It is not remembered, and its numbers are anything."""
        if name not in self._scratch:
            self._scratch[name] = torch.empty(self.blocks.size, **self._like)
        return self._scratch[name]

    def _parts(self, vector: Tensor) -> list[Tensor]:
        """The views of a vector that lives as long as the fleet; making them costs more than using them."""
        if id(vector) not in self._views:
            self._views[id(vector)] = self.blocks.views(vector)
        return self._views[id(vector)]

    def gradient(self) -> Tensor:
        """The gradients as a scratch vector."""
        vector = self.scratch("gradient")
        gradients = [p.grad for p in self.params if p.grad is not None]
        self.blocks.copy(gradients, vector, self._parts(vector))
        return vector

    def move(self, vector: Tensor, length: float) -> None:
        """Add length times the vector, remembered or scratch, to the parameters."""
        self.blocks.add(vector, self.params, length, self._parts(vector))

    def mapped(
        self, vector: Tensor, matrices: list[list[Tensor]], out: str, *, transposed: bool = False
    ) -> Tensor:
        """Each block times its matrices, a matrix along each of its sides; the rest as it is.

        Args:
            vector: is read.
            matrices: of each stack and each side, (count, d, d).
            out: name of the scratch vector that is written.
            transposed: multiply by the transposed matrices.
        """
        result, between = self.scratch(out), self.scratch("between")
        for stack, sides in zip(self.blocks.stacks, matrices, strict=True):
            read = stack.of(vector)
            last = len(sides) - 1
            for number, (side, matrix) in enumerate(zip(stack.sides, sides, strict=True)):
                # The products alternate between two vectors so that the last is written on the result.
                write = stack.of(result if (last - number) % 2 == 0 else between)
                multiply(matrix.mT if transposed else matrix, read, side, write)
                read = write
        cut = self.blocks.cut
        if cut < self.blocks.size and result is not vector:
            result[cut:].copy_(vector[cut:])
        return result

    def accumulate(self, vector: Tensor, into: list[list[Tensor]], *, keep: float, add: float) -> None:
        """C ← keep · C + add · G Gᵀ for each block and side, with G the block unfolded along the side."""
        for stack, sides in zip(self.blocks.stacks, into, strict=True):
            blocks = stack.of(vector)
            for side, covariance in zip(stack.sides, sides, strict=True):
                unfolded = blocks.movedim(side + 1, 1).reshape(stack.count, stack.block[side], -1)
                covariance.baddbmm_(unfolded, unfolded.mT, beta=keep, alpha=add)


def multiply(matrices: Tensor, stack: Tensor, dim: int, out: Tensor) -> None:
    """Matrices times the blocks of a stack along a dimension of the blocks: out[…i…] = Σ_j m[i, j] · stack[…j…].

    Args:
        matrices: (k, d, d).
        stack: (k, *block) with block[dim] = d, contiguous.
        dim: of the block.
        out: (k, *block), contiguous, written.

    >>> out = torch.empty(1, 2, 3)
    >>> multiply(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.arange(6.0).view(1, 2, 3), 0, out)
    >>> out
    tensor([[[3., 4., 5.],
             [0., 1., 2.]]])
    """
    count, *block = stack.shape
    before, size, after = math.prod(block[:dim]), block[dim], math.prod(block[dim + 1 :])
    if after == 1:
        torch.bmm(stack.view(count, before, size), matrices.mT, out=out.view(count, before, size))
    elif before == 1:
        torch.bmm(matrices, stack.view(count, size, after), out=out.view(count, size, after))
    else:
        split = (count, before, size, after)
        torch.matmul(matrices.unsqueeze(1), stack.view(split), out=out.view(split))


class StackedStep(Optimizer, ABC):
    """An optimizer whose step works on fleets of parameters; a subclass says how in :meth:`advance`."""

    _fleets: list[ParameterStack] | None = None
    _of: tuple[int, ...] = ()

    @abstractmethod
    def advance(self, fleet: ParameterStack) -> None:
        """Move the parameters of a fleet, all of which have gradients."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once, and its loss returned.

        Raises:
            UserError: a gradient is sparse, or complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for fleet in self._ready():
            fleet.age += 1
            self.advance(fleet)
            fleet.remember(step=fleet.age)
        return loss

    def _ready(self) -> list[ParameterStack]:
        """The fleets of the parameters that have gradients."""
        moving = tuple(id(p) for group in self.param_groups for p in group["params"] if p.grad is not None)
        if self._fleets is None or moving != self._of:
            self._fleets, self._of = self._gather(), moving
        return self._fleets

    def _gather(self) -> list[ParameterStack]:
        kinds: dict[tuple[Any, ...], list[Tensor]] = {}
        for number, group in enumerate(self.param_groups):
            for p in group["params"]:
                if p.grad is None or p.numel() == 0:
                    continue
                if p.grad.is_sparse or p.is_complex():
                    kind = "complex" if p.is_complex() else "sparse"
                    raise UserError(
                        f"{catalogue_name(type(self))} multiplies gradients by matrices, and does not take {kind} ones; "
                        "use sparse_adam for sparse gradients"
                    )
                # Factors of half-precision parameters are kept in single precision.
                dtype = torch.promote_types(p.dtype, torch.float32)
                numbers = tuple(
                    sorted((key, value) for key, value in self.state[p].items() if isinstance(value, int))
                )
                kinds.setdefault((number, p.device, dtype, numbers), []).append(p)
        return [
            ParameterStack(self.param_groups[key[0]], params, [self.state[p] for p in params], key[2])
            for key, params in kinds.items()
        ]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters."""
        super().add_param_group(param_group)
        self._fleets = None

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state as it was saved: precision is kept, where PyTorch would cast to the parameter's type."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)
        self._fleets = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._fleets = None
