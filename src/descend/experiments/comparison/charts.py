"""Figures of a comparison report: learning curves over seeds, score against learning rate, final scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from descend.experiments.comparison.outcome import Outcome
from descend.experiments.comparison.trials import Trial
from descend.metrics import better
from descend.report.curves import downsample
from descend.report.figures import (
    COUNT_TICKS,
    SHARE_TICKS,
    Figure,
    Spec,
    axis_spec,
    layout_spec,
    plotly_text,
    rounded,
)
from descend.report.formatting import NO_BREAK, SHARES, amount, metric, score, short

__all__ = ["final_scores", "learning_curves", "lr_curves"]

_N_COLOURS, _DASHES = 6, (("solid", ""), ("dash", " dash"), ("dot", " dot-dash"))


@dataclass(frozen=True)
class _LineStyle:
    """The appearance of a variant in all figures."""

    name: str
    colour: str
    dash: str
    legend: tuple[str, str]


def _styles(outcomes: Sequence[Outcome]) -> list[_LineStyle]:
    styles = []
    for index, outcome in enumerate(outcomes):
        colour = f"series-{index % _N_COLOURS + 1}"
        dash, class_ = _DASHES[index // _N_COLOURS % len(_DASHES)]
        name = short(outcome.name, 40)
        styles.append(_LineStyle(plotly_text(name), f"--{colour}", dash, (f"line {colour}{class_}", name)))
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
    data: list[Spec] = []
    ends: list[str] = []
    styles = _styles(outcomes)
    all_values: list[float] = []
    for outcome, style in zip(outcomes, styles, strict=True):
        rows = _by_epoch([run for run in outcome.runs if not run.failed], name)
        if not rows:
            continue
        epochs = [float(epoch) for epoch in range(1, len(rows) + 1)]
        low, high = [min(row) for row in rows], [max(row) for row in rows]
        medians = [median(row) for row in rows]
        all_values += low + high
        x, line = downsample(epochs, medians, 300)
        data += [_band(epochs, low, high, style), _line(x, line, style, name)]
        ends.append(f"{outcome.name} from {_shown(name, medians[0])} to {_shown(name, medians[-1])}")
    if not data:
        return None
    y = axis_spec(f"validation {metric(name)}", nticks=6)
    if name in SHARES:
        y["tickformat"] = SHARE_TICKS
    elif min(all_values) > 0 and max(all_values) > 30 * min(all_values):
        y = axis_spec(f"validation {metric(name)} (log scale)", type="log", nticks=6, tickformat=".3~g")
        y |= {"dtick": "D2"} if max(all_values) < 300 * min(all_values) else {"dtick": 1}
    layout = layout_spec(
        axis_spec("epoch", tickformat=COUNT_TICKS, nticks=7, rangemode="tozero"), y, hovermode="closest"
    )
    title = f"Validation {metric(name)}"
    label = f"{title} by epoch, median over seeds: {'; '.join(ends)}."
    note = "Lines: median over seeds. Bands: range over seeds. A run that has stopped keeps its last value."
    return Figure(key, title, label, data, layout, [style.legend for style in styles], note, "half")


def _by_epoch(runs: Sequence[Trial], name: str) -> list[list[float]]:
    """For each epoch, the value of every run; a run that has stopped keeps its last value."""
    lines = [
        [record["validation"][name] for record in run.history if name in record.get("validation", {})]
        for run in runs
    ]
    lines = [line for line in lines if line]
    longest = max(map(len, lines), default=0)
    return [[line[min(epoch, len(line) - 1)] for line in lines] for epoch in range(longest)]


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float], style: _LineStyle) -> Spec:
    x_low, lower = downsample(x, low, 150)
    x_high, upper = downsample(x, high, 150)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x_low, *reversed(x_high)],
        "y": rounded([*lower, *reversed(upper)]),
        "fill": "toself",
        "fillcolor": style.colour,
        "line": {"width": 0},
        "opacity": 0.14,
        "hoverinfo": "skip",
    }


def _line(x: Sequence[float], y: Sequence[float | None], style: _LineStyle, name: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": style.name,
        "x": list(x),
        "y": rounded(y),
        "line": {"color": style.colour, "width": 2, "dash": style.dash},
        "hovertemplate": f"{style.name}<br>epoch %{{x:,d}}: {_hover(name)}<extra></extra>",
    }


def _hover(name: str) -> str:
    return "%{y:.1%}" if name in SHARES else "%{y:.4~g}"


def _shown(name: str, value: float | None) -> str:
    return score(name, value) if name in SHARES else amount(value)


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
    data: list[Spec] = []
    best: list[str] = []
    for outcome, style in tuned:
        rates = [lr for lr, _ in outcome.curve]
        scores = [score for _, score in outcome.curve]
        selected = [lr == outcome.lr and outcome.tuned for lr in rates]
        line = _line(rates, scores, style, name)
        line["hovertemplate"] = f"{style.name}<br>learning rate %{{x:.3~g}}: {_hover(name)}<extra></extra>"
        data.append(
            line
            | {
                "mode": "lines+markers",
                "connectgaps": False,
                "marker": {
                    "color": style.colour,
                    "size": [13 if one else 6 for one in selected],
                    "symbol": ["circle-open" if one else "circle" for one in selected],
                    "line": {"width": [3 if one else 0 for one in selected]},
                },
            }
        )
        diverged = sum(score is None for score in scores)
        best.append(
            f"{outcome.name} best at {amount(outcome.lr, 3)}" + (f", {diverged} diverged" if diverged else "")
        )
    y = axis_spec(f"validation {metric(name)}", nticks=6)
    if name in SHARES:
        y["tickformat"] = SHARE_TICKS
    layout = layout_spec(
        axis_spec("learning rate (log scale)", type="log", tickformat=".1~g", dtick=1), y, hovermode="closest"
    )
    label = f"Validation {metric(name)} against the learning rate: {'; '.join(best)}."
    note = "Each point is one run. Rings mark the selected learning rates; gaps are runs that diverged."
    legend = [style.legend for _, style in tuned]
    return Figure("rates", "Score by learning rate", label, data, layout, legend, note, "wide")


def final_scores(outcomes: Sequence[Outcome]) -> Figure | None:
    """The final score of each seed as a dot, with the mean and its confidence interval.

    Returns:
        The figure; None if every run diverged.
    """
    shown = [pair for pair in zip(outcomes, _styles(outcomes), strict=True) if not pair[0].failed]
    if not shown:
        return None
    conditions = shown[0][0].conditions
    data: list[Spec] = []
    means: list[str] = []
    for outcome, style in shown:
        mean, bounds = outcome.mean, outcome.interval
        assert mean is not None
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rounded(outcome.valid_scores),
                "y": [style.name] * len(outcome.valid_scores),
                "marker": {"color": style.colour, "size": 7, "opacity": 0.5},
                "hovertemplate": f"{style.name}<br>{_hover(conditions.metric).replace('y', 'x')}<extra></extra>",
            }
        )
        half_width = 0.0 if bounds is None else bounds[1] - mean
        bar = {"type": "constant", "value": half_width, "color": style.colour, "thickness": 2, "width": 8}
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rounded([mean]),
                "y": [style.name],
                "error_x": bar,
                "marker": {"color": style.colour, "size": 11, "symbol": "line-ns-open", "line": {"width": 3}},
                "hoverinfo": "skip",
            }
        )
        means.append(f"{outcome.name} {_shown(conditions.metric, mean)}")
    x = axis_spec(f"{conditions.part} {metric(conditions.metric)}", nticks=6)
    if conditions.metric in SHARES:
        x["tickformat"] = SHARE_TICKS
    y = axis_spec("", type="category", autorange="reversed", showgrid=False)
    layout = layout_spec(x, y, hovermode="closest")
    direction = "Higher" if better(conditions.metric) == "higher" else "Lower"
    label = f"Mean {conditions.part} {metric(conditions.metric)}: {'; '.join(means)}."
    note = (
        f"Dots: seeds. Bars: mean and its {100 * conditions.level:g}{NO_BREAK}% confidence interval over seeds. {direction} is "
        "better."
    )
    return Figure("scores", "Final scores", label, data, layout, note=note, shape="wide")
