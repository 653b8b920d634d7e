"""The calls of PyTorch's functions in a forward pass, and how a loss enters ``backward``.

A program computes its loss in any way. Its calls are observed while they happen
(:class:`torch.overrides.TorchFunctionMode`), so that no object has to be handed over: the loss function and its arguments,
softmax and sigmoid before it, differences whose shapes broadcast, and activations.
"""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from descend.doctor.loop_record import ActivationRecord, LossRecord

__all__ = ["LOSSES", "FunctionCalls", "LossCall", "loss_record"]

LOSSES: Mapping[str, Callable[..., Tensor]] = {
    name: getattr(functional, name)
    for name in (
        "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div",
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "poisson_nll_loss", "gaussian_nll_loss",
    )
}  # fmt: skip
"""PyTorch's losses of predictions and targets; the classes of ``torch.nn`` call them."""

_BOUNDS = {
    "relu": (0.0, math.inf), "relu_": (0.0, math.inf), "relu6": (0.0, 6.0), "hardtanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0),
}  # fmt: skip
"""Activations with a bound, and the bounds."""

_SIGNATURES = {name: inspect.signature(each) for name, each in LOSSES.items()}
_PROBABILITIES = ("softmax", "sigmoid", "softmin", "logsigmoid", "log_softmax")
_DIFFERENCES = ("sub", "__sub__", "rsub", "__rsub__", "subtract")


@dataclass
class LossCall:
    """One evaluation of a loss.

    Args:
        name: of PyTorch's function; "difference" for a loss computed from a difference of predictions and targets.
        predictions: the first argument, (b, ...).
        targets: the second argument.
        reduction: "mean", "sum" or "none"; "" where it is not known.
        value: the result.
        after: the function that returned the predictions, where this is a softmax or a sigmoid.
        factor: the derivative of what ``backward`` was called on by the mean loss of the rows: 1 for a mean, the number of
            rows for a sum, negative for a loss that is maximized; None where ``backward`` did not depend on it.
    """

    name: str
    predictions: Tensor
    targets: Tensor
    reduction: str
    value: Tensor
    after: str = ""
    factor: float | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.predictions.shape[0]) if self.predictions.dim() else 1

    @property
    def broadcasts(self) -> bool:
        """Whether shapes differ, so that each prediction is compared with targets of other rows."""
        if self.name in ("cross_entropy", "nll_loss", "kl_div", "gaussian_nll_loss"):
            return False
        one, other = self.predictions.shape, self.targets.shape
        return one != other and self.predictions.numel() > 1 and self.targets.numel() > 1


@dataclass
class _Seen:
    calls: list[LossCall] = field(default_factory=list)
    probabilities: dict[int, tuple[weakref.ref[Tensor], str]] = field(default_factory=dict)


