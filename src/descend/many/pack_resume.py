"""Resuming the members of a pack, whose recipes may have been changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from descend.errors import RunError
from descend.files import read_json, read_json_lines
from descend.many.pack import PackTraining
from descend.many.planned_member import PlannedMember
from descend.runs.folder import HISTORY, METRICS, is_finished
from descend.runs.resume import continue_training
from descend.runs.run import load
from descend.runs.session import begin_folder

__all__ = ["continue_pack"]


def continue_pack(pack: PackTraining, members: Sequence[PlannedMember]) -> None:
    """Continue a restored pack: its members under their recipes, and those that had stopped as they were.

    A member that had stopped is trained further if its changed recipe says so and the pack still has its state.

    Args:
        pack: restored from its last checkpoint, if there is one.
        members: all members with which it was started.

    Raises:
        RunError: a change would have altered what has been trained, or continues a member whose state is not kept. The
            folders are unchanged.
    """
    by_number = {member.number: member for member in members}
    present = {pack_member.number for pack_member in pack.members}
    revived = set()
    for pack_member in pack.members:
        member, training = by_number[pack_member.number], pack_member.training
        ended = bool(training.stopped)
        if pack_member.failure or training.stopped == "dropped":
            continue
        if not ended:
            training.step, training.step_in_epoch = pack.step, pack.step_in_epoch
        member.run.recipe, _ = continue_training(
            training, member.run.recipe, member.plan.before, member.folder
        )
        if ended and not training.stopped:
            if training.epoch < pack.epoch:
                raise RunError(_not_kept(member))
            revived.add(member.number)
        if not (ended and training.stopped) or member.plan.before is not None:
            training.best = None  # the pack has its best weights, with which it is evaluated when it ends
    for member in members:
        if member.number not in present and member.plan.before is not None:
            _check_finished(member)
    for member in members:
        if member.folder is not None and member.number in present:
            stopped = is_finished(member.folder) and _metrics(member).get("status") == "stopped"
            if member.plan.before is not None or stopped or member.number in revived:
                begin_folder(member.folder, member.run)
    pack.stopped = ""
    pack.drop(set(), "")  # ends the members that their changed recipes have ended
    _load_finished(pack, members)


def _check_finished(member: PlannedMember) -> None:
    """Check that a member whose state is not kept has ended as it would have under its changed recipe."""
    assert member.folder is not None
    metrics, training = _metrics(member), member.training
    if metrics.get("status") != "finished" or metrics.get("stopped") == "dropped":
        return
    training.history = read_json_lines(member.folder / HISTORY)
    training.epoch, training.step = len(training.history), int(metrics["steps"])
    training.stopping.best_epoch, training.stopped = int(metrics["best_epoch"]), str(metrics["stopped"])
    _, shortened = continue_training(training, member.run.recipe, member.plan.before, member.folder)
    if shortened or not training.stopped:
        raise RunError(_not_kept(member))


def _load_finished(pack: PackTraining, members: Sequence[PlannedMember]) -> None:
    """Load the runs of members that had stopped before the interruption."""
    running = {pack_member.number for pack_member in pack.members if not pack_member.training.stopped}
    for member in members:
        if member.folder is None or member.number in running or member.stopped:
            continue
        metrics = _metrics(member)
        member.stopped = str(metrics.get("stopped", "finished"))
        if metrics.get("status") == "failed":
            member.run.metrics = metrics
        else:
            member.run = load(member.folder, model=member.run.model)


def _metrics(member: PlannedMember) -> dict[str, Any]:
    assert member.folder is not None
    return read_json(member.folder / METRICS)


def _not_kept(member: PlannedMember) -> str:
    return (
        f"the run in {member.folder} ended in epoch {len(member.training.history)} in a pack of networks, which has been "
        "trained further without it, so it cannot be continued or changed; resume without this change, or start a new run "
        "in another folder"
    )
