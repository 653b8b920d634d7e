"""Trainings built twice: to run alone, and to ride in a pack."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from descend.data.preparation import Part, Prepared
from descend.many.pack import PackMember, PackTraining, stack
from descend.many.pack.network import StackedNetwork
from descend.recipe.build import build_model
from descend.recipe.defaults import facts_of
from descend.runs.build import assemble
from descend.runs.plan import Plan, Planner
from descend.runs.run import Run
from descend.training.loop import Training

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Relative, in norm, after three epochs."""

Recipes = Sequence[Mapping[str, Any]]


def trainings(
    recipes: Recipes, seeds: Sequence[int], data: Any = "digits", dtype: torch.dtype = torch.float32
) -> list[tuple[Plan, Training]]:
    """As each would train alone, without validation."""
    planner, made = Planner(data), []
    for recipe, seed in zip(recipes, seeds, strict=True):
        planned = planner.plan({**recipe, "engine": {"threads": 1, "products": "blas"}}, seed)
        model = build_model(planned.recipe, facts_of(planned.prepared.schema), seed).to(dtype)
        planned = dataclasses.replace(planned, prepared=_wide(planned.prepared, dtype))
        training = assemble(planned, Run(planned.recipe, {}, planned.prepared.schema, model), CPU)
        training.evaluate = None
        made.append((planned, training))
    return made


def _wide(prepared: Prepared, dtype: torch.dtype) -> Prepared:
    def part(own: Part) -> Part:
        assert own.inputs is not None
        targets = own.targets.to(dtype) if own.targets.is_floating_point() else own.targets
        return dataclasses.replace(own, inputs=own.inputs.to(dtype), targets=targets)

    return dataclasses.replace(prepared, train=part(prepared.train), validation=part(prepared.validation))


def pack_of(planned: Sequence[tuple[Plan, Training]], **more: Any) -> PackTraining:
    """The same trainings as one pack."""
    riders = []
    for number, (plan, training) in enumerate(planned):
        own = plan.recipe.regularize
        riders.append(PackMember(number, training, own["weight_decay"], own["l1"], own["l2"]))
    network = StackedNetwork(stack([training.model for _, training in planned]))
    return PackTraining(riders, network, **more)


def flat(state: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([state[name].flatten().double() for name in sorted(state)])


def weights(pack: PackTraining) -> dict[int, Tensor]:
    """Everything in each member's state as one vector, by number."""
    return {
        rider.number: flat(pack.network.state(place, pack.network.tensors))
        for place, rider in enumerate(pack.riders)
    }
