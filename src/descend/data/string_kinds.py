"""What the strings of a column are: numbers, booleans or dates written as strings, or words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from descend.data.gap_words import gaps_among_numbers
from descend.data.large_integers import refuse_too_close
from descend.data.messages import listed, rows_hold
from descend.data.number_format import MOSTLY, Mark, different_units, parse
from descend.data.parsing import large_integers, parse_booleans
from descend.data.settings import DataSettings
from descend.data.text_cells import format_note, gap_setting, refuse_other_mark
from descend.errors import DataError
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = ["kind_option", "mark_of", "mixed", "parse_strings"]


def kind_option(name: str, kind: str) -> str:
    """Return how to declare a column's kind, for a message.

    >>> kind_option("age", "ignore")
    "{'data.columns.age': 'ignore'}"
    """
    return setting(("data", "columns", name), kind)


def mark_of(settings: DataSettings) -> Mark:
    """Return the decimal mark that the settings specify; a point by default."""
    return "comma" if settings.decimal == "comma" else "point"


def parse_strings(values: pl.Series, settings: DataSettings) -> tuple[pl.Series, str, str]:
    """Parse strings as numbers or booleans if all values allow it, otherwise return the strings.

    Returns: the values, the unit of numbers, and a note.
    """
    present = len(values) - values.null_count()
    lowered = values.str.to_lowercase()
    if lowered.is_in(["true", "false"]).any():
        booleans, invalid = parse_booleans(values)
        if lowered.is_in(["true", "false", "1", "0", "1.0", "0.0"]).fill_null(True).all():
            return booleans, "", ""
    mark = mark_of(settings)
    numbers, invalid, unit = parse(values, mark)
    count = int(invalid.sum())
    if count == 0:
        found = large_integers(values, mark)
        if found is None:  # also beyond 128 bits
            refuse_too_close(values, mark)
        note = format_note(values, numbers, mark, unit)
        return (numbers if found is None else found), unit, note
    units = different_units(values, mark)
    if units:
        raise DataError(
            f"column {values.name!r}: the numbers have different units ({listed(one or 'none' for one in units)}); "
            f"convert them to one unit, or if these are not numbers: {kind_option(values.name, 'categorical')}"
        )
    if count <= (1 - MOSTLY) * present or gaps_among_numbers(numbers, _distinct(values, invalid)):
        raise mixed(values, invalid, "numbers", settings)
    refuse_other_mark([values], mark)
    return values, "", ""


def _distinct(values: pl.Series, chosen: pl.Series) -> list[str]:
    strings: list[str] = values.filter(chosen).unique(maintain_order=True).to_list()
    return strings


def mixed(values: pl.Series, invalid: pl.Series, what: str, settings: DataSettings) -> DataError:
    """Return an error that shows the values of a column that are not of the kind of the others."""
    rows = np.flatnonzero(invalid.to_numpy())
    others = values.filter(invalid).unique(maintain_order=True).to_list()
    valid = len(values) - values.null_count() - len(rows)
    return DataError(
        f"column {values.name!r}: {valid} values are {what}, but {rows_hold(rows)} "
        f"{listed(others, 5)}; correct them, "
        f"declare them as missing values ({gap_setting(settings.missing, values.name, others[:3])}), "
        f"or {kind_option(values.name, 'categorical')}"
    )
