"""Tensors cut into blocks, with all blocks of one shape in one stack of one vector.

A network's parameters are many tensors of few shapes, and a large one is cut into blocks of few shapes. Here all of it is one
vector: stack after stack, then what is not cut. What is done number by number is one kernel over the vector, and what is
done matrix by matrix is one batched kernel for each stack, however many parameters there are.

A dimension of n numbers in blocks of at most b becomes q = ⌈n/b⌉ parts that are as equal as can be: n mod q of them have
one number more than the others. So 784 in blocks of 128 are seven of 112, and a tensor whose dimensions divide evenly has
blocks of one shape. Nothing is padded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

__all__ = ["Blocks", "Cutting", "Region", "Stack", "parts"]


def parts(size: int, limit: int) -> list[tuple[int, int, int]]:
    """A dimension cut into parts that are as equal as can be: (first, how many, of which size).

    >>> parts(784, 128), parts(10, 4), parts(3, 4)
    ([(0, 7, 112)], [(0, 1, 4), (4, 2, 3)], [(0, 1, 3)])
    """
    count = -(-size // limit)
    small, larger = divmod(size, count)
    found = [(0, larger, small + 1), (larger * (small + 1), count - larger, small)]
    return [part for part in found if part[1]]


@dataclass(frozen=True)
class Cutting:
    """How a tensor is cut, and which of its dimensions have a matrix of their own.

    Dimensions of one number are dropped. Those after the first are merged with their neighbours, from the last on, while the
    product is at most ``block_size``: the weight of a convolution (o, i, h, w) becomes a matrix (o, i h w) where that is
    small enough, and otherwise a tensor (o, i, h w). A tensor of one dimension, a bias, is cut only if ``vectors``.

    Args:
        block_size: the most numbers of a dimension in a block.
        max_size: a dimension of more has no matrix, and is not cut.
        one_sided: only the smallest of the dimensions has a matrix.
        vectors: tensors of one dimension have a matrix as well.

    >>> Cutting(128, 8192, False, False).plan((64, 32, 3, 3))
    ((64, 32, 9), (0, 1, 2))
    >>> Cutting(128, 8192, True, False).plan((10, 512, 1))
    ((10, 512), (0,))
    """

    block_size: int
    max_size: int
    one_sided: bool
    vectors: bool

    def plan(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape after merging, and the dimensions that have a matrix: none of them for what is not cut."""
        real = [size for size in shape if size != 1]
        merged = real[:1]
        after: list[int] = []
        for size in reversed(real[1:]):
            if after and after[0] * size <= self.block_size:
                after[0] *= size
            else:
                after.insert(0, size)
        merged += after
        if not merged or 0 in merged or (len(merged) == 1 and not self.vectors):
            return (math.prod(shape),), ()
        sides = [dim for dim, size in enumerate(merged) if size <= self.max_size]
        if self.one_sided and sides:
            sides = [min(sides, key=merged.__getitem__)]
        return (tuple(merged), tuple(sides)) if sides else ((math.prod(shape),), ())


