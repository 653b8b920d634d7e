"""The results of a comparison: the outcome of every variant, and the test of every pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from descend.experiments.comparison.outcome import Conditions, Outcome
from descend.experiments.comparison.statistics import PairedTest, holm, paired_test, sign_flips

__all__ = ["ComparisonResults", "pairwise_tests"]


def pairwise_tests(outcomes: Sequence[Outcome]) -> list[PairedTest]:
    """Test every pair of variants, paired by seed, with Holm's correction for the number of tests."""
    tests: list[PairedTest] = []
    for one, other in combinations(outcomes, 2):
        pairs = [
            (a, b) for a, b in zip(one.scores, other.scores, strict=False) if a is not None and b is not None
        ]
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        difference = fmean(first) - fmean(second) if pairs else None
        p, p_sign_flips = paired_test(first, second), sign_flips(first, second)
        tests.append(PairedTest(one.name, other.name, len(pairs), difference, p, p_sign_flips))
    adjusted = holm([test.p for test in tests])
    return [replace(test, adjusted=p) for test, p in zip(tests, adjusted, strict=True)]


@dataclass(frozen=True)
class ComparisonResults:
    """The outcomes and tests of a comparison.

    Args:
        outcomes: one for each variant, in the order given; the first is the baseline.
        tests: one for each pair of variants.
        conditions: the conditions of the comparison.
        target: the validation score that costs are measured to.
        seconds: duration of the whole comparison.
        environment: versions, processor, command.
        path: the comparison folder, or None.
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
        """The engine, or engines, that trained the runs."""
        names = {run.engine for outcome in self.outcomes for run in (*outcome.tuning, *outcome.runs)}
        return " and ".join(sorted(names)) or "none"

    def __getitem__(self, name: str) -> Outcome:
        """Return the outcome of a variant by name."""
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        raise KeyError(f"{name}; the variants are: {'; '.join(outcome.name for outcome in self.outcomes)}")

    def to_dict(self) -> dict[str, Any]:
        """Return all results as plain values, as ``--json`` prints them."""
        return {
            "variants": [_outcome_dict(outcome) for outcome in self.outcomes],
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


def _outcome_dict(outcome: Outcome) -> dict[str, Any]:
    cost = outcome.to_target
    return {
        "name": outcome.name,
        "settings": dict(outcome.variant.settings),
        "lr": outcome.lr,
        "tuned": outcome.tuned,
        "scores": outcome.scores,
        "mean": outcome.mean,
        "interval": outcome.interval,
        "diverged": sum(run.failed for run in outcome.runs),
        "seconds_to_target": None if cost is None else cost.seconds,
        "epochs_to_target": None if cost is None else cost.epochs,
        "steps_to_target": None if cost is None else cost.steps,
        "gradients_to_target": None if cost is None else cost.gradients,
        "reached": sum(one is not None for one in outcome.target_costs),
        "rates": [{"lr": lr, "validation": score} for lr, score in outcome.curve],
        "good_rates": outcome.good_rates,
        "rate_at_edge": outcome.at_edge,
        "runs": [None if run.path is None else str(run.path) for run in outcome.runs],
    }
