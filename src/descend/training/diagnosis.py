"""Diagnosis of divergence: the origin of a NaN or an infinity.

A step is a pure function of the state before it, so the steps since the last good state are repeated, with checks,
until the first number that is not finite appears.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.training.loop import Training
from descend.training.state import clone

__all__ = ["Origin", "find_origin"]


@dataclass(frozen=True)
class Origin:
    """The first number that is not finite.

    Args:
        what: a description, such as "the output of module 'linear2'".
        module: the name of the module or parameter; empty for inputs and targets.
        epoch: of the step, counted from 1.
        step: global step, counted from 1.
        rows: numbers of the rows of the training part with values that are not finite; empty if no single rows can be
            identified.
        learning_rate: at that step.
    """

    what: str
    module: str
    epoch: int
    step: int
    rows: tuple[int, ...]
    learning_rate: float


def find_origin(training: Training, good: Mapping[str, Any], *, limit: int = 20_000) -> Origin | None:
    """Repeat the steps from a good state until a number is not finite; the training is left in that good state.

    Args:
        training: its model, optimizer, schedule and batches are used.
        good: the value of ``training.state_dict()`` at a step where all numbers were finite.
        limit: the maximum number of steps to repeat. Default 20,000.

    Returns:
        The origin, or None if all numbers are finite for ``limit`` steps.
    """
    t = training
    t.load_state_dict(good)
    origin: Origin | None = None
    done = 0
    while origin is None and done < limit and t.epoch < t.stopping.max_epochs:
        advance = t.stepper()
        for batches in t.batches.epoch(t.epoch, start=t.step_in_epoch):
            origin = _checked_step(t, advance, batches)
            done += 1
            if origin is not None or done >= limit:
                break
        else:
            t.epoch, t.step_in_epoch = t.epoch + 1, 0
    t.load_state_dict(good)
    return origin


def _checked_step(
    t: Training, advance: Callable[[Sequence[Batch]], Tensor], batches: Sequence[Batch]
) -> Origin | None:
    """Take one step as the loop does; return the first number that is not finite, if any."""
    before = clone(t.model.state_dict())
    loss, index = advance(batches), t.step_in_epoch
    t.step += 1
    t.step_in_epoch += 1
    weights = {name: p for name, p in t.model.named_parameters() if p.requires_grad}
    if bool(loss.isfinite()) and _all_finite(list(weights.values())):
        return None

    def origin(what: str, module: str, rows: tuple[int, ...] = ()) -> Origin:
        return Origin(what, module, t.epoch + 1, t.step, rows, t.optimizer.param_groups[0]["lr"])

    gradients = {name: clone(p.grad) for name, p in weights.items() if p.grad is not None}
    not_finite = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    t.model.load_state_dict(before)
    in_forward = _forward_origin(t, batches, index)
    if in_forward is not None:
        return origin(*in_forward)
    for name, gradient in gradients.items():
        if not bool(gradient.isfinite().all()):
            return origin(f"the gradient of '{name}'", name.rpartition(".")[0])
    name = not_finite[0] if not_finite else ""
    return origin(f"the update of '{name}'" if name else "the loss", name.rpartition(".")[0])


def _forward_origin(
    t: Training, batches: Sequence[Batch], index: int
) -> tuple[str, str, tuple[int, ...]] | None:
    """Return the first module of a forward pass whose output is not finite, with the affected rows."""
    origins: list[tuple[str, str, Tensor]] = []

    def checking(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if origins or not isinstance(output, Tensor) or not output.is_floating_point():
                return
            bad = ~output.isfinite()
            if bool(bad.any()):
                origins.append((f"the output of module '{name}' ({type(module).__name__})", name, bad))

        return hook

    leaves = [(name, module) for name, module in t.model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(checking(name)) for name, module in leaves]
    rows = t.batches.rows(t.epoch, index)
    try:
        with t.objective.at(batches, t.epoch, index).random_numbers():
            for numbers, batch in zip(rows, batches, strict=True):
                if not bool(batch.inputs.isfinite().all()):
                    return "the inputs", "", _affected_rows(numbers, ~batch.inputs.isfinite())
                if batch.targets.is_floating_point() and not bool(batch.targets.isfinite().all()):
                    return "the targets", "", _affected_rows(numbers, ~batch.targets.isfinite())
                with t.objective.autocast(), torch.no_grad():
                    outputs = t.model(batch.inputs)
                    if origins:
                        what, name, bad = origins[0]
                        return what, name, _affected_rows(numbers, bad)
                    if not bool(
                        t.objective.loss_of_rows(outputs.float(), batch.targets, batch.weights).isfinite()
                    ):
                        return "the loss", "loss", ()
    finally:
        for handle in handles:
            handle.remove()
    return None


def _affected_rows(numbers: Tensor, bad: Tensor) -> tuple[int, ...]:
    """Return the numbers of the rows with a bad value; none if the first dimension of the values is not that of the rows."""
    if bad.shape[:1] != numbers.shape:
        return ()
    affected = bad.reshape(len(numbers), -1).any(dim=1).cpu()
    return tuple(int(row) for row in numbers[affected])


def _all_finite(tensors: list[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
