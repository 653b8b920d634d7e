"""Strings that often stand for a missing value, but may also be categories: they are reported and never assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from descend.data.messages import listed
from descend.data.settings import Missing
from descend.data.text_cells import gap_setting

if TYPE_CHECKING:
    import polars as pl

__all__ = ["gap_note", "gap_words", "gaps_among_numbers"]

_PLACEHOLDERS = r"""
- -- --- – — . .. ... * # ? ?? n/a n.a. n.a na <na> #n/a #na \n null (null) <null> nil none nan -nan nat k.a. (missing)
(empty) (blank) #div/0! #value! #ref! #name? #num! #null! 1.#ind -1.#ind 1.#qnan -1.#qnan
"""
_WORDS = frozenset(_PLACEHOLDERS.split())
_KINDS = 3  # different strings among numbers that may all stand for missing values
_NUMBERS = 10  # different numbers from which a column is one of numbers


def gap_words(names: Iterable[object]) -> list[str]:
    """Return the strings that often stand for a missing value.

    >>> gap_words(["NULL", "no", "-", 1])
    ['NULL', '-']
    """
    return [name for name in names if isinstance(name, str) and name.strip().lower() in _WORDS]


def gaps_among_numbers(numbers: pl.Series, others: Iterable[str]) -> bool:
    """Return whether the strings among the numbers of a column seem to stand for missing values.

    Args:
        numbers: the numbers, with nulls for other strings.
        others: these other strings, each once.

    >>> import polars as pl
    >>> gaps_among_numbers(pl.Series([1.5, None, 2.5, 3.0]), ["NULL"]), gaps_among_numbers(pl.Series([1.0, None]), ["NULL"])
    (True, False)
    """
    words = [*others]
    distinct = numbers.drop_nulls().n_unique()
    if not 0 < len(words) <= _KINDS:
        return False
    return distinct >= _NUMBERS or (distinct > 2 and len(gap_words(words)) == len(words))


def gap_note(column: str, categories: Iterable[str], missing: Missing) -> str:
    """Return a note on categories of a column that often stand for a missing value, or an empty string.

    There is none if the settings list the missing values of this very column.

    >>> gap_note("city", ["Bern", "NULL"], ["", "NA"])
    "'NULL' is a category; if it stands for a missing value: {'data.missing': ['', 'NA', 'NULL']}"
    """
    words = gap_words(categories)
    if not words or (isinstance(missing, Mapping) and column in missing):
        return ""
    verb, subject, stands = (
        ("is a category", "it", "stands") if len(words) == 1 else ("are categories", "they", "stand")
    )
    return f"{listed(words, 3)} {verb}; if {subject} {stands} for a missing value: {gap_setting(missing, column, words)}"
