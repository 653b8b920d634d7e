"""Figures of a search report: best score by trial, importance of the keys, parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from descend.experiments.search.dimension import Dimension, to_plain
from descend.experiments.search.importance import Importance
from descend.experiments.search.space import Space
from descend.experiments.search.trial import Trial, best_trial
from descend.metrics import better
from descend.report.figures import score_axis, score_texts
from descend.report.formatting import amount, metric, score, short
from descend.report.marks import Axis, Bars, Figure, Line, Mark, Points, Texts
from descend.report.ticks import Tick

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
    numbers: list[float] = []
    best: list[float] = []
    texts: list[str] = []
    current: float | None = None
    higher = better(name) == "higher"
    measured = [trial for trial in trials if trial.score is not None]
    scores = [trial.score for trial in measured]
    written = iter(score_texts(name, scores))
    for trial in trials:
        if trial.status == "finished" and trial.score is not None:
            current = trial.score if current is None else (max if higher else min)(current, trial.score)
        if current is not None:
            numbers.append(trial.number + 1)
            best.append(current)
        if trial.score is not None:
            so_far = f"\nbest so far {score(name, current)}" if current is not None else ""
            texts.append(f"trial {trial.number + 1}: {next(written)}{so_far}")
    title = f"validation {metric(name)}"
    label = (
        f"{title[:1].upper()}{title[1:]} by trial; the best of all {len(trials):,} is "
        f"{score(name, best[-1] if best else None)}."
    )
    diverged = len(trials) - len(measured)
    return Figure(
        "course",
        "Best score by trial",
        label,
        [
            Line(numbers, best, "validation", steps=True, dots=len(numbers) == 1),
            Points([trial.number + 1 for trial in measured], scores, "training", 6, 0.6, texts=texts),
        ],
        Axis("trial", (0.0, 1.02 * len(trials) + 0.5), "count", grid=False),
        score_axis(name, title, [value for value in scores if value is not None]),
        [("dot trial", "one trial"), ("line validation", "best so far")],
        f"{diverged:,} of {len(trials):,} trials diverged and have no score." if diverged else "",
    )


def importance_bars(importance: Importance) -> Figure:
    """The importance of each key as horizontal bars, the largest on top."""
    ranked = sorted(importance.shares.items(), key=lambda pair: -pair[1])
    names = [key for key, _ in ranked]
    values = [share for _, share in ranked]
    texts = [f"{key}\n{100 * share:.0f} %" for key, share in ranked]
    shares = "; ".join(f"{key} {100 * share:.0f} %" for key, share in ranked)
    note = (
        "Permutation importance: how much worse a random forest predicts the rank of held-out trials when one key "
        f"is shuffled. R² of the forest: {importance.fit:.2f}."
    )
    return Figure(
        "importance",
        "Importance of the keys",
        f"Importance of the keys: {shares}.",
        [Bars([row + 0.2 for row in range(len(ranked))], values, 0.3, "training", texts, horizontal=True)],
        Axis("share of importance", style="share", zero=True),
        Axis(names=names, above=True),
        note=note,
        height=max(290, 60 + 40 * len(ranked)),
    )


def parallel_coordinates(trials: Sequence[Trial], space: Space, name: str) -> Figure:
    """One line per trial through its values, with the score on the last axis.

    A line has no dot on the axis of an inactive key.

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
    axes = [float(axis) for axis in range(len(space) + 1)]
    marks: list[Mark] = []
    for trial in reversed(ranked):
        heights: list[float | None] = [
            each.to_unit(trial.values[each.key]) if each.key in trial.values else None for each in space
        ]
        if trial.score is None:
            heights.append(None)
        else:
            heights.append((trial.score - low) / (high - low) if high > low else 0.5)
        settings = "\n".join(f"{key} = {value_text(value)}" for key, value in trial.values.items())
        text = f"trial {trial.number + 1}: {score(name, trial.score)}\n{settings}"
        line = Line(axes, heights, "axis", 1, opacity=0.35, dots=True, bridges=True, text=text)
        if winner is not None and trial.number == winner.number:
            line = replace(line, color="validation", width=3, opacity=1)
        elif trial.status == "diverged":
            line = replace(line, color="alarm", dash="dot", opacity=0.8)
        elif trial.number in best_quarter:
            line = replace(line, color="training", width=1.5, opacity=0.7)
        marks.append(line)
    names = [short(each.key.partition(".")[2], 14) for each in space] + [metric(name)]
    bottoms = [_axis_end(each, last=False) for each in space] + [score(name, low)]
    tops = [_axis_end(each, last=True) for each in space] + [score(name, high)]
    marks.append(Texts(axes, [1.03] * len(axes), tops))
    ticks = [Tick(*pair) for pair in zip(axes, map("\n".join, zip(bottoms, names, strict=True)), strict=True)]
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
    return Figure(
        "parallel",
        "All configurations",
        label,
        marks,
        Axis(limits=(-0.35, len(space) + 0.35), ticks=ticks),
        Axis(limits=(-0.03, 1.03), ticks=()),
        legend,
        " ".join(notes),
        "wide",
    )


def _axis_end(dimension: Dimension, *, last: bool) -> str:
    """The value at one end of an axis, shortened to fit between its neighbors."""
    value = dimension.probe_values()[-1 if last else 0]
    text = f"{value:.3g}" if isinstance(value, float) else value_text(value)
    return short(text, 12)
