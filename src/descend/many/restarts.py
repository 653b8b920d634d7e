"""Several random initializations: the best network is kept, or the best few as an ensemble."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from descend.data.batches import Batches
from descend.errors import Interrupted, RunError
from descend.files import read_json
from descend.interface import resume_advice
from descend.many.distillation import distilled
from descend.many.execution import EngineChoice, train_members
from descend.many.planned_member import PlannedMember
from descend.many.validation_outputs import ValidationOutputs
from descend.many.watchers import Watcher, Watchers
from descend.nn.ensemble import Ensemble
from descend.nn.greedy import greedy, shrunk
from descend.recipe import Recipe
from descend.recipe.build import build_model, link_of
from descend.recipe.facts import facts_of
from descend.recipe.members import network_recipe, networks_per_run, selection_of
from descend.recipe.memory import check_memory
from descend.runs.build import measured_threads
from descend.runs.finish import calibrate, measure_parts
from descend.runs.folder import MEMBERS, METRICS, is_finished, is_started, reopen, write_failure
from descend.runs.plan import Plan, choose_device
from descend.runs.run import Run, load
from descend.runs.session import begin_folder, started_run
from descend.training.arithmetic import arithmetic
from descend.training.loop import Observer

__all__ = ["train_restarts"]


def train_restarts(
    planned: Plan,
    folder: Path | None = None,
    *,
    resume: bool = False,
    engine: EngineChoice = "auto",
    tested: bool = True,
    observers: Sequence[Observer] = (),
    watchers: Sequence[Watcher] = (),
    batches: Callable[[], Batches | None] = lambda: None,
    finishing: bool = False,
) -> Run:
    """Train networks from several random initializations, on the same rows in the same order, and keep the best.

    The best networks are those with the best monitored value on the validation rows; ties go to the earlier
    initialization. During training each network has its own folder within ``folder``, so that an interrupted run resumes
    to the same bits; these folders are deleted when the run is complete.

    Args:
        planned: with ``init.restarts`` or ``model.ensemble`` above 1.
        folder: the run folder, or None.
        resume: continue from the contents of the folder.
        engine: as for :func:`descend.train_many`. "auto" is "loop" on the CPU for the preset "good": its networks are of
            several kinds, a pack gains little, and without a measurement the result has the same bits each time.
        tested: whether the test part is evaluated.
        observers: notified of the events of each training, whose ``number`` is that of the network.
        watchers: notified of the epochs and ends of the networks.
        batches: returns the training batches of a network, instead of those the plan describes; called for each.
        finishing: train nothing, and use the best weights so far of each network in the folder. Default False.

    Returns:
        The run of the best network, or of the ensemble of the best, whose history is that of the best member.
        ``metrics["members"]`` contains the validation value of each network and the numbers of those kept. If fewer
        networks than needed finished, the run has failed (``run.failed``).

    Raises:
        Interrupted: a signal requested to stop.
        RunError: a finished run is to continue under another recipe; or there are too few networks to finish with.
    """
    if folder is not None and resume and is_finished(folder):
        if read_json(folder / METRICS).get("status") != "stopped":
            if planned.before is not None:
                raise RunError(
                    f"the run in {folder} is the best of several networks and is finished; their checkpoints were removed, "
                    "so it cannot be continued; start a new run in another folder"
                )
            return load(folder, allow_imports=True)  # imports were checked when the plan was made
        reopen(folder)
    device = choose_device(planned.recipe.engine["device"])
    if engine == "auto" and planned.recipe.model.get("preset") == "good" and device.type == "cpu":
        engine = "loop"
    facts = facts_of(planned.prepared.schema, str(device))
    train = planned.prepared.train
    network = build_model(planned.recipe, facts, planned.seed, train).to(device)
    first = _plan_of(planned, 0, planned.recipe.engine["threads"])
    check_memory(network, networks_per_run(planned.recipe), "init", "restarts")
    threads, why = measured_threads(
        first, build_model(first.recipe, facts, first.seed, train).to(device), device
    )
    run = started_run(planned, network, device, threads, why, folder)
    if folder is not None and (planned.before is not None or not resume):
        begin_folder(folder, run)
    inner = None if folder is None else folder / MEMBERS
    members = [
        _member(_plan_of(planned, number, threads), number, inner, resume)
        for number in range(networks_per_run(planned.recipe))
    ]
    try:
        for member in members:
            member.tested, member.observers, member.batches = tested, observers, batches()
            if member.engine_before:  # for all members: another engine rounds differently
                engine = cast(EngineChoice, member.engine_before)
        watcher = Watchers(list(watchers))
        train_members(members, watcher, engine, folder=inner, resume=resume, finishing=finishing)
    except Interrupted as cause:
        remedy = resume_advice(folder)
        message = str(cause).partition("; continue")[0]
        message = f"training of {len(members)} networks: {message}{remedy}"
        raise Interrupted(message, folder=folder) from None
    with arithmetic(threads, device, planned.recipe.engine["denormals"]):
        chosen, weights = _chosen(members, planned, device)
    if not chosen and finishing:
        usable = sum(not member.run.failed for member in members)
        needed = _needed(planned.recipe)
        raise RunError(
            f"the run in {folder} has {usable} of the {needed} networks that it needs, since the others were stopped "
            f"before the end of their first epoch{resume_advice(folder)}"
        )
    if not chosen:
        return _failed(run, members)
    run = _combined(run, [member.run for member in chosen], weights)
    with arithmetic(threads, device, planned.recipe.engine["denormals"]):
        calibrate(run, planned, device)
        if len(chosen) > 1 or run.calibration is not None:
            measure_parts(run, planned, device, tested=tested)
        if len(chosen) > 1:
            run.metrics.pop("constraints", None)  # constraints apply to each network, not to the ensemble
    if planned.recipe.model.get("distill", False):
        run = distilled(run, planned, device, tested=tested)
    monitor = run.selection.monitor
    run.metrics["seconds"] = sum(float(member.run.metrics.get("seconds", 0.0)) for member in members)
    run.metrics["members"] = {
        "kept": [member.number for member in chosen],
        "epochs": [int(member.run.metrics["best_epoch"]) for member in chosen],
        **({"weights": weights} if weights else {}),
        "monitor": monitor,
        "validation": [_value(member, monitor) for member in members],
    }
    if finishing:
        run.metrics |= {"status": "stopped", "stopped": "interrupted"}
    if folder is not None:
        run.write_files()
        if inner is not None and not finishing:
            shutil.rmtree(inner, ignore_errors=True)
    return run


def _plan_of(planned: Plan, number: int, threads: Any) -> Plan:
    """Return the plan of one network."""
    recipe = network_recipe(planned.recipe, number).replace({"engine.threads": threads})
    return dataclasses.replace(planned, resolved=dataclasses.replace(planned.resolved, recipe=recipe))


def _member(plan: Plan, number: int, inner: Path | None, resume: bool) -> PlannedMember:
    if inner is None:
        return PlannedMember(number, plan)
    folder = inner / f"{number:04d}"
    begun = resume and is_started(folder)
    member = PlannedMember(number, plan, folder, begun)
    if begun:
        member.read_engine(folder)
    return member


def _value(member: PlannedMember, monitor: str) -> float | None:
    value = member.run.metrics.get("validation", {}).get(monitor)
    return None if member.run.failed or value is None else float(value)


def _chosen(
    members: list[PlannedMember], planned: Plan, device: torch.device
) -> tuple[list[PlannedMember], list[float] | None]:
    """Return the members to keep, with their weights in the mean prediction; none if too few finished."""
    if selection_of(planned.recipe) == "best":
        return _best(members, planned.recipe), None
    finished = [member for member in members if not member.run.failed]
    if not finished:
        return [], None
    first = finished[0].run
    rows = ValidationOutputs(first, planned.prepared.validation, device)
    counts = greedy(
        [rows.of(one.run.model) for one in finished],
        link_of(planned.recipe, facts_of(first.schema)),
        rows.loss,
        size=int(planned.recipe.model["ensemble"]),
    )
    if not counts:
        return [], None
    sharing = range(len(finished)) if len(finished) <= planned.recipe.model["ensemble"] else list(counts)
    shares = shrunk(counts, sharing, float(planned.recipe.model.get("ensemble_shrinkage", 0.0)))
    return [finished[each] for each in shares], list(shares.values())


def _best(members: list[PlannedMember], recipe: Recipe) -> list[PlannedMember]:
    """Return the members to keep, those that satisfy their constraints first, then by value; none if too few finished."""
    count, selection = int(recipe.model["ensemble"]), members[0].run.selection
    finished = [member for member in members if not member.run.failed]
    if len(finished) < count:
        return []
    sign = -1.0 if selection.better == "higher" else 1.0

    def rank(member: PlannedMember) -> tuple[bool, bool, float]:
        """Members without a value come last; without validation rows none has one, and the earlier ones are kept."""
        value = _value(member, selection.monitor)
        feasible = member.run.metrics.get("constraints", {}).get("feasible", True)
        return not feasible, value is None, 0.0 if value is None else sign * value

    return sorted(finished, key=rank)[:count]


def _combined(run: Run, chosen: list[Run], weights: list[float] | None) -> Run:
    """Return the run with the chosen networks as its model."""
    best = chosen[0]
    model: nn.Module = best.model
    if len(chosen) > 1:
        model = Ensemble([one.model for one in chosen], link_of(run.recipe, facts_of(run.schema)), weights)
    return dataclasses.replace(
        run,
        model=model.eval(),
        history=best.history,
        metrics=dict(best.metrics),
        evaluation=best.evaluation,
    )


def _needed(recipe: Recipe) -> int:
    """The number of networks that must finish: greedy selection takes what there is."""
    return 1 if selection_of(recipe) == "greedy" else int(recipe.model["ensemble"])


def _failed(run: Run, members: list[PlannedMember]) -> Run:
    """Return the run marked as failed, since too few networks finished."""
    failed = [member.run for member in members if member.run.failed]
    needed = _needed(run.recipe)
    run.metrics = failed[0].metrics | {
        "message": f"{len(failed)} of {len(members)} networks diverged, and {needed} must finish. The first of them:\n"
        f"{failed[0].metrics['message']}"
    }
    if run.path is not None:
        write_failure(run.path, run.metrics)
    return run
