"""Parsing of raw column values as numbers, booleans, dates or strings."""

from __future__ import annotations

import datetime as dt
import decimal
import numbers
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.arguments import kind_of
from descend.data.binary_columns import decoded, text_of_bytes
from descend.data.missing_dates import without_missing_dates
from descend.data.missing_numbers import without_missing_numbers
from descend.data.number_format import Mark, parse
from descend.data.number_format import integers as integers_of
from descend.data.row_numbers import named_rows
from descend.data.settings import Missing, missing_in
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "EXACT", "float_strings", "in_zone", "is_missing", "large_integers", "parse_booleans", "parse_numbers",
    "series_of", "tidy", "to_strings",
]  # fmt: skip

EXACT = 2**53
"""Largest magnitude up to which a double-precision number represents every integer."""
_SIGNIFICANT = 15  # decimal digits that a double-precision number always keeps

_DAY = 86_400_000_000  # microseconds
_BOOLEANS = {"true": True, "t": True, "yes": True, "y": True, "1": True, "1.0": True,
          "false": False, "f": False, "no": False, "n": False, "0": False, "0.0": False}  # fmt: skip


def is_missing(value: object) -> bool:
    """Return whether a Python value is missing: None, NaN, NaT or pandas' NA.

    >>> [is_missing(value) for value in (None, float("nan"), 0, "")]
    [True, True, False, False]
    """
    if value is None:
        return True
    if type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    return isinstance(value, numbers.Real) and bool(value != value)


def series_of(name: str, values: Iterable[Any]) -> pl.Series:
    """Return a column of Python values: integers, numbers, booleans, dates or strings, with None for missing values.

    Numbers mixed with strings become strings, so that nothing is lost before the column's kind is inferred. Decimal
    numbers without decimals are integers, as those of a data frame with a scale of 0. Integers beyond 2^53 stay integers,
    and become strings in a column that also has fractions.

    Raises:
        DataError: a value is a list, an array or another structure.
    """
    import polars as pl

    clean = [None if is_missing(value) else value for value in values]
    if (lists := _label_lists(name, clean)) is not None:
        return lists
    kinds = {_family(value) for value in clean if value is not None}
    if None in kinds:
        if any(hasattr(value, "as_py") for value in clean):  # scalars of Arrow
            return series_of(name, [getattr(value, "as_py", lambda value=value: value)() for value in clean])
        row, odd = next((i, v) for i, v in enumerate(clean) if v is not None and _family(v) is None)
        raise DataError(
            f"column {name!r}: expected a number, string, boolean or date in each row, "
            f"but {named_rows([row])} holds {kind_of(odd)}; split it into one column per part, or drop the column"
        )
    if not kinds:
        return pl.Series(name, clean, dtype=pl.Null)
    if kinds == {"boolean"}:
        return pl.Series(name, [None if value is None else bool(value) for value in clean], dtype=pl.Boolean)
    if kinds == {"number"} and all(_is_written_as_integer(value) for value in clean if value is not None):
        integers = [None if value is None else int(value) for value in clean]
        largest = max(abs(value) for value in integers if value is not None)
        if largest < 2**127:
            return pl.Series(name, integers, dtype=pl.Int64 if largest < 2**63 else pl.Int128)
    if kinds <= {"number", "boolean"}:
        try:
            floats = [None if value is None else float(value) for value in clean]
        except OverflowError as cause:
            raise DataError(
                f"column {name!r}: an integer is too large for a floating-point number"
            ) from cause
        if all(_fits_double(value) for value in clean if value is not None):
            return pl.Series(name, floats, dtype=pl.Float64)
        if all(isinstance(value, numbers.Integral) for value in clean if value is not None):
            integers = [None if value is None else int(value) for value in clean]
            if all(abs(value) < 2**127 for value in integers if value is not None):
                return pl.Series(name, integers, dtype=pl.Int128)
    if kinds == {"date"} and not _is_mixed(clean):
        return _instants(name, clean)
    if kinds == {"time"}:
        return pl.Series(name, clean, dtype=pl.Time)
    if kinds == {"duration"}:
        microseconds = pl.Series(name, [_duration(value) for value in clean], dtype=pl.Int128)
        try:
            return microseconds.cast(pl.Int64).cast(pl.Duration("us"))
        except pl.exceptions.PolarsError as cause:  # beyond 64 bits
            raise DataError(
                f"column {name!r}: a duration is too long to be counted in microseconds"
            ) from cause
    try:
        strings = [None if value is None else _string(value) for value in clean]
    except ValueError as cause:
        raise DataError(f"column {name!r}: {cause}") from cause
    return pl.Series(name, strings, dtype=pl.String)


