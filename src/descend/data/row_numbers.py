"""Rows as messages name them: by their number in the data, and by their line in a text file.

Row 0 is the first row of the data, after the header of a file; lines of a file count from 1. A message about rows that
are selected, joined from several files, or left after others were dropped names the rows of the original data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from descend.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["RowNumbers", "named_rows", "naming"]

_SHOWN = 8
_current: ContextVar[RowNumbers | None] = ContextVar("_current", default=None)


@dataclass(frozen=True, eq=False)
class RowNumbers:
    """Where the rows of a source come from.

    Args:
        files: the names of the files; an empty name is not shown.
        lines: for each file, a function that returns the line of each row, or None for data without lines.
        file: the index of the file of each row; None if all rows come from the first.
        row: the number of each row in its file; None for 0, 1, 2, ...
    """

    files: tuple[str, ...] = ("",)
    lines: tuple[Callable[[], Sequence[int]] | None, ...] = (None,)
    file: Array | None = None
    row: Array | None = None

    def take(self, rows: Array) -> RowNumbers:
        """Return the numbers of some rows."""
        file = None if self.file is None else self.file[rows]
        return RowNumbers(self.files, self.lines, file, rows if self.row is None else self.row[rows])

    @classmethod
    def join(cls, parts: Sequence[tuple[str, int, RowNumbers | None]]) -> RowNumbers:
        """Return the numbers of rows from several sources.

        Args:
            parts: the name, the number of rows and the row numbers of each source.
        """
        import numpy as np

        files: list[str] = []
        lines: list[Callable[[], Sequence[int]] | None] = []
        file: list[Array] = []
        row: list[Array] = []
        for name, count, numbers in parts:
            own = numbers or cls()
            offset = len(files)
            files += [one or name for one in own.files]
            lines += own.lines
            file.append(offset + (np.zeros(count, dtype=np.int64) if own.file is None else own.file))
            row.append(np.arange(count) if own.row is None else own.row)
        return cls(tuple(files), tuple(lines), np.concatenate(file), np.concatenate(row))

    def number(self, row: int) -> int:
        """Return the number of a row in its file."""
        return row if self.row is None else int(self.row[row])

    def text(self, rows: Sequence[int] | Array) -> str:
        """Return some rows in words.

        >>> RowNumbers(lines=(lambda: [2, 3, 5],)).text([0, 2])
        'rows 0, 2 (lines 2, 5)'
        """
        shown = [int(row) for row in rows[:_SHOWN]]
        more = len(rows) - len(shown)
        by_file: dict[int, list[int]] = {}
        for row in shown:
            if self.row is not None and row >= len(self.row):
                return _words(shown, more, [])
            by_file.setdefault(0 if self.file is None else int(self.file[row]), []).append(self.number(row))
        if len(self.files) == 1:
            return _words(by_file.get(0, []), more, self._lines_of(0, by_file.get(0, [])))
        parts = [
            f"{_words(own, 0, self._lines_of(file, own))} of {self.files[file]}"
            for file, own in by_file.items()
        ]
        return ", ".join(parts) + (f" and {more} more" if more else "")

    def _lines_of(self, file: int, rows: list[int]) -> list[int]:
        """Return the lines of some rows; none if they are unknown."""
        find = self.lines[file]
        if find is None:
            return []
        try:
            lines = find()
        except (OSError, ValueError, DataError):  # the file has changed
            return []
        return [int(lines[row]) for row in rows] if rows and max(rows) < len(lines) else []


def _words(rows: Sequence[int], more: int, lines: Sequence[int]) -> str:
    one = len(rows) + more == 1
    text = f"{'row' if one else 'rows'} {', '.join(map(str, rows))}"
    text += f" and {more} more" if more else ""
    if lines:
        text += f" ({'line' if one else 'lines'} {', '.join(map(str, lines))}{', ...' if more else ''})"
    return text


@contextmanager
def naming(numbers: RowNumbers | None) -> Iterator[None]:
    """Let the messages that are made within the context name rows by these numbers."""
    token = _current.set(numbers)
    try:
        yield
    finally:
        _current.reset(token)


def named_rows(rows: Sequence[int] | Array) -> str:
    """Return row numbers for a message, by the numbers of the current context.

    >>> named_rows([3]), named_rows([3, 5])
    ('row 3', 'rows 3, 5')
    >>> import numpy as np
    >>> with naming(RowNumbers(row=np.array([10, 12]))):
    ...     named_rows([1])
    'row 12'
    """
    return (_current.get() or RowNumbers()).text(rows)
