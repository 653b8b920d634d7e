"""Names of scores, as scikit-learn has them and as a run measures them."""

from __future__ import annotations

from collections.abc import Mapping

from descend.errors import UserError, did_you_mean
from descend.metrics import METRICS, main_metric

__all__ = ["SCORES", "score_of"]

SCORES: Mapping[str, tuple[str, float]] = {
    "accuracy": ("accuracy", 1.0),
    "balanced_accuracy": ("balanced_accuracy", 1.0),
    "r2": ("r2", 1.0),
    "neg_mean_absolute_error": ("mae", -1.0),
    "neg_root_mean_squared_error": ("rmse", -1.0),
    "neg_log_loss": ("loss", -1.0),
}
"""scikit-learn's name -> the run's metric, and the sign that makes higher better."""


def score_of(asked: str | None, task: str) -> tuple[str, str]:
    """The run's metric and scikit-learn's name of it.

    Args:
        asked: scikit-learn's name; None for the main metric of the task.
        task: as a schema names it.

    >>> score_of(None, "binary"), score_of("neg_mean_absolute_error", "regression")
    (('accuracy', 'accuracy'), ('mae', 'neg_mean_absolute_error'))
    """
    known = [
        name
        for name, (metric, _) in SCORES.items()
        if metric in METRICS[task] or (metric == "loss" and task in ("binary", "multiclass"))
    ]
    if asked is None:
        return main_metric(task), main_metric(task)
    if asked not in known:
        raise UserError(f"scoring: no score '{asked}' for {task}; {did_you_mean(str(asked), known)}")
    return SCORES[asked][0], asked
