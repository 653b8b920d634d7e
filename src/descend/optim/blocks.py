"""Partition of tensors into blocks, with all blocks of equal shape in one stack of one vector.

The parameters of a network are many tensors of few shapes, and large tensors are partitioned into blocks of few shapes. All of
them are stored in one vector: the stacks first, then the tensors that are not partitioned. An elementwise operation is one
kernel over the vector, and a matrix operation is one batched kernel for each stack, however many parameters there are.

A dimension of size n with blocks of size at most b is split into q = ⌈n/b⌉ parts of nearly equal size: n mod q of them have
one entry more than the others. For example, 784 with blocks of 128 becomes seven parts of 112, and a tensor whose dimensions
divide evenly has blocks of one shape. There is no padding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

__all__ = ["Blocks", "Partition", "Region", "Stack", "split_dimension"]


def split_dimension(size: int, block_size: int) -> list[tuple[int, int, int]]:
    """Split a dimension into parts of nearly equal size: (start, number of parts, their size).

    >>> split_dimension(784, 128), split_dimension(10, 4), split_dimension(3, 4)
    ([(0, 7, 112)], [(0, 1, 4), (4, 2, 3)], [(0, 1, 3)])
    """
    count = -(-size // block_size)
    small, larger = divmod(size, count)
    parts = [(0, larger, small + 1), (larger * (small + 1), count - larger, small)]
    return [part for part in parts if part[1]]


@dataclass(frozen=True)
class Partition:
    """How tensors are partitioned into blocks, and which of their dimensions have a matrix.

    Dimensions of size 1 are dropped. Dimensions after the first are merged with their neighbors, starting from the last, while
    the product is at most ``block_size``: the weight of a convolution (o, i, h, w) becomes a matrix (o, i h w) if that is
    small enough, and otherwise a tensor (o, i, h w). A tensor of one dimension, such as a bias, is partitioned only if
    ``vectors``.

    Args:
        block_size: maximum size of a dimension of a block.
        max_preconditioner_dim: larger dimensions have no matrix, and are not split.
        one_sided: only the smallest dimension has a matrix.
        vectors: tensors of one dimension also have a matrix.

    >>> Partition(128, 8192, False, False).plan((64, 32, 3, 3))
    ((64, 32, 9), (0, 1, 2))
    >>> Partition(128, 8192, True, False).plan((10, 512, 1))
    ((10, 512), (0,))
    """

    block_size: int
    max_preconditioner_dim: int
    one_sided: bool
    vectors: bool

    def plan(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the merged shape and the dimensions that have a matrix; no dimensions if the tensor is not partitioned."""
        sizes = [size for size in shape if size != 1]
        merged = sizes[:1]
        trailing: list[int] = []
        for size in reversed(sizes[1:]):
            if trailing and trailing[0] * size <= self.block_size:
                trailing[0] *= size
            else:
                trailing.insert(0, size)
        merged += trailing
        if not merged or 0 in merged or (len(merged) == 1 and not self.vectors):
            return (math.prod(shape),), ()
        sides = [dim for dim, size in enumerate(merged) if size <= self.max_preconditioner_dim]
        if self.one_sided and sides:
            sides = [min(sides, key=merged.__getitem__)]
        return (tuple(merged), tuple(sides)) if sides else ((math.prod(shape),), ())


