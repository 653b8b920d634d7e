"""A column that is the target."""

from __future__ import annotations

import torch
from torch import Tensor

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import input_names, listed
from descend.doctor.findings import Finding
from descend.runs.plan import Plan

__all__ = ["TargetInInputs"]


@method(
    row="I3",
    reference="Kaufman, Rosset and Perlich 2012, Leakage in data mining",
    formula="x_j = h(y) for one column j",
)
class TargetInInputs(Cause):
    """A column of the inputs is a copy of the target in other units or with other names.

    Scores are then perfect on the data at hand and worthless on new rows, in which the column is not known.
    """

    title = "A column of the inputs is the target in another form."
    advice = "Leave the column out, unless it will be known when predictions are made."

    @classmethod
    def in_data(cls, planned: Plan) -> Finding | None:
        """Look for a column that has one value for each class, or that is a linear function of the target."""
        part, schema = planned.prepared.train, planned.prepared.schema
        if part.inputs is None or part.stored or part.inputs.dim() != 2 or len(part) < 30:
            return None
        inputs, targets = part.inputs[:MOST].double(), part.targets[:MOST]
        names = input_names(planned.prepared)
        if schema.task in ("binary", "multiclass"):
            leaking = _by_class(inputs, targets.long().flatten(), len(schema.classes))
        elif targets.dim() == 1 or targets.shape[1] == 1:
            leaking = _by_value(inputs, targets.double().flatten())
        else:
            return None
        if not leaking:
            return None
        columns = sorted({names[each] for each in leaking if each < len(names)})
        return cls.found(
            0.9,
            f"on {len(inputs):,} training rows, {listed(columns)} determines the target",
            remedy={f"data.columns.{each}": "ignore" for each in columns} if schema.columns else None,
        )


MOST = 4096
"""The number of rows that are compared."""


def _by_class(inputs: Tensor, targets: Tensor, classes: int) -> list[int]:
    """Return the columns with as many different values as there are classes, one for each."""
    found = []
    for number, column in enumerate(inputs.T):
        values, codes = column.unique(return_inverse=True)
        if len(values) != classes:
            continue
        pairs = torch.stack([codes, targets]).unique(dim=1)
        if pairs.shape[1] == classes:
            found.append(number)
    return found


def _by_value(inputs: Tensor, targets: Tensor) -> list[int]:
    """Return the columns whose correlation with the target is 1 up to rounding."""
    x = inputs - inputs.mean(0)
    y = targets - targets.mean()
    size = (x.square().sum(0) * y.square().sum()).sqrt()
    correlation = torch.where(size > 0, (x * y[:, None]).sum(0).abs() / size, torch.zeros_like(size))
    return [int(each) for each in torch.nonzero(correlation > 1 - 1e-6).flatten()]
