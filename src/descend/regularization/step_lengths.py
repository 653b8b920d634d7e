"""The length of an optimizer's step at a constant gradient, which the threshold of a proximal step must be scaled with.

A fixed point of w ← soft(w − d, θ), where d = h g is the step at a constant gradient g, satisfies |h g| ≤ θ at w = 0, and
h g = −θ sign w elsewhere. These are the conditions for a minimum of F + s Σ|w|, which are |g| ≤ s and g = −s sign w, if
θ = h s. For SGD h is the learning rate; momentum multiplies it, and adaptive methods divide each coordinate by the root of a
running average of squared gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

__all__ = ["adaptive_length", "has_step_length", "longest_step", "step_length"]

Group = Mapping[str, Any]
Length = float | Tensor


def has_step_length(optimizer: Optimizer) -> bool:
    """Return whether the length of the optimizer's step at a constant gradient is known.

    It is for PyTorch's optimizers below, and for others that define ``step_length`` or declare ``lr_is_step_size = True``.

    >>> import torch
    >>> w = [torch.nn.Parameter(torch.ones(1))]
    >>> has_step_length(torch.optim.Adam(w)), has_step_length(torch.optim.LBFGS(w))
    (True, False)
    """
    if hasattr(optimizer, "step_length") or type(optimizer) in _LENGTHS:
        return True
    return bool(getattr(optimizer, "lr_is_step_size", False))


def step_length(optimizer: Optimizer, group: Group, parameter: Tensor) -> Length:
    """Return h, a number or a tensor in the shape of the parameter, after a step of an optimizer that has one.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.5)
    >>> step_length(optimizer, optimizer.param_groups[0], w)
    0.2
    """
    own = getattr(optimizer, "step_length", None)
    if own is not None:
        length: Length = own(group, parameter)
        return length
    lr = float(group["lr"])
    rule = _LENGTHS.get(type(optimizer))
    state = optimizer.state.get(parameter, {})
    # A parameter without a state, whose gradient was None, was not moved.
    return lr if rule is None else rule(lr, group, state) if state or rule is _sgd else 0.0


def longest_step(group: Group) -> float:
    """Return the length of an adaptive step at a constant gradient, which does not depend on the gradient's size."""
    momentum = float(group.get("momentum", 0.0))
    return float(group["lr"]) / (1.0 - momentum) if momentum < 1 else float(group["lr"])


def _sgd(lr: float, group: Group, state: Mapping[str, Any]) -> Length:
    if group["momentum"] >= 1:
        return lr
    return lr * float(1.0 - group["dampening"]) / float(1.0 - group["momentum"])


def adaptive_length(lr: float, group: Group, state: Mapping[str, Any]) -> Length:
    """Return lr / (√v̂ + ε) with Adam's bias-corrected average v̂ of squared gradients."""
    squares: Tensor = state.get("max_exp_avg_sq", state["exp_avg_sq"])
    corrected = squares / (1.0 - group["betas"][1] ** float(state["step"]))
    length: Tensor = lr / (corrected.sqrt() + group["eps"])
    return length


def _adamax(lr: float, group: Group, state: Mapping[str, Any]) -> Length:
    largest: Tensor = state["exp_inf"]
    return lr / largest


def _radam(lr: float, group: Group, state: Mapping[str, Any]) -> Length:
    decay, step = group["betas"][1], float(state["step"])
    last = 2.0 / (1.0 - decay) - 1.0
    length = last - 2.0 * step * decay**step / (1.0 - decay**step)
    if length <= 5.0:
        return lr
    ratio = (length - 4) * (length - 2) * last / ((last - 4) * (last - 2) * length)
    squares: Tensor = state["exp_avg_sq"]
    result: Tensor = lr * float(ratio * (1.0 - decay**step)) ** 0.5 / (squares.sqrt() + group["eps"])
    return result


def _rmsprop(lr: float, group: Group, state: Mapping[str, Any]) -> Length:
    squares: Tensor = state["square_avg"]
    if group["centered"]:
        squares = squares - state["grad_avg"].square()
    length: Tensor = lr / (squares.clamp_min(0.0).sqrt() + group["eps"])
    return length / float(1.0 - group["momentum"]) if group["momentum"] < 1 else length


def _adagrad(lr: float, group: Group, state: Mapping[str, Any]) -> Length:
    squares: Tensor = state["sum"]
    current = lr / (1.0 + (float(state["step"]) - 1.0) * group["lr_decay"])
    length: Tensor = current / (squares.sqrt() + group["eps"])
    return length


_LENGTHS: Mapping[type[Optimizer], Callable[[float, Group, Mapping[str, Any]], Length]] = {
    SGD: _sgd,
    Adam: adaptive_length,
    AdamW: adaptive_length,
    NAdam: adaptive_length,
    Adamax: _adamax,
    RAdam: _radam,
    RMSprop: _rmsprop,
    Adagrad: _adagrad,
}
