"""Resuming a run under a changed recipe: which changes leave its past as it was, and where training continues.

A run may be continued with another number of epochs, another early-stopping rule or other checkpoints, exactly as if these
had been requested at the start. Exactness is not assumed: the stopping rule is applied again to the recorded history, and
the learning rates of the steps already taken are computed again. A change that would have altered them is refused, with
the reason and the alternatives.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.interface import option
from descend.recipe import Recipe
from descend.recipe.build import build_schedule
from descend.recipe.scheduled import SCHEDULED_KEYS, setting_schedule
from descend.recipe.toml import path_of
from descend.runs.folder import is_finished
from descend.training.loop import RULES, Training
from descend.training.stopping import Stopping

__all__ = ["CHANGEABLE", "amended_recipe", "continue_training"]

REPLAYED = (
    "stop.max_epochs",
    "stop.patience",
    "stop.max_seconds",
    "stop.target",
    "stop.gradient_tolerance",
    "stop.monitor",
    "stop.min_improvement",
)
"""Keys whose effect on the past is computed from the history."""

FREE = (
    "checkpoint.every_epochs",
    "checkpoint.every_seconds",
    "engine.workers",
    "engine.device",
    "stop.refit",
    "model.minutes",
    "model.max_rounds",
)
"""Keys that may always be changed; another device rounds differently, which is reported. A larger budget of the preset
best continues the search with further rounds."""

CHANGEABLE = (*REPLAYED, *FREE)
"""All keys that a resumed run may change."""


def amended_recipe(folder: Path, saved: Recipe, requested: Recipe) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe under which a run continues, and the changes in it.

    Args:
        folder: the run folder, for messages.
        saved: the resolved recipe of the run.
        requested: the recipe specified now; keys that it leaves out or leaves to "auto" keep their values.

    Raises:
        RunError: the requested recipe changes what has already been trained; all such keys are listed.
    """
    before = saved.specified()
    changes = {
        key: value
        for key, value in requested.specified().items()
        if value != "auto" and _plain(value) != _plain(before.get(key))
    }
    altering = [key for key in changes if key not in CHANGEABLE]
    if altering:
        listed = "\n  ".join(f"{key}: was {before.get(key)!r}, now {changes[key]!r}" for key in altering)
        raise RunError(
            f"the recipe differs from the one the run in {folder} was started with, in keys that determine what has "
            "been trained; resume without these changes, or start a new run in another folder "
            f"(what may change: [stop] apart from average, [checkpoint], engine.device, engine.workers):\n  {listed}"
        )
    if "engine.device" in changes:
        warnings.warn(
            f"the run in {folder} was started on {before.get('engine.device')} and continues on "
            f"{changes['engine.device']}, which rounds differently: its last digits differ from those of a run that "
            "stays on one device",
            stacklevel=2,
        )
    return (saved.replace(changes) if changes else saved), changes


