"""Loss and metrics of a network on rows that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.batches import Batch

__all__ = ["evaluating", "measure", "outputs_of"]

ROWS_AT_ONCE = 8192
"""Rows evaluated together: enough to keep a device busy, few enough for its memory."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients; each module's own mode comes back afterwards.

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
    """Raw outputs (n, K) of the network, in pieces that fit in memory."""
    mixed_precision = precision == "bfloat16"
    arithmetic = (
        torch.autocast(inputs.device.type, dtype=torch.bfloat16) if mixed_precision else nullcontext()
    )
    with evaluating(model), arithmetic:
        if len(inputs) <= ROWS_AT_ONCE:
            outputs: Tensor = model(inputs)
        else:
            outputs = torch.cat([model(piece) for piece in inputs.split(ROWS_AT_ONCE)])
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
    """Loss and metrics over all rows, as 0-dimensional tensors that stay on the device.

    Args:
        model: the network.
        batches: the rows; one batch where they are in memory.
        loss: mean loss of (outputs, targets, weights).
        metrics: name -> function of (predictions, targets, weights).
        predict: raw outputs -> predictions in the form metrics take.
        units: predictions or targets -> original units; None where they are in them.
        precision: of the network's arithmetic.
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
        shown = targets
        if units is not None:
            predictions, shown = units(predictions), units(targets)
        found = {"loss": loss(outputs, targets, weights)}
        for name, metric in metrics.items():
            found[name] = metric(predictions, shown, weights)
    return found
