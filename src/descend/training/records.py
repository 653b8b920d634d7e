"""The records of a history: what one epoch measured, read from the device in one transfer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from descend.metrics import LOSSES

__all__ = ["Record", "epoch_loss", "not_finite", "read_all", "read_values", "record_of", "undefined_as_none"]

_PARTS = ("train", "validation", "test")

Record = dict[str, Any]
"""One line of the history: what an epoch measured."""


def epoch_loss(losses: Sequence[Tensor], rows_per_step: Sequence[int]) -> Tensor:
    """Return the mean training loss of an epoch over its rows, on the device of the losses.

    Args:
        losses: the mean loss of each step, () for one network or (K,) for the members of a pack. They may be fewer
            than the steps of an epoch, as in an epoch that is closed early.
        rows_per_step: the number of rows of each step of an epoch.

    Returns:
        A tensor with the shape of one step's losses.

    >>> epoch_loss([torch.tensor(1.0), torch.tensor(4.0)], [2, 1])
    tensor(2.)
    >>> epoch_loss([torch.tensor([1.0, 0.0]), torch.tensor([4.0, 3.0])], [2, 1])
    tensor([2., 1.])
    """
    stacked = torch.stack(list(losses))
    rows = torch.tensor(rows_per_step[: len(stacked)], dtype=stacked.dtype)
    rows = rows.to(stacked.device, non_blocking=True)
    return (stacked * rows.view(-1, *[1] * (stacked.dim() - 1))).sum(0) / rows.sum()


def read_values(named: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read named tensors of one shape as Python floats (or lists of floats), in one transfer from the device.

    >>> read_values({"loss": torch.tensor(0.5), "norm": torch.tensor(2.0)})
    {'loss': 0.5, 'norm': 2.0}
    """
    return dict(zip(named, torch.stack([value.float() for value in named.values()]).tolist(), strict=True))


def read_all(named: Mapping[str, Tensor]) -> dict[str, float]:
    """Read scalar tensors as Python floats, in the precision of each, in one transfer from the device.

    >>> read_all({"loss": torch.tensor(0.5), "accuracy": torch.tensor(0.1, dtype=torch.float64)})
    {'loss': 0.5, 'accuracy': 0.1}
    """
    wide = [value if value.device.type == "mps" else value.double() for value in named.values()]
    return dict(zip(named, torch.stack(wide).tolist(), strict=True))


def undefined_as_none(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return the values with None for metrics that are undefined on their rows, which are NaN.

    Losses and norms stay NaN: for them it means that training diverged. The metrics of a network that has diverged become
    None as well: its loss is not finite either.

    >>> undefined_as_none({"validation.loss": float("nan"), "validation.r2": float("nan"), "validation.mae": 0.5})
    {'validation.loss': nan, 'validation.r2': None, 'validation.mae': 0.5}
    """
    return {name: None if math.isnan(value) and _is_metric(name) else value for name, value in values.items()}


def _is_metric(name: str) -> bool:
    part, _, own = name.rpartition(".")
    return part in ("", *_PARTS) and own not in LOSSES


def not_finite(values: Mapping[str, float | None]) -> list[str]:
    """Return the names of the values that are NaN or infinite.

    >>> not_finite({"train.loss": math.inf, "validation.loss": 0.5, "validation.r2": None})
    ['train.loss']
    """
    return [name for name, value in values.items() if value is not None and not math.isfinite(value)]


def record_of(values: Mapping[str, float | None], epoch: int, step: int, seconds: float, lr: float) -> Record:
    """Return the record of an epoch; a value named "part.metric" is nested under its part.

    >>> record_of({"train.loss": 0.5, "gradient_norm": 2.0}, 1, 10, 0.1, 1e-3)["train"]
    {'loss': 0.5}
    """
    record: Record = {"epoch": epoch, "step": step, "seconds": seconds, "lr": lr}
    for name, value in values.items():
        part, dot, metric = name.partition(".")
        if dot:
            record.setdefault(part, {})[metric] = value
        else:
            record[name] = value
    return record
