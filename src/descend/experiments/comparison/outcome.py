"""The outcome of one variant: its tuning runs, its final runs, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from descend.experiments.comparison.statistics import interval
from descend.experiments.comparison.trials import TargetCost, Trial, at_least_as_good
from descend.experiments.comparison.variants import Variant
from descend.metrics import better

__all__ = ["TOLERANCE", "Conditions", "Outcome", "best_tuning_run", "median_best_score"]

TOLERANCE = 0.05
"""A learning rate counts as good if its score is within this share of the variant's best."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of a comparison, the same for all variants.

    Args:
        data: name of the data.
        task: the learning task.
        metric: the metric that variants are compared by.
        part: the part of the data that the final score is measured on, "test" or "validation".
        rows: number of rows of each part.
        seed: seed of the split and of the tuning runs.
        seeds: seeds of the final runs.
        rates: learning rates tried for each tuned variant.
        bounds: lower and upper bound of these learning rates.
        level: confidence level of the intervals.
        tested: whether differences are tested.
        why: the reason for another metric than the main one of the task, if none was specified.
    """

    data: str
    task: str
    metric: str
    part: str
    rows: Mapping[str, int]
    seed: int
    seeds: Sequence[int]
    rates: Sequence[float]
    bounds: tuple[float, float]
    level: float
    tested: bool
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one variant.

    Args:
        variant: the variant.
        lr: the learning rate of its final runs; None if its optimizer has none.
        tuned: whether this learning rate was selected by tuning.
        tuning: the tuning runs, by learning rate.
        runs: the final runs, by seed.
        conditions: the conditions of the comparison.
        target: the validation score that costs are measured to; None if no run of the baseline has a score.
    """

    variant: Variant
    lr: float | None
    tuned: bool
    tuning: Sequence[Trial]
    runs: Sequence[Trial]
    conditions: Conditions
    target: float | None = None

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    @property
    def scores(self) -> list[float | None]:
        """The final score of each seed; None where the run diverged or the metric is undefined."""
        return [run.score(self.conditions.part, self.conditions.metric) for run in self.runs]

    @property
    def valid_scores(self) -> list[float]:
        """The scores of the runs that have one."""
        return [score for score in self.scores if score is not None]

    @property
    def failed(self) -> bool:
        """Whether no final run has a score: all diverged, or the metric is undefined for their predictions."""
        return not self.valid_scores

    @property
    def mean(self) -> float | None:
        """Mean score of the runs that have one."""
        return fmean(self.valid_scores) if self.valid_scores else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's confidence interval of the mean over seeds."""
        return interval(self.valid_scores, self.conditions.level)

    @property
    def target_costs(self) -> list[TargetCost | None]:
        """The cost of each seed to reach the target; None if it did not reach it."""
        if self.target is None:
            return [None] * len(self.runs)
        return [run.cost_to_reach(self.conditions.metric, self.target) for run in self.runs]

    @property
    def to_target(self) -> TargetCost | None:
        """The median over seeds of the cost to reach the target; None if half of the runs or more did not reach it.

        A run that does not reach the target counts as infinitely expensive, so that a variant gains nothing from runs
        that stop early.
        """
        costs = self.target_costs

        def median_of(field: Callable[[TargetCost], float]) -> float:
            return median([math.inf if cost is None else field(cost) for cost in costs])

        if not costs or not math.isfinite(median_of(lambda cost: cost.seconds)):
            return None
        return TargetCost(
            median_of(lambda cost: cost.epochs),
            median_of(lambda cost: cost.steps),
            median_of(lambda cost: cost.gradients),
            median_of(lambda cost: cost.seconds),
        )

    @property
    def curve(self) -> list[tuple[float, float | None]]:
        """Pairs (learning rate, validation score) of the tuning runs, ascending; None where the run diverged."""
        return [
            (trial.lr, trial.score("validation", self.conditions.metric))
            for trial in self.tuning
            if trial.lr is not None
        ]

    @property
    def good_rates(self) -> float | None:
        """The share of the learning rates tried whose score is within 5 % of the best one's.

        A large share means low sensitivity to the learning rate.
        """
        scores = [score for _, score in self.curve]
        valid = [score for score in scores if score is not None]
        if not valid:
            return None
        metric = self.conditions.metric
        sign = 1 if better(metric) == "higher" else -1
        best = max(sign * score for score in valid)
        worst_good = sign * (best - TOLERANCE * abs(best))
        return sum(at_least_as_good(metric, score, worst_good) for score in valid) / len(scores)

    @property
    def at_edge(self) -> bool:
        """Whether the selected learning rate is the lowest or highest tried, so that a better one may lie outside."""
        rates = [lr for lr, _ in self.curve]
        return self.tuned and len(rates) > 1 and self.lr in (min(rates), max(rates))


def best_tuning_run(tuning: Sequence[Trial], metric: str) -> Trial | None:
    """Return the run with the best validation score; ties go to the lower loss, then to the lower learning rate.

    Returns:
        The run; None if all diverged.
    """
    sign = -1 if better(metric) == "higher" else 1

    def rank_key(trial: Trial) -> tuple[float, float, float]:
        score, loss = trial.score("validation", metric), trial.score("validation", "loss")
        assert score is not None
        return sign * score, math.inf if loss is None else loss, trial.lr or 0.0

    valid = [trial for trial in tuning if trial.score("validation", metric) is not None]
    return min(valid, key=rank_key) if valid else None


def median_best_score(runs: Sequence[Trial], metric: str) -> float | None:
    """Return the median over runs of their best validation score, the default target; None if no run has one."""
    scores = [score for run in runs if (score := run.best(metric)) is not None]
    return median(scores) if scores else None
