"""Data from standard input, which the name ``-`` stands for."""

from __future__ import annotations

import sys

from descend.errors import DataError

__all__ = ["NAME", "read_standard_input"]

NAME = "-"
"""The name of standard input in place of a file."""

_read: list[tuple[object, bytes]] = []  # the stream and its content, which can be read only once


def read_standard_input() -> bytes:
    """Return all bytes of standard input; later calls return the same bytes.

    Raises:
        DataError: there is no standard input, it is a terminal, or it is empty.
    """
    stream = sys.stdin
    if _read and _read[0][0] is stream:
        return _read[0][1]
    if stream is None:
        raise DataError("standard input (-) is closed; specify a file")
    if stream.isatty():
        raise DataError(
            "'-' reads the data from standard input, which is a terminal; pass them by a pipe or a redirection, for "
            "example: descend train - --target price < houses.csv"
        )
    try:
        binary = getattr(stream, "buffer", None)
        content = binary.read() if binary is not None else stream.read().encode()
    except (OSError, ValueError) as cause:
        raise DataError(f"standard input (-) cannot be read: {cause}") from cause
    if not content.strip():
        raise DataError("standard input (-) is empty; expected a table")
    _read[:] = [(stream, content)]
    return bytes(content)
