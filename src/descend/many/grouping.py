"""Who can ride with whom: members in groups that one engine trains together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import nn

from descend.augmentation.pipeline import AugmentedBatches
from descend.data.batches import MemoryBatches
from descend.losses import Loss
from descend.many.planned_member import PlannedMember
from descend.many.pack.losses import loss_signature
from descend.many.pack.stacking import CannotPack, pads, signature, widths_of
from descend.many.pack.structure import structure_of
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because, optimizer_signature
from descend.recipe.adapters import OnProbabilities

__all__ = ["MAX_PADDING", "Group", "groups", "cannot_be_packed_because"]

MAX_PADDING = 2.0
"""Networks are padded to the widest while all together have less than this many times the weights they need."""


UNPACKABLE_TERMS = ("l1_prox", "jacobian", "gradient_penalty", "orthogonality")
"""Keys of [regularize] that have no packed form."""


@dataclass(eq=False)
class Group:
    """Members that are trained together.

    Args:
        members: in the order of the pack.
        not_stackable_because: empty where their networks can be stacked.
        not_packable_because: empty where they can ride together at all.
    """

    members: list[PlannedMember]
    not_stackable_because: str = ""
    not_packable_because: str = ""


def groups(members: Sequence[PlannedMember]) -> list[Group]:
    """Groups of members that can ride together; one that can with nobody is a group of its own kind.

    Args:
        members: built, with their trainings.
    """
    together: dict[Any, list[PlannedMember]] = {}
    apart: dict[str, list[PlannedMember]] = {}
    for member in members:
        reason = cannot_be_packed_because(member)
        if reason:
            apart.setdefault(reason, []).append(member)
        else:
            together.setdefault(_key(member), []).append(member)
    found = []
    for alike in together.values():
        reason = _not_stackable_because(alike[0].training.model)
        found += [Group(part, reason) for part in ([alike] if reason else _by_width(alike))]
    found += [Group(alike, reason, reason) for reason, alike in apart.items()]
    return found


def cannot_be_packed_because(member: PlannedMember) -> str:
    """Why a member cannot ride with others at all; empty where it can."""
    training, recipe = member.training, member.plan.recipe
    if isinstance(training.batches, AugmentedBatches):
        return "data.augment has no packed form"
    if member.plan.prepared.train.stored:
        return "its rows stay on disk"
    if not isinstance(training.batches, MemoryBatches):
        return "its rows are loaded one by one"
    if recipe.get("stop.max_seconds") is not None:
        return "stop.max_seconds is a time of its own"
    if recipe.get("stop.gradient_tolerance") is not None:
        return "stop.gradient_tolerance watches a gradient of its own"
    if recipe.get("model.freeze"):
        return "model.freeze holds parts of its network fixed"
    terms = [f"regularize.{key}" for key in UNPACKABLE_TERMS if recipe.regularize[key] not in (0, "none")]
    terms += [f"constrain.{key}" for key, value in recipe.constrain.items() if value is not None]
    if terms:
        return f"{terms[0]} has no packed form"
    if not isinstance(training.objective.loss, (Loss, OnProbabilities)):
        return "its loss is not one of descend's"
    return optimizer_cannot_be_packed_because(training.optimizer)


def _key(member: PlannedMember) -> tuple[Any, ...]:
    """What members that ride together share."""
    training, plan = member.training, member.plan
    batches = training.batches
    assert isinstance(batches, MemoryBatches)  # the others ride with nobody
    order = batches.order
    prepared, recipe = plan.prepared, plan.recipe
    engine = {k: v for k, v in recipe.engine.items() if k != "products"}
    return (
        _modules(training.model),
        loss_signature(training.objective.loss),
        optimizer_signature(training.optimizer),
        (order.rows, order.batch_size, order.accumulate, order.sampling),
        (prepared.schema.task, prepared.schema.input_shape, prepared.schema.outputs, recipe.model["output"]),
        (len(prepared.validation), prepared.train.weights is None, prepared.validation.weights is None),
        repr(sorted(engine.items())),
    )


def _modules(model: nn.Module) -> tuple[Any, ...]:
    try:
        return signature(model)
    except CannotPack:
        # Run as it is: everything but the values of its weights and rates of dropout must agree.
        return structure_of(model)


def _not_stackable_because(model: nn.Module) -> str:
    try:
        signature(model)
    except CannotPack as cause:
        return str(cause)
    return ""


def _by_width(alike: Sequence[PlannedMember]) -> list[list[PlannedMember]]:
    """Members of one depth in groups whose padding stays below the limit; those of one activation side by side."""
    of_widths: dict[tuple[int, ...], list[PlannedMember]] = {}
    for member in alike:
        of_widths.setdefault(widths_of(member.training.model), []).append(member)
    found: list[list[PlannedMember]] = []
    widest: list[int] = []
    needed = 0
    for widths in sorted(of_widths, key=_size, reverse=True):
        own = of_widths[widths]
        padded = [max(pair) for pair in zip(widest, widths, strict=True)] if widest else list(widths)
        count = len(own) + (len(found[-1]) if widest else 0)
        more = needed + len(own) * _size(widths)
        if widest and pads(own[0].training.model) and count * _size(padded) < MAX_PADDING * more:
            found[-1] += own
            widest, needed = padded, more
        else:
            found.append(list(own))
            widest, needed = list(widths), len(own) * _size(widths)
    return [
        sorted(part, key=lambda m: (repr(m.plan.recipe.get("model.activation")), m.number)) for part in found
    ]


def _size(widths: Sequence[int]) -> int:
    """About the number of weights of a chain of linear layers."""
    return sum(a * b for a, b in pairwise(widths)) or 1
