"""What a metric is: a name, a function, the tasks it is for, the form of prediction it takes, and which direction is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from descend.errors import UserError

__all__ = [
    "CLASSES",
    "LABELS",
    "REGRESSION",
    "Direction",
    "Form",
    "Metric",
    "mean_over_rows",
    "predicted_classes",
    "row_weights",
    "wide",
]

Form = Literal["classes", "probabilities", "values"]
"""The form of the predictions that a metric takes:

- "classes": class indices (n,), or for several labels 0 and 1 (n, L);
- "probabilities": (n,) probabilities of the second class for a binary task, (n, K) for K classes, (n, L) for labels;
- "values": (n,) or (n, T), in the units of the targets.
"""

Direction = Literal["higher", "lower"]

CLASSES = frozenset({"binary", "multiclass"})
"""The tasks that predict one of several classes."""

LABELS = frozenset({"multi_label"})
"""The tasks that predict several labels, each of which may hold or not."""

REGRESSION = frozenset({"regression", "multi_regression"})
"""The tasks that predict numbers."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Metric:
    """A metric of predictions, computed on the device without synchronizing.

    The function is called as ``function(predictions, targets, weights)``, with ``classes=K`` where ``by_class`` is
    set. It returns a scalar, NaN where the metric is undefined on these rows. An undefined value becomes None in
    records, is shown as a dash and is never compared.

    Args:
        name: its name in a recipe, in records and on the command line.
        function: computes it.
        better: whether "higher" or "lower" values are better.
        takes: the form of the predictions.
        tasks: the tasks that it is for.
        by_class: whether it requires rows of every class of the task, whose number is then passed as ``classes``.
        each_epoch: whether it is measured after every epoch, requested or not.
        at_end: the tasks for which it is measured after training, requested or not. Default None: all.
        sorts: whether it sorts all rows, once per class: unless requested, it is left out for very many rows.
        own: for a metric of the user's own, the function of NumPy arrays that ``function`` calls, which
            :func:`torch.vmap` cannot run for many networks at once.
        least_classes: the least number of classes that it is meaningful for.
    """

    name: str
    function: Function
    better: Direction
    takes: Form
    tasks: frozenset[str]
    by_class: bool = False
    each_epoch: bool = False
    at_end: frozenset[str] | None = None
    sorts: bool = False
    own: Function | None = None
    least_classes: int = 0

    def __call__(
        self, predictions: Tensor, targets: Tensor, weights: Tensor | None = None, classes: int = 0
    ) -> Tensor:
        """Return the metric, NaN where it is undefined.

        Args:
            predictions: in the form that the metric takes.
            targets: class indices (n,), or values in the shape of the predictions.
            weights: (n,), one non-negative weight per row. Default None: all equal.
            classes: the number of classes of the task; 0 for the classes that occur in the targets.
        """
        found: Tensor = (
            self.function(predictions, targets, weights, classes=classes or None)
            if self.by_class
            else self.function(predictions, targets, weights)
        )
        return found


def predicted_classes(outputs: Tensor) -> Tensor:
    """Return class indices (n,) for raw outputs; class indices are returned unchanged.

    Args:
        outputs: scores (n, K), logits (n, 1), or int64 or boolean class indices (n,).

    >>> predicted_classes(torch.tensor([[0.1, 2.0, -1.0], [3.0, 0.0, 0.0]]))
    tensor([1, 0])
    >>> predicted_classes(torch.tensor([[-0.5], [0.5]]))
    tensor([0, 1])
    """
    if not outputs.is_floating_point():
        return outputs.long()
    if outputs.dim() == 2 and outputs.shape[1] > 1:
        return outputs.argmax(1)
    return (outputs.flatten() > 0).long()


def wide(values: Tensor) -> Tensor:
    """Convert to float64 if the device supports it, so that sums over many rows keep their precision."""
    return values.float() if values.device.type == "mps" else values.double()


def row_weights(weights: Tensor | None, rows: int, like: Tensor) -> Tensor:
    """Return one weight per row (n,), by default 1, in float64 if the device of ``like`` supports it.

    Raises:
        UserError: the weights have another shape.
    """
    if weights is None:
        return wide(torch.ones(rows, device=like.device))
    if weights.shape != (rows,):
        raise UserError(f"expected weights of shape ({rows},), one per row, got {tuple(weights.shape)}")
    return wide(weights)


def mean_over_rows(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of one value per row; NaN without rows, and if all weights are 0.

    Args:
        values: (n,), as :func:`wide` returns them.
        weights: (n,), one weight per row, or None: all equal.

    >>> mean_over_rows(torch.tensor([1.0, 3.0]).double(), torch.tensor([3.0, 1.0])).item()
    1.5
    """
    w = row_weights(weights, len(values), values)
    return torch.dot(values, w) / w.sum()
