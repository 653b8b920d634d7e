"""Remedies: tested against the original over several seeds, or applied."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from descend.api import train
from descend.doctor.findings import Finding
from descend.doctor.run_case import RunCase, changed
from descend.doctor.run_examination import case_of, opened
from descend.errors import UserError
from descend.experiments.comparison.statistics import holm, interval, paired_test
from descend.many import train_many
from descend.metrics import better
from descend.runs.run import Run

__all__ = ["Verification", "train_repaired", "verify_remedies"]


@dataclass(frozen=True)
class Verification:
    """A remedy against the original recipe, over the same seeds.

    Args:
        cause: the name of the cause.
        metric: the metric that is compared, on the validation rows.
        seeds: the number of seeds for which both trainings ended.
        before: the mean of the original.
        after: the mean with the remedy.
        difference: the mean of the paired differences; positive is better.
        interval: its 95 % confidence interval; None for fewer than two seeds.
        p: the p-value of the paired t-test after Holm's correction; None for fewer than two seeds.
    """

    cause: str
    metric: str
    seeds: int
    before: float
    after: float
    difference: float
    interval: tuple[float, float] | None
    p: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as it is written to JSON."""
        return asdict(self)


def verify_remedies(
    run: Run | str | Path,
    findings: Sequence[Finding],
    data: Any = None,
    *,
    seeds: int = 5,
    allow_imports: bool = False,
) -> list[Verification]:
    """Train the original recipe and each remedy with several new seeds, and test the paired differences.

    Args:
        run: the run that was examined.
        findings: of it; those without a remedy are left out.
        data: the data of the run. Default None: those that it recorded.
        seeds: the number of seeds; those after the run's own are used. Default 5.
        allow_imports: as of :func:`examine_run`.

    Raises:
        UserError: ``seeds`` is less than 1.
    """
    if seeds < 1:
        raise UserError(f"seeds: expected at least 1, got {seeds}")
    case, given = case_of(opened(run, allow_imports), data, allow_imports=allow_imports)
    remedies = [each for each in findings if each.remedy]
    first = int(case.run.environment["seed"]) + 1
    numbers = list(range(first, first + seeds))
    recipes = [case.recipe, *(changed(case.recipe, each.remedy) for each in remedies)]
    runs = train_many(
        [recipe for recipe in recipes for _ in numbers],
        given,
        seeds=[seed for _ in recipes for seed in numbers],
        tested=False,
        allow_imports=allow_imports,
    )
    scores = [[_score(case, each) for each in runs[at : at + seeds]] for at in range(0, len(runs), seeds)]
    found = [
        _compared(case, each.cause, scores[0], own) for each, own in zip(remedies, scores[1:], strict=True)
    ]
    adjusted = holm([each.p for each in found])
    return [Verification(**{**asdict(each), "p": p}) for each, p in zip(found, adjusted, strict=True)]


def train_repaired(
    run: Run | str | Path, finding: Finding, out: str | Path, data: Any = None, *, allow_imports: bool = False
) -> Run:
    """Train the recipe of a run with the remedy of a finding, into a new run folder.

    Args:
        run: the run that was examined.
        finding: with a remedy.
        out: the new folder.
        data: the data of the run. Default None: those that it recorded.
        allow_imports: as of :func:`examine_run`.

    Raises:
        UserError: the finding has no remedy.
        RunError: the folder is in use.
    """
    if not finding.remedy:
        raise UserError(f"the finding {finding.cause} has no remedy that a recipe can express")
    case, given = case_of(opened(run, allow_imports), data, allow_imports=allow_imports)
    recipe = changed(case.recipe, finding.remedy)
    seed = int(case.run.environment["seed"])
    return train(given, recipe, seed=seed, out=out, allow_imports=allow_imports)


def _score(case: RunCase, run: Run) -> float:
    error = case.error(run)
    return 1.0 - error if better(case.metric) == "higher" else error


def _compared(case: RunCase, cause: str, before: Sequence[float], after: Sequence[float]) -> Verification:
    pairs = [
        (one, other)
        for one, other in zip(before, after, strict=True)
        if math.isfinite(one) and math.isfinite(other)
    ]
    own, other = [each for each, _ in pairs], [each for _, each in pairs]
    sign = 1.0 if better(case.metric) == "higher" else -1.0
    differences = [sign * (b - a) for a, b in pairs]
    return Verification(
        cause,
        case.metric,
        len(pairs),
        statistics.fmean(own) if own else math.nan,
        statistics.fmean(other) if other else math.nan,
        statistics.fmean(differences) if differences else math.nan,
        interval(differences),
        paired_test(other, own) if len(pairs) > 1 else None,
    )
