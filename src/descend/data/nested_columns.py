"""Columns of structures, such as JSON objects within records: one column for each part, ``geo.lat`` and ``geo.lon``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from descend.data.parsing import is_missing
from descend.data.titles import unique_names

if TYPE_CHECKING:
    import polars as pl

__all__ = ["are_structures", "flat_columns", "flat_frame"]


def flat_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame in which each column of structures is replaced by a column for each part.

    >>> import polars as pl
    >>> flat_frame(pl.DataFrame({"geo": [{"lat": 1, "at": {"x": 2}}]})).rows(named=True)
    [{'geo.lat': 1, 'geo.at.x': 2}]
    """
    import polars as pl

    while any(kind == pl.Struct for kind in frame.schema.values()):
        columns = []
        for series in frame:
            if series.dtype == pl.Struct:
                columns += [
                    series.struct.field(part).alias(f"{series.name}.{part}") for part in series.struct.fields
                ]
            else:
                columns.append(series)
        unique_names([one.name for one in columns], "the data")
        frame = pl.DataFrame(columns)
    return frame


def flat_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns in which each list of dictionaries, and of missing values, is replaced by a list for each part.

    A dictionary in place of a column is a structure of one row if its keys are strings; other keys are labels of rows,
    as in ``DataFrame.to_dict()`` of pandas.

    >>> flat_columns({"a": [1, 2], "geo": [{"lat": 1}, None]})
    {'a': [1, 2], 'geo.lat': [1, None]}
    >>> flat_columns({"a": 1, "geo": {"lat": 2}}), flat_columns({"a": {0: 5, 1: 6}})
    ({'a': 1, 'geo.lat': 2}, {'a': [5, 6]})

    Raises:
        DataError: a part has the name of another column.
    """
    flat: list[tuple[Any, Any]] = []
    for name, values in columns.items():
        if isinstance(values, Mapping):
            if all(isinstance(part, str) for part in values):
                flat += flat_columns({f"{name}.{part}": value for part, value in values.items()}).items()
            else:
                flat.append((name, list(values.values())))
            continue
        if not are_structures(values):
            flat.append((name, values))
            continue
        rows = [row if isinstance(row, Mapping) else {} for row in values]
        parts = dict.fromkeys(str(part) for row in rows for part in row)
        named = [{str(part): value for part, value in row.items()} for row in rows]
        flat += flat_columns({f"{name}.{part}": [row.get(part) for row in named] for part in parts}).items()
    if len(dict(flat)) < len(flat):
        unique_names([name for name, _ in flat], "the data")
    return dict(flat)


def are_structures(values: Any) -> bool:
    """Return whether a list contains dictionaries, and nothing else except missing values.

    >>> are_structures([{"a": 1}, None]), are_structures([{}]), are_structures(["a"])
    (True, False, False)
    """
    if not isinstance(values, list | tuple):
        return False
    first = next((value for value in values if not is_missing(value)), None)
    return (
        isinstance(first, Mapping)
        and len(first) > 0
        and all(isinstance(value, Mapping) or is_missing(value) for value in values)
    )
