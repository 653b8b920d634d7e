"""Rows that occur in more than one part of data that come with their parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from descend.data.preparation import Part, Prepared
from descend.data.source import PARTS

__all__ = ["overlap_notes"]

_TOLERATED = 0.05
"""Fraction of the rows of a part that may coincide with rows of another by chance, in addition to the repetitions within
that other part: rows of few distinct values coincide often."""


def overlap_notes(prepared: Prepared) -> tuple[str, ...]:
    """Return a note for the validation and the test rows, if some of them are also rows of an earlier part.

    Rows are the same if their inputs and targets are equal. The score on such rows does not tell how well a
    network predicts new ones. Rows of a torch ``Dataset`` and rows that stay on disk are not compared.

    >>> from descend.data import DataSettings, prepare, read
    >>> pair = ([[0.1], [0.7], [0.2], [0.9]], [1.0, 2.0, 3.0, 4.0])
    >>> source = read({"train": pair, "test": pair})
    >>> overlap_notes(prepare(source, DataSettings(validation=0)))[0][:61]
    'the test data have the same rows as the training data: 4 of 4'
    """
    rows = {name: list(_rows(getattr(prepared, name))) for name in PARTS}
    notes = []
    for part, others in (("validation", ("train",)), ("test", ("train", "validation"))):
        earlier = [row for other in others for row in rows[other]]
        if not earlier or not rows[part]:
            continue
        known = set(earlier)
        shared = [row for row in rows[part] if row in known]
        repeated = 1 - len(known) / len(earlier)
        if len(shared) <= (repeated + _TOLERATED) * len(rows[part]):
            continue
        containing = [other for other in others if set(shared) & set(rows[other])]
        named = " and ".join(other.replace("train", "training") for other in containing)
        notes.append(
            f"the {part} data have the same rows as the {named} data: {len(shared):,} of {len(rows[part]):,} equal one "
            f"of them in inputs and target, so the {part} score does not measure how well new rows are predicted"
        )
    return tuple(notes)


def _rows(part: Part) -> Iterator[int]:
    """Return a hash of the encoded inputs and the targets of each row."""
    if part.inputs is None or part.stored or len(part) == 0:
        return
    inputs, targets = (
        np.ascontiguousarray(each.numpy().reshape(len(part), -1)) for each in (part.inputs, part.targets)
    )
    for row, target in zip(inputs, targets, strict=True):
        yield hash((row.tobytes(), target.tobytes()))