@dataclass(frozen=True)
class Region:
    """A part of one tensor that is a grid of blocks of equal shape.

    Args:
        tensor: index of the tensor in the list.
        number: number of the region among those of the tensor.
        shape: shape of the tensor, after merging.
        begins: first index of the region along each dimension.
        grid: number of blocks along each dimension.
        block: shape of a block.
    """

    tensor: int
    number: int
    shape: tuple[int, ...]
    begins: tuple[int, ...]
    grid: tuple[int, ...]
    block: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of blocks."""
        return math.prod(self.grid)

    @property
    def whole(self) -> bool:
        """Whether the region is one block that covers the tensor."""
        return self.block == self.shape

    @property
    def stacked(self) -> tuple[int, ...]:
        """Shape of the result of :meth:`of`, and of the region's part of a stack."""
        return self.block if self.whole else self.grid + self.block

    def of(self, tensor: Tensor) -> Tensor:
        """Return the region of a contiguous tensor as a view (*grid, *block), or (*block) if it is the whole tensor."""
        view = tensor if tensor.shape == self.shape else tensor.view(self.shape)
        if self.whole:
            return view
        order = len(self.shape)
        for dim in reversed(range(order)):
            begin, count, size = self.begins[dim], self.grid[dim], self.block[dim]
            view = view.narrow(dim, begin, count * size).unflatten(dim, (count, size))
        return view.permute(*range(0, 2 * order, 2), *range(1, 2 * order, 2))


@dataclass(frozen=True)
class Stack:
    """All blocks of one shape.

    Args:
        block: shape of a block.
        sides: dimensions of a block that have a matrix.
        count: number of blocks.
        start: index of the first entry in the vector.
        regions: the regions that the blocks come from, in order.
    """

    block: tuple[int, ...]
    sides: tuple[int, ...]
    count: int
    start: int
    regions: tuple[Region, ...]

    def of(self, vector: Tensor) -> Tensor:
        """Return the stack's part of a vector, (count, *block), as a view."""
        size = self.count * math.prod(self.block)
        return vector.narrow(0, self.start, size).view(self.count, *self.block)


