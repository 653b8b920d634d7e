"""Embeddings of categories: a category of a column becomes a learned vector, in place of an input of its own.

A column of 50 categories has 50 inputs that are 0 in nearly all rows, and each unit of the first layer has a weight for each of
them. With an embedding the units share what is learned of a category: a few numbers. :class:`CategoryEmbedding` applies it
to the one-hot blocks of a row that also has other entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from descend.cards import method
from descend.nn.category_embedding.front import CategoryEmbedding
from descend.nn.category_embedding.learned import LearnedCategories, dimension_of

__all__ = ["CATEGORY_EMBEDDINGS", "CategoryEmbedding", "LearnedCategories", "dimension_of", "none"]


@method(row="K7", reference="one-hot inputs", formula="y_j = 1 if the category is c_j, else 0")
def none(levels: Sequence[int]) -> None:
    """Leave categories unchanged: each is one input of the network."""
    return


CATEGORY_EMBEDDINGS: dict[str, Callable[..., nn.Module | None]] = {
    "none": none,
    "learned": LearnedCategories,
}
"""Embeddings by name, each a function of the numbers of categories of the columns, and of its settings."""
