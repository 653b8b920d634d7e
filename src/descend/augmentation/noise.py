"""Noise, and columns left out."""

from __future__ import annotations

import copy
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from descend.augmentation.base import PICTURES, ROWS, Augmentation, Layout
from descend.cards import method
from descend.param_types import NonNegative, Probability

__all__ = ["FeatureDropout", "Noise"]


@method(
    row="H2",
    reference="Bishop 1995 (Training with noise is equivalent to Tikhonov regularization)",
    formula="x + std e, e normal",
    note="of a table the numbers get noise, in standard deviations where they are scaled to one; truth values, "
    "categories and indicators do not. Of pictures the unit is the distance from black to white.",
)
@final
class Noise(Augmentation):
    """Independent Gaussian noise on every number.

    Shapes: pictures (b, channels, height, width) or rows (b, ...), and the same again.

    Args:
        std: the noise's standard deviation. Default 0.05.

    >>> Noise(std=0.0)(torch.ones(1, 2), torch.Generator()).tolist()
    [[1.0, 1.0]]
    """

    fits: ClassVar[frozenset[str]] = frozenset({PICTURES, ROWS})

    def __init__(self, *, std: NonNegative = 0.05) -> None:
        self.std = std
        self._numbers: Tensor | None = None

    def on(self, layout: Layout) -> Self:
        """The same noise, on the numbers of this layout only."""
        made = copy.copy(self)
        made._numbers = layout.numbers
        return made

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The rows with noise."""
        noise = torch.randn(inputs.shape, generator=draw, device=inputs.device, dtype=inputs.dtype)
        if self._numbers is not None:
            noise = noise * self._numbers
        return torch.add(inputs, noise, alpha=self.std)


@method(
    row="H2",
    reference="Vincent et al. 2008 (masking noise of denoising autoencoders)",
    formula="x_j <- 0 with probability p, for all inputs of column j at once",
    note="0 is the mean of a number where it is scaled to mean 0, and stands for 'missing' of a truth value and "
    "of a category.",
)
@final
class FeatureDropout(Augmentation):
    """Columns left out: all inputs of a column, of one row, are 0.

    What is left is not scaled up, unlike dropout's: a number's mean is the best guess of it.
    Shapes: rows (b, ...), and the same again.

    Args:
        probability: that a column is left out of a row. Default 0.1.

    >>> FeatureDropout(probability=1.0)(torch.ones(1, 2), torch.Generator()).tolist()
    [[0.0, 0.0]]
    """

    fits: ClassVar[frozenset[str]] = frozenset({ROWS})

    def __init__(self, *, probability: Probability = 0.1) -> None:
        self.probability = probability
        self._columns: Tensor | None = None
        self._count = 0

    def on(self, layout: Layout) -> Self:
        """The same, with the columns of this layout."""
        made = copy.copy(self)
        made._columns = layout.columns
        made._count = 0 if layout.columns is None else int(layout.columns.max()) + 1
        return made

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The rows without some of their columns."""
        shape = inputs.shape if self._columns is None else (len(inputs), self._count)
        kept = torch.rand(shape, generator=draw, device=inputs.device) >= self.probability
        if self._columns is not None:
            kept = kept.index_select(1, self._columns).reshape(inputs.shape)
        return torch.where(kept, inputs, 0.0)
