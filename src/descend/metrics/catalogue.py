"""The metrics by name, the tasks that each is for, and the names of families with a parameter."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from descend.errors import UserError, did_you_mean
from descend.metrics import classification, labels, probabilities, regression
from descend.metrics.base import CLASSES, LABELS, REGRESSION, Direction, Metric

__all__ = [
    "FAMILIES",
    "LOSSES",
    "METRICS",
    "OwnName",
    "better",
    "find_metric",
    "main_metric",
    "metric_names",
    "metrics_of",
    "similar_metric",
]

_BINARY, _MULTICLASS = frozenset({"binary"}), frozenset({"multiclass"})
_NONE: frozenset[str] = frozenset()


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in [
        Metric("f1_micro", labels.f1_micro, "higher", "classes", LABELS, each_epoch=True),
        Metric("accuracy", classification.accuracy, "higher", "classes", CLASSES, each_epoch=True),
        Metric("balanced_accuracy", classification.balanced_accuracy, "higher", "classes", CLASSES, by_class=True,
               each_epoch=True),
        Metric("f1", classification.f1, "higher", "classes", _BINARY),
        Metric("f1_macro", classification.f1_macro, "higher", "classes", CLASSES | LABELS,
               by_class=True),
        Metric("label_accuracy", labels.label_accuracy, "higher", "classes", LABELS, each_epoch=True),
        Metric("subset_accuracy", labels.subset_accuracy, "higher", "classes", LABELS, each_epoch=True),
        Metric("precision", classification.precision, "higher", "classes", _BINARY),
        Metric("precision_macro", classification.precision_macro, "higher", "classes", CLASSES, by_class=True,
               at_end=_NONE),
        Metric("recall", classification.recall, "higher", "classes", _BINARY),
        Metric("recall_macro", classification.recall_macro, "higher", "classes", CLASSES, by_class=True, at_end=_NONE),
        Metric("matthews", classification.matthews, "higher", "classes", CLASSES, by_class=True),
        Metric("roc_auc", probabilities.roc_auc, "higher", "probabilities", CLASSES | LABELS,
               by_class=True, sorts=True),
        Metric("average_precision", probabilities.average_precision, "higher",
               "probabilities", CLASSES | LABELS, by_class=True, at_end=_BINARY | LABELS, sorts=True),
        Metric("brier", probabilities.brier, "lower", "probabilities", CLASSES | LABELS),
        Metric("log_loss", probabilities.log_loss, "lower", "probabilities", CLASSES | LABELS),
        Metric("r2", regression.r2, "higher", "values", REGRESSION, each_epoch=True),
        Metric("mae", regression.mae, "lower", "values", REGRESSION, each_epoch=True),
        Metric("rmse", regression.rmse, "lower", "values", REGRESSION, each_epoch=True),
        Metric("mse", regression.mse, "lower", "values", REGRESSION, at_end=_NONE),
        Metric("median_ae", regression.median_ae, "lower", "values", REGRESSION, sorts=True),
        Metric("mape", regression.mape, "lower", "values", REGRESSION),
        Metric("explained_variance", regression.explained_variance, "higher", "values", REGRESSION, at_end=_NONE),
    ]
}  # fmt: skip
"""The metrics by name; of each task, the main one comes first."""


def _top(text: str) -> Metric | None:
    if not text.isdecimal() or int(text) < 1:
        return None
    k = int(text)
    function = functools.partial(probabilities.top_k, k=k)
    return Metric(f"top_{k}", function, "higher", "probabilities", _MULTICLASS, least_classes=k + 1)


def _pinball(text: str) -> Metric | None:
    try:
        quantile = float(text)
    except ValueError:
        return None
    if not 0 < quantile < 1:
        return None
    function = functools.partial(regression.pinball, quantile=quantile)
    return Metric(f"pinball_{text}", function, "lower", "values", REGRESSION)


FAMILIES: Mapping[str, tuple[str, Callable[[str], Metric | None], Any]] = {
    "top_": ("top_5", _top, "K an integer: the true class is among the K most probable ones"),
    "pinball_": ("pinball_0.9", _pinball, "Q between 0 and 1: the loss of a prediction of this quantile"),
}
"""Prefix -> an example, what makes a metric of the rest of the name (or None), and the meaning of the rest."""

LOSSES: Mapping[str, Direction] = {"loss": "lower", "objective": "lower"}
"""Values that are measured with the metrics but depend on the recipe.

