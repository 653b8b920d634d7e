"""Numbers of a comparison as its tables and its report show them."""

from __future__ import annotations

from descend.experiments.comparison.outcome import Outcome
from descend.report.formatting import NONE, SHARES, amount, score

__all__ = ["good_rates_text", "interval_text", "lr_text", "missing_cost_text", "p_value", "score_text"]


def score_text(name: str, value: float | None, missing: str = NONE) -> str:
    """Format a metric's value, or a difference of two values; shares as percentages with two decimals.

    >>> score_text("accuracy", 0.98333).replace(chr(160), " "), score_text("loss", 0.123456), score_text("loss", None)
    ('98.33 %', '0.1235', '\N{EN DASH}')
    """
    if value is None:
        return missing
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%" if name in SHARES else score(name, value)


def interval_text(outcome: Outcome) -> str:
    """Format the confidence interval of the mean."""
    bounds, name = outcome.interval, outcome.conditions.metric
    if bounds is None:
        return NONE
    if name in SHARES:
        return f"{100 * bounds[0]:.2f}\N{EN DASH}{100 * bounds[1]:.2f}\N{NO-BREAK SPACE}%"
    return f"{score(name, bounds[0])} to {score(name, bounds[1])}"


def p_value(p: float | None) -> str:
    """Format a p-value to two digits.

    >>> p_value(0.04321), p_value(1e-7), p_value(None)
    ('0.043', '<0.0001', '\N{EN DASH}')
    """
    if p is None:
        return NONE
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def lr_text(outcome: Outcome) -> str:
    """Format the learning rate of the final runs, with a star if it was the lowest or highest tried."""
    if outcome.failed and outcome.lr is None and outcome.tuning:
        return "all diverged"
    return amount(outcome.lr, 3) + ("*" if outcome.at_edge else "")


def missing_cost_text(outcome: Outcome) -> str:
    """Return the text shown in place of the cost to reach the target, if there is none."""
    return "diverged" if outcome.failed else "not reached" if outcome.target is not None else NONE


def good_rates_text(outcome: Outcome) -> str:
    """Format the share of good learning rates as counts, such as "5 of 8"."""
    share = outcome.good_rates
    return NONE if share is None else f"{round(share * len(outcome.curve))} of {len(outcome.curve)}"
