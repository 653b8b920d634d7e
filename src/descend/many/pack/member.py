"""A member of a pack: an ordinary training, and what its pack must know of it besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descend.training.loop import Training

__all__ = ["PackMember", "rate", "restore", "state_of"]


@dataclass(eq=False)
class PackMember:
    """One member of a pack.

    Args:
        number: names it.
        training: as it would train alone.
        decay: its decoupled weight decay.
        l1: factor of Σ|W| in its loss.
        l2: factor of ΣW² in its loss.
        schedule: what its schedule is built from: riders of equal ones have equal factors. None: it is like no other.
        failure: what went bad, if something did.
    """

    number: int
    training: Training
    decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    schedule: Any = None
    failure: str = ""


def rate(training: Training, step: int) -> float:
    """The learning rate of a step."""
    return float(training.optimizer.param_groups[0]["initial_lr"] * training.schedule.factor(step))


def state_of(rider: PackMember) -> dict[str, Any]:
    """What is a member's own of a pack's state."""
    t = rider.training
    return {
        "schedule": dict(t.schedule.state_dict()),
        "stopping": t.stopping.state_dict(),
        "epoch": t.epoch,
        "step": t.step,
        "seconds": t.seconds,
        "history": list(t.history),
        "stopped": t.stopped,
        "failure": rider.failure,
    }


def restore(rider: PackMember, state: Mapping[str, Any]) -> None:
    """Go on from what :func:`state_of` gave."""
    t = rider.training
    t.schedule.load_state_dict(state["schedule"])
    t.stopping.load_state_dict(state["stopping"])
    t.epoch, t.step, t.seconds = state["epoch"], state["step"], state["seconds"]
    t.history, t.stopped, rider.failure = state["history"], state["stopped"], state["failure"]
    t.best = {} if t.stopped else None
