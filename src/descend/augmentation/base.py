"""Base classes of augmentations: functions of a batch and a random generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

__all__ = ["IMAGES", "ROWS", "Augmentation", "Layout", "Mixed", "Mixing", "row_mask", "uniform"]

IMAGES = "images"
"""Kind of batches (b, channels, height, width) with pixels from 0, black, to 1, white."""
ROWS = "rows"
"""Kind of batches (b, ...) of encoded rows."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Meaning of the entries of a row, for methods that treat them differently.

    Args:
        kind: :data:`IMAGES` or :data:`ROWS`.
        why: the reason why rows are not images, as a phrase.
        numbers: whether each input is a number, rather than a boolean, a category or an indicator, (d,)
            bool; None if all are.
        columns: the column of each input, (d,) int64; None if each input is a column.
        has_texts: whether some inputs are indices of the n-grams of texts, which cannot be mixed.
    """

    kind: str
    why: str = ""
    numbers: Tensor | None = None
    columns: Tensor | None = None
    has_texts: bool = False

    def to(self, device: torch.device) -> Layout:
        """Return the layout with its tensors on a device."""
        numbers, columns = (
            None if each is None else each.to(device) for each in (self.numbers, self.columns)
        )
        return replace(self, numbers=numbers, columns=columns)


class Augmentation(ABC):
    """A random change of the inputs that leaves the targets unchanged.

    All random numbers come from the generator, on the device of the inputs; the inputs are not changed in place.
    """

    fits: ClassVar[frozenset[str]] = frozenset({IMAGES})

    @abstractmethod
    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return a changed batch of the same shape, with independent random numbers for each row."""

    def on(self, layout: Layout) -> Self:
        """Return the method for rows of this layout; by default the method itself."""
        return self


class Mixed(NamedTuple):
    """A batch in which each row is mixed with another.

    Args:
        inputs: the mixed rows.
        partner: the row that each row is mixed with, (b,) int64.
        share: the weight of the row itself, in [0, 1], (b,); the weight of the partner is 1 - share.
    """

    inputs: Tensor
    partner: Tensor
    share: Tensor

    def targets(self, targets: Tensor) -> Tensor:
        """Mix targets (b,) or (b, T) of real numbers with the same weights.

        >>> mixed = Mixed(torch.zeros(2, 1), torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
        >>> mixed.targets(torch.tensor([0.0, 1.0])).tolist()
        [0.25, 1.0]
        """
        share = self.share.to(targets.dtype).reshape(-1, *[1] * (targets.dim() - 1))
        return share * targets + (1 - share) * targets[self.partner]


class Mixing(ABC):
    """A mixture of rows; the targets are mixed accordingly."""

    fits: ClassVar[frozenset[str]] = frozenset({IMAGES, ROWS})

    @abstractmethod
    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Mixed:
        """Return mixed rows and the weights for mixing their targets."""

    def on(self, layout: Layout) -> Self:
        """Return the method for rows of this layout; by default the method itself."""
        return self


def uniform(count: int, low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform random numbers (count,) in [low, high), with the dtype and device of another tensor."""
    samples = torch.rand(count, generator=generator, device=like.device, dtype=like.dtype)
    return samples * (high - low) + low


def row_mask(inputs: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Return a mask of random rows, each with the given probability, (b, 1, 1, ...) bool."""
    samples = torch.rand(len(inputs), generator=generator, device=inputs.device)
    return (samples < probability).reshape(-1, *[1] * (inputs.dim() - 1))
