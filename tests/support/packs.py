"""Packs with networks of any kind, held against the trainings that their members are alone."""

from __future__ import annotations

import copy

import torch
from tests.support.solo_and_packed import TOLERANCE, trainings

from descend.many.pack import PackMember, PackTraining
from descend.training.loop import fit

__all__ = ["assert_equal_solo", "difference", "member_state", "pack_of", "trainings"]


def pack_of(made, network_of):
    """A pack of trainings; ``network_of`` makes one network of the models and some rows."""
    members = []
    for number, (planned, training) in enumerate(made):
        terms = planned.recipe.regularize
        members.append(
            PackMember(number, training, float(terms["weight_decay"]), float(terms["l1"]), float(terms["l2"]))
        )
    rows = made[0][1].batches.tensors[0][:4]
    return PackTraining(members, network_of([training.model for _, training in made], rows))


def member_state(pack, number):
    place = next(place for place, member in enumerate(pack.members) if member.number == number)
    return pack.network.state(place, pack.network.tensors)


def difference(one, other):
    """Relative, in the norm of all numbers of the state together."""
    assert list(one) == list(other)
    a, b = (torch.cat([t.flatten().double() for t in state.values()]) for state in (one, other))
    return ((a - b).norm() / a.norm()).item()


def assert_equal_solo(recipes, network_of, *, data="digits", dtype=torch.float32, seeds=None, drop=None):
    """Every member of a pack has the weights of its solo run after three epochs; one may be dropped after the first."""
    seeds = list(range(len(recipes))) if seeds is None else seeds
    solo = trainings(recipes, seeds, data, dtype)
    started = [copy.deepcopy(training.model.state_dict()) for _, training in solo]
    for _, training in solo:
        fit(training, until=3)
    pack = pack_of(trainings(recipes, seeds, data, dtype), network_of)
    going = set(range(len(recipes)))
    if drop is not None:
        fit(pack, until=1)
        pack.drop({drop}, "dropped")
        going.remove(drop)
        assert [member.number for member in pack.members] == sorted(going)
    fit(pack, until=3)
    allowed = TOLERANCE[dtype]
    for number in going:
        alone = solo[number][1]
        assert difference(alone.model.state_dict(), member_state(pack, number)) < allowed
        assert (
            difference(alone.model.state_dict(), started[number]) > 1e3 * allowed
        )  # it has learned something
        (member,) = (member for member in pack.members if member.number == number)
        mine, theirs = member.training.history[-1], alone.history[-1]
        for key in ("gradient_norm", "weight_norm", "lr"):
            assert abs(mine[key] - theirs[key]) <= 1e-3 * abs(theirs[key])
        assert abs(mine["train"]["loss"] - theirs["train"]["loss"]) <= 1e-4 * max(1, theirs["train"]["loss"])
