"""A round of a search: several networks that are trained together, and what is stored of them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from descend.data.batches import Batches
from descend.errors import Interrupted
from descend.files import read_json, write_atomically
from descend.many.budget.deadline import Deadline
from descend.many.execution import EngineChoice, train_members
from descend.many.planned_member import PlannedMember
from descend.many.validation_outputs import ValidationOutputs
from descend.many.watchers import Watcher
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.recipe.members import member_recipe
from descend.rng import key
from descend.runs.folder import METRICS, is_finished, is_started, reopen
from descend.runs.plan import Plan, choose_device
from descend.training.loop import Observer
from descend.training.state import read_state, to_bytes

__all__ = ["Candidate", "Circumstances", "load_round", "restored_network", "round_file", "train_round"]

MAX_PACKED_WEIGHTS = 65_536
"""Weights of the largest network up to which the networks of a round are packed on a CPU. The engine is not chosen by a
measurement, since engines round differently, and a search depends on nothing but its seed."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained network that may be selected for the ensemble.

    Args:
        round_number: the number of its round.
        number: its number within the round.
        table: the keys in which its recipe differs, and their values.
        loss: on the validation rows.
        outputs: the raw outputs (n, K) on the validation rows.
        metrics: of its run.
        history: of its run.
        weights: returns the tensors of its best weights by name.
    """

    round_number: int
    number: int
    table: dict[str, Any]
    loss: float
    outputs: Tensor
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    weights: Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Circumstances:
    """What all rounds of a search share.

    Args:
        plan: of the run, with the number of threads.
        deadline: stops the round that is being trained.
        engine: of the networks, or "auto".
        observers: notified of the events of each training.
        watcher: notified of the epochs and ends of the networks.
        batches: returns the training batches of a network, or None for those that its plan describes.
    """

    plan: Plan
    deadline: Deadline
    engine: EngineChoice
    observers: Sequence[Observer]
    watcher: Watcher
    batches: Callable[[], Batches | None]


def round_file(folder: Path, number: int) -> Path:
    """Return the file of a complete round."""
    return folder / f"{number:04d}.safetensors"


def train_round(
    shared: Circumstances,
    number: int,
    tables: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    finishing: bool = False,
) -> tuple[list[Candidate], str]:
    """Train the networks of a round, or continue a round that was stopped.

    Args:
        shared: what all rounds share.
        number: of the round.
        tables: for each network the keys in which it differs from the recipe, and their values.
        folder: of the rounds. The complete round is one file in it.
        finishing: train nothing, and use the best weights so far.

    Returns:
        The networks that have completed an epoch and did not diverge; and why the round was stopped before its end:
        "minutes" if the time is spent, "interrupted" after a signal or when finishing, else "".
    """
    place = folder / f"{number:04d}"
    members = _members(shared, number, tables, place)
    engine = shared.engine if shared.engine != "auto" else _engine_of(members)
    stopped = ""
    try:
        if not finishing:
            _train(shared, members, engine, place)
    except Interrupted:
        stopped = "minutes" if shared.deadline.passed else "interrupted"
    if stopped or finishing:
        stopped = stopped or "interrupted"
        members = _members(shared, number, tables, place)
        _train(shared, members, engine, place, finishing=True)
    candidates = _candidates(shared.plan, members, number, tables)
    if not stopped:
        _store(candidates, folder, number)
        shutil.rmtree(place, ignore_errors=True)
        candidates = load_round(folder, number) or []
    return candidates, stopped


def load_round(folder: Path, number: int) -> list[Candidate] | None:
    """Return the networks of a complete round; None if there is none.

    Raises:
        CheckpointError: its file is damaged.
    """
    path = round_file(folder, number)
    if not path.exists():
        return None
    tree, _ = read_state(path)
    return [
        Candidate(
            number,
            each["number"],
            each["table"],
            each["loss"],
            each["outputs"].clone(),
            each["metrics"],
            each["history"],
            _stored_weights(path, at),
        )
        for at, each in enumerate(tree["networks"])
    ]


def restored_network(plan: Plan, candidate: Candidate) -> nn.Module:
    """Return the network of a candidate with its best weights, in evaluation mode on the plan's device."""
    device = choose_device(plan.recipe.engine["device"])
    facts = facts_of(plan.prepared.schema, str(device))
    network = build_model(member_recipe(plan.recipe, candidate.table), facts, plan.seed)
    network.load_state_dict(dict(candidate.weights()))
    return network.to(device).eval()


