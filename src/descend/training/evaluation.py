"""Loss and metrics of a network on rows that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.metrics import Form, Metric
from descend.nn.evaluation_mode import in_evaluation_mode
from descend.training.channels_last import channels_last, convolves

__all__ = ["evaluating", "measure", "outputs_of"]

EVALUATION_BATCH_SIZE = 8192
"""Rows per forward pass: enough to use a device fully, few enough for its memory."""


IMAGE_BATCH_SIZE = 128
"""Rows per forward pass of a network with convolutions on a CPU: what its cache holds, which takes half the time."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context with the model in evaluation mode and without gradients; on exit each module's own mode is restored.

    >>> model = nn.Sequential(nn.Dropout()).train()
    >>> with evaluating(model):
    ...     model.training
    False
    >>> model.training
    True
    """
    with in_evaluation_mode(model), torch.inference_mode():
        yield


def outputs_of(model: nn.Module, inputs: Tensor, *, precision: str = "float32") -> Tensor:
    """Return the raw outputs (n, K) of a network, computed in chunks that fit in memory."""
    mixed_precision = precision == "bfloat16"
    arithmetic = (
        torch.autocast(inputs.device.type, dtype=torch.bfloat16) if mixed_precision else nullcontext()
    )
    size = EVALUATION_BATCH_SIZE
    if inputs.dim() == 4 and inputs.device.type == "cpu" and convolves(model):
        inputs, size = channels_last(inputs), IMAGE_BATCH_SIZE
    with evaluating(model), arithmetic:
        if len(inputs) <= size:
            outputs: Tensor = model(inputs)
        else:
            outputs = torch.cat([model(chunk) for chunk in inputs.split(size)])
    return outputs.float() if mixed_precision else outputs


def measure(
    model: nn.Module,
    batches: Iterable[Batch],
    losses: Mapping[str, Callable[..., Tensor]],
    metrics: Iterable[Metric],
    predict: Callable[[Tensor, Form], Tensor],
    units: Callable[[Tensor], Tensor] | None = None,
    *,
    classes: int = 0,
    precision: str = "float32",
) -> dict[str, Tensor]:
    """Compute losses and metrics over all rows, as 0-dimensional tensors that stay on the device.

    Args:
        model: the network.
        batches: the rows; a single batch if they are in memory.
        losses: mean losses of (outputs, targets, weights), by name.
        metrics: the metrics; each is NaN where it is undefined.
        predict: converts raw outputs into predictions of a form.
        units: converts targets into original units; None if they are already in original units.
        classes: the number of classes of the task; 0 for none.
        precision: of the network's arithmetic. Default "float32".
    """
    parts: list[tuple[Tensor, Tensor, Any]] = []
    for batch in batches:
        parts.append((outputs_of(model, batch.inputs, precision=precision), batch.targets, batch.weights))
    with torch.inference_mode():
        if len(parts) == 1:
            outputs, targets, weights = parts[0]
        else:
            outputs, targets = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
            weights = None if parts[0][2] is None else torch.cat([p[2] for p in parts])
        values = {name: loss(outputs, targets, weights) for name, loss in losses.items()}
        expected = targets if units is None else units(targets)
        predictions: dict[Form, Tensor] = {}
        for metric in metrics:
            if metric.takes not in predictions:
                predictions[metric.takes] = predict(outputs, metric.takes)
            values[metric.name] = metric(predictions[metric.takes], expected, weights, classes)
    return values
