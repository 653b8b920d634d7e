"""A comparison in words: what was found, and numbers as the table and the page write them."""

from __future__ import annotations

from descend.experiments.comparison.results import Comparison, Outcome
from descend.metrics import better
from descend.report.formatting import NONE, SHARES, amount, duration, metric, score

__all__ = ["at_rate", "findings", "interval_words", "p_value", "reached", "value", "within"]

NOT_REACHED = "not reached"
SURE = 0.05


def value(name: str, found: float | None, absent: str = NONE) -> str:
    """A metric's value or a difference of two; a share as a percentage with two decimals.

    >>> value("accuracy", 0.98333).replace(chr(160), " "), value("loss", 0.123456), value("accuracy", None)
    ('98.33 %', '0.1235', '\N{EN DASH}')
    """
    if found is None:
        return absent
    return f"{100 * found:.2f}\N{NO-BREAK SPACE}%" if name in SHARES else score(name, found)


def interval_words(outcome: Outcome) -> str:
    """The ends of the interval of the mean."""
    span, name = outcome.interval, outcome.conditions.metric
    if span is None:
        return NONE
    if name in SHARES:
        return f"{100 * span[0]:.2f}\N{EN DASH}{100 * span[1]:.2f}\N{NO-BREAK SPACE}%"
    return f"{score(name, span[0])} to {score(name, span[1])}"


def p_value(p: float | None) -> str:
    """A p value to two digits.

    >>> p_value(0.04321), p_value(1e-7), p_value(None)
    ('0.043', '<0.0001', '\N{EN DASH}')
    """
    if p is None:
        return NONE
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def at_rate(outcome: Outcome) -> str:
    """The rate of the final runs, with a mark where it was the lowest or highest tried."""
    if outcome.failed and outcome.lr is None and outcome.tuning:
        return "all diverged"
    return amount(outcome.lr, 3) + ("*" if outcome.at_edge else "")


def reached(outcome: Outcome) -> str:
    """What stands in place of a time to the target."""
    return "diverged" if outcome.failed else NOT_REACHED if outcome.target is not None else NONE


def within(outcome: Outcome) -> str:
    """The share of good rates, as counts."""
    share = outcome.good_rates
    return NONE if share is None else f"{round(share * len(outcome.curve))} of {len(outcome.curve)}"


def findings(found: Comparison) -> str:
    """What was found, in a few plain sentences."""
    if found.failed:
        return "Every run of every variant diverged, so there is nothing to compare."
    how = found.conditions
    sign = -1 if better(how.metric) == "higher" else 1
    going = [outcome for outcome in found.outcomes if not outcome.failed]
    ranked = sorted(going, key=lambda outcome: sign * (outcome.mean or 0.0))
    first = ranked[0]
    best = "highest" if sign < 0 else "lowest"
    parts = [
        f"{first.name} has the {best} mean {how.part} {metric(how.metric)}, {value(how.metric, first.mean)}"
        + (f" ({interval_words(first)})." if first.interval else ".")
    ]
    parts += _sureness(found, first.name)
    parts += _speed(found)
    diverged = sum(run.failed for outcome in found.outcomes for run in outcome.runs)
    if diverged:
        parts.append(f"{diverged} of the final runs diverged and have no score.")
    if any(outcome.at_edge for outcome in going):
        parts.append(
            "A rate with a star is the lowest or highest tried: a better one may lie beyond (--rates)."
        )
    return " ".join(parts)


def _sureness(found: Comparison, first: str) -> list[str]:
    """Of which others the one with the best mean differs by more than chance."""
    own = [test for test in found.tests if first in (test.first, test.second)]
    sure = [test for test in own if test.adjusted is not None and test.adjusted <= SURE]
    if not found.tests:
        return []
    if not sure:
        count = len(found.conditions.seeds)
        return [f"With {count} seeds it cannot be told from any other: the differences may be chance."]
    names = [test.second if test.first == first else test.first for test in sure]
    if len(sure) == len(own):
        return [
            f"The difference from {'every other' if len(own) > 1 else names[0]} is more than chance (Holm, 5 %)."
        ]
    return [
        f"The difference is more than chance (Holm, 5 %) from {', '.join(names)}; from the others it may be chance."
    ]


def _speed(found: Comparison) -> list[str]:
    times = [(outcome.to_target, outcome) for outcome in found.outcomes]
    alone = found.engine == "loop"  # the seconds of runs that were trained together are their group's
    reaching = [
        (reach.seconds if alone else reach.gradients, outcome, reach)
        for reach, outcome in times
        if reach is not None
    ]
    if not reaching:
        return (
            ["No variant reached the target in more than half of its runs."]
            if found.target is not None
            else []
        )
    _, quickest, reach = min(reaching, key=lambda item: item[0])
    name, how = quickest.name, found.conditions
    return [
        f"{name} reached the target, a validation {metric(how.metric)} of {value(how.metric, found.target)}, first: "
        f"after {f'{duration(reach.seconds)} and ' if alone else ''}{reach.gradients:,.0f} gradients."
    ]