def _label_lists(name: str, values: Sequence[Any]) -> pl.Series | None:
    """Return lists, tuples or sets of strings or integers, such as the labels of each row, as a column of lists."""
    import polars as pl

    rows = [value for value in values if value is not None]
    if not rows or not all(isinstance(row, list | tuple | set | frozenset) for row in rows):
        return None
    items = [item for row in rows for item in row]
    if not all(isinstance(item, str | int | np.integer) and not isinstance(item, bool) for item in items):
        return None
    are_sets = any(isinstance(row, set | frozenset) for row in rows)
    if (
        items
        and not are_sets
        and all(isinstance(item, int | np.integer) and abs(int(item)) < 2**63 for item in items)
    ):
        return pl.Series(
            name,
            [None if row is None else [int(item) for item in row] for row in values],
            dtype=pl.List(pl.Int64),
        )
    strings = [None if row is None else sorted(map(str, row)) for row in values]
    return pl.Series(name, strings, dtype=pl.List(pl.String))


def _family(value: object) -> str | None:
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, dt.timedelta | np.timedelta64):  # NumPy registers timedelta64 as a number
        return "duration"
    if isinstance(value, numbers.Real | decimal.Decimal):
        return "number"
    if isinstance(value, str | bytes | uuid.UUID):
        return "string"
    if isinstance(value, dt.time) and value.tzinfo is None:
        return "time"
    return "date" if isinstance(value, dt.date | np.datetime64) or type(value).__name__ == "Period" else None


def _is_written_as_integer(value: object) -> bool:
    """Return whether a number is an integer, or a decimal number without decimals, such as ``Decimal("3")``."""
    if isinstance(value, decimal.Decimal):
        return value.is_finite() and int(value.as_tuple().exponent) >= 0
    return isinstance(value, numbers.Integral)


def _fits_double(value: Any) -> bool:
    """Return whether a number keeps its value, or all of its decimal digits, in double precision."""
    if isinstance(value, numbers.Integral):
        return abs(int(value)) <= EXACT
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return len(value.normalize().as_tuple().digits) <= _SIGNIFICANT
    return True


def _string(value: object) -> str:
    if isinstance(value, bytes):
        value = text_of_bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be encoded in UTF-8
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, decimal.Decimal) and value.is_finite():
        digits = format(value, "f")
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    return str(value)


def _is_mixed(values: Sequence[Any]) -> bool:
    """Return whether some instants have a time zone and others have none; they become strings."""
    return len({_has_zone(value) for value in values if value is not None}) > 1


def _has_zone(value: Any) -> bool:
    return isinstance(value, dt.datetime) and value.utcoffset() is not None


def _instants(name: str, values: Sequence[Any]) -> pl.Series:
    """Return dates and times as microseconds since 1970-01-01, in the time zone that all of them have, or else in UTC."""
    import polars as pl

    microseconds = [None if value is None else _microseconds(value) for value in values]
    present = [value for value in values if value is not None]
    if not _has_zone(present[0]):
        return pl.Series(name, microseconds, dtype=pl.Datetime("us"))
    series = pl.Series(name, microseconds, dtype=pl.Datetime("us", "UTC"))
    zones = {getattr(value.tzinfo, "key", None) or getattr(value.tzinfo, "zone", None) for value in present}
    zone = zones.pop()
    return in_zone(series, zone) if zone and not zones else series


def in_zone(series: pl.Series, zone: str) -> pl.Series:
    """Convert instants to a time zone; those of an unknown zone, or an offset such as UTC+01:00, stay in UTC."""
    import polars as pl

    try:
        return series.dt.convert_time_zone(zone)
    except pl.exceptions.PolarsError:
        return series


def _microseconds(value: Any) -> int:
    if type(value).__name__ == "Period":
        value = value.to_timestamp()
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64))
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    zoned = value if _has_zone(value) else value.replace(tzinfo=dt.UTC)
    return int((zoned - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1))


def _duration(value: Any) -> int | None:
    """Return the microseconds of a duration."""
    if isinstance(value, np.timedelta64):
        return int(value.astype("timedelta64[us]").astype(np.int64))
    return None if value is None else (86_400 * value.days + value.seconds) * 10**6 + value.microseconds


