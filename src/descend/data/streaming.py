"""Data larger than memory: tables read by columns and blocks, encoded rows stored on disk.

With ``data.stream`` a Parquet file is never in memory as a whole. Columns are inferred and fitted one at a time,
so that the schema equals that of the table in memory. The rows are then encoded block by block into a
temporary file that is mapped into memory: an ordinary tensor, whose pages the operating system loads from
disk when they are used and drops when it needs memory. Any row can be read, so the order of an epoch is the same
shuffle of all rows as in memory, a pure function of seed and epoch, and a run can resume at any step.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from descend.data.arrow_orders import stored_order
from descend.data.titles import unique_names
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["StoredTable", "mapped", "read_or_raise"]

T = TypeVar("T")


def mapped(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    """Return an array in an unnamed temporary file, which is deleted with the array.

    The file is created in the directory for temporary files (the environment variable ``TMPDIR``), and its disk space
    is reserved at once.

    Args:
        shape: shape of the array.
        dtype: dtype of the array.

    Raises:
        DataError: there is not enough disk space.

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
            f"streaming needs {size / 1e9:.1f} GB of disk space for temporary files in {tempfile.gettempdir()}: "
            f"{cause.strerror or cause}; free space there, or set TMPDIR to another folder"
        ) from cause


class StoredTable:
    """Columns of a Parquet file, or of several ones, each read when it is accessed.

    Args:
        path: the file, or the folder or pattern of several files.
        schema: the types of the columns by name.
        height: number of rows.
        titles: names of the columns in the file, without surrounding spaces, and as they are.
        files: the files, whose rows follow each other; None for ``path`` itself.
    """

    def __init__(
        self,
        path: Path,
        schema: Mapping[str, pl.DataType],
        height: int,
        titles: Mapping[str, str],
        files: Sequence[Path] | None = None,
    ) -> None:
        self.path, self.schema, self.height, self._titles = path, dict(schema), height, titles
        self._files = [path] if files is None else list(files)

    @classmethod
    def open(cls, path: Path, files: Sequence[Path] | None = None) -> StoredTable:
        """Open a Parquet file, or several files with equal columns, reading only their metadata.

        Args:
            path: the file, or the folder or pattern of several files.
            files: the files; None for ``path`` itself.

        Raises:
            DataError: the file is not a Parquet file, has no rows, or a column name occurs twice.
        """
        import polars as pl

        def describe() -> tuple[dict[str, pl.DataType], int]:
            lazy = pl.scan_parquet(
                path if files is None else list(files), glob=False, hive_partitioning=False
            )
            return dict(lazy.collect_schema()), int(lazy.select(pl.len()).collect().item())

        schema, height = read_or_raise(path, "Parquet", describe)
        if height == 0:
            raise DataError(f"{path} has no rows")
        names = unique_names(schema, str(path))
        titles = dict(zip(names, schema, strict=True))
        return cls(path, {name: schema[title] for name, title in titles.items()}, height, titles, files)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema)

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def __len__(self) -> int:
        return self.height

    def __iter__(self) -> Iterator[pl.Series]:
        return (self[name] for name in self.columns)

    def __getitem__(self, name: str) -> pl.Series:
        """Return all rows of one column."""
        import polars as pl

        lazy = pl.scan_parquet(self._files, glob=False, hive_partitioning=False)
        series: pl.Series = read_or_raise(
            self.path,
            "Parquet",
            lambda: lazy.select(pl.col(self._titles[name])).collect().to_series().alias(name),
        )
        if series.dtype == pl.Categorical:  # polars does not read whether the categories have an order
            order = read_or_raise(self.path, "Parquet", lambda: stored_order(self._files, self._titles[name]))
            return series if order is None else series.cast(pl.Enum(order))
        return series

    def drop(self, names: Sequence[str]) -> StoredTable:
        """Return the table without some columns."""
        kept = {name: kind for name, kind in self.schema.items() if name not in names}
        return StoredTable(self.path, kept, self.height, self._titles, self._files)

    def rows(self, start: int, stop: int) -> pl.DataFrame:
        """Return rows ``start`` to ``stop`` (exclusive) of all columns."""
        import polars as pl

        lazy = pl.scan_parquet(self._files, glob=False, hive_partitioning=False)
        block = lazy.slice(start, stop - start).select(
            [pl.col(self._titles[name]).alias(name) for name in self.columns]
        )
        frame: pl.DataFrame = read_or_raise(self.path, "Parquet", block.collect)
        return frame


def read_or_raise(path: Path, file_format: str, read: Callable[[], T]) -> T:
    """Call a function that reads a file with polars, and turn its errors into a DataError.

    Args:
        path: the file, for the message.
        file_format: its format, for the message.
        read: the function.
    """
    try:
        return read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as cause:  # panics of polars do not derive from Exception
        first = (str(cause) or type(cause).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read as {file_format}: {first}; is it damaged?") from cause
