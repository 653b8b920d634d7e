"""Gaussian noise and feature dropout."""

from __future__ import annotations

import copy
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from descend.augmentation.base import IMAGES, ROWS, Augmentation, Layout
from descend.cards import method
from descend.param_types import NonNegative, Probability

__all__ = ["FeatureDropout", "Noise"]


@method(
    row="H2",
    reference="Bishop 1995 (Training with noise is equivalent to Tikhonov regularization)",
    formula="x + std e, e normal",
    note="in tables only numbers get noise, in units of the standard deviation if they are scaled to 1; booleans, "
    "categories, indicators and texts do not. For images the unit is the difference between black and white.",
)
@final
class Noise(Augmentation):
    """Independent Gaussian noise added to every number.

    Shapes: images (b, channels, height, width) or rows (b, ...); the result has the same shape.

    Args:
        std: standard deviation of the noise. Default 0.05.

    >>> Noise(std=0.0)(torch.ones(1, 2), torch.Generator()).tolist()
    [[1.0, 1.0]]
    """

    fits: ClassVar[frozenset[str]] = frozenset({IMAGES, ROWS})

    def __init__(self, *, std: NonNegative = 0.05) -> None:
        self.std = std
        self._numbers: Tensor | None = None

    def on(self, layout: Layout) -> Self:
        """Return the same noise for the numbers of this layout only."""
        copied = copy.copy(self)
        copied._numbers = layout.numbers
        return copied

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the rows with noise."""
        noise = torch.randn(inputs.shape, generator=generator, device=inputs.device, dtype=inputs.dtype)
        if self._numbers is not None:
            noise = noise * self._numbers
        return torch.add(inputs, noise, alpha=self.std)


@method(
    row="H2",
    reference="Vincent et al. 2008 (masking noise of denoising autoencoders)",
    formula="x_j <- 0 with probability p, for all inputs of column j at once",
    note="0 is the mean of a number scaled to mean 0, and encodes a missing boolean or category.",
)
@final
class FeatureDropout(Augmentation):
    """Feature dropout: set all inputs of a random column of a row to 0.

    Unlike in dropout the remaining inputs are not rescaled: a dropped number is replaced by its mean.
    Shapes: rows (b, ...); the result has the same shape.

    Args:
        probability: probability that a column of a row is dropped. Default 0.1.

    >>> FeatureDropout(probability=1.0)(torch.ones(1, 2), torch.Generator()).tolist()
    [[0.0, 0.0]]
    """

    fits: ClassVar[frozenset[str]] = frozenset({ROWS})

    def __init__(self, *, probability: Probability = 0.1) -> None:
        self.probability = probability
        self._columns: Tensor | None = None
        self._count = 0

    def on(self, layout: Layout) -> Self:
        """Return the same method with the columns of this layout."""
        copied = copy.copy(self)
        copied._columns = layout.columns
        copied._count = 0 if layout.columns is None else int(layout.columns.max()) + 1
        return copied

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the rows without some of their columns."""
        shape = inputs.shape if self._columns is None else (len(inputs), self._count)
        kept = torch.rand(shape, generator=generator, device=inputs.device) >= self.probability
        if self._columns is not None:
            kept = kept.index_select(1, self._columns).reshape(inputs.shape)
        return torch.where(kept, inputs, 0.0)
