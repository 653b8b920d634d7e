"""Metrics for evaluation: pure tensor functions that do not synchronize with the device, and the table of them.

Each is called as ``metric(predictions, targets, weights=None)`` and returns a scalar tensor on the device of the
predictions, float64 (float32 on devices without it), which is NaN where the metric is undefined. The definitions equal
those of scikit-learn wherever both are defined.

Metrics of classes take class indices (n,), or raw outputs: scores (n, K), the largest of which is the class, or logits
(n, 1), positive for class 1. Metrics of probabilities take those of the second class (n,) or of every class (n, K).
Metrics of values take (n,) or (n, T), and average uniformly over the targets. Metrics of several labels take 0 and 1, or
probabilities, (n, L).

:data:`METRICS` is the table of all of them: a :class:`Metric` declares its name, direction, tasks and the form of
predictions that it takes. A metric is added by one entry there.
"""

from __future__ import annotations

from descend.metrics.base import Direction, Form, Metric, predicted_classes
from descend.metrics.catalogue import (
    FAMILIES,
    LOSSES,
    METRICS,
    OwnName,
    better,
    find_metric,
    main_metric,
    metric_names,
    metrics_of,
)
from descend.metrics.classification import (
    accuracy,
    balanced_accuracy,
    f1,
    f1_macro,
    matthews,
    precision,
    precision_macro,
    recall,
    recall_macro,
)
from descend.metrics.own import declare, own_metric
from descend.metrics.probabilities import average_precision, brier, log_loss, roc_auc, top_k
from descend.metrics.regression import explained_variance, mae, mape, median_ae, mse, pinball, r2, rmse
from descend.metrics.selection import Selection, undefined_reason

__all__ = [
    "FAMILIES",
    "LOSSES",
    "METRICS",
    "Direction",
    "Form",
    "Metric",
    "OwnName",
    "Selection",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "better",
    "brier",
    "declare",
    "explained_variance",
    "f1",
    "f1_macro",
    "find_metric",
    "log_loss",
    "mae",
    "main_metric",
    "mape",
    "matthews",
    "median_ae",
    "metric_names",
    "metrics_of",
    "mse",
    "own_metric",
    "pinball",
    "precision",
    "precision_macro",
    "predicted_classes",
    "r2",
    "recall",
    "recall_macro",
    "rmse",
    "roc_auc",
    "top_k",
    "undefined_reason",
]
