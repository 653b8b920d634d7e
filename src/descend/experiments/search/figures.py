"""What the report of a search draws: best against trials, parallel coordinates, importance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from descend.experiments.search.dimension import Dimension, plain
from descend.experiments.search.importance import Importance
from descend.experiments.search.space import Space
from descend.experiments.search.trial import Trial, best_of
from descend.metrics import better
from descend.report.figures import Figure, Spec, axis_spec, layout_spec, plotly_text, rounded
from descend.report.formatting import SHARES, amount, metric, score, short

__all__ = ["course", "importances", "parallel", "value_text"]

_DRAWN = 200
"""Lines of the parallel coordinates, the best ones; more would be a surface."""


def value_text(value: Any) -> str:
    """A value of a trial in words.

    >>> value_text([64, 64]), value_text(0.00123456), value_text(None)
    ('64, 64', '0.001235', '\N{EN DASH}')
    """
    value = plain(value)
    if value is None:
        return amount(None)
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    if isinstance(value, float):
        return amount(value)
    return str(value)


def course(trials: Sequence[Trial], name: str) -> Figure:
    """The score of each trial by its number, and the best so far."""
    measured = [trial for trial in trials if trial.score is not None]
    numbers, best = [], []
    so_far: float | None = None
    higher = better(name) == "higher"
    for trial in trials:
        if trial.status == "finished" and trial.score is not None:
            so_far = trial.score if so_far is None else (max if higher else min)(so_far, trial.score)
        if so_far is not None:
            numbers.append(trial.number + 1)
            best.append(so_far)
    told = "%{y:.2%}" if name in SHARES else "%{y:.4~g}"
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [trial.number + 1 for trial in measured],
            "y": rounded([trial.score for trial in measured]),
            "marker": {"color": "--training", "size": 6, "opacity": 0.6},
            "hovertemplate": f"trial %{{x}}<br>{told}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": numbers,
            "y": rounded(best),
            "line": {"color": "--validation", "width": 2, "shape": "hv"},
            "hovertemplate": f"best of %{{x}}<br>{told}<extra></extra>",
        },
    ]
    title = f"validation {metric(name)}"
    y = axis_spec(title, nticks=6, **({"tickformat": ".0%"} if name in SHARES else {}))
    layout = layout_spec(axis_spec("trials", tickformat=",d", nticks=7), y, hovermode="closest")
    label = f"{title} by trial; the best of all {len(trials):,} is {score(name, best[-1] if best else None)}."
    legend = [("dot trial", "a trial"), ("line validation", "best so far")]
    lost = len(trials) - len(measured)
    note = f"{lost:,} of {len(trials):,} trials diverged and have no score." if lost else ""
    return Figure("course", "Best against trials", label, data, layout, legend, note)


def importances(found: Importance) -> Figure:
    """The importance of each key as bars, the largest on top."""
    ranked = sorted(found.shares.items(), key=lambda pair: pair[1])
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
    x = axis_spec("share of what the keys tell", tickformat=".0%", rangemode="tozero", nticks=5)
    layout = layout_spec(x, axis_spec("", type="category", showgrid=False), bargap=0.35)
    words = "; ".join(f"{key} {100 * share:.0f} %" for key, share in reversed(ranked))
    trust = f"A forest that knows the values predicts the rank of held-out trials with R² {found.fit:.2f}."
    return Figure("importance", "Importance", f"Importance of the keys: {words}.", data, layout, note=trust)


def parallel(trials: Sequence[Trial], space: Space, name: str) -> Figure:
    """A line for each trial through its values, the score on the last axis.

    Lines are ordinary ones, and a key that does not count in a trial leaves a gap in its line.
    """
    ranked = sorted(trials, key=lambda trial: trial.cost(name))[:_DRAWN]
    winner = best_of(trials, name)
    finished = [trial for trial in ranked if trial.status != "diverged"]
    good = {trial.number for trial in finished[: max(1, len(finished) // 4)]}
    scores = [trial.score for trial in finished if trial.score is not None]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    places = list(range(len(space) + 1))
    data: list[Spec] = []
    for trial in reversed(ranked):
        heights: list[float | None] = [
            each.share(trial.values[each.key]) if each.key in trial.values else None for each in space
        ]
        if trial.score is None:
            heights.append(None)
        else:
            heights.append((trial.score - low) / (high - low) if high > low else 0.5)
        told = "<br>".join(
            f"{plotly_text(key)} = {plotly_text(value_text(value))}" for key, value in trial.values.items()
        )
        style: Spec = {"color": "--axis", "width": 1}
        opacity = 0.35
        if winner is not None and trial.number == winner.number:
            style, opacity = {"color": "--validation", "width": 3}, 1.0
        elif trial.status == "diverged":
            style, opacity = {"color": "--alarm", "width": 1, "dash": "dot"}, 0.8
        elif trial.number in good:
            style, opacity = {"color": "--training", "width": 1.5}, 0.7
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": places,
                "y": rounded(heights, 4),
                "line": style,
                "opacity": opacity,
                "marker": {"color": style["color"], "size": 3},
                "hovertemplate": f"trial {trial.number + 1}: {score(name, trial.score)}<br>{told}<extra></extra>",
            }
        )
    names = [short(each.key.partition(".")[2], 14) for each in space] + [metric(name)]
    tops = [_end(each, last=True) for each in space] + [score(name, high)]
    bottoms = [_end(each, last=False) for each in space] + [score(name, low)]
    x = {
        "tickvals": places,
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
    marks = [
        {
            "x": place,
            "y": 1.03,
            "xref": "x",
            "yref": "y",
            "text": top,
            "showarrow": False,
            "yanchor": "bottom",
            "font": {"color": "--muted", "size": 12},
        }
        for place, top in zip(places, tops, strict=True)
    ]
    layout = layout_spec(x, y, hovermode="closest", annotations=marks)
    layout["margin"] = {"l": 8, "r": 12, "t": 26, "b": 8}
    legend = [
        ("line validation", "the winner"),
        ("line better", "the best quarter"),
        ("line other", "the others"),
        *([("line failed", "diverged")] if any(trial.status == "diverged" for trial in ranked) else []),
    ]
    label = (
        f"Parallel coordinates: a line for each of {len(ranked):,} trials through its values of "
        f"{', '.join(space.keys)} and its {metric(name)}. The table of trials holds the same values."
    )
    note = f"The best {_DRAWN} of {len(trials):,} trials are drawn." if len(trials) > _DRAWN else ""
    return Figure("parallel", "Every trial", label, data, layout, legend, note, "wide")


def _end(dimension: Dimension, *, last: bool) -> str:
    """The value at an end of an axis, cut to fit above its neighbours."""
    corners = dimension.corners()
    value = corners[-1 if last else 0]
    text = f"{value:.3g}" if isinstance(value, float) else value_text(value)
    return plotly_text(short(text, 12))
