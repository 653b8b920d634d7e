"""Notes on classes that do not occur in every part of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descend.data.messages import listed
from descend.data.source import Array
from descend.data.split import Split

__all__ = ["rare_class_notes"]

_NAMED = 3
"""The number of classes that get a note of their own."""


def rare_class_notes(codes: Array, parts: Split, classes: Sequence[object]) -> tuple[str, ...]:
    """Return notes on classes without a row in a part that has rows, which no metric of that class can be measured on.

    Args:
        codes: (n,) the class of each row.
        parts: the rows of each part.
        classes: the classes.

    >>> parts = Split(np.array([0, 1, 4]), np.array([2]), np.array([3]))
    >>> rare_class_notes(np.array([0, 0, 0, 0, 1]), parts, ["n", "p"])
    ("class 'p' has only one row: no validation row, no test row; means over classes are undefined without them",)
    """
    held_out = {"validation": parts.validation, "test": parts.test}
    missing = {
        part: np.bincount(codes[rows], minlength=len(classes)) == 0
        for part, rows in held_out.items()
        if len(rows)
    }
    counts = np.bincount(codes, minlength=len(classes))
    affected = [code for code in range(len(classes)) if any(absent[code] for absent in missing.values())]
    if not affected:
        return ()
    why = "means over classes are undefined without them"
    if len(affected) > _NAMED:
        least = [part for part, absent in missing.items() if absent.any()]
        names = listed([classes[code] for code in affected], _NAMED)
        return (
            f"{len(affected)} of {len(classes)} classes do not occur in the {' or '.join(least)} rows: {names}; {why}",
        )
    return tuple(
        f"class {listed([classes[code]])} has {_rows(int(counts[code]))}: "
        + ", ".join(f"no {part} row" for part, absent in missing.items() if absent[code])
        + f"; {why}"
        for code in affected
    )


def _rows(count: int) -> str:
    if count > 1:
        return f"{count:,} rows"
    return "only one row" if count else "no row"
