"""The summary of a run in a few sentences: task, training, test score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from descend.report.formatting import NO_BREAK, TIMES, amount, count, duration, label, listing, metric, score
from descend.report.run_files import USED, RunFiles, items, mapping, number, text

__all__ = ["summarize", "wilson_interval"]

_STOP_REASONS: Mapping[str, str] = {
    "patience": "it stopped when the validation score no longer improved",
    "max_epochs": "it stopped at the epoch limit",
    "max_seconds": "it stopped at the time limit",
    "target": "it stopped when the target score was reached",
    "gradient_tolerance": "it stopped when the gradient norm fell below the tolerance",
    "minutes": "it stopped when the time of the search was spent",
    "max_rounds": "it stopped at the largest number of rounds",
    "interrupted": "it was interrupted",
    "diverged": "it stopped because it diverged",
}


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's confidence interval of a proportion, with a level of 95 % by default.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = successes / n. Unlike p ± z √(p(1-p)/n), it stays inside
    [0, 1] and does not collapse when p is 0 or 1.

    Args:
        successes: number of successes, 0 to ``n``.
        n: number of observations, 1 or more.
        z: standard normal quantile of the level.

    >>> [round(bound, 4) for bound in wilson_interval(442, 450)]
    [0.9653, 0.991]

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    p, correction = successes / n, z * z / n
    center = p + correction / 2
    half_width = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (center - half_width) / (1 + correction), (center + half_width) / (1 + correction)
    return max(0.0, low), min(1.0, high)


def summarize(run: RunFiles) -> str:
    """Return the task, the course of training and the test score in a few sentences."""
    return " ".join([*_task(run), *_training(run), *_performance(run)])


def _task(run: RunFiles) -> Iterator[str]:
    size = number(mapping(run.environment.get("model")).get("parameters"))
    rows = run.rows("train")
    network = f"A network with {count(size)} parameters" if size else "A network"
    trained = f"was trained on {count(rows)} rows" if rows else "was trained"
    yield f"{network} {trained} to {_goal(run)}{_inputs(run)}."


def _goal(run: RunFiles) -> str:
    if run.task in ("binary", "multiclass"):
        names = [label(name) for name in run.classes]
        shown = f" ({listing(names, 4 if len(names) <= 4 else 3)})" if names else ""
        return f"distinguish {len(names) or ''} classes{shown}".replace("  ", " ")
    if run.task == "multi_label":
        return f"predict which of {len(run.targets)} labels hold ({listing(run.targets, 4)})"
    return f"predict {listing(run.targets)}" if run.targets else "predict the target"


def _inputs(run: RunFiles) -> str:
    columns = sum(text(mapping(column).get("kind")) in USED for column in items(run.schema.get("columns")))
    if columns:
        return f" from {columns:,} column{'s' if columns != 1 else ''}"
    shape = items(run.schema.get("input_shape"))
    if run.schema.get("kind") == "images" and len(shape) == 3:
        channels = number(shape[0])
        kind = {1: "grayscale images", 3: "color images"}.get(
            int(channels or 0), f"images with {count(channels)} channels"
        )
        return f" from {kind} of {count(shape[1])}{TIMES}{count(shape[2])} pixels"
    return ""


def _training(run: RunFiles) -> Iterator[str]:
    epochs = number(run.metrics.get("epochs")) or float(len(run.history))
    if not epochs:
        yield "No epoch was completed."
        return
    optimizer = text(mapping(run.settings.get("optimizer")).get("name"))
    sentence = f"Training with {optimizer}" if optimizer else "Training"
    sentence += f" took {count(epochs)} epoch{'s' if epochs != 1 else ''}"
    seconds = number(run.metrics.get("seconds"))
    sentence += f" and {duration(seconds).replace(' ', NO_BREAK)}" if seconds is not None else ""
    networks = len(items(mapping(run.metrics.get("members")).get("validation")))
    sentence += f" for the best of {networks:,} networks" if networks else ""
    reason = text(run.metrics.get("stopped"))
    sentence += "; " + _STOP_REASONS.get(reason, f"it stopped for this reason: {reason}") if reason else ""
    yield sentence + "."
    if any(mapping(line.get("validation")) for line in run.history):
        if run.best_epoch is not None:
            yield f"The weights of epoch {run.best_epoch:,} were kept, the best on the validation rows."
    elif run.best_epoch == int(epochs):
        yield "There are no validation rows, so the last weights were kept."


def _performance(run: RunFiles) -> Iterator[str]:
    part = next((part for part in ("test", "validation") if run.score(part) is not None), None)
    if part is None:
        if run.score("train") is not None:
            yield "All rows were used for training, so the performance on new rows is unknown."
        return
    rows = run.rows(part)
    on = f"On the {count(rows)} {part} rows" if rows else f"On the {part} rows"
    if part == "validation":
        on += " (which also selected the weights)"
    value = run.score(part)
    if run.main_metric == "accuracy":
        yield f"{on}, its accuracy is {score('accuracy', value)}{_accuracy_context(run, part)}."
    elif run.main_metric == "r2" and value is not None and value <= 0:
        yield f"{on}, it is no better than always predicting the mean (R² {amount(value, 3)})."
    elif run.main_metric == "r2" and value is not None:
        mae = run.score(part, "mae") if len(run.targets) < 2 else None
        error = f", with a mean absolute error of {amount(mae, 3)}" if mae is not None else ""
        yield f"{on}, it explains {100 * value:.0f}{NO_BREAK}% of the variance{error}."
    else:
        yield f"{on}, its {metric(run.main_metric)} is {score(run.main_metric, value)}."


def _accuracy_context(run: RunFiles, part: str) -> str:
    """The confidence interval of an accuracy and the majority-class baseline, if the counts match the accuracy."""
    table = run.confusion[1] if run.evaluation.get("part") == part else []
    rows = round(sum(map(sum, table)))
    correct = round(sum(row[index] for index, row in enumerate(table)))
    value = run.score(part)
    if not rows or value is None or abs(correct / rows - value) > 0.5 / rows:
        return ""
    low, high = wilson_interval(correct, rows)
    majority = score("accuracy", max(map(sum, table)) / rows)
    interval = f" (95{NO_BREAK}% interval {100 * low:.1f} to {100 * high:.1f}{NO_BREAK}%)"
    return f"{interval}; always predicting the most frequent class would reach {majority}"
