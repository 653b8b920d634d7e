"""Which metrics are measured when: after every epoch, and on each part of the data after training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.metrics.base import Direction, Metric
from descend.metrics.catalogue import LOSSES, find_metric, metrics_of

__all__ = ["LARGEST_SORT", "Selection", "undefined_reason"]

LARGEST_SORT = 2**26
"""The largest number of predictions (rows times classes) for which metrics that sort them are measured unrequested."""


@dataclass(frozen=True)
class Selection:
    """The metrics of one run.

    Args:
        task: the task.
        classes: the number of classes; 0 for regression.
        requested: the metrics that the recipe requests, the monitored one included.
        monitor: the name of the monitored value.

    >>> selection = Selection("binary", 2, (find_metric("f1"),), "f1")
    >>> [metric.name for metric in selection.each_epoch()], selection.better
    (['accuracy', 'balanced_accuracy', 'f1'], 'higher')
    """

    task: str
    classes: int
    requested: tuple[Metric, ...] = ()
    monitor: str = "loss"

    @property
    def better(self) -> Direction:
        """Whether higher or lower values of the monitored quantity are better."""
        return self.direction(self.monitor)

    def direction(self, name: str) -> Direction:
        """Return whether higher or lower values of the loss or of a metric of this run are better.

        Raises:
            UserError: there is no such metric.
        """
        own = next((metric for metric in self.requested if metric.name == name), None)
        if own is not None:
            return own.better
        return LOSSES[name] if name in LOSSES else find_metric(name, self.task).better

    def each_epoch(self) -> tuple[Metric, ...]:
        """Return the metrics that are measured after every epoch."""
        return self._with_requested(m for m in metrics_of(self.task).values() if m.each_epoch)

    def at_end(self, rows: int) -> tuple[Metric, ...]:
        """Return the metrics that are measured after training on a held-out part of the data, of this number of rows."""
        many = rows * max(self.classes, 1) > LARGEST_SORT
        known = [
            *metrics_of(self.task).values(),
            *([find_metric("top_5")] if self.task == "multiclass" else []),
        ]
        return self._with_requested(
            m
            for m in known
            if (m.each_epoch or m.at_end is None or self.task in m.at_end)
            and not (m.sorts and many)
            and self.classes >= m.least_classes
        )

    def _with_requested(self, metrics: Iterable[Metric]) -> tuple[Metric, ...]:
        return tuple({metric.name: metric for metric in (*metrics, *self.requested)}.values())


def undefined_reason(
    metric: Metric, task: str, targets: Tensor, weights: Tensor | None = None, classes: int = 0
) -> str | None:
    """Return why a metric is undefined on these rows whatever the predictions, or None if it can be defined.

    Args:
        metric: the metric.
        task: the task.
        targets: as :meth:`Metric.__call__` takes them.
        weights: (n,), one weight per row. Default None: all equal.
        classes: the number of classes; 0 for regression.

    >>> undefined_reason(find_metric("r2"), "regression", torch.tensor([2.0]))
    'there is one row'
    >>> undefined_reason(find_metric("roc_auc"), "binary", torch.tensor([0, 0]), classes=2)
    '1 of 2 classes has no row'
    """
    perfect = targets
    if task == "multi_label":
        perfect = targets.double() if metric.takes == "probabilities" else targets.long()
    elif metric.takes == "probabilities":
        perfect = torch.nn.functional.one_hot(targets.long(), classes).double()
        perfect = perfect[:, 1] if task == "binary" else perfect
    elif metric.takes == "classes":
        perfect = targets.long()
    if not bool(metric(perfect, targets, weights, classes).isnan()):
        return None
    if metric.own is not None and metric.takes != "classes" and len(targets):
        # One's own metric may be infinite, and so undefined, for perfect predictions, as the peak signal-to-noise ratio.
        imperfect = perfect + 1.0 if metric.takes == "values" else 0.8 * perfect + 0.1
        if not bool(metric(imperfect, targets, weights, classes).isnan()):
            return None
    counts = torch.ones(len(targets)) if weights is None else weights
    if len(targets) == 0:
        return "there are no rows"
    if not bool((counts > 0).any()):
        return "all weights are 0"
    if task == "multi_label":
        return (
            "no label both holds in a row and does not in another"
            if metric.sorts
            else "no label holds in any row"
        )
    if classes:
        present = torch.zeros(classes).index_add(0, targets.long().cpu(), counts.float().cpu()) > 0
        absent = classes - int(present.sum())
        if absent:
            return f"{absent} of {classes} classes {'has' if absent == 1 else 'have'} no row"
    if len(targets) == 1:
        return "there is one row"
    if not classes and bool((targets == targets[:1]).all()):
        return "the targets are all equal"
    if metric.name == "mape":
        return "a target is 0"
    return "it is undefined even for perfect predictions"
