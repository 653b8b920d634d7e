"""The report on scores of several contenders on several tables: means, ranks, wins, worst cases, and bootstrap intervals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from instruments.text import markdown_table, paragraph

__all__ = ["Measured", "interval", "normalized", "page_of", "ranks"]

SAMPLES = 10_000
HEADER = ("contender", "normalized score", "rank", "rank of log-loss", "log-loss", "AUC", "wins", "worst case",
          "fit, CPU s", "predict, CPU s")  # fmt: skip

Measured = dict[tuple[str, int, str], dict[str, Any]]
"""Scores and seconds by table, split and contender."""


def page_of(
    measured: Measured, title: str, tables: Sequence[str], contenders: Sequence[str], splits: int
) -> str:
    """Return the page: a summary of the contenders, and their scores on each table.

    Contenders that were measured on some of the tables only are compared with the others on these tables, in a summary of
    their own.

    Args:
        measured: what was measured.
        title: of the page.
        tables: names of the tables.
        contenders: names of the contenders.
        splits: the number of splits.
    """
    own = {
        each: [name for name in tables if _is_complete(measured, name, each, splits)] for each in contenders
    }
    everywhere = [each for each in contenders if len(own[each]) == len(tables)]
    blocks = [
        title,
        paragraph(
            f"Means over {splits} split(s) of each table. Normalized score: 0 for the worst and 1 for the best contender of a "
            "table, by accuracy or R². Log-loss and AUC are those of the classifications. Worst case: the largest distance "
            "from the best contender of a table. In brackets the middle 95 % of bootstrap samples of the tables."
        ),
        f"## All {len(tables)} tables",
        markdown_table(HEADER, summary(measured, tables, everywhere, splits)),
    ]
    for some in dict.fromkeys(tuple(each) for each in own.values() if 0 < len(each) < len(tables)):
        here = [each for each in contenders if set(some) <= set(own[each])]
        named = ", ".join(each for each in here if each not in everywhere)
        blocks += [
            f"## {len(some)} tables with {named}",
            f"{', '.join(some)}.",
            markdown_table(HEADER, summary(measured, some, here, splits)),
        ]
    for heading, key in (
        ("Accuracy or R²", "score"),
        ("Log-loss", "log_loss"),
        ("Seconds of a fit", "fit_seconds"),
    ):
        blocks += [f"## {heading}", _by_table(measured, tables, contenders, splits, key)]
    return "\n\n".join(blocks)


def summary(
    measured: Measured, tables: Sequence[str], contenders: Sequence[str], splits: int
) -> list[list[str]]:
    """Return a row for each contender, the best normalized score first."""

    def means(key: str) -> np.ndarray:
        """Return the means over splits (contenders, tables), of the tables that have the value."""
        having = [name for name in tables if measured[name, 0, contenders[0]][key] is not None]
        return np.array(
            [
                [
                    statistics.fmean(measured[name, seed, each][key] for seed in range(splits))
                    for name in having
                ]
                for each in contenders
            ]
        )

    score, loss, auc = means("score"), means("log_loss"), means("auc")
    share, rank, behind = normalized(score), ranks(score, higher=True), score.max(0) - score
    loss_rank = ranks(loss, higher=False) if loss.size else loss
    fit, predict = means("fit_seconds").mean(1), means("predict_seconds").mean(1)
    rows = []
    for at in np.argsort(-share.mean(1)):
        worst = int(behind[at].argmax())
        rows.append(
            [
                contenders[at],
                _with_interval(share[at], 3),
                _with_interval(rank[at], 2),
                _with_interval(loss_rank[at], 2) if loss.size else "–",
                f"{loss[at].mean():.4f}" if loss.size else "–",
                f"{auc[at].mean():.4f}" if auc.size else "–",
                str(int((behind[at] == 0).sum())),
                f"{behind[at, worst]:.3f} ({tables[worst]})",
                f"{fit[at]:.2f}",
                f"{predict[at]:.3f}",
            ]
        )
    return rows


def normalized(scores: np.ndarray) -> np.ndarray:
    """Return scores (contenders, tables) as shares of the distance from the worst to the best of each table.

    >>> normalized(np.array([[0.5, 2.0], [0.75, 2.0], [1.0, 2.0]])).tolist()
    [[0.0, 1.0], [0.5, 1.0], [1.0, 1.0]]
    """
    low, high = scores.min(0), scores.max(0)
    span = np.where(high > low, high - low, 1.0)
    shares: np.ndarray = np.where(high > low, (scores - low) / span, 1.0)
    return shares


def ranks(values: np.ndarray, *, higher: bool) -> np.ndarray:
    """Return the rank of each contender on each table, 1 for the best; equal values have the mean of their ranks.

    >>> ranks(np.array([[3.0], [1.0], [3.0]]), higher=True).ravel().tolist()
    [1.5, 3.0, 1.5]
    """
    found: np.ndarray = rankdata(-values if higher else values, axis=0)
    return found


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the middle 95 % of the means of bootstrap samples of values, one for each table."""
    samples = np.random.default_rng(0).integers(0, len(values), (SAMPLES, len(values)))
    low, high = np.quantile(values[samples].mean(1), [0.025, 0.975])
    return float(low), float(high)


def _is_complete(measured: Measured, table: str, contender: str, splits: int) -> bool:
    return all((table, seed, contender) in measured for seed in range(splits))


def _by_table(
    measured: Measured, tables: Sequence[str], contenders: Sequence[str], splits: int, key: str
) -> str:
    rows = []
    for name in tables:
        cells = []
        for each in contenders:
            values = [
                measured[name, seed, each][key] for seed in range(splits) if (name, seed, each) in measured
            ]
            known = len(values) == splits and values[0] is not None
            cells.append(f"{statistics.fmean(values):.{1 if key == 'fit_seconds' else 4}f}" if known else "–")
        if set(cells) != {"–"}:
            rows.append([name, *cells])
    return markdown_table(["table", *contenders], rows)


def _with_interval(values: np.ndarray, digits: int) -> str:
    low, high = interval(values)
    return f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
