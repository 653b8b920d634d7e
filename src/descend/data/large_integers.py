"""Integers that are too large, and too close together, to stay distinct as floating-point numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from descend.data.number_format import Mark
from descend.data.parsing import EXACT, large_integers
from descend.errors import DataError
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = ["refuse_too_close", "too_close"]


def too_close(low: int, high: int) -> bool:
    """Return whether different integers from ``low`` to ``high`` are too close for double precision to resolve.

    >>> too_close(2**60, 2**60 + 40), too_close(0, 2**60), too_close(1000, 1040)
    (True, False, False)
    """
    largest = max(abs(low), abs(high))
    if largest <= EXACT or low >= high or largest.bit_length() > 1023:
        return False
    return math.ulp(float(largest)) > (high - low) * 2.0**-20


def refuse_too_close(values: pl.Series, decimal: Mark = "point") -> None:
    """Raise a DataError if different integers of a tidied column would become equal numbers.

    Args:
        values: numbers, or strings of numbers.
        decimal: the decimal mark of strings.
    """
    limits = _range(values, decimal)
    if limits is None or not too_close(*limits):
        return
    low, high = limits
    key = ("data", "columns", values.name)
    raise DataError(
        f"column {values.name!r}: as floating-point numbers, different integers from {low} to {high} would be "
        f"equal; if they are codes, {setting(key, 'categorical')}; if they are numbers, subtract "
        f"{low} from each; or {setting(key, 'ignore')}"
    )


def _range(values: pl.Series, decimal: Mark) -> tuple[int, int] | None:
    import polars as pl

    found = large_integers(values, decimal)
    if found is not None:
        return int(found.min()), int(found.max())  # type: ignore[arg-type]  # of an integer series
    if values.dtype != pl.String or not values.str.contains(r"^[+-]?[0-9]{1,300}$").all():
        return None
    if not (values.str.len_bytes() > 38).any():  # beyond 128 bits
        return None
    integers = [int(value) for value in values.drop_nulls().unique().to_list()]
    return min(integers), max(integers)
