"""The step of a PyTorch optimizer with less overhead.

PyTorch's fused Adam, AdamW and SGD gather their parameters, gradients and state again at each step, group them by
device, and record the step for the profiler. For a small network this costs more than the update.
:func:`lean_step` gathers once and then calls the same kernels on the same state. The optimizer remains a
``torch.optim`` optimizer, including its state dict, and the results are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from descend.optim.compiler_import import eager_step

__all__ = ["Step", "lean_step"]

Closure = Callable[[], Tensor]
Step = Callable[[Closure], Tensor]
Update = Callable[[list[Tensor]], None]


def lean_step(optimizer: Optimizer) -> Step:
    """Return ``optimizer.step`` for a closure, with less overhead where the results stay the same.

    The state is gathered at the second call and kept: after a state dict is loaded or parameters are added, a new
    ``lean_step`` is needed. For optimizers of other classes, with hooks, or with unusual settings the result is
    ``optimizer.step`` itself, as :func:`~descend.optim.compiler_import.eager_step` calls it.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = torch.optim.Adam([w], lr=0.1, fused=True)
    >>> step = lean_step(optimizer)
    >>> def closure():
    ...     w.grad = torch.ones(2)
    ...     return w.sum().detach()
    >>> step(closure), step(closure)
    (tensor(2.), tensor(1.8000))
    """
    plain_step = cast(Step, eager_step(optimizer))
    gather = _GATHER.get(type(optimizer))
    if gather is None or _observed(optimizer) or not all(map(_usual, optimizer.param_groups)):
        return plain_step
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    update: Update | None = None

    def step(closure: Closure) -> Tensor:
        nonlocal update
        if update is None:
            loss = plain_step(closure)
            if type(optimizer) is SGD or all(p in optimizer.state for p in parameters):
                update = gather(optimizer)
            return loss
        loss = closure()
        gradients = [p.grad for p in parameters]
        if any(gradient is None for gradient in gradients):
            optimizer.step()
            return loss
        update(cast(list[Tensor], gradients))
        return loss

    return step


def _observed(optimizer: Optimizer) -> bool:
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def _usual(group: dict[str, Any]) -> bool:
    devices = {(p.device, p.dtype) for p in group["params"]}
    plain = not any(group.get(flag) for flag in ("amsgrad", "maximize", "capturable", "differentiable"))
    return bool(group.get("fused")) and plain and len(devices) == 1 and not isinstance(group["lr"], Tensor)


def _gather_adam(optimizer: Optimizer) -> Update:
    groups = []
    at = 0
    for group in optimizer.param_groups:
        states = [optimizer.state[p] for p in group["params"]]
        averages, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        # The step counters become views of one tensor, so that a single addition increments all of them.
        counts = torch.stack([state["step"] for state in states])
        steps = list(counts)
        for state, count in zip(states, steps, strict=True):
            state["step"] = count
        weights = [p.detach() for p in group["params"]]  # the same memory, without recording by autograd
        kernel = torch._fused_adamw_ if group.get("decoupled_weight_decay") else torch._fused_adam_
        groups.append((group, kernel, at, at + len(states), weights, averages, squares, counts, steps))
        at += len(states)

    def update(gradients: list[Tensor]) -> None:
        for group, kernel, first, last, weights, averages, squares, counts, steps in groups:
            beta1, beta2 = group["betas"]
            counts.add_(1)
            kernel(
                weights,
                gradients[first:last],
                averages,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    return update


def _gather_sgd(optimizer: Optimizer) -> Update:
    groups = []
    at = 0
    for group in optimizer.param_groups:
        buffers = []
        if group["momentum"] != 0:
            buffers = [optimizer.state[p]["momentum_buffer"] for p in group["params"]]
        weights = [p.detach() for p in group["params"]]
        groups.append((group, at, at + len(weights), weights, buffers))
        at += len(group["params"])

    def update(gradients: list[Tensor]) -> None:
        for group, first, last, weights, buffers in groups:
            torch._fused_sgd_(
                weights,
                gradients[first:last],
                buffers,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=False,
                is_first_step=False,
            )

    return update


_GATHER: dict[type[Optimizer], Callable[[Optimizer], Update]] = {
    Adam: _gather_adam,
    AdamW: _gather_adam,
    SGD: _gather_sgd,
}
