"""A member of a pack: a training, and the settings that the pack needs besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descend.training.loop import Training

__all__ = ["PackMember", "member_state", "restore_member"]


@dataclass(eq=False)
class PackMember:
    """One member of a pack.

    Args:
        number: its identifier, unique within the pack.
        training: the training, as it would run solo.
        decay: its decoupled weight decay.
        l1: factor of Σ|W| in its loss.
        l2: factor of ΣW² in its loss.
        schedule: a hashable description of its schedule; members with equal descriptions have equal factors. None if
            the schedule is shared with no other member.
        failure: the reason why it failed; empty if it has not.
    """

    number: int
    training: Training
    decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    schedule: Any = None
    failure: str = ""


def member_state(member: PackMember) -> dict[str, Any]:
    """Return the part of a pack's state that belongs to one member and is not a stacked tensor."""
    t = member.training
    return {
        "schedule": dict(t.schedule.state_dict()),
        "stopping": t.stopping.state_dict(),
        "epoch": t.epoch,
        "step": t.step,
        "seconds": t.seconds,
        "history": list(t.history),
        "stopped": t.stopped,
        "failure": member.failure,
    }


def restore_member(member: PackMember, state: Mapping[str, Any]) -> None:
    """Restore a member from the result of :func:`member_state`."""
    t = member.training
    t.schedule.load_state_dict(state["schedule"])
    t.stopping.load_state_dict(state["stopping"])
    t.epoch, t.step, t.seconds = state["epoch"], state["step"], state["seconds"]
    t.history, t.stopped, member.failure = state["history"], state["stopped"], state["failure"]
    t.best = {} if t.stopped else None
