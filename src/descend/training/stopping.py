"""When to stop, and which epoch was the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Stopping"]


@dataclass
class Stopping:
    """Early stopping: keeps count of epochs without a new best value.

    An epoch is better when its monitored value is better than the best before by more than the share
    ``min_improvement`` of that; the earliest of equals is kept. An epoch whose weights violate constraints is never better
    than one whose weights meet them; while none does, the latest counts as the best.

    Args:
        max_epochs: passes over the training rows, at most.
        patience: epochs without improvement after which to stop; None never stops early.
        larger_is_better: whether the monitored value is a score rather than a loss.
        max_seconds: stop at the end of the epoch that passes this time.
        target: stop once the monitored value is this good.
        gradient_tolerance: stop once the norm of the gradient is at most this.
        min_improvement: share of the best value by which a better one must differ from it.

    >>> stopping = Stopping(max_epochs=9, patience=2)
    >>> [stopping.observe(loss, seconds=0.0) for loss in (1.0, 0.5, 0.6, 0.5)]
    [None, None, None, 'patience']
    >>> stopping.best_epoch
    2
    """

    max_epochs: int
    patience: int | None = None
    larger_is_better: bool = False
    max_seconds: float | None = None
    target: float | None = None
    gradient_tolerance: float | None = None
    min_improvement: float = 0.0
    epochs: int = 0
    best: float = math.nan
    best_epoch: int = 0
    best_feasible: bool = False

    def observe(
        self,
        value: float | None,
        *,
        seconds: float,
        gradient_norm: float | None = None,
        feasible: bool = True,
    ) -> str | None:
        """Count an epoch with its monitored value (None where there is none); the reason to stop, if any.

        Args:
            value: the monitored value of the epoch.
            seconds: time since the training began.
            gradient_norm: of the epoch's last step; None where it was not measured.
            feasible: whether the epoch's weights meet what constraints there are. Default True.
        """
        self.epochs += 1
        better = (
            value is None or math.isnan(self.best) or self._better(value, self.best, self.min_improvement)
        )
        if feasible != self.best_feasible:
            better = feasible
        if better or not (feasible or self.best_feasible):
            self.best = math.nan if value is None else value
            self.best_epoch, self.best_feasible = self.epochs, feasible
        reached = self.target is not None and value is not None and not self._better(self.target, value)
        if reached and feasible:
            return "target"
        if (
            feasible
            and self.gradient_tolerance is not None
            and gradient_norm is not None
            and gradient_norm <= self.gradient_tolerance
        ):
            return "gradient_tolerance"
        if self.patience is not None and self.epochs - self.best_epoch >= self.patience:
            return "patience"
        if self.max_seconds is not None and seconds >= self.max_seconds:
            return "max_seconds"
        return self.spent

    @property
    def spent(self) -> str | None:
        """The reason "max_epochs" once all epochs are done."""
        return "max_epochs" if self.epochs >= self.max_epochs else None

    @property
    def improved(self) -> bool:
        """Whether the last epoch observed is the best so far."""
        return self.best_epoch == self.epochs

    def _better(self, value: float, than: float, by: float = 0.0) -> bool:
        gain = value - than if self.larger_is_better else than - value
        return gain > by * abs(than)

    def state_dict(self) -> dict[str, float | int]:
        """What counting has found, to go on later."""
        return {
            "epochs": self.epochs,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_feasible": self.best_feasible,
        }

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.epochs, self.best, self.best_epoch = (
            int(state["epochs"]),
            state["best"],
            int(state["best_epoch"]),
        )
        self.best_feasible = bool(state.get("best_feasible", True))
