"""Tables in JSON: one object per line, an array of objects, or an object of columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from descend.data.encodings import not_utf8
from descend.data.frames import as_frame
from descend.data.messages import listed
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["frame_of_json", "lines_of_json"]

_LAYOUTS = (
    'expected one object per line ({"area": 50, "price": 300}), an array of such objects, or an object of columns '
    '({"area": [50, 70], "price": [300, 410]})'
)


def frame_of_json(name: str, content: bytes) -> pl.DataFrame:
    r"""Return the table in a JSON text. Its layout is recognized by its content.

    Integers of any size keep their value; a key that a record lacks is a missing value, and so are null and NaN.

    Args:
        name: the file, for messages.
        content: the text in UTF-8.

    >>> frame_of_json("a.jsonl", b'{"a": 1, "b": "x"}\n{"a": 2}\n').rows()
    [(1, 'x'), (2, None)]

    Raises:
        DataError: the text is not JSON (the message names the line), or not a table.
    """
    fault = not_utf8(name, content)
    if fault is not None:
        raise fault
    text = content.decode("utf-8-sig")
    if not text.strip():
        raise DataError(f"{name} is empty; expected JSON records")
    try:
        table = _parsed(text)
    except json.JSONDecodeError as cause:
        if not cause.msg.startswith("Extra data") and "\n" not in text.strip():
            raise _invalid(name, cause.lineno, cause) from cause
        table = _lines(name, text, cause)
    except (ValueError, RecursionError) as cause:
        raise DataError(f"{name}: cannot be read as JSON: {cause}") from cause
    columns = _columns(name, table)
    try:
        frame = as_frame({key: _integers(key, values) for key, values in columns.items()})
    except DataError as problem:
        raise DataError(f"{name}: {problem}") from problem
    if frame.height == 0 or frame.width == 0:
        raise DataError(f"{name} has no rows")
    return frame


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = [key for key in result if keys.count(key) > 1]
        raise _DuplicateKeyError(f"the key {listed(twice, 3)} occurs twice in one object")
    return result


class _DuplicateKeyError(ValueError):
    """An object has two values for one key."""


def _lines(name: str, text: str, whole: json.JSONDecodeError) -> list[Any]:
    """Return the records of a text with one JSON value per line; blank lines are skipped."""
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(_parsed(line))
        except json.JSONDecodeError as cause:
            # If already the first line is not a value, the text is one value over several lines.
            raise _invalid(name, number if records else whole.lineno, cause if records else whole) from cause
        except (ValueError, RecursionError) as cause:
            raise DataError(f"{name}: line {number}: {cause}") from cause
    return records


def lines_of_json(content: bytes) -> list[int]:
    r"""Return the line of each record of a text with one JSON value per line; empty for other layouts.

    >>> lines_of_json(b'{"a": 1}\n\n{"a": 2}\n'), lines_of_json(b'[{"a": 1}]')
    ([1, 3], [])
    """
    text = content.decode("utf-8-sig")
    if text.lstrip()[:1] != "{":
        return []
    return [number for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _invalid(name: str, line: int, cause: json.JSONDecodeError) -> DataError:
    return DataError(f"{name}: line {line} is not valid JSON: {cause.msg} (character {cause.colno})")


def _columns(name: str, table: Any) -> Mapping[str, list[Any]]:
    """Return the columns of a list of records, of an object of columns, or of one record."""
    table = _unwrapped(table)
    if isinstance(table, Mapping) and table:
        if all(isinstance(column, list) for column in table.values()):
            return table
        if all(
            isinstance(column, Mapping) for column in table.values()
        ):  # by row label, as pandas writes them
            labels = dict.fromkeys(label for column in table.values() for label in column)
            if all(map(str.isdecimal, table)) and not any(
                map(str.isdecimal, labels)
            ):  # by row label, then column
                return {label: [row.get(label) for row in table.values()] for label in labels}
            return {key: [column.get(label) for label in labels] for key, column in table.items()}
        if not any(isinstance(value, list | Mapping) for value in table.values()):
            table = [table]
    if isinstance(table, list) and table and all(isinstance(record, Mapping) for record in table):
        keys = dict.fromkeys(key for record in table for key in record)
        return {key: [record.get(key) for record in table] for key in keys}
    if isinstance(table, list):
        odd = next((at for at, record in enumerate(table) if not isinstance(record, Mapping)), None)
        found = "an empty array" if odd is None else f"the value {listed([table[odd]])} in row {odd}"
    elif isinstance(table, Mapping):
        found = f"an object with the keys {listed(table, 5)}" if table else "an empty object"
    else:
        found = listed([table])
    raise DataError(f"{name}: {_LAYOUTS}; got {found}")


def _unwrapped(table: Any) -> Any:
    """Return the records of an object that wraps them, possibly with remarks on them, and those of a header and rows."""
    if not isinstance(table, Mapping):
        return table
    if len(table) == 1:
        (only,) = table.values()
        if _are_records(only):
            return only
    records = [value for value in table.values() if _are_records(value)]
    if len(records) == 1 and not any(
        isinstance(value, list) for value in table.values() if value is not records[0]
    ):
        return records[0]
    if {"columns", "data"} <= set(table) <= {"columns", "index", "data"}:
        columns, rows = table["columns"], table["data"]
        if isinstance(rows, list) and all(isinstance(row, list) and len(row) == len(columns) for row in rows):
            return {str(name): [row[at] for row in rows] for at, name in enumerate(columns)}
    return table


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(record, Mapping) for record in value)


def _integers(key: str, values: list[Any]) -> Any:
    """Return a column of 64-bit integers as such, so that integer labels stay integers, and other values unchanged."""
    import polars as pl

    kinds = set(map(type, values))
    if int not in kinds or kinds - {int, type(None)}:
        return values
    try:
        return pl.Series(key, values, dtype=pl.Int64)
    except (OverflowError, TypeError):
        return values
