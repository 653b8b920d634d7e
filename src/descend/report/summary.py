"""A run in a few plain sentences: what was learned, how, and how well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from descend.report.run_files import USED, RunFiles, items, mapping, number, text
from descend.report.formatting import NO_BREAK, TIMES, amount, count, duration, listing, metric, score

__all__ = ["summary", "wilson"]

_STOPPED: Mapping[str, str] = {
    "patience": "it stopped when the validation rows showed no more progress",
    "max_epochs": "it stopped at the epoch limit",
    "max_seconds": "it stopped at the time limit",
    "target": "it stopped when the wanted score was reached",
    "gradient_tolerance": "it stopped when the gradient had vanished",
    "interrupted": "it was interrupted",
    "diverged": "it stopped because the numbers diverged",
}


def wilson(right: int, rows: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a share, 95 % unless ``z`` says otherwise.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = right / rows, n = rows. Unlike
    p ± z √(p(1-p)/n) it stays inside [0, 1] and has a width when p is 0 or 1.

    Args:
        right: rows that were right, 0 to ``rows``.
        rows: rows in all, 1 or more.
        z: standard normal quantile of the wanted level.

    >>> [round(bound, 4) for bound in wilson(442, 450)]
    [0.9653, 0.991]

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share, room = right / rows, z * z / rows
    middle = share + room / 2
    reach = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, (middle - reach) / (1 + room)), min(1.0, (middle + reach) / (1 + room))


def summary(run: RunFiles) -> str:
    """What was learned, how, and how well, in a few plain sentences."""
    return " ".join([*_what(run), *_how(run), *_how_well(run)])


def _what(run: RunFiles) -> Iterator[str]:
    size = number(mapping(run.environment.get("model")).get("parameters"))
    rows = run.rows("train")
    network = f"A network of {count(size)} parameters" if size else "A network"
    learned = f"learned from {count(rows)} rows" if rows else "was trained"
    yield f"{network} {learned} to {_aim(run)}{_from(run)}."


def _aim(run: RunFiles) -> str:
    if run.task in ("binary", "multiclass"):
        names = run.classes
        shown = f" ({listing(names, 4 if len(names) <= 4 else 3)})" if names else ""
        return f"tell {len(names) or ''} classes apart{shown}".replace("  ", " ")
    return f"predict {listing(run.targets)}" if run.targets else "predict the target"


def _from(run: RunFiles) -> str:
    columns = sum(text(mapping(column).get("kind")) in USED for column in items(run.schema.get("columns")))
    if columns:
        return f" from {columns:,} column{'s' if columns != 1 else ''}"
    shape = items(run.schema.get("input_shape"))
    if run.schema.get("kind") == "images" and len(shape) == 3:
        channels = number(shape[0])
        kind = {1: "grey images", 3: "colour images"}.get(
            int(channels or 0), f"images with {count(channels)} channels"
        )
        return f" from {kind} of {count(shape[1])}{TIMES}{count(shape[2])} pixels"
    return ""


def _how(run: RunFiles) -> Iterator[str]:
    epochs = number(run.metrics.get("epochs")) or float(len(run.history))
    if not epochs:
        yield "No epoch was completed."
        return
    optimizer = text(mapping(run.settings.get("optimizer")).get("name"))
    words = f"Training with {optimizer}" if optimizer else "Training"
    words += f" took {count(epochs)} epoch{'s' if epochs != 1 else ''}"
    seconds = number(run.metrics.get("seconds"))
    words += f" and {duration(seconds).replace(' ', NO_BREAK)}" if seconds is not None else ""
    networks = len(items(mapping(run.metrics.get("members")).get("validation")))
    words += f" for the best of {networks:,} networks" if networks else ""
    reason = text(run.metrics.get("stopped"))
    words += "; " + _STOPPED.get(reason, f"it stopped for this reason: {reason}") if reason else ""
    yield words + "."
    if any(mapping(line.get("validation")) for line in run.history):
        if run.best_epoch is not None:
            yield f"The weights kept are those of epoch {run.best_epoch:,}, chosen by the validation rows."
    elif run.best_epoch == int(epochs):
        yield "No rows were set aside for validation, so the last weights were kept."


def _how_well(run: RunFiles) -> Iterator[str]:
    part = next((part for part in ("test", "validation") if run.score(part) is not None), None)
    if part is None:
        if run.score("train") is not None:
            yield "Every row was used for training, so nothing here tells how well it does on new ones."
        return
    rows = run.rows(part)
    where = f"On {count(rows)} rows" if rows else "On rows"
    where += (
        " that it had never seen" if part == "test" else " that chose the weights but were not learned from"
    )
    value = run.score(part)
    if run.main_metric == "accuracy":
        yield f"{where}, {score('accuracy', value)} of its answers are right{_compared(run, part)}."
    elif run.main_metric == "r2" and value is not None and value <= 0:
        yield f"{where}, it does no better than always answering the mean (R² {amount(value, 3)})."
    elif run.main_metric == "r2" and value is not None:
        mae = run.score(part, "mae") if len(run.targets) < 2 else None
        off = f", and is off by {amount(mae, 3)} on average" if mae is not None else ""
        yield f"{where}, it accounts for {100 * value:.0f}{NO_BREAK}% of the variance{off}."
    else:
        yield f"{where}, its {metric(run.main_metric)} is {score(run.main_metric, value)}."


def _compared(run: RunFiles, part: str) -> str:
    """How sure an accuracy is and what guessing would give, when the counts are those it was measured on."""
    table = run.confusion[1] if run.evaluation.get("part") == part else []
    rows = round(sum(map(sum, table)))
    right = round(sum(row[place] for place, row in enumerate(table)))
    value = run.score(part)
    if not rows or value is None or abs(right / rows - value) > 0.5 / rows:
        return ""
    low, high = wilson(right, rows)
    guess = score("accuracy", max(map(sum, table)) / rows)
    interval = f" (95{NO_BREAK}% interval {100 * low:.1f} to {100 * high:.1f}{NO_BREAK}%)"
    return f"{interval}; always answering the most frequent class would give {guess}"
