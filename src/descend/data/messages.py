"""Values and row numbers as error messages show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["listed", "option", "rows_hold", "rows_text", "toml_list"]


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
    """Return row numbers for a message; rows count from 0, without a header.

    >>> rows_text([3]), rows_text([3, 5])
    ('row 3', 'rows 3, 5')
    """
    shown = [int(row) for row in rows[:8]]
    more = len(rows) - 8
    numbers = ", ".join(map(str, shown)) + (f" and {more} more" if more > 0 else "")
    return ("row " if len(rows) == 1 else "rows ") + numbers


def rows_hold(rows: Sequence[int] | np.ndarray[Any, Any]) -> str:
    """Return row numbers with a verb: the beginning of "row 3 holds 'x'".

    >>> rows_hold([3]), rows_hold([3, 5])
    ('row 3 holds', 'rows 3, 5 hold')
    """
    return rows_text(rows) + (" holds" if len(rows) == 1 else " hold")


def option(key: Sequence[str], value: str) -> str:
    r"""Return the command-line option that sets a key of the recipe, quoted for a shell.

    Args:
        key: section, key and, in a table, the name.
        value: the value as TOML, or a bare word.

    >>> option(("data", "columns", "age"), "ignore"), option(("data", "columns", "sepal length"), "ignore")
    ('--set data.columns.age=ignore', '--set \'data.columns."sepal length"=ignore\'')
    """
    quoted = ['"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"' for one in key]
    parts = [one if re.fullmatch(r"[A-Za-z0-9_-]+", one) else q for one, q in zip(key, quoted, strict=True)]
    assignment = f"{'.'.join(parts)}={value}"
    return (
        f"--set {assignment}" if re.fullmatch(r"[A-Za-z0-9_.,=-]+", assignment) else f"--set '{assignment}'"
    )


def toml_list(strings: Iterable[str]) -> str:
    """Return strings as an array in TOML.

    >>> toml_list(["", "NA"])
    '["", "NA"]'
    """
    quoted = ('"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"' for one in strings)
    return "[" + ", ".join(quoted) + "]"
