"""Tables in several files, and columns of a table that are kept for the output of predictions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from descend.data.compression import inner_suffix
from descend.data.messages import listed
from descend.data.source import with_common_types
from descend.data.table_files import TABLES
from descend.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["columns_to_keep", "joined_parts", "listed_names", "refuse_url", "table_parts"]


def table_parts(path: Path) -> list[Path]:
    """Return the table files of a folder, or those that match a pattern, sorted by name; empty if there are others too.

    Hidden files, and files whose name begins with an underscore (``_SUCCESS``), do not count.
    """
    if path.is_dir():
        files = [one for one in path.iterdir() if not one.name.startswith((".", "_"))]
    elif re.search(r"[*?\[]", str(path)):
        root = Path(path.anchor)
        files = list(root.glob(str(path.relative_to(root))))
    else:
        return []
    suffixes = {inner_suffix(one) for one in files}
    return sorted(files) if len(suffixes) == 1 and suffixes <= set(TABLES) else []


def joined_parts(parts: Sequence[Path], frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Concatenate the rows of several files.

    Raises:
        DataError: a file has other columns than the first one.
    """
    import polars as pl

    first = frames[0]
    for part, frame in zip(parts[1:], frames[1:], strict=True):
        if set(frame.columns) != set(first.columns):
            raise DataError(
                f"{part} has the columns {listed(frame.columns)}, but {parts[0]} has {listed(first.columns)}; all files "
                "of a table must have the same columns"
            )
    try:
        tables = with_common_types([frame.select(first.columns) for frame in frames])
        return pl.concat(tables, how="vertical_relaxed")
    except pl.exceptions.PolarsError as cause:
        raise DataError(f"{parts[0].parent}: the files have columns of different types: {cause}") from cause


def columns_to_keep(frame: pl.DataFrame, names: Sequence[str], where: str) -> pl.DataFrame:
    """Return some columns of a table.

    Args:
        frame: the table.
        names: names of columns; one that is not a column may list several, separated by commas.
        where: the name of the data, for messages.

    Raises:
        DataError: there is no such column; the message suggests the nearest name.
    """
    kept: dict[str, None] = {}
    for name in names:
        kept.update(dict.fromkeys([name] if name in frame.columns else listed_names(name)))
    for name in kept:
        if name not in frame.columns:
            raise DataError(f"{where}: no column {name!r} to keep; {did_you_mean(name, frame.columns)}")
    return frame.select(list(kept))


def listed_names(text: str) -> list[str]:
    """Return the names in a string, separated by commas.

    >>> listed_names("id, street")
    ['id', 'street']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def refuse_url(path: str) -> None:
    """Raise a DataError if a path is an address on the internet or in a storage service."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", path)
    if match is not None and not Path(path).exists():
        raise DataError(
            f"{path}: addresses ({match[1]}:) are not read; download the file first, for example with curl -O, and specify "
            "its path"
        )
