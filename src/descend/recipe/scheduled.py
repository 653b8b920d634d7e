"""Build the schedules of settings other than the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from descend.errors import Problem, RecipeError
from descend.optim import OWN_DECAY
from descend.recipe.recipe import Recipe
from descend.regularization.decay import DECAY_FACTOR
from descend.schedules import SCHEDULES, Schedule
from descend.training.scheduled import Scheduled

__all__ = ["SCHEDULED_KEYS", "build_scheduled", "setting_schedule"]

SCHEDULED_KEYS = ("model.dropout_schedule", "regularize.weight_decay_schedule")
"""Keys of a recipe that schedule a setting."""

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def setting_schedule(recipe: Recipe, key: str, steps_per_epoch: int, total_steps: int) -> Schedule | None:
    """Return the schedule that a key names; None for a constant setting."""
    name = str(recipe.get(key, "constant"))
    return None if name == "constant" else SCHEDULES[name](steps_per_epoch, total_steps)


def build_scheduled(
    recipe: Recipe, model: nn.Module, optimizer: Optimizer, *, steps_per_epoch: int, total_steps: int
) -> list[Scheduled]:
    """Return the settings that change during training.

    Args:
        recipe: its keys ``model.dropout_schedule`` and ``regularize.weight_decay_schedule``.
        model: the network, whose dropout rates are those of the recipe.
        optimizer: with its weight decay.
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: the optimizer's steps in the whole training.

    Raises:
        RecipeError: a setting is scheduled that is 0, or that the network does not have.
    """
    made: dict[str, Callable[[], Callable[[float], None] | None]] = {
        "model.dropout_schedule": lambda: _dropout(model),
        "regularize.weight_decay_schedule": lambda: _decay(recipe, optimizer),
    }
    result, problems = [], []
    for key in SCHEDULED_KEYS:
        schedule = setting_schedule(recipe, key, steps_per_epoch, total_steps)
        if schedule is None:
            continue
        apply = made[key]()
        if apply is None:
            section, _, name = key.partition(".")
            setting = name.removesuffix("_schedule")
            message = f"there is no {setting.replace('_', ' ')} to schedule"
            problems.append(
                Problem(section, name, message, f"set {section}.{setting}, or leave this key out")
            )
        else:
            result.append(Scheduled(schedule, apply))
    if problems:
        raise RecipeError(problems)
    return result


def _dropout(model: nn.Module) -> Callable[[float], None] | None:
    layers: list[tuple[Any, float]] = [
        (each, float(each.p)) for each in model.modules() if isinstance(each, _DROPOUTS) and each.p > 0
    ]

    def apply(factor: float) -> None:
        for layer, rate in layers:
            layer.p = rate * factor

    return apply if layers else None


def _decay(recipe: Recipe, optimizer: Optimizer) -> Callable[[float], None] | None:
    if not float(recipe.regularize["weight_decay"]):
        return None
    own = recipe.optimizer["name"] in OWN_DECAY
    bases = [float(group["weight_decay"]) if own else 1.0 for group in optimizer.param_groups]
    key = "weight_decay" if own else DECAY_FACTOR

    def apply(factor: float) -> None:
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group[key] = base * factor

    return apply
