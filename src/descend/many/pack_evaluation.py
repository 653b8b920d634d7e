"""Loss and metrics of all members of a pack on their validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from descend.data.preparation import Part
from descend.many.member_metrics import Scored, metrics_of_members
from descend.many.pack.losses import PackedLoss, row_losses
from descend.many.planned_member import PlannedMember
from descend.metrics import Form

__all__ = ["PackEvaluation"]


class PackEvaluation:
    """Computes loss and metrics (K,) by name for the members of a pack.

    Args:
        members: with equal numbers of validation rows, tasks and losses.
        device: of the pack.
    """

    def __init__(self, members: Sequence[PlannedMember], device: torch.device) -> None:
        first = members[0].run
        self._schemas = {member.number: member.run.schema for member in members}
        self._measure: Any = first.measure
        self._predictor = first.predictor
        # Members may monitor different metrics; all of them are measured for all members.
        self._metrics = list(
            {m.name: m for member in members for m in member.run.selection.each_epoch()}.values()
        )
        self._task, self._classes = first.schema.task, len(first.schema.classes)
        parts: dict[int, int] = {}
        distinct: list[Part] = []
        self._place: dict[int, int] = {}
        for member in members:
            part = member.plan.prepared.validation
            if id(part) not in parts:
                parts[id(part)] = len(distinct)
                distinct.append(part)
            self._place[member.number] = parts[id(part)]
        self._inputs = torch.stack([_tensor(part.inputs) for part in distinct]).to(device)
        self._targets = torch.stack([part.targets for part in distinct]).to(device)
        self._weights = _stacked([part.weights for part in distinct], device)
        self._balanced = _stacked([part.balanced for part in distinct], device)
        monitored = any(member.run.selection.monitor == "objective" for member in members)
        self._objectives: dict[int, Any] | None = (
            {member.number: member.run.loss for member in members} if monitored else None
        )

    def __call__(self, outputs_of: Callable[[Tensor], Tensor], numbers: Sequence[int]) -> dict[str, Tensor]:
        """Return loss and metrics of the members with these numbers, in original units."""
        with torch.inference_mode():
            inputs, targets, weights = self._inputs, self._targets, self._weights
            balanced = self._balanced
            if len(inputs) > 1:
                index = torch.tensor([self._place[number] for number in numbers], device=inputs.device)
                inputs, targets = inputs[index], targets[index]
                weights = None if weights is None else weights[index]
                balanced = None if balanced is None else balanced[index]
            outputs = outputs_of(inputs)
            members, rows = outputs.shape[:2]
            targets = targets.expand(members, *targets.shape[1:])
            losses = row_losses(self._measure, outputs, targets)
            if weights is not None:
                weights = weights.expand(members, rows).to(losses.dtype)
            result = {"loss": _mean(losses, weights)}
            if self._objectives is not None:
                objective = PackedLoss([self._objectives[number] for number in numbers])
                own = weights if balanced is None else balanced.expand(members, rows).to(losses.dtype)
                result["objective"] = _mean(objective.row_values(outputs, targets), own)
            scored = self._scored(outputs, targets, weights, numbers)
            return result | metrics_of_members(self._metrics, scored)

    def _scored(
        self, outputs: Tensor, targets: Tensor, weights: Tensor | None, numbers: Sequence[int]
    ) -> Scored:
        """Return predictions and targets as class indices, probabilities or in original units, as metrics expect them."""
        if self._classes:
            return Scored(lambda form: self._of_classes(outputs, form), targets, weights, self._classes)
        outputs = self._predictor.finished(outputs.flatten(0, 1)).unflatten(0, outputs.shape[:2])
        schemas = [self._schemas[number] for number in numbers]

        def each(values: Sequence[Any]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=outputs.device).unsqueeze(1)

        scale, mean = each([s.target_scale for s in schemas]), each([s.target_mean for s in schemas])

        def in_units(values: Tensor) -> Tensor:
            found = values.double() * scale + mean
            if any(schema.target_transforms for schema in schemas):
                members = zip(schemas, values, strict=True)
                found = torch.stack([schema.in_units(own) for schema, own in members])
            return found

        return Scored(lambda form: in_units(outputs), in_units(targets), weights, 0)

    def _of_classes(self, outputs: Tensor, form: Form) -> Tensor:
        flat = self._predictor.finished(outputs.flatten(0, 1))
        if form == "probabilities":
            found = self._predictor.schema.probabilities(flat.double(), self._predictor.form)
            found = found[:, 1] if self._task == "binary" else found
            return found.view(*outputs.shape[:2], *found.shape[1:])
        if self._task == "multi_label":
            return (flat > (0.0 if self._predictor.form == "logits" else 0.5)).long().view(outputs.shape)
        if self._task == "binary":
            chosen = flat.squeeze(1) > (0.0 if self._predictor.form == "logits" else 0.5)
        else:
            # With the rows last in memory the kernel processes many at a time.
            chosen = flat.view(outputs.shape).transpose(1, 2).contiguous().max(1).indices
        return chosen.long().view(outputs.shape[:2])


def _stacked(weights: Sequence[Tensor | None], device: torch.device) -> Tensor | None:
    return None if weights[0] is None else torch.stack([_tensor(each) for each in weights]).to(device)


def _mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return the means (K,) of losses (K, n)."""
    return losses.mean(1) if weights is None else (losses * weights).sum(1) / weights.sum(1)


def _tensor(values: Tensor | None) -> Tensor:
    assert values is not None
    return values
