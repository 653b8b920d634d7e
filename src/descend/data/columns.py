"""Kinds of columns, inferred from all values of a column or declared by the user."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from descend.data.column import STRICT, Column, ColumnKind
from descend.data.date_notes import distant_dates_note, numbers_note, unread_dates_note
from descend.data.date_reading import KINDS as DATE_KINDS
from descend.data.date_reading import (
    Reading,
    declared_reading,
    expected_values,
    find_reading,
    find_reading_of_instants,
    find_reading_of_numbers,
)
from descend.data.declared_kinds import checked_kind
from descend.data.gap_words import gap_note
from descend.data.identifiers import ROWS_PER_CATEGORY, identifies_rows, ranks, string_role
from descend.data.large_integers import refuse_too_close
from descend.data.messages import listed, raise_all, rows_hold
from descend.data.missing_numbers import without_missing_numbers
from descend.data.number_format import CODE, has_codes, parse
from descend.data.ordered import order_of, ordered_strings
from descend.data.parsing import (
    parse_booleans,
    parse_numbers,
    series_of,
    tidy,
    to_strings,
)
from descend.data.quantities import shown_quantities
from descend.data.settings import DataSettings, missing_in
from descend.data.streaming import StoredTable
from descend.data.string_kinds import kind_option, mark_of, mixed, parse_strings
from descend.data.text_cells import gap_setting, table_decimal
from descend.data.unknown_units import unread_numbers_note
from descend.errors import DataError, InvalidRowsError, did_you_mean
from descend.interface import option

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "FARTHEST",
    "LARGEST",
    "STRICT",
    "Column",
    "infer",
    "kind_option",
    "refuse",
    "refuse_extreme",
]

LARGEST = 1e150
"""Largest magnitude of a number: squares of larger numbers overflow."""
FARTHEST = 1e37
"""Largest distance from the mean in standard deviations: single precision overflows beyond 3e38."""


def infer(
    frame: pl.DataFrame | StoredTable, settings: DataSettings, *, keep_constant: bool = False
) -> tuple[list[Column], pl.DataFrame]:
    """Infer the kind of every column, and parse the values of the used columns.

    Kinds are numbers (also as strings), ``true`` / ``false``, dates (also as ISO 8601 strings), and other strings as
    categories. A column with a single value, or with no values, or that only identifies the rows
    (:mod:`descend.data.identifiers`), is not used and gets a note. If no other column is left, a column that counts the
    rows is used.

    Args:
        frame: the raw features.
        settings: ``columns`` declares kinds instead of inferring them; ``missing`` lists the strings that stand
            for a missing value.
        keep_constant: whether to use constant numeric columns too, such as the black corner pixels of images.

    Returns: a :class:`Column` for every column of the frame, not fitted yet; and a frame of the used
        columns: Float64 for numbers and days, Boolean, String for categories. The frame has no rows if the
        table is not in memory.

    Raises:
        DataError: some columns cannot be used; the message lists all of them, each with the remedies.
    """
    import polars as pl

    problems = []
    for name in settings.columns:
        if name not in frame.columns:
            problems.append(f"data.columns: no column {name!r}; {did_you_mean(name, frame.columns)}")
    if settings.decimal == "auto":
        settings = dataclasses.replace(settings, decimal=table_decimal(frame, settings))
    columns: list[Column] = []
    parsed: list[pl.Series] = []
    for series in frame:
        try:
            column, values = _infer_one(series, settings, keep_constant)
        except DataError as problem:
            problems.append(str(problem))
            continue
        columns.append(column)
        if values is not None:
            keep = column.kind == "identifier" or not isinstance(frame, StoredTable)
            parsed.append(values if keep else values.clear())
    raise_all(problems)
    for at, values in _counters_to_use(columns, parsed):
        columns[at], numbers = _numeric(parse_numbers(values)[0], "numeric", columns[at].missing, True)
        refuse_too_close(values)
        note = f"looks like a row number; if so: {kind_option(values.name, 'ignore')}"
        columns[at] = dataclasses.replace(columns[at], note=note)
        parsed = [numbers if one.name == values.name and numbers is not None else one for one in parsed]
    used = {column.name for column in columns if column.used}
    stored = isinstance(frame, StoredTable)
    parsed = [values.clear() if stored else values for values in parsed if values.name in used]
    if not parsed:
        facts = "; ".join(f"{column.name}: {column.note or column.kind}" for column in columns[:8])
        raise DataError(
            f"no column is left to learn from ({facts or 'the table has only the target column'})"
        )
    return columns, pl.DataFrame(parsed)


def _counters_to_use(columns: Sequence[Column], parsed: Sequence[pl.Series]) -> list[tuple[int, pl.Series]]:
    """Return the position and values of columns that seem to count the rows but are inputs.

    These are all such columns if nothing else is left to learn from, and ranks.

    Args:
        columns: all columns.
        parsed: the values of the used columns, and of the numeric ones that identify the rows.
    """
    at = {column.name: at for at, column in enumerate(columns) if column.kind == "identifier"}
    counters = [values for values in parsed if values.name in at and values.dtype.is_numeric()]
    chosen = ranks(counters)
    if not chosen and not any(column.used for column in columns):
        chosen = set(at)
    return [(at[values.name], values) for values in counters if values.name in chosen]


def _infer_one(
    series: pl.Series, settings: DataSettings, keep_constant: bool
) -> tuple[Column, pl.Series | None]:
    import polars as pl

    name = series.name
    declared = checked_kind(name, settings.columns.get(name))
    if declared == "ignore":
        return Column(name, "ignored", note="ignored (data.columns)"), None
    if series.dtype == pl.Object:
        series = series_of(name, series.to_list())
    choice = settings.columns.get(name)
    order = order_of(series, choice)
    if order is not None:
        return _ordered(ordered_strings(series, order, missing_in(settings.missing, name)), order)
    values = tidy(series, settings.missing)
    missing = values.null_count()
    if missing == len(values):
        return _empty(name, missing)
    if declared in DATE_KINDS and isinstance(choice, str | Mapping):
        reading = declared_reading(values, choice)
        refuse(
            values,
            reading.invalid,
            reading.kind,
            expected_values(reading.kind, reading.form, reading.zone, values.filter(reading.invalid)),
        )
        return _dated(reading, missing, True, distant_dates_note(values, reading.parsed, settings.missing))
    if declared is not None:
        return _declared(values, declared, missing, settings)
    found = _dates_in(series, values, settings)
    if found is not None:
        distant = "" if found.kind != "date" else distant_dates_note(values, found.parsed, settings.missing)
        return _dated(found, missing, keep_constant, distant)
    unit, note = "", ""
    if values.dtype == pl.String:
        if has_codes(values):
            return _codes(values, missing, settings)
        values, unit, note = parse_strings(values, settings)
    if values.dtype == pl.String:
        return _categorical(values, missing, settings)
    if values.dtype.is_numeric():
        values = without_missing_numbers(values, settings.missing)
        missing = values.null_count()
        if missing == len(values):
            return _empty(name, missing)
    if values.dtype == pl.Boolean:
        if missing == 0 and (values.all() or not values.any()):
            return Column(name, "constant", note=f"always {str(values[0]).lower()}; not used"), None
        return Column(name, "boolean", missing=missing), values
    if not keep_constant and identifies_rows(values):
        low, high = int(values.min()), int(values.max())  # type: ignore[arg-type]  # of an integer column
        note = f"a different integer in each row, {low} to {high}, only identifies the row; not used; "
        note += f"{kind_option(name, 'numeric')} keeps it"
        return Column(name, "identifier", missing=missing, note=note), values
    refuse_too_close(values)
    column, numbers = _numeric(parse_numbers(values)[0], "numeric", missing, keep_constant)
    return _with_format(column, unit, "; ".join(one for one in (note, numbers_note(values)) if one)), numbers


def _empty(name: str, missing: int) -> tuple[Column, None]:
    return Column(name, "empty", missing=missing, note="every value is missing; not used"), None


def _with_format(column: Column, unit: str, note: str) -> Column:
    notes = "; ".join(one for one in (column.note, note) if one)
    return dataclasses.replace(column, unit=unit, note=notes) if column.used else column


def _codes(values: pl.Series, missing: int, settings: DataSettings) -> tuple[Column, pl.Series | None]:
    """Return digits with leading zeros as categories, or as numbers with a note if there are too many categories."""
    shown = listed(values.filter(values.str.contains(CODE)).unique(maintain_order=True).to_list(), 1)
    column, strings = _categorical(values, missing, settings)
    if column.used:
        note = f"leading zeros ({shown}): taken for codes; if they are numbers: {kind_option(values.name, 'numeric')}"
        return dataclasses.replace(column, note=note), strings
    numbers, _ = parse_numbers(values, mark_of(settings))
    if identifies_rows(numbers):
        return column, strings
    refuse_too_close(values, mark_of(settings))
    column, parsed = _numeric(numbers, "numeric", missing, keep_constant=False)
    note = f"leading zeros ({shown}) are lost in numbers; if they are codes: {kind_option(values.name, 'categorical')}"
    return _with_format(column, "", note), parsed


def _dates_in(series: pl.Series, values: pl.Series, settings: DataSettings) -> Reading | None:
    """Return the dates, times of day or durations in a column, or None if it has other values.

    Args:
        series: the raw column.
        values: the tidied column.
        settings: the settings of the data.
    """
    import polars as pl

    if values.dtype == pl.Datetime:
        return find_reading_of_instants(values, getattr(series.dtype, "time_zone", None))
    if series.dtype in (pl.Time, pl.Duration):
        kind: Literal["time", "duration"] = "time" if series.dtype == pl.Time else "duration"
        return Reading(kind, values, values.is_null() & False)
    if values.dtype in (pl.Float64, pl.Int128):
        return find_reading_of_numbers(values)
    found = find_reading(values) if values.dtype == pl.String else None
    if found is not None and found.invalid.any():
        raise mixed(values, found.invalid, found.what, settings)
    return found


def _dated(
    reading: Reading, missing: int, keep_constant: bool, distant: str
) -> tuple[Column, pl.Series | None]:
    column, values = _numeric(reading.parsed, reading.kind, missing, keep_constant)
    if not column.used:
        return column, values
    parts = reading.parts or reading.possible_parts
    note = "; ".join(one for one in (reading.note, distant) if one)
    column = dataclasses.replace(column, note=note, form=reading.form, zone=reading.zone, parts=parts)
    return column, values


def _numeric(
    values: pl.Series, kind: Literal["numeric", "date", "time", "duration"], missing: int, keep_constant: bool
) -> tuple[Column, pl.Series | None]:
    refuse_extreme(values)
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]  # of a Float64 series
    if low == high and missing == 0 and not keep_constant:
        note = f"always {shown_quantities(kind, [low])[0]}; not used"
        return Column(values.name, "constant", note=note, low=low, high=high), None
    note = ""
    size = len(values)
    if kind == "numeric" and size >= 20 and high - low == size - 1 and values.is_sorted():
        note = f"looks like a row number; if so: {kind_option(values.name, 'ignore')}"
    return Column(values.name, kind, missing=missing, note=note, low=low, high=high), values


def _categorical(values: pl.Series, missing: int, settings: DataSettings) -> tuple[Column, pl.Series | None]:
    name, present = values.name, len(values) - missing
    distinct = values.drop_nulls().n_unique()
    if distinct == 1 and missing == 0:
        return Column(name, "constant", note=f"always {listed([values[0]])}; not used"), None
    role = string_role(values, settings.max_categories)
    if role == "text":
        return Column(name, "text", missing=missing), values
    unread = unread_numbers_note(values)
    if role != "categorical":
        what, reason = "distinct strings", "only identify the rows"
        if distinct <= 0.9 * present:
            what, reason = "categories", f"leave fewer than {ROWS_PER_CATEGORY} rows per category"
        note = (
            f"{distinct} {what} in {present} rows {reason}; not used; "
            f"{kind_option(name, 'categorical')} keeps the most frequent, {kind_option(name, 'text')} learns from their words"
        )
        unread = unread or unread_dates_note(values)
        note += f"; {unread}" if unread else ""
        return Column(name, "identifier", missing=missing, note=note), None
    note = unread or gap_note(name, values.unique(maintain_order=True).to_list(), settings.missing)
    return Column(name, "categorical", missing=missing, note=note), values


def _ordered(values: pl.Series, order: tuple[str, ...]) -> tuple[Column, pl.Series | None]:
    missing = values.null_count()
    if missing == len(values):
        return _empty(values.name, missing)
    if values.n_unique() == 1:
        return Column(values.name, "constant", note=f"always {listed([values[0]])}; not used"), None
    note = f"ordered: {' < '.join(order)}" if len(order) <= 5 else f"ordered: {order[0]} < ... < {order[-1]}"
    return Column(values.name, "categorical", order, missing=missing, note=note, ordered=True), values


def _declared(
    values: pl.Series, declared: str, missing: int, settings: DataSettings
) -> tuple[Column, pl.Series | None]:
    import polars as pl

    if declared in ("categorical", "text"):
        kind: ColumnKind = "text" if declared == "text" else "categorical"
        return Column(values.name, kind, missing=missing), to_strings(values)
    unit = ""
    if declared == "numeric" and values.dtype == pl.String:
        parsed, invalid, unit = parse(values, mark_of(settings))
    else:
        kinds: dict[str, Callable[[pl.Series], tuple[pl.Series, pl.Series]]]
        kinds = {"numeric": parse_numbers, "boolean": parse_booleans}
        parsed, invalid = kinds[declared](values)
    if invalid.any():
        others = values.filter(invalid).unique(maintain_order=True).to_list()[:3]
        words = gap_setting(settings.missing, values.name, [str(one) for one in others])
        remedy = f"; correct them, or if they stand for missing values: {words}"
        if (
            int(invalid.sum()) * 2 > len(values) - missing
        ):  # the declaration is the mistake rather than the values
            remedy = f"; correct them, or declare another kind: {kind_option(values.name, 'categorical')}"
        refuse(values, invalid, declared, remedy=remedy)
    if declared == "boolean":
        return Column(values.name, "boolean", missing=missing), parsed
    if declared == "numeric":
        refuse_too_close(values, mark_of(settings))
    parsed = without_missing_numbers(parsed, settings.missing)
    missing = parsed.null_count()
    if missing == len(parsed):
        return _empty(values.name, missing)
    column, numbers = _numeric(parsed, "numeric", missing, keep_constant=True)
    return _with_format(column, unit, ""), numbers


def refuse(values: pl.Series, invalid: pl.Series, kind: str, expected: str = "", remedy: str = "") -> None:
    """Raise a DataError that shows the invalid values of a column, if there are any."""
    import polars as pl

    if invalid.any():
        rows = np.flatnonzero(invalid.to_numpy())
        expected = expected or {"numeric": "numbers", "boolean": "true or false"}[kind]
        shown = values.filter(invalid).head(50).unique(maintain_order=True)
        shown = shown.cast(pl.String) if shown.dtype.is_temporal() else shown
        raise InvalidRowsError(
            f"column {values.name!r}: expected {expected}, but {rows_hold(rows)} {listed(shown.to_list(), 5)}{remedy}",
            rows.tolist(),
        )


def refuse_extreme(values: pl.Series, column: Column | None = None, *, predicting: bool = False) -> None:
    """Raise a DataError if numbers are infinite, too large to be squared, or too far from the training rows.

    Args:
        values: a Float64 series.
        column: the fitted column, or None. Its numbers enter the network in single precision, which overflows
            at 3e38.
        predicting: whether the rows are new ones, whose columns are those of training.
    """
    if values.null_count() == len(values):
        return
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]  # of a Float64 series
    if max(-low, high) > LARGEST:
        center, reach = 0.0, LARGEST
        what = "infinite values" if np.isinf([low, high]).any() else f"numbers beyond {LARGEST:g}"
    elif column is not None and max(column.mean - low, high - column.mean) > FARTHEST * column.scale:
        center, reach = column.mean, FARTHEST * column.scale
        what = f"numbers more than {FARTHEST:g} standard deviations from the mean of the training rows"
    else:
        return
    rows = np.flatnonzero(((values - center).abs() > reach).fill_null(False).to_numpy())
    remedy = "" if predicting else f", or leave the column out: {kind_option(values.name, 'ignore')}"
    raise InvalidRowsError(
        f"column {values.name!r}: expected finite numbers, but {rows_hold(rows)} {what}; correct them, or "
        f"{option('leave them empty', 'replace them by NaN')} to treat them as missing{remedy}",
        rows.tolist(),
    )
