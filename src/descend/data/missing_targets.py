"""Rows without a target: refused by default, or left out on request (``data.drop_missing_targets``)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from descend.data.parsing import is_missing
from descend.data.source import Array, Source
from descend.errors import DataError

__all__ = ["absent_targets", "without_missing_targets"]


def absent_targets(targets: Array) -> Array:
    """Return a mask of the rows in which a target is missing.

    >>> absent_targets(np.array([1.0, np.nan])).tolist(), absent_targets(np.array(["a", None], dtype=object)).tolist()
    ([False, True], [False, True])
    """
    absent: Any
    if targets.dtype.kind == "f":
        absent = np.isnan(targets)
    elif targets.dtype.kind in "OMm":
        flat = [is_missing(value) for value in targets.reshape(-1).tolist()]
        absent = np.array(flat, dtype=bool).reshape(targets.shape)
    else:
        return np.zeros(len(targets), dtype=bool)
    rows: Array = absent.reshape(len(absent), -1).any(axis=1)
    return rows


def without_missing_targets(source: Source) -> Source:
    """Return the rows of a source that have a target, with a note on the others.

    Raises:
        DataError: no row has a target.
    """
    assert source.targets is not None
    absent = absent_targets(np.asarray(source.targets))
    count = int(absent.sum())
    if count == 0:
        return source
    if count == len(absent):
        raise DataError(f"{source.name}: no row has a target")
    note = f"{count:,} {'row without a target is' if count == 1 else 'rows without a target are'} not used"
    kept = source.take(np.flatnonzero(~absent))
    return dataclasses.replace(kept, targets=_plain(np.asarray(kept.targets)), notes=(*source.notes, note))


def _plain(targets: Array) -> Array:
    """Convert Python objects of one type, integers or booleans, to an array of this type, as without missing values."""
    kinds = set(map(type, targets.reshape(-1).tolist()))
    if targets.dtype == object and kinds in ({int}, {bool}):
        plain: Array = np.array(targets.tolist())
        return plain if plain.dtype.kind in "ib" else targets
    return targets
