"""Remarks for the user on targets that are several labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from descend.data.messages import listed
from descend.data.source import Array
from descend.interface import option, setting

if TYPE_CHECKING:
    from descend.data.schema import Schema

__all__ = ["label_notes"]


def label_notes(schema: Schema, held: Array, train: Array, *, declared: bool) -> tuple[str, ...]:
    """Return notes on the task, on labels that cannot be learned, and on labels that look like classes.

    Args:
        schema: of the data.
        held: 1 where a label holds, else 0, (n, L).
        train: row numbers of the training part.
        declared: whether the recipe declares the task.
    """
    names, (negative, positive) = schema.target_names, schema.classes
    notes = []
    if not declared and not schema.label_column:
        notes.append(
            f"the targets {listed(names, 4)} have the values {negative!r} and {positive!r} and are learned as labels, "
            f"which hold where they are {positive!r}; to learn them as numbers: {setting('data.task', 'multi_regression')}"
            if not isinstance(positive, str)
            else f"the targets {listed(names, 4)} are learned as labels, which hold where they are {positive!r}"
        )
    if bool((held.sum(axis=1) == 1).all()):
        remedy = option(
            "use one target column with the name of the class of each row",
            "pass their codes, y.argmax(axis=1), or one target with the name of the class of each row",
        )
        notes.append(
            "exactly one label holds in each row, as in a one-hot code of classes, but labels are learned independently; if "
            f"these are classes, {remedy}"
        )
    totals = held[train].sum(axis=0)
    constant = np.flatnonzero((totals == 0) | (totals == len(train)))
    if len(constant):
        shown = listed([names[at] for at in constant], 5)
        one = len(constant) == 1
        notes.append(
            f"the label{'' if one else 's'} {shown} {'is' if one else 'are'} the same in every training row: "
            f"{'it' if one else 'they'} cannot be learned"
        )
    return tuple(notes)
