"""A class without training rows."""

from __future__ import annotations

import torch

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import listed
from descend.doctor.findings import Finding
from descend.runs.plan import Plan

__all__ = ["AbsentClass"]


@method(row="I3", reference="folklore", formula="n_k = 0 in the training part")
class AbsentClass(Cause):
    """A class has no training rows, or none to validate on: it cannot be learned, or its learning cannot be seen."""

    title = "A class is missing in a part of the data."
    advice = "Split the rows so that each part has rows of every class (a random split is stratified)."

    @classmethod
    def in_data(cls, planned: Plan) -> Finding | None:
        """Count the rows of each class in the training and the validation part."""
        schema = planned.prepared.schema
        if schema.task not in ("binary", "multiclass"):
            return None
        for name in ("train", "validation"):
            part = getattr(planned.prepared, name)
            if not len(part):
                continue
            counts = torch.bincount(part.targets.long().flatten(), minlength=len(schema.classes))
            missing = [
                str(schema.classes[number]) for number in torch.nonzero(counts == 0).flatten().tolist()
            ]
            if missing and (name == "train" or len(part) >= 5 * len(schema.classes)):
                rows = "training" if name == "train" else name
                return cls.found(
                    0.9 if name == "train" else 0.4,
                    f"no row of the {rows} part is of the class {listed(missing)}",
                )
        return None
