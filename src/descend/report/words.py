"""Numbers and outcomes in words: how the report speaks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from descend.report.run_files import RunFiles, items, mapping, number, text

__all__ = ["METRICS", "amount", "count", "duration", "listing", "score", "short", "summary", "wilson"]

METRICS: Mapping[str, str] = {
    "loss": "loss",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "r2": "R²",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
}
"""Names of metrics as people write them."""

TASKS: Mapping[str, str] = {
    "regression": "regression",
    "multi_regression": "multi-target regression",
    "binary": "binary classification",
    "multiclass": "multiclass classification",
}

NONE = "\N{EN DASH}"
"""What stands where there is no value."""

TIMES = " \N{MULTIPLICATION SIGN} "
"""What joins the sides of a shape."""

SHARES = frozenset({"accuracy", "balanced_accuracy"})

_STOPPED: Mapping[str, str] = {
    "patience": "it stopped when the validation score no longer improved",
    "max_epochs": "it stopped at the epoch limit",
    "max_seconds": "it stopped at the time limit",
    "target": "it stopped when the wanted score was reached",
    "gradient_tolerance": "it stopped when the gradient had vanished",
    "interrupted": "it was interrupted",
    "diverged": "it stopped because the numbers diverged",
}


def amount(value: float | None, digits: int = 4) -> str:
    """A number to ``digits`` significant digits; a dash for None.

    >>> amount(0.0123456), amount(1234567.0), amount(1e-9), amount(3.0), amount(None)
    ('0.01235', '1,235,000', '1e-09', '3', '\N{EN DASH}')
    """
    if value is None:
        return NONE
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    rounded = float(f"{value:.{digits}g}")
    decimals = 0 if rounded == 0 else max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    written = f"{rounded:,.{decimals}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def count(value: object) -> str:
    """A whole number with thousands separated; a dash where there is none.

    >>> count(1347), count(None)
    ('1,347', '\N{EN DASH}')
    """
    found = number(value)
    return NONE if found is None else f"{int(found):,}"


def score(name: str, value: float | None) -> str:
    """A metric's value: a share as a percentage, anything else to four digits.

    >>> score("accuracy", 0.98222), score("r2", 0.47311)
    ('98.2 %', '0.473')
    """
    if value is None:
        return amount(None)
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%" if name in SHARES else amount(value, 3 if name == "r2" else 4)


def metric(name: str) -> str:
    """A metric's name as people write it."""
    return METRICS.get(name, name.replace("_", " "))


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it.

    >>> [duration(s) for s in (0.0123, 2.345, 75, 4000, None)]
    ['12 ms', '2.3 s', '1 min 15 s', '1 h 07 min', '\N{EN DASH}']
    """
    if seconds is None:
        return amount(None)
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def short(name: str, limit: int = 18) -> str:
    """A name cut to ``limit`` characters, the middle left out, so that what tells names apart stays.

    >>> short("mean_radius_of_the_inner_ring", 12)
    'mean_r…_ring'
    """
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 2
    return name[: limit - 1 - tail] + "…" + name[len(name) - tail :]


def listing(names: Sequence[str], limit: int = 3) -> str:
    """Names joined as in a sentence, the rest counted.

    >>> listing(["a", "b"]), listing(["a", "b", "c", "d", "e"], 2)
    ('a and b', 'a, b and 3 more')
    """
    shown = [short(name, 40) for name in names[:limit]]
    if len(names) > limit:
        shown.append(f"{len(names) - limit:,} more")
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}" if shown else ""


def wilson(right: int, rows: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a share, 95 % unless ``z`` says otherwise.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = right / rows, n = rows. Unlike p ± z √(p(1-p)/n)
    it stays inside [0, 1] and has a width when p is 0 or 1.

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
    model = mapping(run.environment.get("model"))
    size = number(model.get("parameters"))
    network = f"A network of {count(size)} parameters" if size else "A network"
    rows = number(mapping(run.schema.get("rows")).get("train"))
    learned = f"learned from {count(rows)} rows" if rows else "was trained"
    yield f"{network} {learned} to {_aim(run)}{_from(run)}."


def _aim(run: RunFiles) -> str:
    classes = items(run.evaluation.get("classes"))
    if run.task in ("binary", "multiclass"):
        names = [text(name) for name in classes]
        if not names:
            return "tell classes apart"
        return f"tell {len(names)} classes apart ({listing(names, 3 if len(names) > 4 else 4)})"
    if run.targets:
        return f"predict {listing(run.targets)}"
    return "predict the target"


def _from(run: RunFiles) -> str:
    columns = [column for column in map(mapping, items(run.schema.get("columns"))) if used(column)]
    if columns:
        return f" from {len(columns):,} column{'s' if len(columns) != 1 else ''}"
    shape = [count(side) for side in items(run.schema.get("input_shape"))]
    if run.schema.get("kind") == "images" and shape:
        return " from images of " + TIMES.join(shape)
    return ""


def used(column: Mapping[str, object]) -> bool:
    """Whether the network sees a column of the data."""
    return text(column.get("kind")) not in ("constant", "ignore", "ignored", "all_missing", "missing", "dropped")


def _how(run: RunFiles) -> Iterator[str]:
    epochs = number(run.metrics.get("epochs")) or float(len(run.history))
    optimizer = text(mapping(run.settings.get("optimizer")).get("name"))
    if not epochs:
        yield "No epoch was completed."
        return
    words = f"Training with {optimizer}" if optimizer else "Training"
    words += f" took {count(epochs)} epoch{'s' if epochs != 1 else ''}"
    seconds = number(run.metrics.get("seconds"))
    if seconds is not None:
        words += f" and {duration(seconds)}"
    reason = text(run.metrics.get("stopped"))
    if reason:
        words += "; " + _STOPPED.get(reason, f"it stopped for this reason: {reason}")
    yield words + "."
    if run.best_epoch is None:
        return
    if any(mapping(line.get("validation")) for line in run.history):
        yield f"The weights kept are those of epoch {run.best_epoch:,}, the best on the validation rows."
    elif run.best_epoch == int(epochs):
        yield "No rows were set aside for validation, so the last weights were kept."


def _how_well(run: RunFiles) -> Iterator[str]:
    part = next((part for part in ("test", "validation") if run.score(part) is not None), None)
    if part is None:
        if run.score("train") is not None:
            yield "Every row was used for training, so nothing here tells how well it does on new ones."
        return
    rows = number(mapping(run.schema.get("rows")).get(part))
    if rows is None and run.evaluation.get("part") == part:
        rows = number(run.evaluation.get("rows"))
    where = f"On {count(rows)} rows" if rows else "On rows"
    where += " that it had never seen" if part == "test" else " held out for validation, which also chose the weights"
    value = run.score(part)
    if run.main_metric == "accuracy":
        yield f"{where}, {score('accuracy', value)} of its answers are right{_interval(run, part)}{_guess(run, part)}."
    elif run.main_metric == "r2" and value is not None:
        mae = run.score(part, "mae")
        off = f", and is off by {amount(mae, 3)} on average" if mae is not None and len(run.targets) < 2 else ""
        if value > 0:
            yield f"{where}, it accounts for {100 * value:.0f} % of the variance{off}."
        else:
            yield f"{where}, it does no better than always answering the mean (R² {amount(value, 3)})."
    else:
        yield f"{where}, its {metric(run.main_metric)} is {score(run.main_metric, value)}."


def _confusion(run: RunFiles, part: str) -> list[list[float]]:
    if run.evaluation.get("part") != part:
        return []
    return [[number(cell) or 0.0 for cell in items(row)] for row in items(run.evaluation.get("confusion"))]


def _interval(run: RunFiles, part: str) -> str:
    """The accuracy's uncertainty, when the counts are those the accuracy was measured on."""
    table = _confusion(run, part)
    rows = int(sum(map(sum, table)))
    right = int(sum(row[place] for place, row in enumerate(table) if place < len(row)))
    value = run.score(part)
    if not rows or value is None or abs(right / rows - value) > 0.5 / rows:
        return ""
    low, high = wilson(right, rows)
    return f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"


def _guess(run: RunFiles, part: str) -> str:
    table = _confusion(run, part)
    rows = sum(map(sum, table))
    if not rows:
        return ""
    return f"; always answering the most frequent class would give {score('accuracy', max(map(sum, table)) / rows)}"
