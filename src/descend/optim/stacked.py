"""The base class of optimizers that keep a matrix for each dimension of each block of the parameters, in stacks.

As usual in PyTorch, the state of a parameter contains what belongs to that parameter, in tensors and integers, so that it can be
loaded in a process that trains other parameters as well. The tensors are views of the stacks. When a state is loaded, or when
different parameters have gradients than in the previous step, the stacks are rebuilt from the states.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from descend.errors import UserError
from descend.linalg.vectors import bounded
from descend.optim.base import CheckedOptimizer
from descend.optim.blocks import Blocks, Partition
from descend.optim.vector_step import restore_dtypes

__all__ = ["ParameterStack", "StackedStep", "multiply"]


@final
class ParameterStack:
    """Parameters of one group, dtype, device and number of steps: their blocks in stacks, and their state.

    Args:
        group: parameter group of the optimizer, with the settings.
        params: the parameters.
        states: the optimizer's state of each parameter.
        dtype: dtype of the state and of the computation.

    Attributes:
        blocks: layout of the blocks in a vector.
        step: number of steps taken, including the current one.
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
        partition = Partition(
            group["block_size"], group["max_preconditioner_dim"], group["one_sided"], with_vectors
        )
        self.blocks = Blocks([tuple(p.shape) for p in params], partition, params[0].device)
        self.step: int = states[0].get("step", 0)
        self._vectors: dict[str, Tensor] = {}
        self._matrices: dict[str, list[list[Tensor]]] = {}
        self._buffers: dict[str, Tensor] = {}
        self._views: dict[int, list[Tensor]] = {}

    def set_numbers(self, **numbers: int) -> None:
        """Set integers in the state of each parameter."""
        for state in self._states:
            state.update(numbers)

    def number(self, name: str) -> int:
        """Return an integer of the state, initially 0; it is equal for all parameters of the stack."""
        number: int = self._states[0].get(name, 0)
        return number

    def vector(self, name: str) -> Tensor:
        """Return the state vector of this name, initially zero, with one entry for each entry of the parameters."""
        if name not in self._vectors:
            vector = torch.zeros(self.blocks.size, **self._like)
            for region, start, end in self.blocks.places:
                self._share(region.tensor, f"{name}.{region.number}", vector[start:end].view(region.stacked))
            self._vectors[name] = vector
        return self._vectors[name]

    def matrices(self, name: str) -> list[list[Tensor]]:
        """Return the state matrices of this name, initially zero, (count, d, d) for each stack of blocks and each side."""
        if name not in self._matrices:
            matrices = []
            for stack in self.blocks.stacks:
                sides = [
                    torch.zeros(stack.count, stack.block[side], stack.block[side], **self._like)
                    for side in stack.sides
                ]
                start = 0
                for region in stack.regions:
                    for side, whole in zip(stack.sides, sides, strict=True):
                        key = f"{name}.{region.number}.{side}"
                        self._share(region.tensor, key, whole[start : start + region.count])
                    start += region.count
                matrices.append(sides)
            self._matrices[name] = matrices
        return self._matrices[name]

    def _share(self, index: int, key: str, view: Tensor) -> None:
        """Make a view of a stack the value of a state's key; a value that exists is copied into it."""
        state = self._states[index]
        if key in state:
            view.copy_(state[key])
        state[key] = view

    def buffer(self, name: str) -> Tensor:
        """Return an uninitialized vector for intermediate results, which is not part of the state."""
        if name not in self._buffers:
            self._buffers[name] = torch.empty(self.blocks.size, **self._like)
        return self._buffers[name]

    def _views_of(self, vector: Tensor) -> list[Tensor]:
        """Return cached views of a state vector or buffer; constructing them is more expensive than using them."""
        if id(vector) not in self._views:
            self._views[id(vector)] = self.blocks.views(vector)
        return self._views[id(vector)]

    def gradient(self) -> Tensor:
        """Copy the gradients into a buffer, scaled down if their squares would overflow."""
        vector = self.buffer("gradient")
        gradients = [p.grad for p in self.params if p.grad is not None]
        self.blocks.copy(gradients, vector, self._views_of(vector))
        scaled = bounded(vector)
        return vector if scaled is vector else vector.copy_(scaled)

    def move(self, vector: Tensor, length: float) -> None:
        """Add length times a state vector or buffer to the parameters."""
        self.blocks.add(vector, self.params, length, self._views_of(vector))

    def mapped(
        self, vector: Tensor, matrices: list[list[Tensor]], out: str, *, transposed: bool = False
    ) -> Tensor:
        """Multiply each block by a matrix along each of its sides; copy the entries that have no matrices.

        Args:
            vector: input.
            matrices: (count, d, d) for each stack and each side.
            out: name of the buffer for the result.
            transposed: multiply by the transposed matrices.
        """
        result, intermediate = self.buffer(out), self.buffer("intermediate")
        for stack, sides in zip(self.blocks.stacks, matrices, strict=True):
            read = stack.of(vector)
            last = len(sides) - 1
            for number, (side, matrix) in enumerate(zip(stack.sides, sides, strict=True)):
                # The products alternate between two buffers such that the last one is written to the result.
                write = stack.of(result if (last - number) % 2 == 0 else intermediate)
                multiply(matrix.mT if transposed else matrix, read, side, write)
                read = write
        split = self.blocks.split
        if split < self.blocks.size and result is not vector:
            result[split:].copy_(vector[split:])
        return result

    def accumulate(self, vector: Tensor, into: list[list[Tensor]], *, keep: float, add: float) -> None:
        """Set C ← keep · C + add · G Gᵀ for each block and side, with G the block unfolded along the side."""
        for stack, sides in zip(self.blocks.stacks, into, strict=True):
            blocks = stack.of(vector)
            for side, covariance in zip(stack.sides, sides, strict=True):
                unfolded = blocks.movedim(side + 1, 1).reshape(stack.count, stack.block[side], -1)
                covariance.baddbmm_(unfolded, unfolded.mT, beta=keep, alpha=add)


