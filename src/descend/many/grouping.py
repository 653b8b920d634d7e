"""Grouping of members: which members can be packed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from descend.augmentation.pipeline import AugmentedBatches
from descend.data.batches import MemoryBatches
from descend.losses import Loss
from descend.many.pack.kinds import CannotPack
from descend.many.pack.losses import loss_signature
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because, optimizer_signature
from descend.many.pack.stacking import can_be_padded, signature, widths_of
from descend.many.pack.structure import structure_of
from descend.many.planned_member import PlannedMember
from descend.recipe.adapters import OnProbabilities
from descend.recipe.scheduled import SCHEDULED_KEYS

__all__ = ["MAX_PADDING", "Group", "cannot_be_packed_because", "group_members"]

MAX_PADDING = 2.0
"""Networks are padded to the widest as long as all together have less than this many times the weights they need."""


UNPACKABLE_TERMS = ("l1_prox", "jacobian", "gradient_penalty", "orthogonality")
"""Keys of [regularize] that have no packed form."""


@dataclass(eq=False)
class Group:
    """Members that are trained together.

    Args:
        members: in the order of the pack.
        not_stackable_because: why their networks cannot be stacked; empty if they can.
        not_packable_because: why they cannot be packed in any form; empty if they can.
    """

    members: list[PlannedMember]
    not_stackable_because: str = ""
    not_packable_because: str = ""


def group_members(members: Sequence[PlannedMember]) -> list[Group]:
    """Return groups of members that can be packed together, and groups of those that cannot be packed, by reason.

    Args:
        members: built, with their trainings.
    """
    by_key: dict[Any, list[PlannedMember]] = {}
    by_reason: dict[str, list[PlannedMember]] = {}
    for member in members:
        reason = cannot_be_packed_because(member)
        if reason:
            by_reason.setdefault(reason, []).append(member)
        else:
            by_key.setdefault(_key(member), []).append(member)
    groups = []
    for candidates in by_key.values():
        reason = _not_stackable_because(candidates[0].training.model)
        groups += [Group(part, reason) for part in ([candidates] if reason else _by_width(candidates))]
    groups += [Group(unpackable, reason, reason) for reason, unpackable in by_reason.items()]
    return groups


def cannot_be_packed_because(member: PlannedMember) -> str:
    """Return the reason why a member cannot be packed with any other; empty if it can."""
    training, recipe = member.training, member.plan.recipe
    if isinstance(training.batches, AugmentedBatches):
        return "data.augment has no packed form"
    if member.plan.prepared.train.stored:
        return "its rows stay on disk"
    if not isinstance(training.batches, MemoryBatches):
        return "its rows are loaded one by one"
    if recipe.get("stop.max_seconds") is not None:
        return "stop.max_seconds needs a time per member, which a pack does not have"
    if recipe.get("stop.gradient_tolerance") is not None:
        return "stop.gradient_tolerance has no packed form"
    if recipe.get("model.freeze"):
        return "model.freeze has no packed form"
    for key in SCHEDULED_KEYS:
        if recipe.get(key, "constant") != "constant":
            return f"{key} has no packed form"
    terms = [f"regularize.{key}" for key in UNPACKABLE_TERMS if recipe.regularize[key] not in (0, "none")]
    terms += [f"constrain.{key}" for key, value in recipe.constrain.items() if value is not None]
    if terms:
        return f"{terms[0]} has no packed form"
    if not isinstance(training.objective.loss, (Loss, OnProbabilities)):
        return "its loss is not one of descend's"
    return optimizer_cannot_be_packed_because(training.optimizer)


def _key(member: PlannedMember) -> tuple[Any, ...]:
    """Return what members of one pack share."""
    training, plan = member.training, member.plan
    batches = training.batches
    assert isinstance(batches, MemoryBatches)  # other batches cannot be packed
    order = batches.order
    prepared, recipe = plan.prepared, plan.recipe
    engine = {k: v for k, v in recipe.engine.items() if k != "products"}
    return (
        _network_key(training.model),
        loss_signature(training.objective.loss),
        optimizer_signature(training.optimizer),
        (order.rows, order.batch_size, order.accumulate, order.sampling),
        (prepared.schema.task, prepared.schema.input_shape, prepared.schema.outputs, recipe.model["output"]),
        (len(prepared.validation), prepared.train.weights is None, prepared.validation.weights is None),
        prepared.validation.balanced is None,
        # Metrics of the user's own with one name must be one function.
        tuple((m.name, m.takes, id(m.own)) for m in member.run.selection.requested if m.own is not None),
        repr(sorted(engine.items())),
    )


def _network_key(model: nn.Module) -> tuple[Any, ...]:
    try:
        return signature(model)
    except CannotPack:
        # For torch.vmap: everything except weights and dropout rates must be equal.
        return structure_of(model)


def _not_stackable_because(model: nn.Module) -> str:
    try:
        signature(model)
    except CannotPack as cause:
        return str(cause)
    return ""


def _by_width(members: Sequence[PlannedMember]) -> list[list[PlannedMember]]:
    """Split members of equal depth into groups with little padding; members of equal activation are adjacent."""
    of_widths: dict[tuple[int, ...], list[PlannedMember]] = {}
    for member in members:
        of_widths.setdefault(widths_of(member.training.model), []).append(member)
    groups: list[list[PlannedMember]] = []
    widest: list[int] = []
    needed = 0
    for widths in sorted(of_widths, key=_weight_count, reverse=True):
        own = of_widths[widths]
        padded = [max(pair) for pair in zip(widest, widths, strict=True)] if widest else list(widths)
        count = len(own) + (len(groups[-1]) if widest else 0)
        total = needed + len(own) * _weight_count(widths)
        fits = widest and count * _weight_count(padded) < MAX_PADDING * total
        if fits and can_be_padded(own[0].training.model):
            groups[-1] += own
            widest, needed = padded, total
        else:
            groups.append(list(own))
            widest, needed = list(widths), len(own) * _weight_count(widths)
    return [
        sorted(group, key=lambda m: (repr(m.plan.recipe.get("model.activation")), m.number))
        for group in groups
    ]


def _weight_count(widths: Sequence[int]) -> int:
    """Return the number of weights of a chain of linear layers, without biases, at least 1."""
    return sum(a * b for a, b in pairwise(widths)) or 1
