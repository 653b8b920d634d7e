"""Raw columns of any type to the four that are learned from: numbers, truth values, days, texts."""

from __future__ import annotations

import datetime as dt
import decimal
import numbers
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["is_missing", "parse_booleans", "parse_dates", "parse_instants",
           "parse_numbers", "series_of", "tidy", "to_text"]  # fmt: skip

_DAY = 86_400_000_000  # microseconds
_TRUTH = {"true": True, "t": True, "yes": True, "y": True, "1": True, "1.0": True,
          "false": False, "f": False, "no": False, "n": False, "0": False, "0.0": False}  # fmt: skip


def is_missing(value: object) -> bool:
    """Whether a Python value stands for nothing: None, NaN, NaT, pandas' NA.

    >>> [is_missing(value) for value in (None, float("nan"), 0, "")]
    [True, True, False, False]
    """
    if value is None:
        return True
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    return isinstance(value, numbers.Real) and bool(value != value)


def series_of(name: str, values: Iterable[Any]) -> pl.Series:
    """A column from Python values: numbers, truth values, dates or texts, with None for missing ones.

    Numbers among texts become texts, so that nothing is lost before the column is judged.

    Raises:
        DataError: a value is itself a list, an array or another structure.
    """
    import polars as pl

    clean = [None if is_missing(value) else value for value in values]
    kinds = {_family(value) for value in clean if value is not None}
    if None in kinds:
        row, odd = next((i, v) for i, v in enumerate(clean) if v is not None and _family(v) is None)
        raise DataError(
            f"column {name!r}: a number, text, truth value or date was expected in each row, "
            f"row {row} holds a {type(odd).__name__}; make one column of each part, or drop the column"
        )
    if not kinds:
        return pl.Series(name, clean, dtype=pl.Null)
    if kinds == {"truth"}:
        return pl.Series(name, [None if value is None else bool(value) for value in clean], dtype=pl.Boolean)
    if kinds <= {"number", "truth"}:
        try:
            return pl.Series(
                name, [None if value is None else float(value) for value in clean], dtype=pl.Float64
            )
        except OverflowError as cause:
            raise DataError(
                f"column {name!r}: a whole number is too large for a floating-point number"
            ) from cause
    if kinds == {"date"}:
        return pl.Series(
            name, [None if value is None else _instant(value) for value in clean], dtype=pl.Datetime("us")
        )
    try:
        texts = [None if value is None else _text(value) for value in clean]
    except ValueError as cause:
        raise DataError(f"column {name!r}: {cause}") from cause
    return pl.Series(name, texts, dtype=pl.String)


def _family(value: object) -> str | None:
    if isinstance(value, bool | np.bool_):
        return "truth"
    if isinstance(value, numbers.Real | decimal.Decimal):
        return "number"
    if isinstance(value, str | bytes):
        return "text"
    return "date" if isinstance(value, dt.date | np.datetime64) else None


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a lone surrogate is no text to anyone else
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _instant(value: Any) -> dt.datetime:
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if not isinstance(value, dt.datetime):
        return dt.datetime(value.year, value.month, value.day)
    return value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value


def tidy(series: pl.Series, missing: Sequence[str]) -> pl.Series:
    """A column as Null, Boolean, Float64, Datetime or stripped String, missing values as nulls.

    Args:
        series: the raw column.
        missing: words that stand for a missing value in text.

    Raises:
        DataError: the column holds lists, structures, binary data or other things.
    """
    import polars as pl

    kind = series.dtype
    if kind in (pl.Null, pl.Boolean):
        return series
    if kind.is_numeric():
        # a cast of a large decimal or 128-bit integer may fail; it then has no place in a table of numbers
        found = series.cast(pl.Float64, strict=False)
        return found.fill_nan(None) if kind.is_float() and np.isnan(found.to_numpy()).any() else found
    if kind in (pl.Date, pl.Datetime):
        if getattr(series.dtype, "time_zone", None):
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return series.cast(pl.Datetime("us"), strict=False)
    if kind == pl.Duration:
        return series.dt.total_microseconds().cast(pl.Float64) / _DAY
    if kind == pl.Time:
        return series.cast(pl.Int64).cast(pl.Float64) / (1000 * _DAY)
    if kind == pl.Object:
        return tidy(series_of(series.name, series.to_list()), missing)
    if kind in (pl.String, pl.Categorical, pl.Enum):
        texts = series.cast(pl.String).str.strip_chars()
        return texts.set(texts.is_in(list(missing)) | (texts == ""), None)
    raise DataError(
        f"column {series.name!r}: one number, text, truth value or date a row was expected, it holds {kind}; "
        "make one column of each part, or drop the column"
    )


def parse_numbers(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A tidied column as Float64, and a mask of the values that are no numbers."""
    import polars as pl

    if column.dtype == pl.Datetime:
        nothing = pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))
        return nothing, column.is_not_null()
    found = column.cast(pl.Float64, strict=False).fill_nan(None)
    return found, column.is_not_null() & found.is_null()


def parse_booleans(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A tidied column as Boolean, and a mask of the values that are neither true nor false."""
    import polars as pl

    if column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Boolean), column.is_null() & False
    words = to_text(column).str.to_lowercase()
    found = words.replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
    return found, column.is_not_null() & found.is_null()


def parse_instants(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A tidied column as Datetime (UTC), and a mask of the values that are no ISO 8601 dates."""
    import polars as pl

    if column.dtype == pl.Datetime:
        return column, column.is_null() & False
    if column.dtype == pl.String:
        texts = column.str.replace(" ", "T", literal=True)
        plain = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
        instants = [texts.str.to_datetime(form, strict=False, time_unit="us") for form in plain]
        zoned = texts.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", strict=False, time_unit="us")
        instants.append(zoned.dt.replace_time_zone(None))
        found = pl.select(pl.coalesce(instants)).to_series().alias(column.name)
    else:
        found = pl.Series(column.name, [None], dtype=pl.Datetime("us")).new_from_index(0, len(column))
    return found, column.is_not_null() & found.is_null()


def parse_dates(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """A tidied column as days since 1970-01-01 (UTC), and a mask of the values that are no ISO 8601 dates."""
    import polars as pl

    instants, bad = parse_instants(column)
    return instants.cast(pl.Int64).cast(pl.Float64) / _DAY, bad


def to_text(column: pl.Series) -> pl.Series:
    """A tidied column as texts; 3 and 3.0 are both ``"3"``."""
    import polars as pl

    texts = column.cast(pl.String)
    return texts.str.replace(r"\.0$", "") if column.dtype == pl.Float64 else texts