@final
class Blocks:
    """Layout of the blocks of a list of tensors in a vector.

    Args:
        shapes: shapes of the tensors.
        partition: how the tensors are partitioned.
        device: device of the tensors.

    Attributes:
        stacks: the blocks that have matrices.
        rest: the tensors without matrices, each with its start in the vector.
        size: size of the vector, the total number of entries of the tensors.
        split: start of ``rest`` in the vector.

    >>> blocks = Blocks([(4, 6), (3,), (2, 2)], Partition(3, 8192, False, False))
    >>> [(stack.count, stack.block) for stack in blocks.stacks], blocks.split, blocks.size
    ([(4, (2, 3)), (1, (2, 2))], 28, 31)
    >>> tensors = [torch.rand(4, 6), torch.rand(3), torch.rand(2, 2)]
    >>> vector = torch.empty(31)
    >>> blocks.copy(tensors, vector)
    >>> torch.equal(blocks.stacks[0].of(vector)[1], tensors[0][:2, 3:])
    True
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        partition: Partition,
        device: torch.device | str = "cpu",
    ) -> None:
        by_block: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Region]] = {}
        without: list[Region] = []
        for index, shape in enumerate(shapes):
            merged, sides = partition.plan(shape)
            if not sides:
                without.append(
                    Region(index, 0, tuple(shape), (0,) * len(shape), (1,) * len(shape), tuple(shape))
                )
            for region in _regions(index, merged, sides, partition.block_size) if sides else ():
                by_block.setdefault((region.block, sides), []).append(region)
        self.stacks: list[Stack] = []
        start = 0
        for (block, sides), regions in by_block.items():
            count = sum(region.count for region in regions)
            self.stacks.append(Stack(block, sides, count, start, tuple(regions)))
            start += count * math.prod(block)
        self.split = start
        self.rest: list[tuple[Region, int]] = []
        for region in without:
            self.rest.append((region, start))
            start += math.prod(region.shape)
        self.size = start
        self._places = list(self._layout())
        # Most tensors of most networks are one block and need no view.
        self._plain = [
            region.whole and region.shape == tuple(shapes[region.tensor]) for region, _, _ in self._places
        ]
        self._tensors = len(shapes)
        owners = [
            region.tensor for stack in self.stacks for region in stack.regions for _ in range(region.count)
        ]
        self._owners = torch.tensor(owners, dtype=torch.long, device=device)

    @property
    def places(self) -> Sequence[tuple[Region, int, int]]:
        """The regions, each with the start and end of its entries in the vector."""
        return self._places

    def _layout(self) -> Iterator[tuple[Region, int, int]]:
        for stack in self.stacks:
            start = stack.start
            for region in stack.regions:
                size = region.count * math.prod(region.block)
                yield region, start, start + size
                start += size
        for region, start in self.rest:
            yield region, start, start + math.prod(region.shape)

    def views(self, vector: Tensor) -> list[Tensor]:
        """Return views of the regions' parts of a vector, in the shape of :meth:`Region.of`, for :meth:`copy` and :meth:`add`."""
        return [vector[start:end].view(region.stacked) for region, start, end in self._places]

    def copy(self, tensors: Sequence[Tensor], vector: Tensor, views: list[Tensor] | None = None) -> None:
        """Copy the tensors into the vector. ``views`` may be its :meth:`views`, if they are already known."""
        sources = [tensor.contiguous() for tensor in tensors]
        torch._foreach_copy_(self.views(vector) if views is None else views, self._regions_of(sources))

    def add(
        self, vector: Tensor, tensors: Sequence[Tensor], alpha: float, views: list[Tensor] | None = None
    ) -> None:
        """Add alpha times the vector to the tensors. ``views`` may be its :meth:`views`, if they are already known."""
        # Blocks of weights in channels-last memory format are not views.
        targets = [
            each if each.is_contiguous() else torch.zeros_like(each, memory_format=torch.contiguous_format)
            for each in tensors
        ]
        regions = self._regions_of(targets)
        torch._foreach_add_(regions, self.views(vector) if views is None else views, alpha=alpha)
        for tensor, target in zip(tensors, targets, strict=True):
            if target is not tensor:
                tensor.add_(target)

    def _regions_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [
            tensors[region.tensor] if plain else region.of(tensors[region.tensor])
            for (region, _, _), plain in zip(self._places, self._plain, strict=True)
        ]

    def norms(self, vector: Tensor) -> Tensor:
        """Return the Euclidean norm of each tensor with matrices, in the order of the tensors; 0 for the others."""
        by_block = [torch.linalg.vector_norm(stack.of(vector).flatten(1), dim=1) for stack in self.stacks]
        squares = torch.cat(by_block).square()
        return squares.new_zeros(self._tensors).index_add_(0, self._owners, squares).sqrt()

    def largest(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Replace a value for each block, (count,) for each stack, by the largest of all blocks of its tensor; NaN propagates.

        >>> blocks = Blocks([(4, 3), (3, 3)], Partition(3, 8192, False, False))
        >>> blocks.largest([torch.tensor([1.0, 2.0]), torch.tensor([5.0])])  # two blocks of 2 by 3, and one of 3 by 3
        [tensor([2., 2.]), tensor([5.])]
        """
        joined = torch.cat(list(values))
        largest = joined.new_full((self._tensors,), -math.inf)
        largest = largest.scatter_reduce(0, self._owners, joined, "amax")
        return list(largest[self._owners].split([stack.count for stack in self.stacks]))

    def scale(self, vector: Tensor, factors: Tensor) -> None:
        """Multiply each tensor with matrices by its factor, in place."""
        by_block = factors[self._owners].split([stack.count for stack in self.stacks])
        for stack, factor in zip(self.stacks, by_block, strict=True):
            stack.of(vector).mul_(factor.view(-1, *(1 for _ in stack.block)))


def _regions(index: int, shape: tuple[int, ...], sides: tuple[int, ...], block_size: int) -> Iterator[Region]:
    """Yield the regions of a tensor; dimensions without a matrix are not split."""
    splits = [
        split_dimension(size, block_size) if dim in sides else [(0, 1, size)]
        for dim, size in enumerate(shape)
    ]
    for number, parts in enumerate(itertools.product(*splits)):
        begins, grid, block = zip(*parts, strict=True)
        yield Region(index, number, shape, begins, grid, block)
