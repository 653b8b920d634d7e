"""Checks of row weights by part: a part, or a class in it, whose weights are all 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from descend.data.messages import listed
from descend.data.source import Array
from descend.errors import DataError
from descend.interface import setting

__all__ = ["check_part_weights"]

_NAMES = {"train": "training", "validation": "validation", "test": "test"}
_USES = {
    "train": "there is nothing to learn from",
    "validation": "no epoch can be chosen by them",
    "test": "nothing can be measured on them",
}


def check_part_weights(
    weights: Mapping[str, Array | None],
    rows: Mapping[str, Array],
    codes: Array | None = None,
    classes: Sequence[object] = (),
) -> tuple[str, ...]:
    """Refuse a part whose weights are all 0; return notes about classes whose training rows all have weight 0.

    Args:
        weights: by part, a weight for each row of the data, or None for equal weights.
        rows: by part, its row numbers.
        codes: (n,) the class of each row; None for regression.
        classes: the classes.

    Raises:
        DataError: all rows of a part have weight 0.

    >>> check_part_weights({"train": np.array([0.0, 0.0, 1.0])}, {"train": np.arange(3)}, np.array([0, 0, 1]), ["a", "b"])
    ("all training rows of the class 'a' have weight 0: it cannot be learned",)
    >>> check_part_weights({"test": np.zeros(3)}, {"test": np.array([2])})
    Traceback (most recent call last):
        ...
    descend.errors.DataError: the weight of the only test row is 0, so nothing can be measured on them; ...
    """
    for part, own in weights.items():
        if own is None or not len(rows[part]) or (own[rows[part]] > 0).any():
            continue
        name, count = _NAMES[part], len(rows[part])
        which = (
            f"the weights of all {count:,} {name} rows are 0"
            if count > 1
            else f"the weight of the only {name} row is 0"
        )
        remedy = (
            "give some of them a weight above 0"
            if part == "train"
            else f"give some of them a weight above 0, or leave this part out: {setting(f'data.{part}', 0.0)}"
        )
        raise DataError(f"{which}, so {_USES[part]}; {remedy}")
    train = weights.get("train")
    if train is None or codes is None:
        return ()
    of_class = np.bincount(codes[rows["train"]], weights=train[rows["train"]], minlength=len(classes))
    counts = np.bincount(codes[rows["train"]], minlength=len(classes))
    ignored = np.flatnonzero((of_class == 0) & (counts > 0))
    if not len(ignored):
        return ()
    names = listed([classes[int(code)] for code in ignored])
    several = (
        f"classes {names} have weight 0: they" if len(ignored) > 1 else f"class {names} have weight 0: it"
    )
    return (f"all training rows of the {several} cannot be learned",)
