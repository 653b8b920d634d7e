"""Observers that several tests share."""

from __future__ import annotations

from descend.training.loop import Training
from descend.training.observers import Quiet

__all__ = ["StopAt"]


class StopAt(Quiet):
    """Request a stop after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, training: Training) -> None:
        if training.step == self.step:
            training.stop_requested = True
