"""The order of categories in Parquet and Arrow files, which polars does not read.

A file with an ordered dictionary, as pandas and R write it for ordered categories, marks it in its Arrow schema. If
``pyarrow`` is installed, the order is read with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.data.arrow_tables import frame_of_arrow
from descend.data.messages import listed
from descend.data.ordered import with_arrow_orders

if TYPE_CHECKING:
    import polars as pl

__all__ = ["read_by_pyarrow", "stored_order", "with_orders_of_arrow_file", "with_orders_of_parquet_file"]


def with_orders_of_parquet_file(
    frame: pl.DataFrame, file: Path | bytes
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the frame of a Parquet file with its ordered categories as ``Enum`` columns, and remarks for the user.

    Args:
        frame: the frame that polars read.
        file: the path or the content of the file.

    Raises:
        Exception: ``pyarrow`` refuses the file as damaged, by an error of many types.
    """
    names = _categorical(frame)
    if not names:
        return frame, ()
    try:
        from pyarrow import BufferReader, parquet
    except ImportError:
        return frame, _lost(file, names)
    with parquet.ParquetFile(BufferReader(file) if isinstance(file, bytes) else file) as opened:
        ordered = [name for name in names if _is_ordered(opened.schema_arrow, name)]
        return (with_arrow_orders(frame, _valid(opened.read(columns=ordered))) if ordered else frame), ()


def stored_order(files: Sequence[Path], name: str) -> tuple[str, ...] | None:
    """Return the categories of a column of Parquet files in their order; None if the files have none, or different ones.

    Args:
        files: the files.
        name: the name of the column in them.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        return None
    orders = set()
    for file in files:
        with parquet.ParquetFile(file) as opened:
            if not _is_ordered(opened.schema_arrow, name):
                return None
            chunks = _valid(opened.read(columns=[name])).column(name).unify_dictionaries().chunks
            orders.add(tuple(chunks[0].dictionary.to_pylist()) if chunks else ())
    order = orders.pop() if len(orders) == 1 else ()
    return order if len(set(order)) == len(order) > 1 and None not in order else None


def with_orders_of_arrow_file(frame: pl.DataFrame, file: Path | bytes) -> pl.DataFrame:
    """Return the frame of an Arrow file or stream with its ordered categories as ``Enum`` columns.

    Args:
        frame: the frame that polars read.
        file: the path or the content of the file.

    Raises:
        Exception: ``pyarrow`` refuses the file as damaged, by an error of many types.
    """
    if not _categorical(frame):
        return frame
    reader = _arrow_reader(file)
    if reader is None:
        return frame
    ordered = [name for name in _categorical(frame) if _is_ordered(reader.schema, name)]
    return with_arrow_orders(frame, _valid(reader.read_all().select(ordered))) if ordered else frame


def read_by_pyarrow(file: Path | bytes) -> pl.DataFrame | None:
    """Return the table of an Arrow file or stream, read by ``pyarrow``; None if it is not installed or cannot read it.

    polars refuses missing values among categories in files that pandas writes.

    Args:
        file: the path or the content of the file.
    """
    import polars as pl

    try:
        reader = _arrow_reader(file)
        return None if reader is None else frame_of_arrow(_valid(reader.read_all()))
    except (ValueError, TypeError, OSError, pl.exceptions.PolarsError):  # errors of pyarrow are ValueErrors
        return None


def _arrow_reader(file: Path | bytes) -> Any:
    """Return the reader of ``pyarrow``, or None if it is not installed.

    It reads from a buffer: threads of ``pyarrow`` that read from a Python object, and still do so when the program ends,
    abort the process.
    """
    try:
        from pyarrow import BufferReader, ipc
    except ImportError:
        return None
    content = file if isinstance(file, bytes) else file.read_bytes()
    return (ipc.open_file if content.startswith(b"ARROW1") else ipc.open_stream)(BufferReader(content))


def _valid(table: Any) -> Any:
    """Return a table of ``pyarrow`` after a check of its offsets, indices and strings, which polars does not repeat.

    Values outside of their buffers, as in a damaged file, would end the process.
    """
    table.validate(full=True)
    return table


def _categorical(frame: pl.DataFrame) -> list[str]:
    import polars as pl

    return [name for name, kind in frame.schema.items() if kind == pl.Categorical]


def _is_ordered(schema: Any, name: str) -> bool:
    return bool(getattr(schema.field(name).type, "ordered", False))


def _lost(file: Path | bytes, names: list[str]) -> tuple[str, ...]:
    """Return a note on the columns whose order is not read, as far as the metadata of pandas name them."""
    import polars as pl

    try:
        metadata = pl.read_parquet_metadata(BytesIO(file) if isinstance(file, bytes) else file)
        columns = json.loads(metadata.get("pandas", "{}")).get("columns", [])
        ordered = [one["name"] for one in columns if (one.get("metadata") or {}).get("ordered") is True]
    except (ValueError, TypeError, KeyError, AttributeError, OSError, pl.exceptions.PolarsError):
        return ()
    lost = [name for name in names if name in ordered]
    if not lost:
        return ()
    return (
        f"the categories of {listed(lost, 3)} have an order in the file, which is read if pyarrow is installed "
        "(pip install pyarrow); or declare it in data.columns, as a list",
    )
