"""The figures of a comparison: learning curves with their spread, score against rate, final scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from descend.experiments.comparison.results import Outcome
from descend.experiments.comparison.trials import Trial
from descend.metrics import better
from descend.report.curves import thin
from descend.report.figures import Figure, Spec, axis_spec, layout_spec, plotly_text, rounded
from descend.report.formatting import SHARES, amount, metric, score, short

__all__ = ["curves", "final_scores", "rate_curves"]

_COLOURS, _DASHES = 6, (("solid", ""), ("dash", " dash"), ("dot", " dot-dash"))


@dataclass(frozen=True)
class _Mark:
    """How a variant looks in every figure."""

    name: str
    colour: str
    dash: str
    legend: tuple[str, str]


def _marks(outcomes: Sequence[Outcome]) -> list[_Mark]:
    found = []
    for place, outcome in enumerate(outcomes):
        colour = f"series-{place % _COLOURS + 1}"
        dash, class_ = _DASHES[place // _COLOURS % len(_DASHES)]
        words = short(outcome.name, 40)
        found.append(_Mark(plotly_text(words), f"--{colour}", dash, (f"line {colour}{class_}", words)))
    return found


def curves(outcomes: Sequence[Outcome], name: str, key: str) -> Figure | None:
    """A validation value by epoch: the median over seeds, and the range of all of them as a band.

    Args:
        outcomes: of the variants.
        name: "loss" or a metric.
        key: the figure's id.
    """
    data: list[Spec] = []
    ends: list[str] = []
    marks = _marks(outcomes)
    seen: list[float] = []
    for outcome, mark in zip(outcomes, marks, strict=True):
        rows = _by_epoch([run for run in outcome.runs if not run.failed], name)
        if not rows:
            continue
        epochs = [float(epoch) for epoch in range(1, len(rows) + 1)]
        low, high = [min(row) for row in rows], [max(row) for row in rows]
        middle = [median(row) for row in rows]
        seen += low + high
        at, line = thin(epochs, middle, 300)
        data += [_band(epochs, low, high, mark), _line(at, line, mark, name)]
        ends.append(f"{outcome.name} {_shown(name, middle[0])} to {_shown(name, middle[-1])}")
    if not data:
        return None
    y = axis_spec(f"validation {metric(name)}", nticks=6)
    if name in SHARES:
        y["tickformat"] = ".0%" if max(seen) - min(seen) > 0.1 else ".1%"
    elif min(seen) > 0 and max(seen) > 30 * min(seen):
        y = axis_spec(f"validation {metric(name)} (log scale)", type="log", nticks=6, tickformat=".3~g")
        y |= {"dtick": "D2"} if max(seen) < 300 * min(seen) else {"dtick": 1}
    layout = layout_spec(
        axis_spec("epoch", tickformat=",d", nticks=7, rangemode="tozero"), y, hovermode="closest"
    )
    title = f"Validation {metric(name)}"
    label = f"{title} by epoch, median over seeds: {'; '.join(ends)}."
    note = "Lines: median over seeds; bands: all seeds. A run that has stopped keeps its last value."
    return Figure(key, title, label, data, layout, [mark.legend for mark in marks], note, "half")


def _by_epoch(runs: Sequence[Trial], name: str) -> list[list[float]]:
    """For each epoch the value of every run; the last one of a run that has stopped."""
    lines = [[record["validation"][name] for record in run.history if "validation" in record] for run in runs]
    lines = [line for line in lines if line]
    longest = max(map(len, lines), default=0)
    return [[line[min(epoch, len(line) - 1)] for line in lines] for epoch in range(longest)]


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float], mark: _Mark) -> Spec:
    at_low, lower = thin(x, low, 150)
    at_high, upper = thin(x, high, 150)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*at_low, *reversed(at_high)],
        "y": rounded([*lower, *reversed(upper)]),
        "fill": "toself",
        "fillcolor": mark.colour,
        "line": {"width": 0},
        "opacity": 0.14,
        "hoverinfo": "skip",
    }


def _line(x: Sequence[float], y: Sequence[float | None], mark: _Mark, name: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": mark.name,
        "x": list(x),
        "y": rounded(y),
        "line": {"color": mark.colour, "width": 2, "dash": mark.dash},
        "hovertemplate": f"{mark.name}<br>epoch %{{x:,d}}: {_hover(name)}<extra></extra>",
    }


def _hover(name: str) -> str:
    return "%{y:.1%}" if name in SHARES else "%{y:.4~g}"


def _shown(name: str, value: float | None) -> str:
    return score(name, value) if name in SHARES else amount(value)


def rate_curves(outcomes: Sequence[Outcome]) -> Figure | None:
    """The validation score of the tuning runs against the learning rate; the rate chosen has a ring."""
    tuned = [
        (outcome, mark)
        for outcome, mark in zip(outcomes, _marks(outcomes), strict=True)
        if len(outcome.curve) > 1
    ]
    if not tuned:
        return None
    name = tuned[0][0].conditions.metric
    data: list[Spec] = []
    best: list[str] = []
    for outcome, mark in tuned:
        rates = [rate for rate, _ in outcome.curve]
        values = [value for _, value in outcome.curve]
        chosen = [rate == outcome.lr and outcome.tuned for rate in rates]
        line = _line(rates, values, mark, name)
        line["hovertemplate"] = f"{mark.name}<br>rate %{{x:.3~g}}: {_hover(name)}<extra></extra>"
        data.append(
            line
            | {
                "mode": "lines+markers",
                "connectgaps": False,
                "marker": {
                    "color": mark.colour,
                    "size": [13 if one else 6 for one in chosen],
                    "symbol": ["circle-open" if one else "circle" for one in chosen],
                    "line": {"width": [3 if one else 0 for one in chosen]},
                },
            }
        )
        lost = sum(value is None for value in values)
        best.append(
            f"{outcome.name} best at {amount(outcome.lr, 3)}" + (f", {lost} diverged" if lost else "")
        )
    y = axis_spec(f"validation {metric(name)}", nticks=6)
    if name in SHARES:
        y["tickformat"] = ".0%"
    layout = layout_spec(
        axis_spec("learning rate (log scale)", type="log", tickformat=".1~g", dtick=1), y, hovermode="closest"
    )
    label = f"Validation {metric(name)} against the learning rate: {'; '.join(best)}."
    note = "One run a point; rings: the rates chosen. A gap is a run that diverged."
    legend = [mark.legend for _, mark in tuned]
    return Figure("rates", "Sensitivity to the rate", label, data, layout, legend, note, "wide")


def final_scores(outcomes: Sequence[Outcome]) -> Figure | None:
    """Every seed's final score as a dot, with the mean and its interval."""
    shown = [pair for pair in zip(outcomes, _marks(outcomes), strict=True) if not pair[0].failed]
    if not shown:
        return None
    conditions = shown[0][0].conditions
    data: list[Spec] = []
    words: list[str] = []
    for outcome, mark in shown:
        mean, span = outcome.mean, outcome.interval
        assert mean is not None
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rounded(outcome.known),
                "y": [mark.name] * len(outcome.known),
                "marker": {"color": mark.colour, "size": 7, "opacity": 0.5},
                "hovertemplate": f"{mark.name}<br>{_hover(conditions.metric).replace('y', 'x')}<extra></extra>",
            }
        )
        reach = 0.0 if span is None else span[1] - mean
        bar = {"type": "constant", "value": reach, "color": mark.colour, "thickness": 2, "width": 8}
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rounded([mean]),
                "y": [mark.name],
                "error_x": bar,
                "marker": {"color": mark.colour, "size": 11, "symbol": "line-ns-open", "line": {"width": 3}},
                "hoverinfo": "skip",
            }
        )
        words.append(f"{outcome.name} {_shown(conditions.metric, mean)}")
    x = axis_spec(f"{conditions.part} {metric(conditions.metric)}", nticks=6)
    if conditions.metric in SHARES:
        x["tickformat"] = ".1%"
    y = axis_spec("", type="category", autorange="reversed", showgrid=False)
    layout = layout_spec(x, y, hovermode="closest")
    best = "higher" if better(conditions.metric) == "higher" else "lower"
    label = f"Mean {conditions.part} {metric(conditions.metric)}: {'; '.join(words)}."
    note = (
        f"Dots: seeds; bars: mean and its {100 * conditions.level:g} % interval over seeds; {best} is better."
    )
    return Figure("scores", "Final scores", label, data, layout, note=note, shape="wide")
