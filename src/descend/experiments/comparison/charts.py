"""Figures of a comparison report: learning curves over seeds, score against learning rate, final scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from descend.experiments.comparison.outcome import Outcome
from descend.experiments.comparison.trials import Trial
from descend.metrics import better
from descend.report.curves import downsample, evenly_spaced
from descend.report.figures import score_axis, score_texts, value_texts
from descend.report.formatting import NO_BREAK, amount, metric, score, short
from descend.report.marks import Area, Axis, Columns, Dash, Figure, Interval, Line, Mark, Points

__all__ = ["final_scores", "learning_curves", "lr_curves"]

_N_COLORS = 6
_DASHES: tuple[tuple[Dash, str], ...] = (("solid", ""), ("dash", " dash"), ("dot", " dot-dash"))
_DESCRIBED = 100
"""Number of epochs whose values are shown when the reader points at them."""


@dataclass(frozen=True)
class _LineStyle:
    """The appearance of a variant in all figures."""

    name: str
    color: str
    dash: Dash
    legend: tuple[str, str]


def _styles(outcomes: Sequence[Outcome]) -> list[_LineStyle]:
    styles = []
    for index, outcome in enumerate(outcomes):
        color = f"series-{index % _N_COLORS + 1}"
        dash, class_ = _DASHES[index // _N_COLORS % len(_DASHES)]
        name = short(outcome.name, 40)
        styles.append(_LineStyle(name, color, dash, (f"line {color}{class_}", name)))
    return styles


def learning_curves(outcomes: Sequence[Outcome], name: str, key: str) -> Figure | None:
    """A validation value by epoch: the median over seeds as a line, their range as a band.

    Args:
        outcomes: the outcomes of the variants.
        name: "loss" or a metric.
        key: the figure's id.

    Returns:
        The figure; None if no run has validation values.
    """
    bands: list[Mark] = []
    lines: list[Mark] = []
    ends: list[str] = []
    shown: list[tuple[_LineStyle, list[float]]] = []
    all_values: list[float] = []
    for outcome, style in zip(outcomes, _styles(outcomes), strict=True):
        rows = _by_epoch([run for run in outcome.runs if not run.failed], name)
        if not rows:
            continue
        epochs = [float(epoch) for epoch in range(1, len(rows) + 1)]
        low, high = [min(row) for row in rows], [max(row) for row in rows]
        medians = [median(row) for row in rows]
        all_values += low + high
        shown.append((style, medians))
        bands.append(_band(epochs, low, high, style))
        x, y = downsample(epochs, medians, 300)
        lines.append(Line(x, y, style.color, dash=style.dash, dots=len(rows) == 1))
        ends.append(f"{outcome.name} from {score(name, medians[0])} to {score(name, medians[-1])}")
    if not shown:
        return None
    longest = max(len(medians) for _, medians in shown)
    title = f"Validation {metric(name)}"
    return Figure(
        key,
        title,
        f"{title} by epoch, median over seeds: {'; '.join(ends)}.",
        [*bands, *lines],
        Axis("epoch", (0.0, 1.02 * longest), "count", grid=False),
        score_axis(name, f"validation {metric(name)}", all_values, may_be_log=True),
        [style.legend for style, _ in shown],
        "Lines: median over seeds. Bands: range over seeds. A run that has stopped keeps its last value.",
        columns=_medians_by_epoch(shown, longest, name),
    )


def _by_epoch(runs: Sequence[Trial], name: str) -> list[list[float]]:
    """For each epoch, the value of every run; a run that has stopped keeps its last value."""
    lines = [
        [record["validation"][name] for record in run.history if name in record.get("validation", {})]
        for run in runs
    ]
    lines = [line for line in lines if line]
    longest = max(map(len, lines), default=0)
    return [[line[min(epoch, len(line) - 1)] for line in lines] for epoch in range(longest)]


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float], style: _LineStyle) -> Area:
    x_low, lower = downsample(x, low, 150)
    x_high, upper = downsample(x, high, 150)
    return Area([*x_low, *reversed(x_high)], [*lower, *reversed(upper)], style.color)


def _medians_by_epoch(shown: Sequence[tuple[_LineStyle, list[float]]], longest: int, name: str) -> Columns:
    """The medians of all variants at up to a hundred epochs."""
    rows = evenly_spaced(longest, _DESCRIBED)
    written = [
        (style.name, score_texts(name, [medians[row] if row < len(medians) else None for row in rows]))
        for style, medians in shown
    ]
    texts = [
        "\n".join([f"epoch {row + 1:,}", *(f"{variant}: {texts[place]}" for variant, texts in written)])
        for place, row in enumerate(rows)
    ]
    return Columns([row + 1.0 for row in rows], texts)


def lr_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """The validation score of the tuning runs against the learning rate, the selected one marked by a ring.

    Returns:
        The figure; None if nothing was tuned.
    """
    tuned = [
        (outcome, style)
        for outcome, style in zip(outcomes, _styles(outcomes), strict=True)
        if len(outcome.curve) > 1
    ]
    if not tuned:
        return None
    name = tuned[0][0].conditions.metric
    marks: list[Mark] = []
    best: list[str] = []
    for outcome, style in tuned:
        rates = [lr for lr, _ in outcome.curve]
        scores = [score for _, score in outcome.curve]
        texts = [
            f"{style.name}\nlearning rate {rate}: {value}"
            for rate, value in zip(value_texts(rates, 3), score_texts(name, scores), strict=True)
        ]
        marks += [
            Line(rates, scores, style.color, dash=style.dash),
            Points(rates, scores, style.color, 6, texts=texts),
        ]
        selected = [pair for pair in outcome.curve if pair[0] == outcome.lr and outcome.tuned]
        if selected:
            marks.append(Points([outcome.lr], [selected[0][1]], style.color, 13, look="ring"))
        diverged = sum(score is None for score in scores)
        best.append(
            f"{outcome.name} best at {amount(outcome.lr, 3)}" + (f", {diverged} diverged" if diverged else "")
        )
    known = [value for outcome, _ in tuned for _, value in outcome.curve if value is not None]
    return Figure(
        "rates",
        "Score by learning rate",
        f"Validation {metric(name)} against the learning rate: {'; '.join(best)}.",
        marks,
        Axis("learning rate (log scale)", log=True),
        score_axis(name, f"validation {metric(name)}", known),
        [style.legend for _, style in tuned],
        "Each point is one run. Rings mark the selected learning rates; gaps are runs that diverged.",
        "wide",
    )


def final_scores(outcomes: Sequence[Outcome]) -> Figure | None:
    """The final score of each seed as a dot, with the mean and its confidence interval.

    Returns:
        The figure; None if every run diverged.
    """
    shown = [pair for pair in zip(outcomes, _styles(outcomes), strict=True) if not pair[0].failed]
    if not shown:
        return None
    conditions = shown[0][0].conditions
    marks: list[Mark] = []
    means: list[str] = []
    for row, (outcome, style) in enumerate(shown):
        mean, bounds = outcome.mean, outcome.interval
        assert mean is not None
        scores = outcome.valid_scores
        texts = [f"{style.name}\n{text}" for text in score_texts(conditions.metric, scores)]
        low, high = bounds or (mean, mean)
        marks += [
            Points(scores, [float(row)] * len(scores), style.color, 7, 0.5, texts=texts),
            Interval(low, mean, high, row, style.color),
        ]
        means.append(f"{outcome.name} {score(conditions.metric, mean)}")
    title = f"{conditions.part} {metric(conditions.metric)}"
    direction = "Higher" if better(conditions.metric) == "higher" else "Lower"
    return Figure(
        "scores",
        "Final scores",
        f"Mean {title}: {'; '.join(means)}.",
        marks,
        score_axis(conditions.metric, title, []),
        Axis(names=[style.name for _, style in shown], above=True),
        note=f"Dots: seeds. Bars: mean and its {100 * conditions.level:g}{NO_BREAK}% confidence interval over seeds. "
        f"{direction} is better.",
        shape="wide",
        height=60 + 46 * len(shown),
    )