def _stored_weights(path: Path, at: int) -> Callable[[], Mapping[str, Tensor]]:
    """Return a function that reads the weights of a network: those of a long search may not fit in memory together."""

    def weights() -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = read_state(path)[0]["networks"][at]["weights"]
        return found

    return weights


def _store(candidates: Sequence[Candidate], folder: Path, number: int) -> None:
    networks = [
        {
            "number": one.number,
            "table": _plain(one.table),
            "loss": one.loss,
            "outputs": one.outputs.cpu(),
            "metrics": one.metrics,
            "history": one.history,
            "weights": dict(one.weights()),
        }
        for one in candidates
    ]
    epochs = max((int(one.metrics["epochs"]) for one in candidates), default=0)
    write_atomically(round_file(folder, number), to_bytes({"networks": networks}, {"epoch": epochs}))


def _plain(value: Any) -> Any:
    """Return a setting with plain dictionaries in place of other mappings."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _members(
    shared: Circumstances, number: int, tables: Sequence[Mapping[str, Any]], place: Path
) -> list[PlannedMember]:
    members = []
    for at, table in enumerate(tables):
        folder = place / f"{at:04d}"
        begun = is_started(folder)
        member = PlannedMember(at, _plan_of(shared.plan, table, number, at), folder, begun)
        if begun:
            member.read_engine(folder)
            if is_finished(folder) and read_json(folder / METRICS).get("status") == "stopped":
                reopen(folder)  # it was evaluated when the round was stopped, and is trained on
        member.tested, member.observers, member.batches = False, shared.observers, shared.batches()
        member.limits = [shared.deadline]
        members.append(member)
    return members


def _plan_of(plan: Plan, table: Mapping[str, Any], number: int, at: int) -> Plan:
    """Return the plan of a network: on the same rows, in an order and from initial weights of its own."""
    resolved = dataclasses.replace(plan.resolved, recipe=member_recipe(plan.recipe, table))
    return dataclasses.replace(
        plan, resolved=resolved, seed=key(plan.seed, "best network", number, at), before=None
    )


def _engine_of(members: Sequence[PlannedMember]) -> EngineChoice:
    """Return the engine of a round by the size of its networks; that of its beginning if it was stopped."""
    for member in members:
        if member.engine_before:
            return cast(EngineChoice, member.engine_before)
    plan = members[0].plan
    device = choose_device(plan.recipe.engine["device"])
    facts = facts_of(plan.prepared.schema, str(device))
    sizes = [
        sum(p.numel() for p in build_model(each.plan.recipe, facts, 0, plan.prepared.train).parameters())
        for each in members
    ]
    return "packed" if device.type != "cpu" or max(sizes) <= MAX_PACKED_WEIGHTS else "loop"


def _train(
    shared: Circumstances,
    members: Sequence[PlannedMember],
    engine: EngineChoice,
    place: Path,
    *,
    finishing: bool = False,
) -> None:
    train_members(members, shared.watcher, engine, folder=place, resume=True, finishing=finishing)


def _candidates(
    plan: Plan, members: Sequence[PlannedMember], number: int, tables: Sequence[Mapping[str, Any]]
) -> list[Candidate]:
    usable = [member for member in members if not member.run.failed and member.run.history]
    if not usable:
        return []
    device = choose_device(plan.recipe.engine["device"])
    rows = ValidationOutputs(usable[0].run, plan.prepared.validation, device)
    found = []
    for member in usable:
        outputs = rows.of(member.run.model)
        state = member.run.model.state_dict()
        weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        found.append(
            Candidate(
                number,
                member.number,
                dict(tables[member.number]),
                float(rows.loss(outputs)),
                outputs,
                dict(member.run.metrics),
                list(member.run.history),
                partial(dict, weights),
            )
        )
    return found
