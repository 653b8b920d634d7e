"""Which entries of an encoded row are one-hot blocks of categories."""

from __future__ import annotations

from dataclasses import dataclass

from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema

__all__ = ["CategoryInput", "category_inputs"]


@dataclass(frozen=True)
class CategoryInput:
    """The one-hot block of a column without an order of its categories.

    Args:
        start: the position of its first entry in the row.
        levels: the number of its entries, one for each category of the training rows.
    """

    start: int
    levels: int

    @property
    def positions(self) -> range:
        """The positions of its entries."""
        return range(self.start, self.start + self.levels)


def category_inputs(schema: Schema) -> tuple[CategoryInput, ...]:
    """Return the one-hot blocks of an encoded row, in their order; none for images and tensors.

    >>> from descend.data.columns import Column
    >>> columns = (Column("kind", "categorical", categories=("a", "b")), Column("age", "numeric", indicator=True))
    >>> category_inputs(Schema("table", "binary", "", (4,), 1, ("y",), columns, classes=(0, 1), label_dtype="int64"))
    (CategoryInput(start=1, levels=2),)
    """
    if schema.kind != "table" or len(schema.input_shape) != 1:
        return ()
    owners = Preprocess(schema).columns
    return tuple(
        CategoryInput(owners.index(at), len(column.blocks))
        for at, column in enumerate(schema.used)
        if column.kind == "categorical" and column.blocks and not column.ordered
    )
