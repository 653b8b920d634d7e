"""Names of columns: unique, and without surrounding spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from descend.data.messages import listed
from descend.errors import DataError

__all__ = ["unique_names"]


def unique_names(names: Iterable[object], where: str) -> list[str]:
    """Return column names as strings without surrounding spaces, if each occurs once.

    >>> unique_names([" age ", ("size", "cm")], "the data")
    ['age', 'size cm']

    Raises:
        DataError: a name occurs more than once.
    """
    strings = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in names]
    # A lone surrogate cannot be encoded in UTF-8.
    strings = [name.encode("utf-8", "replace").decode().strip() for name in strings]
    duplicates = [name for name, count in Counter(strings).items() if count > 1]
    if duplicates:
        raise DataError(
            f"{where}: column names must be unique, but {listed(duplicates)} "
            f"{'occurs' if len(duplicates) == 1 else 'occur'} more than once; rename or remove the duplicates "
            "(does the file have a header line?)"
        )
    return strings
