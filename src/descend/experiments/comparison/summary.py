"""The main findings of a comparison in a few sentences."""

from __future__ import annotations

from descend.experiments.comparison.formatting import interval_text, score_text
from descend.experiments.comparison.results import ComparisonResults
from descend.metrics import better
from descend.report.formatting import NO_BREAK, duration, metric

__all__ = ["summarize"]

SIGNIFICANCE = 0.05


def summarize(results: ComparisonResults) -> str:
    """Return the best variant, the significance of its lead, the fastest variant, and caveats."""
    if results.failed:
        failed = all(run.failed for outcome in results.outcomes for run in outcome.runs)
        reason = "diverged" if failed else "diverged or has no score"
        return f"Every run of every variant {reason}, so there is nothing to compare."
    conditions = results.conditions
    sign = -1 if better(conditions.metric) == "higher" else 1
    valid = [outcome for outcome in results.outcomes if not outcome.failed]
    best = min(valid, key=lambda outcome: sign * (outcome.mean or 0.0))
    superlative = "highest" if sign < 0 else "lowest"
    sentences = [
        f"{best.name} has the {superlative} mean {conditions.part} {metric(conditions.metric)}, "
        + score_text(conditions.metric, best.mean)
        + (
            f" ({100 * conditions.level:g}{NO_BREAK}% interval {interval_text(best)})."
            if best.interval
            else "."
        )
    ]
    if conditions.why:
        sentences.append(f"The variants are compared by {metric(conditions.metric)}, since {conditions.why}.")
    sentences += _significance(results, best.name)
    sentences += _speed(results)
    runs = [run for outcome in results.outcomes for run in outcome.runs]
    diverged = sum(run.failed for run in runs)
    if diverged:
        sentences.append(f"{diverged} of the final runs diverged and have no score.")
    undefined = sum(not run.failed and run.score(conditions.part, conditions.metric) is None for run in runs)
    if undefined:
        sentences.append(f"For {undefined} of the final runs the {metric(conditions.metric)} is undefined.")
    if any(outcome.at_edge for outcome in valid):
        sentences.append(
            "A learning rate with a star is the lowest or highest tried; a better one may lie outside the range "
            "(--rates)."
        )
    return " ".join(sentences)


def _significance(results: ComparisonResults, best: str) -> list[str]:
    """Which other variants differ significantly from the best one."""
    own = [test for test in results.tests if best in (test.first, test.second)]
    significant = [test for test in own if test.adjusted is not None and test.adjusted <= SIGNIFICANCE]
    if not results.tests:
        return []
    if not significant:
        n = len(results.conditions.seeds)
        return [
            f"With {n} seeds, its difference from the other variants is not significant (Holm, 5{NO_BREAK}%)."
        ]
    names = [test.second if test.first == best else test.first for test in significant]
    if len(significant) == len(own):
        others = "all other variants" if len(own) > 1 else names[0]
        return [f"The difference from {others} is significant (Holm, 5{NO_BREAK}%)."]
    return [
        f"The difference from {', '.join(names)} is significant (Holm, 5{NO_BREAK}%); that from the others is not."
    ]


def _speed(results: ComparisonResults) -> list[str]:
    costs = [(outcome.to_target, outcome) for outcome in results.outcomes]
    solo = results.engine == "loop"  # the seconds of runs that were trained together are those of the group
    reached = [
        (cost.seconds if solo else cost.gradients, outcome, cost)
        for cost, outcome in costs
        if cost is not None
    ]
    if not reached:
        return (
            ["No variant reached the target in more than half of its runs."]
            if results.target is not None
            else []
        )
    _, fastest, cost = min(reached, key=lambda item: item[0])
    conditions = results.conditions
    target = score_text(conditions.metric, results.target)
    time = f"{duration(cost.seconds)} and " if solo else ""
    return [
        f"{fastest.name} was the first to reach the target, a validation {metric(conditions.metric)} of {target}: "
        f"after {time}{cost.gradients:,.0f} gradients."
    ]
