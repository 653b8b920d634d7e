"""What a comparison found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

from descend.experiments.comparison.statistics import PairedTest, holm, interval, paired_test, sign_flips
from descend.experiments.comparison.trials import Reach, Trial, at_least_as_good
from descend.experiments.comparison.variants import Variant
from descend.metrics import better

__all__ = ["Comparison", "Conditions", "Outcome", "pairwise", "pick", "target_of"]

TOLERANCE = 0.05
"""A rate counts as good if its score is within this share of the variant's best."""


@dataclass(frozen=True)
class Conditions:
    """How the comparison was made; the same for all variants.

    Args:
        data: what the data are called.
        task: what is learned.
        metric: what variants are judged by.
        part: the rows that the final score is measured on, "test" or "validation".
        rows: number of rows of each part.
        seed: the split's, and that of the runs that tune.
        seeds: of the final runs.
        rates: that were tried for each variant that is tuned.
        bounds: between which they lie.
        level: of the intervals.
        tested: whether tests were asked for.
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


@dataclass(frozen=True)
class Outcome:
    """What came of one variant.

    Args:
        variant: what was varied.
        lr: the learning rate of its final runs; None where it has none.
        tuned: whether this rate was chosen among several.
        tuning: the runs that chose it, by rate.
        runs: the final runs, by seed.
        conditions: under which it was made.
        target: the validation value that all are timed to; None if no baseline run gave one.
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
        """The final score of each seed; None where the run diverged."""
        return [run.score(self.conditions.part, self.conditions.metric) for run in self.runs]

    @property
    def known(self) -> list[float]:
        """The scores of the runs that did not diverge."""
        return [score for score in self.scores if score is not None]

    @property
    def failed(self) -> bool:
        """Whether no run came to its end."""
        return not self.known

    @property
    def mean(self) -> float | None:
        """Mean score of the runs that did not diverge."""
        return fmean(self.known) if self.known else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's interval of the mean over seeds."""
        return interval(self.known, self.conditions.level)

    @property
    def reaches(self) -> list[Reach | None]:
        """What it took each seed to reach the target; None if it did not."""
        if self.target is None:
            return [None] * len(self.runs)
        return [run.to_reach(self.conditions.metric, self.target) for run in self.runs]

    @property
    def to_target(self) -> Reach | None:
        """The median over seeds of what it took to reach the target; None if half of them or more never did.

        A run that does not reach it counts as one that takes for ever, so that a variant gains nothing by runs that
        stop early.
        """
        found = self.reaches

        def middle(of: Callable[[Reach], float]) -> float:
            return median([math.inf if reach is None else of(reach) for reach in found])

        if not found or not math.isfinite(middle(lambda reach: reach.seconds)):
            return None
        return Reach(
            middle(lambda reach: reach.epochs),
            middle(lambda reach: reach.steps),
            middle(lambda reach: reach.gradients),
            middle(lambda reach: reach.seconds),
        )

    @property
    def curve(self) -> list[tuple[float, float | None]]:
        """Validation score against the learning rate, in ascending order; None where it diverged."""
        return [
            (trial.lr, trial.score("validation", self.conditions.metric))
            for trial in self.tuning
            if trial.lr is not None
        ]

    @property
    def good_rates(self) -> float | None:
        """The share of the rates tried whose score is within 5 % of the best one's: how little the rate matters."""
        values = [value for _, value in self.curve]
        known = [value for value in values if value is not None]
        if not known:
            return None
        metric = self.conditions.metric
        sign = 1 if better(metric) == "higher" else -1
        best = max(sign * value for value in known)
        worst_good = sign * (best - TOLERANCE * abs(best))
        return sum(at_least_as_good(metric, value, worst_good) for value in known) / len(values)

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the lowest or the highest tried, so that a better one may lie beyond."""
        rates = [rate for rate, _ in self.curve]
        return self.tuned and len(rates) > 1 and self.lr in (min(rates), max(rates))


def pick(tuning: Sequence[Trial], metric: str) -> Trial | None:
    """The run with the best validation score; of equals the one of lower loss, then of lower rate.

    Returns: None if all diverged.
    """
    sign = -1 if better(metric) == "higher" else 1

    def rank(trial: Trial) -> tuple[float, float, float]:
        value, loss = trial.score("validation", metric), trial.score("validation", "loss")
        assert value is not None
        return sign * value, math.inf if loss is None else loss, trial.lr or 0.0

    going = [trial for trial in tuning if trial.score("validation", metric) is not None]
    return min(going, key=rank) if going else None


def target_of(baseline: Sequence[Trial], metric: str) -> float | None:
    """The median, over the baseline's final runs, of their best validation scores; None if there is none."""
    seen = [value for run in baseline if (value := run.best(metric)) is not None]
    return median(seen) if seen else None


