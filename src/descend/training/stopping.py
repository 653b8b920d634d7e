"""Early stopping: the [stop] section of a recipe, the rule built from it, and the rule applied to each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from descend.metrics import Direction
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["StopSettings", "Stopping", "build_stopping"]


@dataclass(frozen=True, kw_only=True)
class StopSettings:
    """When to stop, and which weights to keep.

    The weights kept are those of the epoch with the best monitored value, the earliest of equals. Without
    validation rows there is no value to choose by, and the last weights are kept.

    Args:
        max_epochs: the maximum number of passes over the training rows.
        patience: epochs without a new best value after which training stops; "none" to never stop early.
        monitor: the value monitored on the validation rows: "loss"; "objective", the loss that training minimizes, with
            label smoothing and class weights; a metric of the task such as "accuracy", "f1" or "roc_auc"; or one of
            your own, as in ``metrics``. An epoch in which it is undefined is never the best.
        metrics: further metrics that are measured after each epoch: names, or functions of your own of (y_true,
            predictions), given by import path, in Python as they are, or in a table with the keys "function",
            "better" ("higher" or "lower"), "takes" ("classes" or "probabilities") and "name".
        max_seconds: training stops at the end of the epoch that exceeds this time.
        target: training stops once the monitored value is at least this good.
        gradient_tolerance: training stops once the norm of the gradient at an epoch's last step, before clipping, is at
            most this. With sampling = "full" it is the gradient of the objective; with mini-batches it is that of one
            of them, whose noise keeps it from vanishing.
        min_improvement: a new best value must be better by this fraction of the old one. Above 0 it keeps earlier,
            simpler weights where later ones are hardly better.
        average: horizon, in epochs, of a moving average of the weights
            (:class:`descend.training.averaging.WeightAverage`) that is evaluated and kept in place of the last
            weights; 0 for none.
        refit: whether the network is trained again on all rows once its scores on held-out rows are known, for the number of
            epochs whose weights were kept. Validation and test rows that were split off are then training rows too. The
            scores are those of the first training; the network that results has none of its own
            (:mod:`descend.many.refit`).
    """

    max_epochs: Count | Literal["auto"] = "auto"
    patience: Count | Literal["auto"] | None = "auto"
    monitor: str | Callable[..., Any] | Mapping[str, Any] = "auto"
    metrics: tuple[str | Callable[..., Any] | Mapping[str, Any], ...] = ()
    max_seconds: Positive | None = None
    target: float | None = None
    gradient_tolerance: Positive | None = None
    min_improvement: Fraction | Literal["auto"] = "auto"
    average: NonNegative | Literal["auto"] = "auto"
    refit: bool = False


def build_stopping(stop: Mapping[str, Any], better: Direction) -> Stopping:
    """Build the stopping rule of a resolved [stop] section, which holds no "auto".

    Args:
        stop: the section.
        better: whether higher or lower monitored values are better.

    >>> stopping = build_stopping({"max_epochs": 9, "patience": 2, "min_improvement": 0.0}, "higher")
    >>> stopping.patience, stopping.larger_is_better
    (2, True)
    """
    return Stopping(
        max_epochs=stop["max_epochs"],
        patience=stop.get("patience"),
        larger_is_better=better == "higher",
        max_seconds=stop.get("max_seconds"),
        target=stop.get("target"),
        gradient_tolerance=stop.get("gradient_tolerance"),
        min_improvement=stop["min_improvement"],
    )


@dataclass
class Stopping:
    """The early-stopping rule of one training, with its count of epochs without a new best value.

    An epoch is better when its monitored value improves on the best one so far by more than the fraction
    ``min_improvement`` of it; the earliest of equals is kept. An epoch whose weights violate constraints is never better
    than one whose weights satisfy them; as long as none does, the latest epoch counts as the best.

    Args:
        max_epochs: the maximum number of passes over the training rows.
        patience: epochs without improvement after which to stop; None never stops early.
        larger_is_better: whether the monitored value is a score rather than a loss.
        max_seconds: stop at the end of the epoch that exceeds this time.
        target: stop once the monitored value is at least this good.
        gradient_tolerance: stop once the norm of the gradient is at most this.
        min_improvement: the fraction of the best value by which a better one must differ from it.

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
        """Count an epoch with its monitored value (None where it is undefined); return the reason to stop, if any.

        Args:
            value: the monitored value of the epoch; None without validation rows, or where the metric is undefined.
            seconds: the time since training began.
            gradient_norm: the norm of the gradient at the epoch's last step; None where it was not measured.
            feasible: whether the epoch's weights satisfy the constraints, if any. Default True.
        """
        self.epochs += 1
        # Until a value is defined, the latest epoch is the best; an undefined value is never compared.
        improves = math.isnan(self.best) or (
            value is not None and self._better(value, self.best, self.min_improvement)
        )
        if feasible != self.best_feasible:
            improves = feasible
        if improves or not (feasible or self.best_feasible):
            self.best = math.nan if value is None else value
            self.best_epoch, self.best_feasible = self.epochs, feasible
        reached = (
            self.target is not None
            and value is not None
            and not math.isnan(value)
            and not self._better(self.target, value)
        )
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
        """The reason "max_epochs" once all epochs are done; None before."""
        return "max_epochs" if self.epochs >= self.max_epochs else None

    @property
    def improved(self) -> bool:
        """Whether the last observed epoch is the best so far."""
        return self.best_epoch == self.epochs

    def _better(self, value: float, than: float, by: float = 0.0) -> bool:
        improvement = value - than if self.larger_is_better else than - value
        # A fraction of an infinite value is undefined; every finite value improves on it.
        return improvement > (by * abs(than) if math.isfinite(than) else 0.0)

    def state_dict(self) -> dict[str, float | int]:
        """Return the counts that a resumed run needs."""
        return {
            "epochs": self.epochs,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_feasible": self.best_feasible,
        }

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore the counts returned by :meth:`state_dict`."""
        self.epochs, self.best, self.best_epoch = (
            int(state["epochs"]),
            state["best"],
            int(state["best_epoch"]),
        )
        self.best_feasible = bool(state.get("best_feasible", True))