class FunctionCalls(TorchFunctionMode):
    """Observe the losses within a ``with`` block, and what ``backward`` is called on.

    >>> outputs = torch.zeros(4, 3, requires_grad=True)
    >>> with FunctionCalls() as observed:
    ...     loss = functional.cross_entropy(outputs.softmax(1), torch.tensor([0, 1, 2, 0]), reduction="sum")
    ...     loss.backward()
    >>> observed.calls[0].after, observed.calls[0].reduction, observed.calls[0].factor
    ('softmax', 'sum', 4.0)
    """

    def __init__(self, *, any_graph: bool = False) -> None:
        """``any_graph``: also record activations of tensors that need no gradient."""
        super().__init__()
        self._any_graph = any_graph
        self._seen = _Seen()
        self.root: Tensor | None = None
        self.activations: list[ActivationRecord] = []

    @property
    def calls(self) -> list[LossCall]:
        """The losses in the order of their evaluation."""
        return self._seen.calls

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "backward" and args and isinstance(args[0], Tensor):
            self._differentiated(args[0])
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        if name in _PROBABILITIES:
            self._seen.probabilities[id(result)] = (weakref.ref(result), name)
        if name in _BOUNDS and result.dim() > 1 and (self._any_graph or result.requires_grad):
            self.activations.append(_activation(name, result))
        elif name in LOSSES:
            self._called(name, args, kwargs, result)
        elif name in _DIFFERENCES and len(args) > 1:
            self._subtracted(args[0], args[1], result)
        return result

    def _called(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor) -> None:
        bound = _SIGNATURES[name].bind_partial(*args, **kwargs)
        bound.apply_defaults()
        values = list(bound.arguments.values())
        predictions, targets = values[0], values[1]
        if not isinstance(predictions, Tensor) or not isinstance(targets, Tensor):
            return
        if not predictions.requires_grad:
            return
        reduction = str(bound.arguments.get("reduction", "mean"))
        after = self._producer(predictions)
        self.calls.append(LossCall(name, predictions, targets, reduction, result, after))

    def _subtracted(self, one: Any, other: Any, result: Tensor) -> None:
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            return
        if one.requires_grad == other.requires_grad or one.dim() == 0 or other.dim() == 0:
            return
        predictions, targets = (one, other) if one.requires_grad else (other, one)
        if predictions.is_leaf:  # a weight, not a prediction
            return
        self.calls.append(
            LossCall("difference", predictions, targets, "none", result, self._producer(predictions))
        )

    def _producer(self, tensor: Tensor) -> str:
        found = self._seen.probabilities.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else ""

    def _differentiated(self, root: Tensor) -> None:
        """Measure how the value of each loss enters the tensor that ``backward`` is called on."""
        self.root = root.detach()
        if root.numel() != 1 or not root.requires_grad:
            return
        for call in self.calls:
            if call.factor is None and call.value.requires_grad:
                call.factor = _factor(root, call)


def _factor(root: Tensor, call: LossCall) -> float | None:
    of = call.value if call.name != "difference" else call.predictions
    derivatives: Sequence[Tensor | None] = torch.autograd.grad(root, of, retain_graph=True, allow_unused=True)
    derivative = derivatives[0]
    if derivative is None:
        return None
    if call.name != "difference":
        total = float(derivative.sum())
        return total if call.reduction != "sum" else total * call.rows
    # The derivative of a mean of squares by predictions p is 2 (p - y) / n; other functions of p - y have its sign.
    error = (call.predictions - call.targets).detach()
    if error.shape != derivative.shape:
        return None
    size = float((error * error).sum())
    if size == 0.0:
        return None
    return float((derivative * error).sum()) / size * error.numel() / 2


def _activation(name: str, outputs: Tensor) -> ActivationRecord:
    low, high = _BOUNDS[name]
    rows = outputs.detach().flatten(1)
    saturated = 0.0
    if math.isfinite(high):
        margin = 0.01 * (high - low)
        saturated = float(((rows < low + margin) | (rows > high - margin)).float().mean())
    return ActivationRecord(name, rows.shape[1], int((rows == 0).all(0).sum()), saturated)


def loss_record(call: LossCall) -> LossRecord:
    """Return the record of a call, as plain numbers."""
    predictions, targets = call.predictions.detach(), call.targets.detach()
    inside = bool(((predictions >= 0) & (predictions <= 1)).all())
    sums = predictions.sum(1) if predictions.dim() > 1 and predictions.shape[1] > 1 else None
    classes = None
    if not targets.is_floating_point() and targets.dim() == 1:
        found, counts = targets.unique(return_counts=True)
        classes = dict(zip(found.tolist(), counts.tolist(), strict=True))
    return LossRecord(
        name=call.name,
        predictions=tuple(predictions.shape),
        targets=tuple(targets.shape),
        reduction=call.reduction,
        after=call.after,
        factor=call.factor,
        broadcasts=call.broadcasts,
        probabilities=inside and sums is not None and bool((sums - 1).abs().max() < 1e-3),
        unit_interval=inside
        and float(predictions.max() - predictions.min()) > 0.01,  # not outputs that are all 0
        value=float(call.value.detach().float().mean()),
        classes=classes,
    )
