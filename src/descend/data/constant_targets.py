"""Targets that differ between rows, but not between the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descend.data.source import Array
from descend.errors import DataError
from descend.interface import option

__all__ = ["refuse_constant_classes", "refuse_constant_numbers"]


def refuse_constant_classes(codes: Array, train: Array, classes: Sequence[object]) -> None:
    """Refuse training rows that all have the same class.

    Args:
        codes: (n,) the class of each row.
        train: numbers of the training rows.
        classes: the classes.

    Raises:
        DataError: there is one class in the training rows.
    """
    found = np.unique(codes[train])
    if len(found) == 1 and len(classes) > 1:
        raise DataError(
            f"every training row has the class {classes[found[0]]!r}, so there is nothing to learn, although other rows "
            f"have other classes; {_remedy()}"
        )


def refuse_constant_numbers(numbers: Array, train: Array, names: Sequence[str]) -> None:
    """Refuse targets of a regression that are the same in all training rows.

    Args:
        numbers: (n, T) the targets.
        train: numbers of the training rows.
        names: names of the targets.

    Raises:
        DataError: a target is constant in the training rows.
    """
    own = numbers[train]
    constant: Array = np.flatnonzero(own.min(axis=0) == own.max(axis=0)) if len(own) > 1 else np.empty(0)
    if len(constant):
        at = int(constant[0])
        raise DataError(
            f"the target {names[at]!r} is {own[0, at]:g} in every training row, so there is nothing to learn, although "
            f"other rows have other values; {_remedy()}"
        )


def _remedy() -> str:
    seed = option("another --seed", "another seed")
    return f"give the training part rows with other targets, by another split (data.split, data.groups) or {seed}"
