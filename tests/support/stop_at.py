"""An observer that interrupts training after a given step."""

from __future__ import annotations

from descend.training.loop import Training
from descend.training.observers import Quiet


class StopAt(Quiet):
    """Requests training to stop after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, training: Training) -> None:
        if training.step == self.step:
            training.stop_requested = True