def tidy(series: pl.Series, missing: Missing) -> pl.Series:
    """Convert a column to Null, Boolean, Float64, Datetime or stripped String, with nulls for missing values.

    Instants with a time zone are converted to UTC and keep this zone.

    A column with integers beyond 2^53, which Float64 would merge, becomes Int128. Decimal numbers with more digits
    than Float64 keeps become strings.

    Args:
        series: the raw column.
        missing: strings that stand for a missing value, in all columns or by the name of the column.

    Raises:
        DataError: the column holds lists, structures, binary data or values of another type.
    """
    import polars as pl

    series = decoded(series)
    if series.dtype.is_numeric():
        series = without_missing_numbers(series, missing)
    kind = series.dtype
    if kind in (pl.Null, pl.Boolean):
        return series
    if kind.is_integer() and _beyond(series, EXACT):
        integers = series.cast(pl.Int128, strict=False)
        return integers if integers.null_count() == series.null_count() else series.cast(pl.String)
    if kind.is_decimal() and _beyond(series, 10 ** (_SIGNIFICANT - (getattr(kind, "scale", None) or 0))):
        digits = series.cast(pl.String)
        return digits.str.replace(r"(\.\d*?)0+$", "${1}").str.replace(r"\.$", "")
    if kind.is_numeric():
        floats = series.cast(pl.Float64, strict=False)
        return _without_nan(floats) if kind.is_float() else floats
    if kind in (pl.Date, pl.Datetime):
        zone = "UTC" if getattr(series.dtype, "time_zone", None) else None
        return without_missing_dates(series.cast(pl.Datetime("us", zone), strict=False), missing)
    if kind == pl.Duration:
        return series.dt.total_microseconds().cast(pl.Float64) / _DAY
    if kind == pl.Time:
        return series.cast(pl.Int64).cast(pl.Float64) / (1000 * _DAY)
    if kind == pl.Object:
        return tidy(series_of(series.name, series.to_list()), missing)
    if kind in (pl.String, pl.Categorical, pl.Enum):
        strings = series.cast(pl.String).str.strip_chars()
        return strings.set(strings.is_in(list(missing_in(missing, series.name))) | (strings == ""), None)
    raise DataError(
        f"column {series.name!r}: expected one number, string, boolean or date per row, got {kind}; "
        "split it into one column per part, or drop the column"
    )


def _without_nan(floats: pl.Series) -> pl.Series:
    """Replace NaN by missing values. Unlike ``fill_nan``, this needs no threads, which do not exist after a fork."""
    absent = floats.is_nan()
    return floats.set(absent, None) if absent.any() else floats


def _beyond(series: pl.Series, bound: float) -> bool:
    low, high = series.min(), series.max()
    return low is not None and bool(low < -bound or high > bound)  # type: ignore[operator]  # numbers


def large_integers(column: pl.Series, decimal: Mark = "point") -> pl.Series | None:
    """Return a tidied column as Int128 if all its values are integers and some are beyond 2^53, or else None.

    Args:
        column: the column.
        decimal: the decimal mark of strings.
    """
    import polars as pl

    if column.dtype == pl.String:
        found = integers_of(column, decimal)
        return None if found is None or not _beyond(found, EXACT) else found.cast(pl.Int128)
    return column if column.dtype == pl.Int128 else None


def parse_numbers(
    column: pl.Series, decimal: Mark = "point", unit: str | None = None
) -> tuple[pl.Series, pl.Series]:
    """Parse a tidied column as Float64; also return a mask of the values that are not numbers.

    Args:
        column: the column.
        decimal: the decimal mark of strings.
        unit: the unit of strings, see :func:`descend.data.number_format.parse`.
    """
    import polars as pl

    if column.dtype == pl.String:
        return parse(column, decimal, unit)[:2]
    if column.dtype == pl.Datetime:
        nulls = pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))
        return nulls, column.is_not_null()
    parsed = _without_nan(column.cast(pl.Float64, strict=False))
    return parsed, column.is_not_null() & parsed.is_null()


def parse_booleans(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Parse a tidied column as Boolean; also return a mask of the values that are neither true nor false."""
    import polars as pl

    if column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Boolean), column.is_null() & False
    lowercase = to_strings(column).str.to_lowercase()
    parsed = lowercase.replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)
    return parsed, column.is_not_null() & parsed.is_null()


def float_strings(column: pl.Series) -> pl.Series:
    """Return floating-point numbers as strings, in one form: older versions of polars write 1e22.

    >>> import polars as pl
    >>> float_strings(pl.Series([0.5, 1e22, 1e-7])).to_list()
    ['0.5', '1e+22', '1e-7']
    """
    import polars as pl

    return column.cast(pl.String).str.replace(r"e(\d)", "e+${1}")


def to_strings(column: pl.Series) -> pl.Series:
    """Convert a tidied column to strings; 3 and 3.0 both become ``"3"``, and 1e18 becomes its 19 digits.

    A number of single precision becomes the digits that single precision needs.
    """
    import polars as pl

    if column.dtype == pl.Datetime and getattr(column.dtype, "time_zone", None):
        column = column.dt.replace_time_zone(None)
    if column.dtype != pl.Float64:
        return column.cast(pl.String)
    strings = float_strings(column)
    single = column.cast(pl.Float32)
    short = (single.cast(pl.Float64) == column) & (column != column.round()) & (column.abs() > 1e-30)
    if short.any():  # 0.1 in single precision, whose value in double precision is 0.10000000149011612
        strings = float_strings(single).zip_with(short.fill_null(False), strings)
    strings = strings.str.replace(r"\.0$", "").str.replace("^-0$", "0")
    magnitude = column.abs()
    large = ((magnitude > EXACT) & (magnitude < 2.0**126)).fill_null(False)
    if not large.any():
        return strings
    return column.cast(pl.Int128, strict=False).cast(pl.String).zip_with(large, strings)
