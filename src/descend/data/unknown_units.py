"""Strings that may be numbers in a form that is not read as one: ``12 kg``, ``5k``, ``0x1F``, ``1_000``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descend.data.messages import listed
from descend.data.number_format import MOSTLY

if TYPE_CHECKING:
    import polars as pl

__all__ = ["unread_numbers_note"]

_SUFFIX = r"^[+-]?[0-9][0-9.,]*\s*(\p{L}[\p{L}²³/]*)\.?$"
_OTHER = r"^[+-]?(?:0x[0-9a-fA-F]+|[0-9]{1,3}(?:_[0-9]{3})+(?:[.,][0-9]+)?)$"
_UNITS = 2  # different units of one quantity, such as k and M
_FEWEST = 5  # different values of a quantity


def unread_numbers_note(cells: pl.Series) -> str:
    """Return a note on strings that look like numbers in a form that is not read as one, or an empty string.

    Args:
        cells: stripped strings, with nulls for missing values.

    >>> import polars as pl
    >>> unread_numbers_note(pl.Series(["12 kg", "7 kg", "3 kg", "4 kg", "5.5 kg"]))
    "'12 kg' is not read as a number; if these are numbers, write them without 'kg'"
    """
    present = cells.drop_nulls()
    if not present.head(_FEWEST).str.contains("[0-9]").all() or present.n_unique() < _FEWEST:
        return ""
    units = present.str.extract(_SUFFIX).drop_nulls()
    if len(units) >= MOSTLY * len(present) and units.n_unique() <= _UNITS:
        example = present.filter(present.str.contains(_SUFFIX))[0]
        names = listed(units.unique(maintain_order=True).to_list())
        return f"{example!r} is not read as a number; if these are numbers, write them without {names}"
    others = present.filter(present.str.contains(_OTHER))
    if len(others) >= MOSTLY * len(present):
        return f"{others[0]!r} is not read as a number; if these are numbers, write them in decimal digits"
    return ""