@dataclass(frozen=True)
class Region:
    """A part of one tensor that is a grid of blocks of one shape.

    Args:
        tensor: its place in the list.
        number: of the region among those of the tensor.
        shape: of the tensor, after merging.
        begins: the first index of the region along each dimension.
        grid: how many blocks there are along each.
        block: their shape.
    """

    tensor: int
    number: int
    shape: tuple[int, ...]
    begins: tuple[int, ...]
    grid: tuple[int, ...]
    block: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return math.prod(self.grid)

    @property
    def whole(self) -> bool:
        """Whether the region is one block, and all of the tensor."""
        return self.block == self.shape

    @property
    def stacked(self) -> tuple[int, ...]:
        """The shape of its part of a stack, as :meth:`of` gives the tensor's."""
        return self.block if self.whole else self.grid + self.block

    def of(self, tensor: Tensor) -> Tensor:
        """Its part of a contiguous tensor, as a view (*grid, *block), or (*block) where it is the whole."""
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
        block: their shape.
        sides: the dimensions of a block that have a matrix.
        count: how many blocks there are.
        start: the first of their numbers in the vector.
        regions: what they are cut from, in order.
    """

    block: tuple[int, ...]
    sides: tuple[int, ...]
    count: int
    start: int
    regions: tuple[Region, ...]

    def of(self, vector: Tensor) -> Tensor:
        """The stack in a vector, (count, *block), as a view."""
        size = self.count * math.prod(self.block)
        return vector.narrow(0, self.start, size).view(self.count, *self.block)


@final
class Blocks:
    """Where the blocks of tensors lie in a vector.

    Args:
        shapes: of the tensors.
        cutting: how they are cut.
        device: where the tensors are.

    Attributes:
        stacks: the blocks that have matrices.
        rest: the tensors that have none, each with its place in the vector.
        size: of the vector: as many numbers as the tensors have.
        cut: where the rest begins.

    >>> blocks = Blocks([(4, 6), (3,), (2, 2)], Cutting(3, 8192, False, False))
    >>> [(stack.count, stack.block) for stack in blocks.stacks], blocks.cut, blocks.size
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
        cutting: Cutting,
        device: torch.device | str = "cpu",
    ) -> None:
        kinds: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Region]] = {}
        uncut: list[Region] = []
        for place, shape in enumerate(shapes):
            merged, sides = cutting.plan(shape)
            if not sides:
                uncut.append(
                    Region(place, 0, tuple(shape), (0,) * len(shape), (1,) * len(shape), tuple(shape))
                )
            for region in _regions(place, merged, sides, cutting.block_size) if sides else ():
                kinds.setdefault((region.block, sides), []).append(region)
        self.stacks: list[Stack] = []
        start = 0
        for (block, sides), regions in kinds.items():
            count = sum(region.count for region in regions)
            self.stacks.append(Stack(block, sides, count, start, tuple(regions)))
            start += count * math.prod(block)
        self.cut = start
        self.rest: list[tuple[Region, int]] = []
        for region in uncut:
            self.rest.append((region, start))
            start += math.prod(region.shape)
        self.size = start
        self._places = list(self._placed())
        # Most tensors of most networks are one block: no view of them has to be made.
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
        """The regions, with the first of their numbers in the vector and the first after them."""
        return self._places

    def _placed(self) -> Iterator[tuple[Region, int, int]]:
        for stack in self.stacks:
            at = stack.start
            for region in stack.regions:
                size = region.count * math.prod(region.block)
                yield region, at, at + size
                at += size
        for region, at in self.rest:
            yield region, at, at + math.prod(region.shape)

    def views(self, vector: Tensor) -> list[Tensor]:
        """The regions' parts of a vector, in the shape of :meth:`Region.of`; what :meth:`copy` and :meth:`add` work on."""
        return [vector[first:last].view(region.stacked) for region, first, last in self._places]

    def copy(self, tensors: Sequence[Tensor], vector: Tensor, views: list[Tensor] | None = None) -> None:
        """Fill the vector from the tensors. ``views`` may be its :meth:`views`, if they are known."""
        sources = [tensor.contiguous() for tensor in tensors]
        found = self._regions_of(sources)
        torch._foreach_copy_(self.views(vector) if views is None else views, found)

    def add(
        self, vector: Tensor, tensors: Sequence[Tensor], alpha: float, views: list[Tensor] | None = None
    ) -> None:
        """Add alpha times the vector to the tensors. ``views`` may be its :meth:`views`, if they are known."""
        # Of weights in channels-last memory no block is a view.
        targets = [
            each if each.is_contiguous() else torch.zeros_like(each, memory_format=torch.contiguous_format)
            for each in tensors
        ]
        parts_of = self._regions_of(targets)
        torch._foreach_add_(parts_of, self.views(vector) if views is None else views, alpha=alpha)
        for tensor, target in zip(tensors, targets, strict=True):
            if target is not tensor:
                tensor.add_(target)

    def _regions_of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [
            tensors[region.tensor] if plain else region.of(tensors[region.tensor])
            for (region, _, _), plain in zip(self._places, self._plain, strict=True)
        ]

    def norms(self, vector: Tensor) -> Tensor:
        """The Euclidean norm of each tensor that is cut, in the order of the tensors; 0 of the others."""
        of_blocks = [torch.linalg.vector_norm(stack.of(vector).flatten(1), dim=1) for stack in self.stacks]
        squares = torch.cat(of_blocks).square()
        return squares.new_zeros(self._tensors).index_add_(0, self._owners, squares).sqrt()

    def largest(self, numbers: Sequence[Tensor]) -> list[Tensor]:
        """From a number for each block, (count,) for each stack, the largest of all blocks of its tensor, and NaN beside NaN.

        >>> blocks = Blocks([(4, 3), (3, 3)], Cutting(3, 8192, False, False))
        >>> blocks.largest([torch.tensor([1.0, 2.0]), torch.tensor([5.0])])  # two blocks of 2 by 3, and one of 3 by 3
        [tensor([2., 2.]), tensor([5.])]
        """
        joined = torch.cat(list(numbers))
        found = joined.new_full((self._tensors,), -math.inf)
        found = found.scatter_reduce(0, self._owners, joined, "amax")
        return list(found[self._owners].split([stack.count for stack in self.stacks]))

    def scale(self, vector: Tensor, factors: Tensor) -> None:
        """Multiply each tensor that is cut by its factor."""
        of_blocks = factors[self._owners].split([stack.count for stack in self.stacks])
        for stack, factor in zip(self.stacks, of_blocks, strict=True):
            stack.of(vector).mul_(factor.view(-1, *(1 for _ in stack.block)))


def _regions(place: int, shape: tuple[int, ...], sides: tuple[int, ...], limit: int) -> Iterator[Region]:
    """The regions of a tensor: a dimension without a matrix is left whole."""
    cuts = [parts(size, limit) if dim in sides else [(0, 1, size)] for dim, size in enumerate(shape)]
    for number, chosen in enumerate(itertools.product(*cuts)):
        begins, grid, block = zip(*chosen, strict=True)
        yield Region(place, number, shape, begins, grid, block)
