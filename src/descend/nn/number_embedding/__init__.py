"""Embeddings of numbers: each number of a row becomes several inputs of the network, by a map of its own.

A number enters a network as one smooth input, and targets that jump at a threshold, or change fast, need many units and steps.
An embedding offers more: its position within bins (``piecewise_linear``), or waves of learned frequencies (``periodic``). Each is
a module from (n, d) to (n, d, e); :class:`NumberEmbedding` applies it to the numbers of a row that also has other entries.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from descend.cards import method
from descend.nn.number_embedding.front import NumberEmbedding
from descend.nn.number_embedding.linear import LinearEmbedding
from descend.nn.number_embedding.periodic import PeriodicEmbedding
from descend.nn.number_embedding.piecewise_linear import PiecewiseLinearEmbedding

__all__ = [
    "NUMBER_EMBEDDINGS",
    "LinearEmbedding",
    "NumberEmbedding",
    "PeriodicEmbedding",
    "PiecewiseLinearEmbedding",
    "none",
]


@method(row="K5", reference="plain numbers", formula="y = x")
def none(numbers: int) -> None:
    """Leave numbers unchanged: each is one input of the network."""
    return


NUMBER_EMBEDDINGS: dict[str, Callable[..., nn.Module | None]] = {
    "none": none,
    "linear": LinearEmbedding,
    "piecewise_linear": PiecewiseLinearEmbedding,
    "periodic": PeriodicEmbedding,
}
"""Embeddings by name, each a function of how many numbers a row has, and of its settings."""
