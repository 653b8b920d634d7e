"""Optimizers whose step is one or more iterations on the same rows, each from the gradient where the last one ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from descend.optim.along import Found
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.whole import Position, WholeStep

__all__ = ["Iterations", "checked"]


class Iterations(WholeStep, ABC):
    """A step is ``iterations`` iterations, a setting of the first group; a subclass says what one is in :meth:`iterate`.

    Within a step the gradient where an iteration ends is that where the next one starts, and is computed once.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters. What is remembered is of vectors of fewer entries, and is forgotten."""
        super().add_param_group(param_group)
        self.state.clear()

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """Iterate on the same rows, and stop early where an iteration finds nothing."""
        here = asked.gradient()
        loss = here.loss
        for left in reversed(range(self.param_groups[0]["iterations"])):
            found = None if here.empty else self.iterate(asked, position, here)
            if found is None:
                break
            if left:
                here, position = found.gradient or asked.gradient(), Position(asked.parameters)
        return loss

    @abstractmethod
    def iterate(self, asked: Evaluations, position: Position, here: Gradient) -> Found | None:
        """Move the parameters, and say where to, with the gradient on all rows of the step if it is known; None if nowhere."""


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
