"""The base class of optimizers whose step is one or more iterations on the same rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.line_search import SearchResult
from descend.optim.vector_step import Position, VectorStep

__all__ = ["Iterations"]


class Iterations(VectorStep, ABC):
    """An optimizer whose step is at most ``max_iter`` iterations, a setting of the first group; a subclass implements one.

    Within a step, the gradient where one iteration ends is that where the next one starts, and is computed once.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters. The state consists of vectors of the previous length, and is reset."""
        super().add_param_group(param_group)
        self.state.clear()

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Iterate on the same rows, and stop early where an iteration takes no step."""
        gradient = objective.gradient()
        loss = gradient.loss
        for remaining in reversed(range(self.param_groups[0]["max_iter"])):
            result = None if gradient.empty else self.iterate(objective, position, gradient)
            if result is None:
                break
            if remaining:
                gradient, position = result.gradient or objective.gradient(), Position(objective.parameters)
        return loss

    @abstractmethod
    def iterate(self, objective: Evaluations, position: Position, gradient: Gradient) -> SearchResult | None:
        """Move the parameters by one iteration.

        Returns:
            The step size, and the gradient on all rows of the step if it is known; None where no step was taken.
        """
