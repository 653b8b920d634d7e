"""Which entries of an encoded row are numbers."""

from __future__ import annotations

from dataclasses import dataclass

from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema

__all__ = ["NumberInput", "number_inputs"]


@dataclass(frozen=True)
class NumberInput:
    """One entry of an encoded row that is a number.

    Args:
        position: in the row.
        missing: the position of the entry that is 1 where the number is missing; None if none is.
    """

    position: int
    missing: int | None = None


def number_inputs(schema: Schema) -> tuple[NumberInput, ...]:
    """Return the entries of an encoded row that are numbers: no booleans, categories, parts of dates, indicators or texts.

    All entries of a row of a tensor are numbers; images, and rows of several dimensions, have none.

    >>> from descend.data.columns import Column
    >>> columns = (Column("kind", "categorical", categories=("a", "b")), Column("age", "numeric", indicator=True))
    >>> number_inputs(Schema("table", "binary", "", (4,), 1, ("y",), columns, classes=(0, 1), label_dtype="int64"))
    (NumberInput(position=0, missing=3),)
    """
    if len(schema.input_shape) != 1:
        return ()
    if schema.kind != "table":
        return tuple(map(NumberInput, range(schema.input_shape[0])))
    encoded = Preprocess(schema)
    # A component of a rotation mixes columns, so that none of them is missing alone.
    indicators = {} if schema.rotation is not None else encoded.indicators
    return tuple(
        NumberInput(at, indicators.get(encoded.columns[at]))
        for at, is_number in enumerate(encoded.numbers)
        if is_number
    )
