"""From plans to trainable members: networks, runs and trainings, with shared rows on the device."""

from __future__ import annotations

from collections.abc import Sequence

from descend.data.batches import MemoryBatches, Order
from descend.many.planned_member import PlannedMember
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.recipe.transfer import start_from_pretrained
from descend.runs.build import assemble, order_of, part_batches
from descend.runs.plan import choose_device
from descend.runs.session import started_run
from descend.training.threads import using_threads

__all__ = ["build_members"]


def build_members(members: Sequence[PlannedMember]) -> None:
    """Set the run and the training of every member.

    Members whose plans share prepared rows share the tensors of these rows on the device.
    """
    on_device: dict[tuple[int, str], MemoryBatches] = {}
    with using_threads(1):  # the tensors are small: a second thread would only cost synchronization
        for member in members:
            _build_member(member, on_device)


def _build_member(member: PlannedMember, on_device: dict[tuple[int, str], MemoryBatches]) -> None:
    plan = member.plan
    device = choose_device(plan.recipe.engine["device"])
    network = build_model(
        plan.recipe, facts_of(plan.prepared.schema, str(device)), plan.seed, plan.prepared.train
    )
    pretrained = start_from_pretrained(plan.recipe, network)
    network = network.to(device)
    member.run = started_run(plan, network, device, 0, "", member.folder, pretrained)
    key = (id(plan.prepared), str(device))
    train = plan.prepared.train
    if train.inputs is not None and not train.stored and key not in on_device:
        rows = part_batches(train, Order(len(train), len(train)), device)
        assert isinstance(rows, MemoryBatches)
        on_device[key] = rows
    batches = member.batches
    if batches is None and key in on_device:
        tensors = on_device[key].tensors
        weights = tensors[2] if len(tensors) > 2 else None
        batches = MemoryBatches(tensors[0], tensors[1], weights, order_of(plan))
    member.training = assemble(plan, member.run, device, batches)
    member.training.number = member.number
