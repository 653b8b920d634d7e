"""Names of scores in scikit-learn and of metrics in a run."""

from __future__ import annotations

from collections.abc import Mapping

from descend.errors import UserError, did_you_mean
from descend.metrics import main_metric, metrics_of

__all__ = ["SCORES", "score_of"]

SCORES: Mapping[str, tuple[str, float]] = {
    "accuracy": ("accuracy", 1.0),
    "balanced_accuracy": ("balanced_accuracy", 1.0),
    "r2": ("r2", 1.0),
    "neg_mean_absolute_error": ("mae", -1.0),
    "neg_root_mean_squared_error": ("rmse", -1.0),
    "neg_log_loss": ("loss", -1.0),
    "f1": ("f1", 1.0),
    "f1_macro": ("f1_macro", 1.0),
    "f1_micro": ("f1_micro", 1.0),
    "precision": ("precision", 1.0),
    "recall": ("recall", 1.0),
    "roc_auc": ("roc_auc", 1.0),
    "roc_auc_ovr": ("roc_auc", 1.0),
    "average_precision": ("average_precision", 1.0),
    "matthews_corrcoef": ("matthews", 1.0),
    "neg_brier_score": ("brier", -1.0),
    "neg_median_absolute_error": ("median_ae", -1.0),
    "neg_mean_absolute_percentage_error": ("mape", -1.0),
}
"""Name in scikit-learn -> metric of a run, and the sign with which higher is better."""

_BINARY = frozenset({"roc_auc", "average_precision", "neg_brier_score"})
"""Scores that scikit-learn computes for two classes only, although the metric is for more."""


def score_of(scoring: str | None, task: str) -> tuple[str, str]:
    """Return the metric of the run and its name in scikit-learn.

    Args:
        scoring: scikit-learn's name; None for the main metric of the task.
        task: the task, as in a schema.

    >>> score_of(None, "binary"), score_of("neg_mean_absolute_error", "regression")
    (('accuracy', 'accuracy'), ('mae', 'neg_mean_absolute_error'))
    """
    known = [
        name
        for name, (metric, _) in SCORES.items()
        if (metric in metrics_of(task) or (metric == "loss" and task in ("binary", "multiclass")))
        and not (name in _BINARY and task != "binary")
    ]
    if scoring is None:
        return main_metric(task), main_metric(task)
    if scoring not in known:
        raise UserError(f"scoring: unknown score '{scoring}' for {task}; {did_you_mean(str(scoring), known)}")
    return SCORES[scoring][0], scoring
