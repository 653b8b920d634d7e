"""Piecewise-linear embedding of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from descend.cards import method
from descend.errors import UserError
from descend.nn.number_embedding.bins import as_array, quantile_edges, tree_edges
from descend.nn.number_embedding.per_number import activated, mapped, uniform
from descend.param_types import Count, Natural

__all__ = ["PiecewiseLinearEmbedding"]

_NO_LIMIT = float(torch.finfo(torch.float32).max)
"""A bound that no encoded number reaches; an infinite one would make sums of the state infinite."""


@method(
    row="K5",
    reference="Gorishniy, Rubachev and Babenko 2022, On embeddings for numerical features in tabular deep learning",
    formula="e_jt = clip((x_j - b_jt-1) / (b_jt - b_jt-1), 0, 1), linear beyond the first and last edge; "
    "y_j = e_j, or f(e_j W_j + b_j)",
    note="Edges are fitted on the training rows after scaling, stored with the weights, and not trained.",
)
@final
class PiecewiseLinearEmbedding(nn.Module):
    """Piecewise-linear encoding of numbers: each number becomes its position within each of B bins.

    With the edges b_0 < b_1 < ... < b_B of number j, bin t has the entry

        e_t = (x − b_{t−1}) / (b_t − b_{t−1}), at least 0 for t > 1 and at most 1 for t < B,

    so that x in bin t becomes [1, ..., 1, e_t, 0, ..., 0], and the encoding is linear beyond the first and the last edge. A
    linear function of it is any continuous function that is linear within the bins, so that the next layer can react to
    steps of a target that a smooth network needs many units for. With ``dimension`` > 0 a linear map of its own for each number
    follows, y_j = f(e_j W_j + b_j).

    :meth:`fit` places the edges; before, all entries are 0. A number with fewer distinct edges has fewer bins: its last entries
    are 0. A constant has no bin.

    Shapes: (n, d) → (n, d, B), or (n, d, dimension).

    Args:
        numbers: d, how many numbers a row has.
        bins: B, the largest number of bins of a number. Default 16.
        edges: how the edges are placed: ``"quantile"``, with equal numbers of rows in the bins, or ``"tree"``, at the thresholds
            of a decision tree that predicts the targets from the number alone. Default ``"quantile"``.
        leaf_rows: the smallest number of rows in a leaf of that tree. Default 32.
        dimension: the size of the embedding of a number; 0 for the encoding itself. Default 0.
        activation: f, ``"none"`` or ``"relu"``. Default ``"none"``.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [6.0]])
    >>> PiecewiseLinearEmbedding(1, bins=3).fit(x)(torch.tensor([[-1.0], [1.5], [8.0]]))[:, 0].tolist()
    [[-1.0, 0.0, 0.0], [1.0, 0.5, 0.0], [1.0, 1.0, 1.5]]
    """

    left: Tensor
    width: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        numbers: int,
        *,
        bins: Count = 16,
        edges: Literal["quantile", "tree"] = "quantile",
        leaf_rows: Count = 32,
        dimension: Natural = 0,
        activation: Literal["none", "relu"] = "none",
    ) -> None:
        super().__init__()
        self.numbers, self.bins, self.dimension, self.activation = numbers, bins, dimension, activation
        self._edges, self._leaf_rows = edges, leaf_rows
        self.register_buffer("left", torch.zeros(numbers, bins))
        self.register_buffer("width", torch.ones(numbers, bins))
        self.register_buffer("low", torch.zeros(numbers, bins))
        self.register_buffer("high", torch.zeros(numbers, bins))
        if dimension:
            self.weight = uniform(numbers, bins, dimension, inputs=bins)
            self.bias = uniform(numbers, dimension, inputs=bins)

    @property
    def outputs(self) -> int:
        """The size of an embedded row, d B or d · dimension."""
        return self.numbers * (self.dimension or self.bins)

    def fit(
        self,
        rows: Tensor,
        targets: Tensor | None = None,
        *,
        classes: bool = False,
        weights: Tensor | None = None,
    ) -> PiecewiseLinearEmbedding:
        """Place the edges, and return the module.

        Args:
            rows: numbers (n, d). NaN is a missing value, which does not count; a number without any other has no bin.
            targets: (n,) or (n, T), for ``edges = "tree"``.
            classes: whether the targets are class codes. Default False.
            weights: a weight of each row. Rows of weight 0 are not used, and the tree is weighted; the quantiles are not.
                Default None.

        Raises:
            UserError: the rows have another number of columns, or there are no targets for a tree.
        """
        if rows.dim() != 2 or rows.shape[1] != self.numbers:
            raise UserError(
                f"expected rows of {self.numbers} numbers to fit the edges on, got shape {tuple(rows.shape)}"
            )
        if targets is None and self._edges == "tree":
            raise UserError("edges = 'tree' places the edges by the targets, which are required")
        if weights is not None:
            used = weights > 0
            rows, weights = rows[used], weights[used]
            targets = None if targets is None else targets[used]
        values = as_array(rows).astype(np.float32)
        own_targets = None if targets is None else as_array(targets)
        own_weights = None if weights is None else as_array(weights)
        found = []
        for column in values.T:
            known = ~np.isnan(column)
            own = column[known]
            if not len(own):
                found.append(own)
            elif self._edges == "quantile":
                found.append(quantile_edges(own, self.bins))
            else:
                assert own_targets is not None
                found.append(
                    tree_edges(
                        own, own_targets[known], self.bins, classes=classes, leaf_rows=self._leaf_rows,
                        weights=None if own_weights is None else own_weights[known],
                    )
                )  # fmt: skip
        return self.place([torch.from_numpy(each) for each in found])

    def place(self, edges: Sequence[Tensor]) -> PiecewiseLinearEmbedding:
        """Set the edges of each number, and return the module.

        Args:
            edges: for each number its edges in increasing order, (k,) with k ≤ B + 1; no bins if k < 2.

        Raises:
            UserError: the edges do not increase, are not finite, or are too many.
        """
        if len(edges) != self.numbers:
            raise UserError(f"expected the edges of {self.numbers} numbers, got those of {len(edges)}")
        for tensor, value in ((self.left, 0.0), (self.width, 1.0), (self.low, 0.0), (self.high, 0.0)):
            tensor.fill_(value)
        for number, own in enumerate(edges):
            bins = len(own) - 1
            if bins > self.bins or not bool(own.isfinite().all()) or not bool((own.diff() > 0).all()):
                raise UserError(
                    f"the edges of number {number} must increase, be finite, and be at most {self.bins + 1}; got {own.tolist()}"
                )
            if bins < 1:
                continue
            own = own.to(self.left)
            self.left[number, :bins], self.width[number, :bins] = own[:-1], own.diff()
            self.high[number, :bins] = 1.0
            self.low[number, 0], self.high[number, bins - 1] = -_NO_LIMIT, _NO_LIMIT
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the encodings (n, d, B) of the numbers (n, d), or their embeddings (n, d, dimension)."""
        position = (x.unsqueeze(-1) - self.left) / self.width
        encoding = torch.maximum(torch.minimum(position, self.high), self.low)
        return (
            activated(mapped(encoding, self.weight, self.bias), self.activation)
            if self.dimension
            else encoding
        )

    def extra_repr(self) -> str:
        """Return the settings, for the summary of a model."""
        text = f"{self.numbers}, bins={self.bins}"
        return (
            f"{text}, dimension={self.dimension}, activation={self.activation!r}" if self.dimension else text
        )
