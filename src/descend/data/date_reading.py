"""How the dates of a column are read, decided from all of its cells and stored in the schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from descend.data.dates import (
    DAY,
    EXCEL,
    LOOSE,
    ORDERS,
    OWN,
    PLAIN,
    UNITS,
    Cells,
    parse_cells,
    parse_dates,
    parse_instants,
    parse_times,
)
from descend.data.durations import are_durations_in_words, is_clear_duration, parse_durations
from descend.data.identifiers import is_key_name
from descend.data.messages import listed, rows_hold
from descend.errors import DataError, did_you_mean
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CYCLES",
    "KINDS",
    "NUMBER",
    "Reading",
    "date_option",
    "declared_reading",
    "expected_values",
    "find_reading",
    "find_reading_of_instants",
    "find_reading_of_numbers",
    "parse",
]

Kind = Literal["date", "time", "duration"]
KINDS = ("date", "time", "duration")
NUMBER = "number"
"""The part of a date or time that is the number itself: the days since 1970-01-01, or the fraction of a day."""
_TIME_CYCLES = ("second", "minute", "hour")
CYCLES = (*_TIME_CYCLES, "weekday", "day_of_month", "month", "day_of_year")
"""Cyclic parts of a date, in the order of the inputs; the first three are those of a time of day."""

_MOSTLY = 0.8  # share of dates above which the other values of a column are taken for mistakes
_SAMPLE = 64  # values that decide whether all are examined
_FEWEST_QUARTERS = 5  # different quarters of a year that are dates
_FIRST, _LAST = 1700, 2200  # years of dates that are written as numbers
_FEW = {8: 3, 12: 3, 14: 3, 6: 12}
"""Numbers of different values from which numbers of that many digits are dates if all of them are valid."""


@dataclass(frozen=True)
class Reading:
    """How a column of dates, times of day or durations is read.

    Args:
        kind: ``date``, ``time`` or ``duration``.
        parsed: the days of each row, null where a value is missing or invalid.
        invalid: the mask of the values that are neither missing nor of this kind.
        form, zone: see :func:`descend.data.dates.parse_instants`.
        note: a remark for the user.
        parts: the declared parts that become inputs; none for those that vary in the training rows.
    """

    kind: Kind
    parsed: pl.Series
    invalid: pl.Series
    form: str = ""
    zone: str = ""
    note: str = ""
    parts: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """The values in a message."""
        return {"date": "dates", "time": "times of day", "duration": "durations"}[self.kind]

    @property
    def possible_parts(self) -> tuple[str, ...]:
        """The parts of this kind."""
        return () if self.kind == "duration" else (NUMBER, *_cycles(self.kind))


def _cycles(kind: Kind) -> tuple[str, ...]:
    return _TIME_CYCLES if kind == "time" else CYCLES


def date_option(name: str, **settings: str) -> str:
    """Return how to declare the way in which the dates of a column are read, for a message.

    >>> date_option("sold", format="day-first")
    "{'data.columns.sold': {'kind': 'date', 'format': 'day-first'}}"
    """
    return setting(("data", "columns", name), {"kind": "date", **settings})


def find_reading(values: pl.Series) -> Reading | None:
    """Return how strings are read as dates, times of day or durations; None if most of them are none of these.

    The values that are not of this kind, at most a fifth of all, are marked.

    Args:
        values: a tidied column of strings.

    Raises:
        DataError: some instants have a time zone and others have none; or the order of day and month differs between
            the rows, or cannot be decided.
    """
    present = values.drop_nulls()
    sample = present.gather_every(max(1, len(present) // _SAMPLE))
    if _share(parse_cells(sample).form.is_not_null()) > 0.5:
        found = _dates(values)
        if found is not None:
            return found
    if are_durations_in_words(sample) and are_durations_in_words(values):
        days, invalid = parse_durations(values)
        return Reading("duration", days, invalid, note="durations, in days")
    if max(_share(~parse_times(sample)[1]), _share(is_clear_duration(sample))) <= 0.5:
        return None
    times, not_times = parse_times(values)
    if not not_times.any():
        return Reading("time", times, not_times)
    if (is_clear_duration(values) | values.is_null()).all():
        days, invalid = parse_durations(values)
        return Reading("duration", days, invalid, note="durations, in days")
    return Reading("time", times, not_times) if _few(not_times, len(present)) else None


def _share(mask: pl.Series) -> float:
    return float(mask.mean() or 0.0)  # type: ignore[arg-type]  # of booleans


def _few(invalid: pl.Series, present: int) -> bool:
    return int(invalid.sum()) <= (1 - _MOSTLY) * present


def _dates(values: pl.Series) -> Reading | None:
    cells = parse_cells(values)
    present = values.is_not_null()
    order, note = _order(values, cells)
    instants, offset = cells.instants(order)
    invalid = present & instants.is_null()
    loose = cells.form.is_in(list(LOOSE)).fill_null(False)
    if loose.any() and invalid.any():
        invalid |= loose & instants.is_not_null()
    if (loose.all() and not _are_dates_in_digits(values, cells)) or _are_few_quarters(values):
        return None
    if not _few(invalid, int(present.sum())):
        return None
    zone, zone_note = _zone(values.set(invalid, None), offset.is_not_null() & ~invalid)
    parsed, _ = parse_instants(values.set(invalid, None), order, zone)
    short = "two-digit years are 1969 to 2068" if (cells.form == "short").any() else ""
    return Reading(
        "date", _days(parsed), invalid, order, zone, "; ".join(one for one in (note, short, zone_note) if one)
    )


def _are_dates_in_digits(values: pl.Series, cells: Cells) -> bool:
    """Return whether strings of digits are dates; strings of other forms are."""
    if not (cells.form == "digits").any():
        return True
    return _enough(values.cast(float, strict=False)) and not is_key_name(values.name)


def _are_few_quarters(values: pl.Series) -> bool:
    """Return whether strings are quarters or halves of one year or so, which are rather categories than dates."""
    labels = values.drop_nulls().str.contains(r"(?i)(^|[0-9\s/-])([qh][1-4]|[1-4]q)($|[0-9\s/'’-])")
    return bool(labels.all()) and values.n_unique() < _FEWEST_QUARTERS


def _days(instants: pl.Series) -> pl.Series:
    import polars as pl

    return instants.cast(pl.Int64).cast(pl.Float64) / DAY


def _order(values: pl.Series, cells: Cells) -> tuple[str, str]:
    """Return the order of dates in three numbers, ``""`` if there are none, and a note if the cells do not decide it."""
    numbers = cells.form.is_in(["numbers", "short"]).fill_null(False)
    if not numbers.any():
        return "", ""
    p, q = cells.parts["p"], cells.parts["q"]
    signs = {
        "day-first": numbers & (p > 12) & (p <= 31) & (q <= 12),
        "month-first": numbers & (q > 12) & (q <= 31) & (p <= 12),
        "year-first": (cells.form == "short") & (p > 31) & (q <= 12),
    }
    seen = {order: rows.fill_null(False) for order, rows in signs.items() if rows.any()}
    if len(seen) > 1:
        found = "; ".join(
            f"{rows_hold(np.flatnonzero(rows.to_numpy())[:1])} {listed(values.filter(rows).head(1).to_list())} ({order})"
            for order, rows in seen.items()
        )
        raise DataError(
            f"column {values.name!r}: the dates have different orders of day and month: {found}; write all in one "
            f"order, such as 2026-01-31, or declare it: {date_option(values.name, format=next(iter(seen)))}"
        )
    if seen:
        return next(iter(seen)), ""
    dotted = values.filter(numbers).str.contains(r"^\D*\d+\.").all()
    if dotted or values.filter(numbers).n_unique() == 1:
        other = date_option(values.name, format="month-first")
        return "day-first", f"dates are read with the day first; {other} reads the month first"
    raise DataError(
        f"column {values.name!r}: the first number of each date may be the day or the month "
        f"({listed(values.filter(numbers).unique(maintain_order=True).head(3).to_list())}); declare the order: "
        f"{date_option(values.name, format='day-first')} or {date_option(values.name, format='month-first')}"
    )


def _zone(values: pl.Series, zoned: pl.Series) -> tuple[str, str]:
    """Return the zone of the instants and a note; all or none of them must have a time zone."""
    plain = values.is_not_null() & ~zoned
    if not zoned.any():
        return PLAIN, ""
    if plain.any():
        more, fewer, what = (
            (zoned, plain, "without") if zoned.sum() >= plain.sum() else (plain, zoned, "with")
        )
        raise DataError(
            f"column {values.name!r}: {int(more.sum())} instants have {'a' if what == 'without' else 'no'} time zone "
            f"({listed(values.filter(more).head(1).to_list())}), but {rows_hold(np.flatnonzero(fewer.to_numpy()))} "
            f"{listed(values.filter(fewer).unique(maintain_order=True).to_list(), 3)} {what} one; write all in one way, "
            f"or name the zone of those without: {date_option(values.name, zone='UTC')}"
        )
    utc = values.drop_nulls().str.contains(r"(?i)(z|utc|gmt|[+-]00(:?00)?)$").all()
    return OWN, "" if utc else _converted(values.name, "Europe/Paris")


def _converted(name: str, zone: str) -> str:
    return f"instants are converted to UTC; {date_option(name, zone=zone)} reads them in a local time"


def find_reading_of_instants(values: pl.Series, zone: str | None) -> Reading:
    """Return how a column of instants is read.

    Args:
        values: a tidied column.
        zone: the time zone of the raw column, or None.
    """
    own = OWN if getattr(values.dtype, "time_zone", None) is not None else PLAIN
    parsed, invalid = parse_instants(values, "", own)
    note = "" if own == PLAIN or zone in (None, "UTC", "Etc/UTC") else _converted(values.name, str(zone))
    return Reading("date", _days(parsed), invalid, "", own, note)


def find_reading_of_numbers(values: pl.Series) -> Reading | None:
    """Return how numbers such as 20260131 are read as dates; None if some of them are no dates.

    Dates have 8 digits (year, month, day), 6 without the day, or 12 or 14 with a time of day. There must be three
    different ones from 1700 to 2200, or twelve of 6 digits.

    Args:
        values: a tidied column of numbers.
    """
    if is_key_name(values.name) or not _enough(values):
        return None
    parsed, invalid = parse_instants(values, "", PLAIN)
    if invalid.any():
        return None
    shown = listed([int(values.drop_nulls()[0])])
    keep = setting(("data", "columns", values.name), "numeric")
    note = f"numbers such as {shown} are read as dates; {keep} keeps the numbers"
    return Reading("date", _days(parsed), invalid, "", PLAIN, note)


def _enough(values: pl.Series) -> bool:
    """Return whether all numbers have the same number of digits, begin with a year, and differ enough."""
    present = values.drop_nulls()
    if len(present) == 0:
        return False
    low, high = float(present.min()), float(present.max())  # type: ignore[arg-type]  # of a numeric series
    if not (low >= 1 and high < 1e15):
        return False
    digits = len(f"{low:.0f}")
    unit = 10.0 ** (digits - 4)
    if digits not in _FEW or low < _FIRST * unit or high >= (_LAST + 1) * unit:
        return False
    return present.n_unique() >= _FEW[digits]


def parse(values: pl.Series, kind: Kind, form: str, zone: str) -> tuple[pl.Series, pl.Series]:
    """Parse a tidied column of a kind in days; also return a mask of the values that are not of this kind."""
    if kind == "date":
        return parse_dates(values, form, zone)
    return parse_times(values, form) if kind == "time" else parse_durations(values)


def expected_values(kind: Kind, form: str = "", zone: str = "", invalid: pl.Series | None = None) -> str:
    """Return what a column expects, for a message.

    Args:
        kind: the kind of the column.
        form: how its cells are read, see :func:`descend.data.dates.parse_instants`.
        zone: likewise.
        invalid: the values that are not as expected, or None.

    >>> expected_values("date", "day-first"), expected_values("time")
    ('dates such as 31/01/2026', 'times of day such as 14:30')
    """
    if "%" in form:
        what = f"{'dates' if kind == 'date' else 'times of day'} of the form {form}"
    elif form in UNITS:
        what = (
            "days since 1899-12-30, as in Excel" if form == EXCEL else f"numbers of {form} since 1970-01-01"
        )
    elif kind == "date":
        example = {"day-first": "31/01/2026", "month-first": "01/31/2026", "year-first": "26/01/31"}
        what = f"dates such as {example.get(form, '2026-01-31')}"
    else:
        what = {"time": "times of day such as 14:30", "duration": "durations such as 1 day 12:30:00"}[kind]
    zones = {PLAIN: " without a time zone", OWN: " with a time zone, such as Z or +01:00"}
    if kind == "date" and invalid is not None and len(invalid) and not parse_dates(invalid, form)[1].all():
        what += zones.get(zone, "")
    return what


def declared_reading(values: pl.Series, choice: str | Mapping[str, Any]) -> Reading:
    """Return how a column is read whose kind the user declares; what is not declared is decided from the cells.

    Args:
        values: a tidied column.
        choice: ``date``, ``time`` or ``duration``; or a table of ``kind``, ``parts``, ``format`` and ``zone``.

    Raises:
        DataError: the settings are unknown, or do not suffice to read the column.
    """
    import polars as pl

    kind, form, zone, parts = _checked(values.name, choice)
    note = ""
    if kind == "date" and values.dtype == pl.String and "%" not in form and form not in UNITS:
        cells = parse_cells(values)
        if not form:
            form, note = _order(values, cells)
        instants, offset = cells.instants(form)
        if not zone:
            known = instants.is_not_null()
            zone, zone_note = _zone(values.set(~known, None), known & offset.is_not_null())
            note = "; ".join(one for one in (note, zone_note) if one)
    elif kind == "date" and not zone:
        zoned = getattr(values.dtype, "time_zone", None) is not None or "%z" in form
        zone = OWN if zoned else PLAIN
    parsed, invalid = parse(values, kind, form, zone)
    return Reading(kind, parsed, invalid, form, zone, note, parts)


def _checked(name: str, choice: str | Mapping[str, Any]) -> tuple[Kind, str, str, tuple[str, ...]]:
    """Return kind, format, zone and parts of a declaration."""
    if isinstance(choice, str):
        return choice, "", "", ()  # type: ignore[return-value]  # one of KINDS
    where, kind = f"data.columns.{name}", choice["kind"]
    keys = {"date": ("parts", "format", "zone"), "time": ("parts", "format"), "duration": ()}[kind]
    for key in choice:
        if key not in ("kind", *keys):
            raise DataError(
                f"{where}: no setting {key!r} of the kind {kind!r}; {did_you_mean(key, ('kind', *keys))}"
            )
    form, zone = choice.get("format", ""), choice.get("zone", "")
    forms = [*ORDERS, *UNITS] if kind == "date" else []
    if not isinstance(form, str) or (form and form not in forms and "%" not in form):
        hint = f"{did_you_mean(str(form), forms)}, or " if forms else ""
        raise DataError(f"{where}: unknown format {form!r}; {hint}a pattern such as '%d.%m.%Y %H:%M'")
    if zone and not (isinstance(zone, str) and _exists(zone)):
        raise DataError(f"{where}: no time zone {zone!r}; expected a name such as 'UTC' or 'Europe/Paris'")
    parts = choice.get("parts", ())
    parts = (parts,) if isinstance(parts, str) else tuple(parts)
    possible = (NUMBER, *(_TIME_CYCLES if kind == "time" else CYCLES))
    for part in parts:
        if part not in possible:
            raise DataError(f"{where}: no part {part!r}; {did_you_mean(str(part), possible)}")
    if "parts" in choice and not parts:
        raise DataError(f"{where}: expected at least one part, of {', '.join(possible)}")
    return kind, form, zone, tuple(part for part in possible if part in parts)


def _exists(zone: str) -> bool:
    import polars as pl

    try:
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    except pl.exceptions.PolarsError:
        return False
    return True
