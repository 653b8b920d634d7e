"""Numbers that stand for a missing value, such as -999, when ``data.missing`` lists them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from descend.data.settings import Missing, missing_in

if TYPE_CHECKING:
    import polars as pl

__all__ = ["missing_numbers", "without_missing_numbers"]

_EXACT = 2**53
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def missing_numbers(missing: Missing, column: str) -> tuple[int | float, ...]:
    """Return the strings for a missing value of a column that are numbers, as numbers.

    >>> missing_numbers(["", "NA", "-999", "1e3"], "age"), missing_numbers({"age": ["-1"]}, "size")
    ((-999, 1000), ())
    """
    found: list[int | float] = []
    for word in missing_in(missing, column):
        word = word.strip()
        if _NUMBER.fullmatch(word):
            number = float(word)
            if word.lstrip("+-").isdigit():
                found.append(int(word))
            elif math.isfinite(number):
                found.append(int(number) if number.is_integer() and abs(number) <= _EXACT else number)
    return tuple(found)


def without_missing_numbers(values: pl.Series, missing: Missing) -> pl.Series:
    """Return a column of numbers in which those that stand for a missing value are nulls.

    The number counts, and not how it is written: ``-999`` is also -999.0 in a column of a data frame.

    Args:
        values: integers, floating-point or decimal numbers.
        missing: strings that stand for a missing value, in all columns or by the name of the column.
    """
    import polars as pl

    numbers = missing_numbers(missing, values.name)
    if not numbers or values.null_count() == len(values):
        return values
    small = [float(number) for number in numbers if abs(number) <= _EXACT]
    absent = values.cast(pl.Float64, strict=False).is_in(small)
    large = [str(number) for number in numbers if abs(number) > _EXACT]
    if large:
        strings = (
            values if values.dtype.is_integer() else values.cast(pl.Float64).cast(pl.Int128, strict=False)
        )
        absent |= strings.cast(pl.String).is_in(large).fill_null(False)
    return values.set(absent.fill_null(False), None) if absent.any() else values
