"""Figures of a search report: best score by trial, importance of the keys, parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from descend.experiments.search.dimension import Dimension, to_plain
from descend.experiments.search.importance import Importance
from descend.experiments.search.space import Space
from descend.experiments.search.trial import Trial, best_trial
from descend.metrics import better
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
from descend.report.formatting import SHARES, amount, metric, score, short

__all__ = ["best_so_far", "importance_bars", "parallel_coordinates", "value_text"]

_MAX_LINES = 200
"""Number of lines in the parallel coordinates, the best trials; more would merge into an area."""


def value_text(value: Any) -> str:
    """Format a value of a trial.

    >>> value_text([64, 64]), value_text(0.00123456), value_text(None)
    ('64, 64', '0.001235', '\N{EN DASH}')
    """
    value = to_plain(value)
    if value is None:
        return amount(None)
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    if isinstance(value, float):
        return amount(value)
    return str(value)


def best_so_far(trials: Sequence[Trial], name: str) -> Figure:
    """The score of each trial by its number, with the best score so far.

    Args:
        trials: all records, by number.
        name: the metric that trials were compared by.
    """
    measured = [trial for trial in trials if trial.score is not None]
    numbers, best = [], []
    current: float | None = None
    higher = better(name) == "higher"
    for trial in trials:
        if trial.status == "finished" and trial.score is not None:
            current = trial.score if current is None else (max if higher else min)(current, trial.score)
        if current is not None:
            numbers.append(trial.number + 1)
            best.append(current)
    hover = "%{y:.2%}" if name in SHARES else "%{y:.4~g}"
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [trial.number + 1 for trial in measured],
            "y": rounded([trial.score for trial in measured]),
            "marker": {"color": "--training", "size": 6, "opacity": 0.6},
            "hovertemplate": f"trial %{{x}}<br>{hover}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": numbers,
            "y": rounded(best),
            "line": {"color": "--validation", "width": 2, "shape": "hv"},
            "hovertemplate": f"best of the first %{{x}}<br>{hover}<extra></extra>",
        },
    ]
    title = f"validation {metric(name)}"
    y = axis_spec(title, nticks=6, **({"tickformat": SHARE_TICKS} if name in SHARES else {}))
    layout = layout_spec(axis_spec("trial", tickformat=COUNT_TICKS, nticks=7), y, hovermode="closest")
    label = (
        f"{title[:1].upper()}{title[1:]} by trial; the best of all {len(trials):,} is "
        f"{score(name, best[-1] if best else None)}."
    )
    legend = [("dot trial", "one trial"), ("line validation", "best so far")]
    diverged = len(trials) - len(measured)
    note = f"{diverged:,} of {len(trials):,} trials diverged and have no score." if diverged else ""
    return Figure("course", "Best score by trial", label, data, layout, legend, note)


def importance_bars(importance: Importance) -> Figure:
    """The importance of each key as horizontal bars, the largest on top."""
    ranked = sorted(importance.shares.items(), key=lambda pair: pair[1])
    data: list[Spec] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": rounded([share for _, share in ranked]),
            "y": [plotly_text(key) for key, _ in ranked],
            "marker": {"color": "--training"},
            "hovertemplate": "%{y}<br>%{x:.0%}<extra></extra>",
        }
    ]
    x = axis_spec("share of importance", tickformat=SHARE_TICKS, rangemode="tozero", nticks=5)
    layout = layout_spec(x, axis_spec("", type="category", showgrid=False), bargap=0.35)
    shares = "; ".join(f"{key} {100 * share:.0f} %" for key, share in reversed(ranked))
    note = (
        "Permutation importance: how much worse a random forest predicts the rank of held-out trials when one key "
        f"is shuffled. R² of the forest: {importance.fit:.2f}."
    )
    return Figure(
        "importance", "Importance of the keys", f"Importance of the keys: {shares}.", data, layout, note=note
    )


def parallel_coordinates(trials: Sequence[Trial], space: Space, name: str) -> Figure:
    """One line per trial through its values, with the score on the last axis.

    Plotly's own parallel coordinates cannot show missing values, so these are ordinary lines; a line has no dot on the axis
    of an inactive key.

    Args:
        trials: all records, by number.
        space: the space that was searched.
        name: the metric that trials were compared by.
    """
    ranked = sorted(trials, key=lambda trial: trial.rank_key(name))[:_MAX_LINES]
    winner = best_trial(trials, name)
    measured = [trial for trial in ranked if trial.status != "diverged"]
    best_quarter = {trial.number for trial in measured[: max(1, len(measured) // 4)]}
    scores = [trial.score for trial in measured if trial.score is not None]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    axes = list(range(len(space) + 1))
    data: list[Spec] = []
    for trial in reversed(ranked):
        heights: list[float | None] = [
            each.to_unit(trial.values[each.key]) if each.key in trial.values else None for each in space
        ]
        if trial.score is None:
            heights.append(None)
        else:
            heights.append((trial.score - low) / (high - low) if high > low else 0.5)
        settings = "<br>".join(
            f"{plotly_text(key)} = {plotly_text(value_text(value))}" for key, value in trial.values.items()
        )
        style: Spec = {"color": "--axis", "width": 1}
        opacity = 0.35
        if winner is not None and trial.number == winner.number:
            style, opacity = {"color": "--validation", "width": 3}, 1.0
        elif trial.status == "diverged":
            style, opacity = {"color": "--alarm", "width": 1, "dash": "dot"}, 0.8
        elif trial.number in best_quarter:
            style, opacity = {"color": "--training", "width": 1.5}, 0.7
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": axes,
                "y": rounded(heights, 4),
                "line": style,
                "opacity": opacity,
                "connectgaps": True,
                "marker": {"color": style["color"], "size": 5},
                "hovertemplate": f"trial {trial.number + 1}: {score(name, trial.score)}<br>{settings}"
                "<extra></extra>",
            }
        )
    names = [short(each.key.partition(".")[2], 14) for each in space] + [metric(name)]
    tops = [_axis_end(each, last=True) for each in space] + [score(name, high)]
    bottoms = [_axis_end(each, last=False) for each in space] + [score(name, low)]
    x = {
        "tickvals": axes,
        "ticktext": [
            f"{bottom}<br><b>{plotly_text(each)}</b>" for each, bottom in zip(names, bottoms, strict=True)
        ],
        "range": [-0.35, len(space) + 0.35],
        "gridcolor": "--grid",
        "gridwidth": 2,
        "zeroline": False,
        "fixedrange": True,
        "tickangle": 0,
        "automargin": True,
    }
    y = {"visible": False, "range": [-0.03, 1.03], "fixedrange": True}
    annotations = [
        {
            "x": axis,
            "y": 1.03,
            "xref": "x",
            "yref": "y",
            "text": top,
            "showarrow": False,
            "yanchor": "bottom",
            "font": {"color": "--muted", "size": 12},
        }
        for axis, top in zip(axes, tops, strict=True)
    ]
    layout = layout_spec(x, y, hovermode="closest", annotations=annotations)
    layout["margin"] = {"l": 8, "r": 12, "t": 26, "b": 8}
    legend = [
        ("line validation", "winner"),
        ("line better", "best quarter"),
        ("line other", "other trials"),
        *([("line failed", "diverged")] if any(trial.status == "diverged" for trial in ranked) else []),
    ]
    label = (
        f"Parallel coordinates: one line for each of {len(ranked):,} trials through its values of "
        f"{', '.join(space.keys)} and its {metric(name)}. The table of trials contains the same values."
    )
    notes = []
    if len(trials) > _MAX_LINES:
        notes.append(f"The best {_MAX_LINES} of {len(trials):,} trials are shown.")
    if any(len(trial.values) < len(space) for trial in ranked):
        notes.append("A line without a dot on an axis: the trial does not use this key.")
    return Figure("parallel", "All configurations", label, data, layout, legend, " ".join(notes), "wide")


def _axis_end(dimension: Dimension, *, last: bool) -> str:
    """The value at one end of an axis, shortened to fit between its neighbours."""
    value = dimension.probe_values()[-1 if last else 0]
    text = f"{value:.3g}" if isinstance(value, float) else value_text(value)
    return plotly_text(short(text, 12))
