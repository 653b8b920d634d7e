"""Durations: from the cells of a column to days."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descend.data.dates import numbers_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["are_durations_in_words", "is_clear_duration", "parse_durations"]

_SPAN = (
    r"^(?:(?P<days>[+-]?[0-9]+)\s*d(?:ays?)?,?\s*)?(?P<sign>[+-])?(?P<h>[0-9]+)[:h](?P<mi>[0-9]{2})"
    r"(?::(?P<s>[0-9]{2}(?:[.,][0-9]{1,9})?))?$"
)
_AMOUNT = r"([0-9]+(?:[.,][0-9]+)?)"
_SIGNED = r"([+-]?[0-9]+(?:[.,][0-9]+)?)"
_ISO_SPAN = (
    rf"^(?P<sign>[+-])?p(?:{_SIGNED}w)?(?:{_SIGNED}d)?(?:t(?:{_SIGNED}h)?(?:{_SIGNED}m)?(?:{_SIGNED}s)?)?$"
)
_WORD_SPAN = (
    rf"^(?P<sign>[+-])?\s*(?:{_AMOUNT}\s*w(?:eeks?)?)?,?\s*(?:{_AMOUNT}\s*d(?:ays?)?)?,?\s*"
    rf"(?:{_AMOUNT}\s*h(?:(?:ou)?rs?)?)?,?\s*(?:{_AMOUNT}\s*m(?:in(?:ute)?s?)?)?,?\s*"
    rf"(?:{_AMOUNT}\s*s(?:ec(?:ond)?s?)?)?$"
)
_TWO_UNITS = r"\d\s*[a-z]+,?\s*\d"


def parse_durations(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Parse a tidied column as durations in days; also return a mask of the values that are not durations.

    Args:
        column: strings such as ``36:15`` (hours and minutes), ``2 days 03:00:00``, ``1h 30min`` and ``P2DT3H``; or
            numbers, which are days.

    >>> import polars as pl
    >>> parse_durations(pl.Series(["36:00", "1 day, 12:00:00", "PT36H", "36 h"]))[0].to_list()
    [1.5, 1.5, 1.5, 1.5]
    """
    import polars as pl

    if column.dtype != pl.String:
        days = numbers_of(column)
        return days, column.is_not_null() & days.is_null()
    strings = column.str.to_lowercase()
    clock = strings.str.extract_groups(_SPAN).struct.unnest()
    amounts = [strings.str.extract_groups(pattern).struct.unnest() for pattern in (_ISO_SPAN, _WORD_SPAN)]
    days = (
        pl.select(pl.coalesce([_of_clock(clock), *map(_of_amounts, amounts)])).to_series().alias(column.name)
    )
    return days, column.is_not_null() & days.is_null()


def is_clear_duration(strings: pl.Series) -> pl.Series:
    """Return a mask of strings that are durations without a doubt: ``36:15``, ``2 days 03:00:00``, ``P2DT3H``."""
    lowercase = strings.str.to_lowercase()
    iso = lowercase.str.contains(_ISO_SPAN) & lowercase.str.contains(r"\d")
    return lowercase.str.contains(_SPAN) | iso


def are_durations_in_words(strings: pl.Series) -> bool:
    """Return whether all strings are durations such as ``1h 30min`` and ``45 min``, and some have two units.

    >>> import polars as pl
    >>> are_durations_in_words(pl.Series(["1h 30m", "2h"])), are_durations_in_words(pl.Series(["2 m", "3 m"]))
    (True, False)
    """
    lowercase = strings.drop_nulls().str.to_lowercase()
    spans = lowercase.str.contains(_WORD_SPAN) & lowercase.str.contains(r"\d")
    return bool(spans.all() and lowercase.str.contains(_TWO_UNITS).any())


def _of_clock(groups: pl.DataFrame) -> pl.Series:
    import polars as pl

    def number(name: str) -> pl.Expr:
        return pl.col(name).str.replace(",", ".", literal=True).cast(pl.Float64).fill_null(0)

    sign = pl.when(pl.col("sign") == "-").then(-1).otherwise(1)
    clock = number("h") * 3600 + number("mi") * 60 + number("s")
    exists = pl.col("h").is_not_null() & (number("mi") < 60) & (number("s") < 60)
    return groups.select(pl.when(exists).then(number("days") + sign * clock / 86_400)).to_series()


def _of_amounts(groups: pl.DataFrame) -> pl.Series:
    """Return the days of an optional sign and the numbers of weeks, days, hours, minutes and seconds."""
    import polars as pl

    sign = pl.when(pl.col("sign") == "-").then(-1).otherwise(1)
    names = [name for name in groups.columns if name != "sign"]
    amounts = [pl.col(name).str.replace(",", ".", literal=True).cast(pl.Float64) for name in names]
    seconds = pl.sum_horizontal(
        [
            amount.fill_null(0) * size
            for amount, size in zip(amounts, (604_800, 86_400, 3600, 60, 1), strict=True)
        ]
    )
    exists = pl.any_horizontal([pl.col(name).is_not_null() for name in names])
    return groups.select(pl.when(exists).then(sign * seconds / 86_400)).to_series()