- "loss": the loss without label smoothing and class weights;
- "objective": the loss that training minimizes, with both, but without dropout, augmentation and penalties.
"""

_OTHER_NAMES: Mapping[str, str] = {
    "acc": "accuracy", "auc": "roc_auc", "auroc": "roc_auc", "roc": "roc_auc", "ap": "average_precision",
    "auprc": "average_precision", "pr_auc": "average_precision", "f1_score": "f1", "f1score": "f1", "mcc": "matthews",
    "matthews_corrcoef": "matthews", "brier_score": "brier", "brier_score_loss": "brier", "logloss": "log_loss",
    "cross_entropy": "log_loss", "nll": "log_loss", "r2_score": "r2", "mean_absolute_error": "mae", "l1": "mae",
    "mean_squared_error": "mse", "root_mean_squared_error": "rmse", "median_absolute_error": "median_ae",
    "mean_absolute_percentage_error": "mape", "quantile": "pinball_0.5", "pinball": "pinball_0.5", "top_k": "top_5",
    "top_k_accuracy": "top_5", "top5": "top_5", "top3": "top_3",
}  # fmt: skip
"""Names of metrics elsewhere -> their names here, for messages."""


def metrics_of(task: str) -> dict[str, Metric]:
    """Return the metrics of a task by name, the main one first; those of families with a parameter are not listed.

    Raises:
        UserError: the task is unknown.

    >>> list(metrics_of("regression"))[:3]
    ['r2', 'mae', 'rmse']
    """
    found = {name: metric for name, metric in METRICS.items() if task in metric.tasks}
    if not found:
        tasks = sorted({task for metric in METRICS.values() for task in metric.tasks})
        raise UserError(f"unknown task '{task}'; {did_you_mean(task, tasks)}")
    return found


def metric_names(task: str, classes: int = 0) -> list[str]:
    """Return the names that a user may choose from for a task: losses, metrics, and an example of each family."""
    families = [make(example.removeprefix(prefix)) for prefix, (example, make, _) in FAMILIES.items()]
    own = [each.name for each in families if each and task in each.tasks and classes >= each.least_classes]
    return [*LOSSES, *metrics_of(task), *own]


def find_metric(name: str, task: str | None = None) -> Metric:
    """Return the metric with a name, such as "f1" or "top_5".

    Args:
        name: the name.
        task: the task that the metric must be for. Default None: any.

    Raises:
        UserError: there is no such metric, or it is for other tasks.

    >>> find_metric("rmse").better, find_metric("top_3", "multiclass").takes
    ('lower', 'probabilities')
    """
    found = METRICS.get(name)
    if found is None:
        prefix = next((prefix for prefix in FAMILIES if name.startswith(prefix)), None)
        if prefix is not None:
            example, make, meaning = FAMILIES[prefix]
            found = make(name.removeprefix(prefix))
            if found is None:
                raise UserError(f"unknown metric '{name}'; expected a name such as '{example}', {meaning}")
    known = (
        metric_names(task)
        if task is not None
        else [*LOSSES, *METRICS, *(example for example, _, _ in FAMILIES.values())]
    )
    if found is None:
        other = similar_metric(name, known)
        hint = did_you_mean(name, known) if other is None else f"did you mean '{other}'?"
        raise UserError(f"unknown metric '{name}'{'' if task is None else f' for {task}'}; {hint}")
    if task is not None and task not in found.tasks:
        macro = f"{name}_macro"
        hint = f"did you mean '{macro}'?" if macro in known else f"one of: {', '.join(known)}"
        raise UserError(f"no metric '{name}' for {task}; {hint}")
    return found


def similar_metric(name: str, known: Sequence[str]) -> str | None:
    """Return the metric that another library means by a name, or None.

    Args:
        name: the name, as scikit-learn, Keras or others write it.
        known: names of the metrics to choose from.

    >>> similar_metric("neg_mean_squared_error", ["loss", "mse"]), similar_metric("F1", ["loss", "f1_macro"])
    ('mse', 'f1_macro')
    >>> similar_metric("val_loss", ["loss", "mse"]), similar_metric("profit", ["loss", "mse"])
    ('loss', None)
    """
    plain = name.lower().replace("-", "_").replace(" ", "_")
    plain = _PREFIX.sub("", plain)
    for form in (plain, _SUFFIX.sub("", plain)):
        for known_as in (form, _OTHER_NAMES.get(form, form)):
            for one in (known_as, f"{known_as}_macro"):
                if one in known:
                    return one
    other = _OTHER_NAMES.get(plain)
    if other is not None and any(other.startswith(prefix) for prefix in FAMILIES):
        return other if any(one.startswith(other.partition("_")[0]) for one in known) else None
    return None


_PREFIX = re.compile(r"^(?:(?:val|valid|validation|test|train|eval|neg|negative)[_/])+")
_SUFFIX = re.compile(r"_(?:score|ovr|ovo|ovr_weighted|ovo_weighted|weighted|micro|samples|loss|coef)$")


def main_metric(task: str) -> str:
    """Return the main metric of a task.

    Raises:
        UserError: the task is unknown.

    >>> main_metric("binary"), main_metric("regression")
    ('accuracy', 'r2')
    """
    return next(iter(metrics_of(task)))


class OwnName(str):
    """The name of a metric that is not in the table, which knows its direction; it compares and prints as a string.

    >>> name = OwnName("profit", "higher")
    >>> name == "profit", better(name)
    (True, 'higher')
    """

    better: Direction

    def __new__(cls, name: str, better: Direction) -> Self:
        """Return the name with its direction."""
        own = super().__new__(cls, name)
        own.better = better
        return own


def better(metric: str) -> Direction:
    """Return whether higher or lower values of a metric, or of the ``loss``, are better.

    Raises:
        UserError: the metric is unknown.

    >>> better("accuracy"), better("loss"), better("pinball_0.9")
    ('higher', 'lower', 'lower')
    """
    if isinstance(metric, OwnName):
        return metric.better
    return LOSSES[metric] if metric in LOSSES else find_metric(metric).better
