"""Columns of bytes as strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["decoded", "text_of_bytes"]


def decoded(series: pl.Series) -> pl.Series:
    r"""Return bytes as strings: UTF-8, which some programs write to Parquet without its type, or else hexadecimal digits.

    >>> import polars as pl
    >>> decoded(pl.Series([b"red", b"\xff\x00", None])).to_list()
    ['red', 'ff00', None]
    """
    import polars as pl

    if series.dtype != pl.Binary:
        return series
    try:
        return series.cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series(
            series.name, [None if one is None else text_of_bytes(one) for one in series], dtype=pl.String
        )


def text_of_bytes(content: bytes) -> str:
    """Return bytes that are UTF-8 as a string, and others in hexadecimal digits."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.hex()
