"""Numbers, durations and names as reports show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from descend.report.run_files import number

__all__ = [
    "ENVIRONMENT_LABELS",
    "NONE",
    "NO_BREAK",
    "SHARES",
    "TASKS",
    "TIMES",
    "amount",
    "count",
    "duration",
    "label",
    "listing",
    "metric",
    "score",
    "short",
]

METRICS: Mapping[str, str] = {
    "loss": "loss",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "f1_macro": "F1 (mean over classes)",
    "precision_macro": "precision (mean over classes)",
    "recall_macro": "recall (mean over classes)",
    "matthews": "Matthews correlation",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "r2": "R²",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "rmse": "root mean squared error",
    "median_ae": "median absolute error",
    "mape": "mean absolute percentage error",
}
"""Display names of metrics whose names with spaces would not do."""

TASKS: Mapping[str, str] = {
    "regression": "regression",
    "multi_regression": "multi-target regression",
    "multi_label": "multi-label classification",
    "binary": "binary classification",
    "multiclass": "multiclass classification",
}
"""Display names of tasks."""

ENVIRONMENT_LABELS: Mapping[str, str] = {
    "descend": "descend",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "cpu": "CPU",
    "cores": "CPU cores",
    "threads_reason": "choice of threads",
}
"""Display names of entries of ``environment.json``."""

NONE = "\N{EN DASH}"
"""Placeholder for a missing value."""

TIMES = " \N{MULTIPLICATION SIGN} "
"""Separator of the dimensions of a shape."""

NO_BREAK = "\N{NO-BREAK SPACE}"

_SPACES = str.maketrans({" ": NO_BREAK, "\n": "\\n", "\r": "\\r", "\t": "\\t"})

SHARES = frozenset(
    {
        "accuracy",
        "balanced_accuracy",
        "f1",
        "f1_macro",
        "precision",
        "precision_macro",
        "recall",
        "recall_macro",
        "mape",
        *(f"top_{k}" for k in range(1, 101)),
    }
)
"""Metrics that are shown as percentages."""


def amount(value: float | None, digits: int = 4) -> str:
    """Format a number with ``digits`` significant digits; a dash for None.

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
    """Format an integer with thousands separators; a dash if the value is not a number.

    >>> count(1347), count(None)
    ('1,347', '\N{EN DASH}')
    """
    known = number(value)
    return NONE if known is None else f"{int(known):,}"


def score(name: str, value: float | None) -> str:
    """Format a metric's value: shares as percentages, R² with three digits, others with four.

    A percentage has one decimal, or more where it would otherwise be rounded to 0 or 100.

    >>> [score("accuracy", value).replace(NO_BREAK, " ") for value in (0.98222, 0.99996, 1.0)]
    ['98.2 %', '99.996 %', '100.0 %']
    >>> score("r2", 0.47311)
    '0.473'
    """
    if value is None or name not in SHARES:
        return amount(value, 3 if name == "r2" else 4)
    decimals = 1
    while 0 < value < 1 and float(f"{100 * value:.{decimals}f}") in (0, 100) and decimals < 6:
        decimals += 1
    return f"{100 * value:.{decimals}f}{NO_BREAK}%"


def metric(name: str) -> str:
    """Return the display name of a metric.

    >>> metric("roc_auc"), metric("top_5"), metric("pinball_0.9"), metric("log_loss")
    ('ROC AUC', 'top-5 accuracy', 'pinball loss (0.9)', 'log loss')
    """
    family, _, rest = name.partition("_")
    if family == "top" and rest.isdecimal():
        return f"top-{rest} accuracy"
    if family == "pinball" and rest:
        return f"pinball loss ({rest})"
    return METRICS.get(name, name.replace("_", " "))


def duration(seconds: float | None) -> str:
    """Format a duration in a suitable unit.

    >>> [duration(s) for s in (0.0123, 0.988, 75, 4000, None)]
    ['12 ms', '1.0 s', '1 min 15 s', '1 h 06 min', '\N{EN DASH}']
    """
    if seconds is None:
        return amount(None)
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def label(name: str) -> str:
    """Return a label of the data as the data has it: in quotes if a page would not show all of its spaces.

    >>> label("no"), label(" no").replace(NO_BREAK, "_"), label("a  b").replace(NO_BREAK, "_"), label("")
    ('no', '"_no"', '"a__b"', '(empty)')
    """
    if name == " ".join(name.split()):
        return name or "(empty)"
    return '"' + name.translate(_SPACES) + '"'


def short(name: str, limit: int = 18) -> str:
    """Shorten a name to ``limit`` characters by omitting its middle; names often differ at their ends.

    >>> short("mean_radius_of_the_inner_ring", 12)
    'mean_r…_ring'
    """
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 2
    return name[: limit - 1 - tail] + "…" + name[len(name) - tail :]


def listing(names: Sequence[str], limit: int = 3) -> str:
    """Join names as in a sentence; beyond ``limit``, the rest are counted.

    >>> listing(["a", "b"]), listing(["a", "b", "c", "d", "e"], 2)
    ('a and b', 'a, b and 3 more')
    """
    shown = [short(name, 24) for name in names[:limit]]
    if len(names) > limit:
        shown.append(f"{len(names) - limit:,} more")
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}" if shown else ""
