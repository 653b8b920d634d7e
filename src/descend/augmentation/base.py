"""What every augmentation is: a function of a batch and a generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

__all__ = ["PICTURES", "ROWS", "Augmentation", "Layout", "Mixed", "Mixing", "chosen", "uniform"]

PICTURES = "pictures"
"""Batches (b, channels, height, width), pixels from 0, black, to 1, white."""
ROWS = "rows"
"""Batches (b, ...) of encoded rows."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What the entries of a row are, for methods that treat them apart.

    Args:
        kind: :data:`PICTURES` or :data:`ROWS`.
        why: why rows are no pictures, in words.
        numbers: whether each input is a number, rather than a truth value, a category or an indicator, (d,)
            bool; None if all are.
        columns: the column that each input belongs to, (d,) int64; None if each is its own.
    """

    kind: str
    why: str = ""
    numbers: Tensor | None = None
    columns: Tensor | None = None

    def to(self, device: torch.device) -> Layout:
        """The same, on a device."""
        moved = (None if each is None else each.to(device) for each in (self.numbers, self.columns))
        return Layout(self.kind, self.why, *moved)


class Augmentation(ABC):
    """A change of the inputs that the targets do not follow.

    Draws come from the generator alone, on the inputs' device; the inputs are not changed in place.
    """

    fits: ClassVar[frozenset[str]] = frozenset({PICTURES})

    @abstractmethod
    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """A changed batch of the same shape; each row has its own draws."""

    def on(self, layout: Layout) -> Self:
        """The method for rows of this layout; by default the same."""
        return self


class Mixed(NamedTuple):
    """A batch each of whose rows was mixed with another.

    Args:
        inputs: the mixed rows.
        partner: the row that each was mixed with, (b,) int64.
        share: how much of the row itself is left, in [0, 1], (b,); the partner's is 1 - share.
    """

    inputs: Tensor
    partner: Tensor
    share: Tensor

    def targets(self, targets: Tensor) -> Tensor:
        """Targets (b,) or (b, T) of real numbers, mixed by the same shares.

        >>> mixed = Mixed(torch.zeros(2, 1), torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
        >>> mixed.targets(torch.tensor([0.0, 1.0])).tolist()
        [0.25, 1.0]
        """
        share = self.share.to(targets.dtype).reshape(-1, *[1] * (targets.dim() - 1))
        return share * targets + (1 - share) * targets[self.partner]


class Mixing(ABC):
    """A mixture of rows, which the targets follow."""

    fits: ClassVar[frozenset[str]] = frozenset({PICTURES, ROWS})

    @abstractmethod
    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Mixed:
        """Mixed rows, with the shares by which targets are to be mixed."""

    def on(self, layout: Layout) -> Self:
        """The method for rows of this layout; by default the same."""
        return self


def uniform(count: int, low: float, high: float, like: Tensor, draw: torch.Generator) -> Tensor:
    """Numbers (count,) in [low, high), of the dtype and on the device of another tensor."""
    drawn = torch.rand(count, generator=draw, device=like.device, dtype=like.dtype)
    return drawn * (high - low) + low


def chosen(inputs: Tensor, probability: float, draw: torch.Generator) -> Tensor:
    """Which rows are changed, (b, 1, 1, ...) bool."""
    drawn = torch.rand(len(inputs), generator=draw, device=inputs.device)
    return (drawn < probability).reshape(-1, *[1] * (inputs.dim() - 1))
