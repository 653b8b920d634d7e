"""Learned vectors of categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.param_types import Natural

__all__ = ["LearnedCategories", "dimension_of"]

LARGEST = 50
"""The largest dimension that follows from a number of categories."""


def dimension_of(levels: int) -> int:
    """Return the dimension of the vectors of a column with this number of categories, min(50, round(1.6 L^0.56)).

    >>> [dimension_of(levels) for levels in (2, 10, 100, 10_000)]
    [2, 6, 21, 50]
    """
    return min(LARGEST, round(1.6 * math.pow(levels, 0.56)))


@method(
    row="K7",
    reference="Guo and Berkhahn 2016, Entity embeddings of categorical variables; Holzmüller, Grinsztajn and Steinwart 2024 "
    "(one-hot up to 8 categories, vectors of 8 numbers above); fastai's rule of the dimension",
    formula="y = E_c, the row of a table E (L, e) for category c of L; e = dimension, or min(50, round(1.6 L^0.56)) if that is 0",
    note="A column of up to `above` categories keeps its one-hot inputs. A missing or unseen category has the vector 0, the mean "
    "of the initial vectors; a column with missing values in the training rows keeps its indicator as an input. The vectors "
    "decay like other weights (regularize.weight_decay). Ordered columns, and those encoded by their mean target, are unchanged.",
)
@final
class LearnedCategories(nn.Module):
    """Learned vectors of categories: a column with more than a few categories becomes a row of a table.

    The input of a column is its one-hot block b (L), 1 at the category and 0 elsewhere, or 0 everywhere for a missing or unseen
    category. With more than ``above`` categories the output is b E with a learned table E of shape (L, e): the row of the
    category, or 0. Otherwise it is b itself. Initial entries are normal with standard deviation 1/√e, so that a vector has
    length 1 on average, as the one-hot block has. As the output is linear in b, mixed rows and derivatives are defined.

    Shapes: (n, Σ L) → (n, Σ e), with e = L for columns that are unchanged.

    Args:
        levels: the number of categories L of each column.
        above: columns with more categories than this are embedded. Default 8.
        dimension: e; 0 for min(50, round(1.6 L^0.56)). Default 8.

    >>> module = LearnedCategories([2, 9], dimension=3)
    >>> rows = torch.zeros(2, 11)
    >>> rows[0, [1, 2 + 4]] = 1.0
    >>> y = module(rows)
    >>> y[:, :2].tolist(), torch.equal(y[0, 2:], module.table1[4]), y[1, 2:].tolist()
    ([[0.0, 1.0], [0.0, 0.0]], True, [0.0, 0.0, 0.0])
    """

    def __init__(self, levels: Sequence[int], *, above: Natural = 8, dimension: Natural = 8) -> None:
        super().__init__()
        self.levels, self.above = tuple(levels), above
        self.dimensions = tuple(
            (dimension or dimension_of(each)) if each > above else each for each in self.levels
        )
        self.embedded = tuple(at for at, each in enumerate(self.levels) if each > above)
        for at in self.embedded:
            size = self.dimensions[at]
            table = torch.empty(self.levels[at], size).normal_(0.0, 1.0 / math.sqrt(size))
            self.register_parameter(f"table{at}", nn.Parameter(table))

    @property
    def outputs(self) -> int:
        """The size of an embedded row, Σ e."""
        return sum(self.dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors and the unchanged blocks (..., Σ e) of the one-hot blocks (..., Σ L)."""
        blocks = list(torch.split(x, list(self.levels), dim=-1))
        for at in self.embedded:
            blocks[at] = blocks[at] @ cast(Tensor, getattr(self, f"table{at}"))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-1)

    def extra_repr(self) -> str:
        """Return the settings, for the summary of a model."""
        return f"levels={self.levels}, dimensions={self.dimensions}"