def pairwise(outcomes: Sequence[Outcome]) -> list[PairedTest]:
    """Every pair of variants, tested by seed, and corrected for their number."""
    found: list[PairedTest] = []
    for one, other in combinations(outcomes, 2):
        pairs = [
            (a, b) for a, b in zip(one.scores, other.scores, strict=False) if a is not None and b is not None
        ]
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        difference = fmean(first) - fmean(second) if pairs else None
        p, flips = paired_test(first, second), sign_flips(first, second)
        found.append(PairedTest(one.name, other.name, len(pairs), difference, p, flips))
    adjusted = holm([test.p for test in found])
    return [
        PairedTest(test.first, test.second, test.pairs, test.difference, test.p, test.sign_flips, own)
        for test, own in zip(found, adjusted, strict=True)
    ]


@dataclass(frozen=True)
class Comparison:
    """Variants compared fairly: what each reached, how soon, and which differences are more than chance.

    Args:
        outcomes: one for each variant, in the order in which they were named; the first is the baseline.
        tests: of every pair of variants.
        conditions: under which it was made.
        target: the validation score that times are measured to.
        seconds: what the whole took.
        environment: versions, processor, command.
        path: the folder, or None.
    """

    outcomes: Sequence[Outcome]
    tests: Sequence[PairedTest]
    conditions: Conditions
    target: float | None
    seconds: float
    environment: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def failed(self) -> bool:
        """Whether every run of every variant diverged."""
        return all(outcome.failed for outcome in self.outcomes)

    @property
    def engine(self) -> str:
        """What trained the runs."""
        names = {run.engine for outcome in self.outcomes for run in (*outcome.tuning, *outcome.runs)}
        return " and ".join(sorted(names)) or "none"

    def __getitem__(self, name: str) -> Outcome:
        """The outcome of the variant of a name."""
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        raise KeyError(f"{name}; the variants are: {'; '.join(outcome.name for outcome in self.outcomes)}")

    def to_dict(self) -> dict[str, Any]:
        """Everything found, as ``--json`` prints it."""
        return {
            "variants": [_variant(outcome) for outcome in self.outcomes],
            "tests": [vars(test) for test in self.tests],
            "target": None
            if self.target is None
            else {"metric": self.conditions.metric, "part": "validation", "value": self.target},
            "metric": self.conditions.metric,
            "part": self.conditions.part,
            "conditions": {**vars(self.conditions), "seeds": list(self.conditions.seeds)},
            "seconds": self.seconds,
            "engine": self.engine,
            "path": None if self.path is None else str(self.path),
        }

    def report(self) -> Path:
        """Write ``report.html`` anew; the comparison must have been saved.

        Raises:
            UserError: it was not saved.
        """
        from descend.experiments.comparison.page import write

        return write(self)


def _variant(outcome: Outcome) -> dict[str, Any]:
    reach = outcome.to_target
    return {
        "name": outcome.name,
        "settings": dict(outcome.variant.settings),
        "lr": outcome.lr,
        "tuned": outcome.tuned,
        "scores": outcome.scores,
        "mean": outcome.mean,
        "interval": outcome.interval,
        "diverged": sum(run.failed for run in outcome.runs),
        "seconds_to_target": None if reach is None else reach.seconds,
        "epochs_to_target": None if reach is None else reach.epochs,
        "steps_to_target": None if reach is None else reach.steps,
        "gradients_to_target": None if reach is None else reach.gradients,
        "reached": sum(one is not None for one in outcome.reaches),
        "rates": [{"lr": rate, "validation": value} for rate, value in outcome.curve],
        "good_rates": outcome.good_rates,
        "rate_at_edge": outcome.at_edge,
        "runs": [None if run.path is None else str(run.path) for run in outcome.runs],
    }
