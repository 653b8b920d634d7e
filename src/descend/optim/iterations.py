"""Optimizers whose step is one or more iterations on the same rows, each from the gradient where the last one ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.whole import Position, WholeStep

__all__ = ["Iterations", "checked"]


class Iterations(WholeStep, ABC):
    """A step is ``iterations`` iterations, a setting of the first group; a subclass says what one is in :meth:`iterate`.

    Within a step the gradient where an iteration ends is that where the next one starts, and is computed once.
    """

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """Iterate on the same rows, and stop early where an iteration finds nothing."""
        here: Gradient | None = asked.gradient()
        loss = None if here is None else here.loss
        for count in range(self.param_groups[0]["iterations"]):
            if here is None or here.empty:
                break
            here = self.iterate(asked, Position(asked.parameters) if count else position, here)
        return loss

    @abstractmethod
    def iterate(self, asked: Evaluations, position: Position, here: Gradient) -> Gradient | None:
        """Move the parameters, and give the gradient on all rows of the step where they are then; None if nothing moved."""


def checked(**settings: Any) -> dict[str, Any]:
    """The settings that line searches share, if they are within their domains.

    Raises:
        ValueError: naming the setting.
    """
    if not settings["lr"] >= 0:
        raise ValueError(f"lr must be 0 or more; found {settings['lr']}")
    if not settings.get("iterations", 1) >= 1:
        raise ValueError(f"iterations must be 1 or more; found {settings['iterations']}")
    for name in ("c1", "c2"):
        if not 0 < settings[name] < 1:
            raise ValueError(f"{name} must be above 0 and below 1; found {settings[name]}")
    return settings