def multiply(matrices: Tensor, stack: Tensor, dim: int, out: Tensor) -> None:
    """Multiply the blocks of a stack by matrices along a dimension of the blocks: out[…i…] = Σ_j m[i, j] · stack[…j…].

    Args:
        matrices: (k, d, d).
        stack: (k, *block) with block[dim] = d, contiguous.
        dim: dimension of the blocks.
        out: output, (k, *block), contiguous.

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


class StackedStep(CheckedOptimizer, ABC):
    """An optimizer that moves stacks of parameters; a subclass implements :meth:`advance`."""

    _stacks: list[ParameterStack] | None = None
    _moving: tuple[int, ...] = ()

    @abstractmethod
    def advance(self, stack: ParameterStack) -> None:
        """Move the parameters of a stack, all of which have gradients."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once, and its loss is returned.

        Raises:
            UserError: a gradient is sparse or complex.
        """
        loss, discard = (None, False) if closure is None else self.evaluate(closure)
        for stack in self._current_stacks():
            stack.step += 1
            self.advance(stack)
            stack.set_numbers(step=stack.step)
        if discard:
            self.zero_grad()
        return loss

    def _current_stacks(self) -> list[ParameterStack]:
        """Return the stacks of the parameters that have gradients, and rebuild them if these have changed."""
        moving = tuple(id(p) for group in self.param_groups for p in group["params"] if p.grad is not None)
        if self._stacks is None or moving != self._moving:
            self._stacks, self._moving = self._build_stacks(), moving
        return self._stacks

    def _build_stacks(self) -> list[ParameterStack]:
        stacks: dict[tuple[Any, ...], list[Tensor]] = {}
        for number, group in enumerate(self.param_groups):
            for p in group["params"]:
                if p.grad is None or p.numel() == 0:
                    continue
                if p.grad.is_sparse or p.is_complex():
                    kind = "complex" if p.is_complex() else "sparse"
                    raise UserError(
                        f"{self.name} multiplies gradients by matrices and does not support {kind} gradients; "
                        "use sparse_adam for sparse gradients"
                    )
                # The state of half-precision parameters is kept in single precision.
                dtype = torch.promote_types(p.dtype, torch.float32)
                numbers = tuple(
                    sorted((key, value) for key, value in self.state[p].items() if isinstance(value, int))
                )
                stacks.setdefault((number, p.device, dtype, numbers), []).append(p)
        return [
            ParameterStack(self.param_groups[key[0]], params, [self.state[p] for p in params], key[2])
            for key, params in stacks.items()
        ]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group."""
        super().add_param_group(param_group)
        self._stacks = None

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state with the dtypes that it was saved with, where PyTorch would cast to the parameter's dtype."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)
        self._stacks = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._stacks = None
