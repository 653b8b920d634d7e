"""Values and row numbers as error messages show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from descend.data.row_numbers import named_rows
from descend.errors import DataError, InvalidRowsError, together

if TYPE_CHECKING:
    import numpy as np

__all__ = ["listed", "raise_all", "rows_hold", "rows_text"]

_MAX_SHOWN = 20  # problems in one message


def listed(items: Iterable[object], limit: int = 8) -> str:
    """Return items as a list in a sentence, at most ``limit`` of them.

    >>> listed(["a", "b"]), listed(range(5), limit=2)
    ("'a', 'b'", '0, 1 and 3 more')
    """
    shown = [_short(_shown(item)) for item in items]
    more = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {more} more" if more > 0 else "")


def _shown(item: object) -> str:
    try:
        return repr(item)
    except ValueError:  # Python refuses to write integers of more than some thousand digits
        return f"a {type(item).__name__} with very many digits"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:40] + "..." + text[-10:]


def rows_text(rows: Sequence[int] | np.ndarray[Any, Any]) -> str:
    """Return row numbers for a message; rows count from 0, without a header, see :mod:`descend.data.row_numbers`.

    >>> rows_text([3]), rows_text([3, 5])
    ('row 3', 'rows 3, 5')
    """
    return named_rows(rows)


def rows_hold(rows: Sequence[int] | np.ndarray[Any, Any]) -> str:
    """Return row numbers with a verb: the beginning of "row 3 holds 'x'".

    >>> rows_hold([3]), rows_hold([3, 5])
    ('row 3 holds', 'rows 3, 5 hold')
    """
    return rows_text(rows) + (" holds" if len(rows) == 1 else " hold")


def raise_all(problems: Sequence[str | DataError]) -> None:
    """Raise one DataError for all problems; return if there is none.

    If all of them are about some rows, the error is an :class:`~descend.errors.InvalidRowsError` with these rows.
    """
    if not problems:
        return
    message = str(problems[0])
    if len(problems) > 1:
        message = together(f"The data have {len(problems)} problems:", [*map(str, problems)], _MAX_SHOWN)
    of_rows = [problem for problem in problems if isinstance(problem, InvalidRowsError)]
    if len(of_rows) == len(problems):
        raise InvalidRowsError(message, frozenset().union(*(problem.rows for problem in of_rows)))
    raise DataError(message)
