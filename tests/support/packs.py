"""Trainings built twice, to run solo and in a pack, and comparisons of the two."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.preparation import Part, Prepared
from descend.many.pack import PackMember, PackTraining, stack
from descend.many.pack.network import Network, StackedNetwork
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.runs.build import assemble
from descend.runs.plan import Plan, Planner
from descend.runs.run import Run
from descend.training.loop import Training, fit

__all__ = [
    "CPU",
    "TOLERANCE",
    "assert_equal_solo",
    "flat",
    "member_state",
    "pack_of",
    "relative_difference",
    "stacked",
    "trainings",
    "weights",
]

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Relative, in norm, after three epochs."""

Planned = tuple[Plan, Training]
NetworkOf = Callable[[Sequence[nn.Module], Tensor], Network]
"""(models, a few rows) -> one network."""


def trainings(
    recipes: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    data: Any = "digits",
    dtype: torch.dtype = torch.float32,
) -> list[Planned]:
    """Return plans and trainings as of solo runs, without validation."""
    planner, result = Planner(data), []
    for recipe, seed in zip(recipes, seeds, strict=True):
        planned = planner.plan({**recipe, "engine": {"threads": 1, "products": "blas"}}, seed)
        model = build_model(planned.recipe, facts_of(planned.prepared.schema), seed).to(dtype)
        planned = dataclasses.replace(planned, prepared=_converted(planned.prepared, dtype))
        training = assemble(planned, Run(planned.recipe, {}, planned.prepared.schema, model), CPU)
        training.evaluate = None
        result.append((planned, training))
    return result


def _converted(prepared: Prepared, dtype: torch.dtype) -> Prepared:
    def convert(part: Part) -> Part:
        assert part.inputs is not None
        targets = part.targets.to(dtype) if part.targets.is_floating_point() else part.targets
        return dataclasses.replace(part, inputs=part.inputs.to(dtype), targets=targets)

    return dataclasses.replace(
        prepared, train=convert(prepared.train), validation=convert(prepared.validation)
    )


def stacked(models: Sequence[nn.Module], rows: Tensor) -> Network:
    """Return models as one stacked network."""
    return StackedNetwork(stack(models))


def pack_of(planned: Sequence[Planned], network_of: NetworkOf = stacked, **settings: Any) -> PackTraining:
    """Return a pack of these trainings; ``settings`` are passed to :class:`PackTraining`."""
    members = []
    for number, (plan, training) in enumerate(planned):
        terms = plan.recipe.regularize
        members.append(
            PackMember(number, training, float(terms["weight_decay"]), float(terms["l1"]), float(terms["l2"]))
        )
    batches: Any = planned[0][1].batches
    rows = batches.tensors[0][:4]
    return PackTraining(members, network_of([training.model for _, training in planned], rows), **settings)


def flat(state: Mapping[str, Tensor]) -> Tensor:
    """Return a state dict as one vector in float64."""
    return torch.cat([state[name].flatten().double() for name in sorted(state)])


def member_state(pack: PackTraining, number: int) -> dict[str, Tensor]:
    """Return the state dict of the member with this number."""
    place = next(place for place, member in enumerate(pack.members) if member.number == number)
    return pack.network.state(place, pack.network.tensors)


def weights(pack: PackTraining) -> dict[int, Tensor]:
    """Return the state of each member as one vector, by number."""
    return {
        member.number: flat(pack.network.state(place, pack.network.tensors))
        for place, member in enumerate(pack.members)
    }


def relative_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the norm of the difference of two state dicts, relative to that of the first."""
    assert list(one) == list(other)
    a, b = (torch.cat([t.flatten().double() for t in state.values()]) for state in (one, other))
    return ((a - b).norm() / a.norm()).item()


def assert_equal_solo(
    recipes: Sequence[Mapping[str, Any]],
    network_of: NetworkOf = stacked,
    *,
    data: Any = "digits",
    dtype: torch.dtype = torch.float32,
    drop: int | None = None,
) -> None:
    """Assert that each member of a pack has the weights of its solo run after three epochs.

    Args:
        recipes: one for each member; the seeds are their indices.
        network_of: makes one network of the members' models.
        data: any data.
        dtype: of weights and rows.
        drop: a member to be dropped after the first epoch, if any.
    """
    seeds = list(range(len(recipes)))
    solo = trainings(recipes, seeds, data, dtype)
    initial = [copy.deepcopy(training.model.state_dict()) for _, training in solo]
    for _, training in solo:
        fit(training, until=3)
    pack = pack_of(trainings(recipes, seeds, data, dtype), network_of)
    running = set(range(len(recipes)))
    if drop is not None:
        fit(pack, until=1)
        pack.drop({drop}, "dropped")
        running.remove(drop)
        assert [member.number for member in pack.members] == sorted(running)
    fit(pack, until=3)
    allowed = TOLERANCE[dtype]
    for number in running:
        expected = solo[number][1]
        assert relative_difference(expected.model.state_dict(), member_state(pack, number)) < allowed
        # The weights have changed, so the comparison can fail.
        assert relative_difference(expected.model.state_dict(), initial[number]) > 1e3 * allowed
        (member,) = (member for member in pack.members if member.number == number)
        actual, last = member.training.history[-1], expected.history[-1]
        for key in ("gradient_norm", "weight_norm", "lr"):
            assert abs(actual[key] - last[key]) <= 1e-3 * abs(last[key])
        assert abs(actual["train"]["loss"] - last["train"]["loss"]) <= 1e-4 * max(1, last["train"]["loss"])
