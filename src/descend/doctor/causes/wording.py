"""Words for the evidence of a finding."""

from __future__ import annotations

import math
from collections.abc import Sequence

from descend.data.preparation import Prepared

__all__ = ["input_names", "listed"]


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names as a phrase of at most ``most`` of them.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=2)
    ('a, b, c', 'a, b and 1 more')
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def input_names(prepared: Prepared) -> list[str]:
    """Return the name of the column of each input of the network; of rows without columns, their numbers."""
    owners = prepared.preprocess.columns
    used = [column.name for column in prepared.schema.used]
    if owners and max(owners) < len(used):
        return [used[each] for each in owners]
    return [f"input {number}" for number in range(math.prod(prepared.schema.input_shape))]
