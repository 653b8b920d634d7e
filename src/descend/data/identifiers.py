"""Columns that identify the rows: names, keys and row counters, which say nothing about other rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from descend.data.ngrams import SINGLES

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ROWS_PER_CATEGORY", "StringRole", "identifies_rows", "is_key_name", "is_quantity_name", "ranks",
           "string_role"]  # fmt: skip

StringRole = Literal["text", "identifier", "categorical"]

ROWS_PER_CATEGORY = 5
"""Rows needed per category on average, if there are more than ``max_categories``."""
_WORDS = 3  # words per string on average from which strings are text
_DISTINCT = 0.9  # share of distinct values above which strings identify the rows
_FEW = 10  # distinct values up to which a column is never an identifier
_ROWS_OF_A_COUNTER = 20  # rows from which consecutive integers are taken for a counter
_YEARS = (1700, 2100)
_KEY = re.compile(
    r"(?:^|[\W_])(?:id|ids|pk|uuid|guid|rowid)\W*$"
    r"|^\W*(?:idx|index|key|row|nr|no|unnamed: \d+)\W*$"
    r"|(?:row|record|serial|line|sequence|observation|case|account|customer|invoice|order|ticket|policy|phone)"
    r"[\W_]*(?:number|num|no|nr|idx|index|key|count|counter)\W*$",
    re.IGNORECASE,
)
_CAMEL_KEY = re.compile(r"[a-z](?:Id|ID)$")
_QUANTITY = re.compile(
    r"(?:^|[\W_])(?:t|x|year|yr|quarter|month|week|weekday|day|date|hour|minute|second|time|timestamp|step|epoch"
    r"|period|trend|age|rank|position|depth|distance|dose|temperature|angle|frequency)s?(?:$|[\W_])",
    re.IGNORECASE,
)


def string_role(values: pl.Series, max_categories: int = 64) -> StringRole:
    """Return what the strings of a column are, judged by the values that are not missing.

    A column has too many different strings for categories if more than 90 % of them differ, and more than ten; or if
    there are more than ``max_categories`` and fewer than five rows for each on average. These strings are text if
    they have three words or more on average, and at least half of the words have a letter; otherwise they identify the
    rows.

    Args:
        values: a String series, tidied, with nulls for missing values.
        max_categories: number of categories up to which strings that repeat are categories. Default 64.

    >>> import polars as pl
    >>> string_role(pl.Series([f"user{i}@example.org" for i in range(20)]))
    'identifier'
    >>> string_role(pl.Series([f"the item {i} arrived late" for i in range(20)]))
    'text'
    >>> string_role(pl.Series(["red", "green"] * 10))
    'categorical'
    """
    present = values.drop_nulls()
    distinct = present.n_unique()
    mostly_distinct = distinct > _FEW and distinct > _DISTINCT * len(present)
    sparse = distinct > max_categories and len(present) < ROWS_PER_CATEGORY * distinct
    if not mostly_distinct and not sparse:
        return "categorical"
    # Two Chinese characters or kana, which are written without spaces, count as a word.
    forms = (
        rf"[{SINGLES}]{{1,2}}|[^\s{SINGLES}]+",
        rf"[{SINGLES}]{{1,2}}|[^\s{SINGLES}]*\p{{L}}[^\s{SINGLES}]*",
    )
    words, lettered = (present.str.count_matches(form).mean() for form in forms)
    if not isinstance(words, float) or not isinstance(lettered, float):
        return "identifier"
    return "text" if words >= _WORDS and lettered >= words / 2 else "identifier"


def identifies_rows(values: pl.Series) -> bool:
    """Return whether the numbers of a column only count or name the rows.

    They do if they are consecutive integers in any order, each once, from any start; or if they are different
    integers and the column has the name of a key, such as ``id`` or ``PassengerId``. Consecutive integers in a column
    with the name of a quantity, such as ``year`` or ``day``, and those between 1700 and 2100, which may be years, do
    not.

    Args:
        values: a Float64 or integer series with nulls for missing values.

    >>> import polars as pl
    >>> identifies_rows(pl.Series("n", range(7, 107))), identifies_rows(pl.Series("day", range(7, 107)))
    (True, False)
    >>> identifies_rows(pl.Series("PassengerId", [i * i for i in range(50)]))
    True
    """
    present = values.drop_nulls()
    size = len(present)
    if size <= _FEW or (present.dtype.is_float() and not _are_integers(present)):
        return False
    if present.n_unique() < size:
        return False
    if is_key_name(values.name):
        return True
    low, high = int(present.min()), int(present.max())  # type: ignore[arg-type]  # of a numeric series
    consecutive = size >= _ROWS_OF_A_COUNTER and high - low == size - 1
    years = low >= _YEARS[0] and high <= _YEARS[1]
    return consecutive and not years and not is_quantity_name(values.name)


def _are_integers(values: pl.Series) -> bool:
    return bool((values.is_finite() & (values == values.floor())).all())


def ranks(counters: Sequence[pl.Series]) -> set[str]:
    """Return the names of columns that :func:`identifies_rows` takes for counters, but that are ranks of numbers.

    They are if two of them or more contain the same integers in different orders, neither ascending nor descending.

    Args:
        counters: the columns.
    """
    shuffled = [
        one
        for one in counters
        if not is_key_name(one.name) and not one.is_sorted() and not one.is_sorted(descending=True)
    ]
    return {one.name for one in shuffled} if len(shuffled) > 1 else set()


def is_key_name(name: str) -> bool:
    """Return whether a column has the name of a key.

    >>> is_key_name("customer_id"), is_key_name("PassengerId"), is_key_name("width")
    (True, True, False)
    """
    return _KEY.search(name) is not None or _CAMEL_KEY.search(name) is not None


def is_quantity_name(name: str) -> bool:
    """Return whether a column has the name of a quantity that may count up from row to row, such as a time.

    >>> is_quantity_name("day of trial"), is_quantity_name("customer")
    (True, False)
    """
    return _QUANTITY.search(name) is not None