def _plain(value: Any) -> Any:
    """A value in a form in which equal settings are equal: lists for tuples, import paths for classes."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return path_of(value)


def continue_training(
    training: Training, recipe: Recipe, before: Recipe | None, folder: Path | None
) -> tuple[Recipe, bool]:
    """Prepare a restored training to continue under a recipe, as if it had been trained under this recipe from the start.

    ``training.stopped`` is then the reason for which the rule has ended training, or "" if training continues. Requests to
    stop, by a signal or by an observer, end with the process in which they were made.

    Args:
        training: built from ``recipe``, with the state of a checkpoint.
        recipe: the recipe under which it continues.
        before: the recipe under which it was trained so far, if that is another one.
        folder: the run folder, for messages.

    Returns:
        The recipe, in which max_epochs is at least the number of epochs done; and whether the training ends at a point
        before its checkpoint, so that its state must not be saved.

    Raises:
        RunError: the change would have altered what has been trained.
    """
    done, kept, stopped = training.epoch, training.stopping.best_epoch, training.stopped
    if before is not None and before.stop["monitor"] != recipe.stop["monitor"]:
        _check_recorded(training, before, folder)
    rule, reason = _replayed(training)
    if before is not None and reason == "max_epochs" and rule.epochs < done and not _exact(training, rule):
        requested = recipe.stop["max_epochs"]
        recipe = recipe.replace({"stop.max_epochs": done})
        training.stopping.max_epochs = done
        rule, reason = _replayed(training)
        warnings.warn(
            f"stop.max_epochs = {requested}: {done} epochs are already done, and the best weights so far are those of "
            f"epoch {kept}, so training ends with these (stop.max_epochs = {done})",
            stacklevel=2,
        )
    ends_early = rule.epochs < done
    if not _exact(training, rule):
        if before is None:  # written by a version with another rule, whose decision stands
            training.stopped = stopped if stopped in RULES else ""
            return recipe, False
        raise RunError(_refusal(before, recipe, folder, rule, kept, ends_early=ends_early))
    if before is not None and before.stop["max_epochs"] != recipe.stop["max_epochs"]:
        _check_schedule(training, before, recipe, folder)
    training.stopping.load_state_dict(rule.state_dict())
    limit = training.stopping.max_seconds
    if reason is None and limit is not None and training.history and training.history[-1]["seconds"] >= limit:
        reason = "max_seconds"
    training.stopped = reason or ""
    shortened = ends_early or (reason is not None and training.step_in_epoch > 0)
    if shortened:
        last = training.history[rule.epochs - 1]
        training.history = training.history[: rule.epochs]
        training.epoch, training.step, training.seconds = rule.epochs, last["step"], last["seconds"]
        training.step_in_epoch, training.losses = 0, []
    return recipe, shortened


def _check_recorded(training: Training, before: Recipe, folder: Path | None) -> None:
    """Refuse to monitor a value that was not measured in the epochs already done."""
    for record in training.history:
        if training.monitor not in record.get("validation", {training.monitor: None}):
            raise RunError(
                f"the run in {folder} cannot continue with stop.monitor = {training.monitor!r} instead of "
                f"{before.stop['monitor']!r}, which was not measured in epoch {record['epoch']}; resume without this "
                "change, or start a new run in another folder"
            )


def _replayed(training: Training) -> tuple[Stopping, str | None]:
    """Apply the stopping rule to the history; return it at the epoch where it ends training, and the reason, if any.

    Times are not applied, since they are not reproducible: a limit of seconds counts from now on.
    """
    counts: dict[str, Any] = {each.name: each.default for each in dataclasses.fields(Stopping)}
    rule = dataclasses.replace(
        training.stopping, max_seconds=None, **{name: counts[name] for name in training.stopping.state_dict()}
    )
    for record in training.history:
        reason = training.judge(rule, record)
        if reason:
            return rule, reason
    return rule, None


def _exact(training: Training, rule: Stopping) -> bool:
    """Whether the weights that the rule would have kept are those of the checkpoint.

    Multipliers of general constraints are those of the last epoch, so a training with constraints cannot end before it.
    """
    if training.lagrangian is not None and rule.epochs < training.epoch:
        return False
    return rule.best_epoch == training.stopping.best_epoch


def _refusal(
    before: Recipe, recipe: Recipe, folder: Path | None, rule: Stopping, kept: int, *, ends_early: bool
) -> str:
    old, new = before.specified(), recipe.specified()
    changed = [
        f"{key} = {new.get(key)!r}" for key in REPLAYED if _plain(old.get(key)) != _plain(new.get(key))
    ]
    course = (
        f"training would have ended in epoch {rule.epochs} with" if ends_early else "the run would have kept"
    )
    return (
        f"the run in {folder} cannot continue as if it had been started with {', '.join(changed)}: {course} the weights "
        f"of epoch {rule.best_epoch}, but those of epoch {kept} were kept. {_alternatives(folder)}"
    )


def _alternatives(folder: Path | None) -> str:
    """What to do instead of a change that is refused."""
    finished = folder is not None and is_finished(folder)
    finish = option(f"descend finish {folder}", f"descend.finish({str(folder)!r})")
    use = "use the run as it is" if finished else f"use its best weights so far ({finish})"
    return f"Resume without this change, {use}, or start a new run in another folder"


def _check_schedule(training: Training, before: Recipe, recipe: Recipe, folder: Path | None) -> None:
    """Refuse another number of epochs if it would have changed a learning rate of the steps already taken."""
    per_epoch = training.batches.steps_per_epoch
    old, new = (
        build_schedule(one, steps_per_epoch=per_epoch, total_steps=one.stop["max_epochs"] * per_epoch)
        for one in (before, recipe)
    )
    for step in range(training.step):
        if step and step % per_epoch == 0:
            for schedule in (old, new):
                training.report_to_schedule(training.history[step // per_epoch - 1], schedule)
        if old.factor(step) != new.factor(step):
            was, now = before.stop["max_epochs"], recipe.stop["max_epochs"]
            raise RunError(
                f"the run in {folder} cannot continue with stop.max_epochs = {now} instead of {was}: the schedule "
                f"{path_of(recipe.schedule['name'])} computes the learning rates from the number of epochs, so those of "
                f"the {training.step:,} steps already taken would have been others. {_alternatives(folder)}. A schedule "
                "that does not depend on the number of epochs, such as constant, can be continued at any time"
            )
    for key in SCHEDULED_KEYS:
        before_steps, steps = before.stop["max_epochs"] * per_epoch, recipe.stop["max_epochs"] * per_epoch
        first = setting_schedule(before, key, per_epoch, before_steps)
        second = setting_schedule(recipe, key, per_epoch, steps)
        if first and second and any(first.factor(at) != second.factor(at) for at in range(training.step)):
            raise RunError(
                f"the run in {folder} cannot continue with another stop.max_epochs: {key} = '{recipe.get(key)}' depends on the "
                f"number of epochs, so that of the steps already taken would have been another. {_alternatives(folder)}"
            )
