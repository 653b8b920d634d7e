"""Values and row numbers as error messages show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["listed", "rows_hold", "rows_text"]


def listed(items: Iterable[object], limit: int = 8) -> str:
    """Items for a message, at most ``limit`` of them.

    >>> listed(["a", "b"]), listed(range(5), limit=2)
    ("'a', 'b'", '0, 1 and 3 more')
    """
    shown = [_short(_shown(item)) for item in items]
    more = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {more} more" if more > 0 else "")


def _shown(item: object) -> str:
    try:
        return repr(item)
    except ValueError:  # Python writes no whole number of more than some thousand digits
        return f"a {type(item).__name__} of very many digits"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:40] + "..." + text[-10:]


def rows_text(rows: Sequence[int] | np.ndarray[Any, Any]) -> str:
    """Row numbers for a message; rows count from 0, without a header.

    >>> rows_text([3]), rows_text([3, 5])
    ('row 3', 'rows 3, 5')
    """
    found = [int(row) for row in rows[:9]]
    more = len(rows) - 8
    text = ", ".join(map(str, found[:8])) + (f" and {more} more" if more > 0 else "")
    return ("row " if len(rows) == 1 else "rows ") + text


def rows_hold(rows: Sequence[int] | np.ndarray[Any, Any]) -> str:
    """Row numbers with their verb.

    >>> rows_hold([3]), rows_hold([3, 5])
    ('row 3 holds', 'rows 3, 5 hold')
    """
    return rows_text(rows) + (" holds" if len(rows) == 1 else " hold")
