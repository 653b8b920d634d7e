"""Data larger than memory: tables read column by column and block by block, and rows kept on disk.

With ``data.stream`` a Parquet file is never in memory as a whole. Columns are judged and fitted one at a time,
so that the schema is the one that the table in memory would give. The rows are then encoded block by block into a
temporary file that is mapped into memory: a tensor like any other, whose pages the system fetches from
disk when they are used and drops when it needs the room. Every row is read at random, so the order is the
shuffle of all rows that it would be in memory, a pure function of seed and epoch, and a run resumes at any step.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["StoredTable", "mapped"]


def mapped(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """An array in a temporary file, which has no name and vanishes with the array.

    The file lies where temporary files do, see the environment's ``TMPDIR``; its room is reserved at once.

    Args:
        shape: of the array.
        dtype: of its numbers.

    Raises:
        DataError: there is not enough room.

    >>> rows = mapped((3, 2), "float32")
    >>> rows[1] = 5
    >>> rows.tolist()
    [[0.0, 0.0], [5.0, 5.0], [0.0, 0.0]]
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size == 0:
        return np.empty(shape, dtype=dtype)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=tuple(shape))
    except OSError as cause:
        raise DataError(
            f"streaming needs {size / 1e9:.1f} GB of room for temporary files in {tempfile.gettempdir()}: "
            f"{cause.strerror or cause}; make room there, or set TMPDIR to a folder that has it"
        ) from cause


class StoredTable:
    """The columns of a Parquet file, each read when it is asked for.

    Args:
        path: the file.
        columns: their names.
        height: number of rows.
    """

    def __init__(self, path: Path, columns: Sequence[str], height: int) -> None:
        self.path, self.columns, self.height = path, list(columns), height

    @classmethod
    def open(cls, path: Path) -> StoredTable:
        """The table in a file, of which only the description is read.

        Raises:
            DataError: it is no Parquet file, or holds no rows.
        """
        import polars as pl

        def describe() -> tuple[list[str], int]:
            lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            return lazy.collect_schema().names(), int(lazy.select(pl.len()).collect().item())

        columns, height = _read(path, describe)
        if height == 0:
            raise DataError(f"{path} holds no rows")
        return cls(path, columns, height)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def __len__(self) -> int:
        return self.height

    def __iter__(self) -> Iterator[pl.Series]:
        return (self[name] for name in self.columns)

    def __getitem__(self, name: str) -> pl.Series:
        """One column, all rows of it."""
        import polars as pl

        lazy = pl.scan_parquet(self.path, glob=False, hive_partitioning=False)
        found: pl.Series = _read(self.path, lambda: lazy.select(pl.col(name)).collect().to_series())
        return found

    def drop(self, names: Sequence[str]) -> StoredTable:
        """The table without some columns."""
        return StoredTable(self.path, [name for name in self.columns if name not in names], self.height)

    def rows(self, start: int, stop: int) -> pl.DataFrame:
        """Rows from a first to a last (exclusive), all columns of them."""
        import polars as pl

        lazy = pl.scan_parquet(self.path, glob=False, hive_partitioning=False)
        block = lazy.slice(start, stop - start).select([pl.col(name) for name in self.columns])
        found: pl.DataFrame = _read(self.path, block.collect)
        return found


def _read(path: Path, work: Any) -> Any:
    try:
        return work()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as cause:  # the reader's panics are no ordinary exceptions
        first = (str(cause) or type(cause).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read as Parquet: {first}; is it damaged?") from cause
