"""Loss and metrics of a network on rows that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.batches import Batch

__all__ = ["evaluating", "measure", "outputs_of"]

EVALUATION_BATCH_SIZE = 8192
"""Rows per forward pass: enough to use a device fully, few enough for its memory."""


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
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def outputs_of(model: nn.Module, inputs: Tensor, *, precision: str = "float32") -> Tensor:
    """Return the raw outputs (n, K) of a network, computed in chunks that fit in memory."""
    mixed_precision = precision == "bfloat16"
    arithmetic = (
        torch.autocast(inputs.device.type, dtype=torch.bfloat16) if mixed_precision else nullcontext()
    )
    with evaluating(model), arithmetic:
        if len(inputs) <= EVALUATION_BATCH_SIZE:
            outputs: Tensor = model(inputs)
        else:
            outputs = torch.cat([model(chunk) for chunk in inputs.split(EVALUATION_BATCH_SIZE)])
    return outputs.float() if mixed_precision else outputs


def measure(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[..., Tensor],
    metrics: Mapping[str, Callable[..., Tensor]],
    predict: Callable[[Tensor], Tensor],
    units: Callable[[Tensor], Tensor] | None = None,
    *,
    precision: str = "float32",
) -> dict[str, Tensor]:
    """Compute loss and metrics over all rows, as 0-dimensional tensors that stay on the device.

    Args:
        model: the network.
        batches: the rows; a single batch if they are in memory.
        loss: mean loss of (outputs, targets, weights).
        metrics: functions of (predictions, targets, weights), by name.
        predict: converts raw outputs into predictions in the form that metrics take.
        units: converts predictions or targets into original units; None if they are already in original units.
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
        predictions = predict(outputs)
        expected = targets
        if units is not None:
            predictions, expected = units(predictions), units(targets)
        values = {"loss": loss(outputs, targets, weights)}
        for name, metric in metrics.items():
            values[name] = metric(predictions, expected, weights)
    return values
