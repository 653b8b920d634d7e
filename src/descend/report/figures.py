"""Figures of results: confusion matrix, predicted against true values, distribution of the errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from descend.data.quantities import shown_quantities
from descend.report.axis_labels import unique
from descend.report.formatting import SHARES, amount, score
from descend.report.marks import Axis, Bars, Cell, Cells, Figure, Line, Points, Rule, Values

__all__ = [
    "confusion_matrix",
    "error_histogram",
    "predicted_against_true",
    "score_axis",
    "score_texts",
    "value_texts",
]


def value_texts(values: Values, digits: int = 5) -> list[str]:
    """Return values for the descriptions of marks, in which values that differ on the screen have different texts.

    Thousands have no separators, since the values may be years; None becomes a dash.

    >>> value_texts([0.123456, None, 2023.0]), value_texts([1700000000.0, 1700000000.25])
    (['0.12346', '\N{EN DASH}', '2023'], ['1700000000', '1700000000.25'])
    """
    texts = iter(shown_quantities("numeric", [value for value in values if value is not None], digits))
    return [amount(None) if value is None else next(texts) for value in values]


def score_texts(name: str, values: Values) -> list[str]:
    """Return values of a metric for the descriptions of marks, as percentages if the metric is a share.

    >>> [text.replace("\N{NO-BREAK SPACE}", " ") for text in score_texts("accuracy", [0.987, 0.99])]
    ['98.7 %', '99.0 %']
    """
    return [score(name, value) for value in values] if name in SHARES else value_texts(values)


def score_axis(
    name: str, title: str, values: Sequence[float], *, may_be_log: bool = False, zero: bool = False
) -> Axis:
    """Return the axis of a metric.

    Args:
        name: the metric.
        title: the title of the axis, to which "(log scale)" is added if it is logarithmic.
        values: the values on it.
        may_be_log: whether it is logarithmic if all values are positive and the largest is more than thirty times the
            smallest. That of a share never is.
        zero: whether it begins at 0, if no value is negative.
    """
    if name in SHARES:
        return Axis(title, style="share", zero=zero)
    if may_be_log and values and min(values) > 0 and max(values) > 30 * min(values):
        return Axis(f"{title} (log scale)".strip(), log=True)
    return Axis(title, zero=zero)


def confusion_matrix(names: Sequence[str], table: Sequence[Sequence[float]], note: str = "") -> Figure:
    """The confusion matrix: one row per true class, one column per predicted class.

    A cell is colored by its share of the row, blue on the diagonal (correct) and orange elsewhere (wrong). The two
    color scales are separate, so that rare mistakes remain visible. Counts are printed for up to 12 classes.

    Args:
        names: the K classes.
        table: (K, K) counts.
        note: a line below the figure.
    """
    size = len(names)
    labels = unique([name or "(empty)" for name in names])
    shares = [[cell / (sum(row) or 1.0) for cell in row] for row in table]
    most = max([0.1, *(value for i, row in enumerate(shares) for j, value in enumerate(row) if i != j)])
    right: list[Cell] = []
    wrong: list[Cell] = []
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if i != j and not share:
                continue
            rows = f"{table[i][j]:,.0f}"
            description = f"true {labels[i]}\npredicted {labels[j]}\n{rows} rows, {score('accuracy', share)} of the class"
            cell = Cell(i, j, share if i == j else share / most, rows if size <= 12 else "", description)
            (right if i == j else wrong).append(cell)
    font, gap = 14 if size <= 6 else 11, size <= 40
    hits = sum(table[index][index] for index in range(size))
    label = (
        f"Confusion matrix of {size} classes: {hits:,.0f} of {sum(map(sum, table)):,.0f} rows are on the diagonal, "
        "that is, predicted correctly. The tables of classes and of mistakes contain the same counts."
    )
    legend = [
        ("swatch right", "correct"),
        ("swatch wrong", "wrong; darker for a larger share of the true class"),
    ]
    return Figure(
        "confusion",
        "Confusion matrix",
        label,
        [Cells(right, "right", font, gap), Cells(wrong, "wrong", font, gap)],
        Axis("predicted class", names=labels),
        Axis("true class", names=labels),
        legend,
        note,
        "square",
    )


def predicted_against_true(
    key: str, title: str, true: Sequence[float], predicted: Sequence[float], limit: int = 1000
) -> Figure:
    """Predicted against true values of one target, with the identity as a dashed line.

    Args:
        key: the figure's id.
        title: its heading.
        true: (n,) true values.
        predicted: (n,) predictions.
        limit: maximum number of points; beyond it, every k-th point is shown, and those with the smallest and the largest
            true value, prediction and error.
    """
    low, high = min(*true, *predicted), max(*true, *predicted)
    margin = 0.04 * high - 0.04 * low or abs(high) or 1.0
    limits = (max(low - margin, -1.7e308), min(high + margin, 1.7e308))
    rows = _spread_rows(true, predicted, limit)
    xs, ys = [true[row] for row in rows], [predicted[row] for row in rows]
    shown = value_texts([*xs, *ys])
    texts = [f"true {x}\npredicted {y}" for x, y in zip(shown[: len(rows)], shown[len(rows) :], strict=True)]
    ends = " and ".join(shown_quantities("numeric", [low, high], 4))
    note = f"{len(rows):,} of {len(true):,} points are shown." if len(rows) < len(true) else ""
    return Figure(
        key,
        title,
        f"{title}: {len(true):,} points between {ends}.",
        [
            Line(limits, limits, "validation", 1.5, "dash"),
            Points(xs, ys, "training", 6 if len(rows) <= 600 else 4, 0.55, texts=texts),
        ],
        Axis("true", limits),
        Axis("predicted", limits),
        note=note,
        shape="square",
    )


def _spread_rows(true: Sequence[float], predicted: Sequence[float], limit: int) -> list[int]:
    """Every k-th row, and the rows of the extremes."""
    n = len(true)
    if n <= limit:
        return list(range(n))
    kept = set(range(0, n, math.ceil(n / max(1, limit - 6))))
    errors = [prediction - value for value, prediction in zip(true, predicted, strict=True)]
    for values in (true, predicted, errors):
        kept |= {min(range(n), key=values.__getitem__), max(range(n), key=values.__getitem__)}
    return sorted(kept)


def error_histogram(key: str, true: Sequence[float], predicted: Sequence[float]) -> Figure:
    """A histogram of the errors, predicted minus true, with a bin edge at 0.

    The bin width is that of Freedman and Diaconis, 2 IQR / n^(1/3), with at most about sixty bins.

    Args:
        key: the figure's id.
        true: (n,) true values.
        predicted: (n,) predictions.

    Source: Freedman and Diaconis, "On the histogram as a density estimator", 1981.
    """
    errors = sorted(prediction - value for value, prediction in zip(true, predicted, strict=True))
    n = len(errors)
    lower_quartile, upper_quartile = errors[n // 4], errors[(3 * n) // 4]
    error_range = errors[-1] - errors[0]
    width = (
        max(2 * (upper_quartile - lower_quartile) / n ** (1 / 3), error_range / 60) or abs(errors[0]) or 1.0
    )
    counts = Counter(math.floor(error / width) for error in errors)
    bins = range(min(counts), max(counts) + 1)
    edges = value_texts([index * width for index in range(bins.start, bins.stop + 1)], 4)
    texts = [
        f"error from {edges[place]} to {edges[place + 1]}\n{counts[index]:,} rows"
        for place, index in enumerate(bins)
    ]
    share = sum(error > 0 for error in errors) / n
    label = (
        f"Errors of {n:,} predictions: from {amount(errors[0])} to {amount(errors[-1])}, "
        f"half of them between {amount(lower_quartile)} and {amount(upper_quartile)}."
    )
    return Figure(
        key,
        "Error distribution",
        label,
        [
            Bars(
                [(index + 0.5) * width for index in bins],
                [counts[index] for index in bins],
                width,
                "training",
                texts,
            ),
            Rule(0.0, "validation", 1.5, "dash"),
        ],
        Axis("predicted − true", grid=False),
        Axis("rows", style="count", zero=True),
        note=f"{100 * share:.0f} % of the predictions are too high.",
        shape="square",
    )
