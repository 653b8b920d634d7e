"""Where a NaN or an infinity came from.

Steps are pure functions of the state before them, so the steps since the last good state are simply
repeated, under observation, until the first bad number appears.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.training.loop import Training
from descend.training.state import clone

__all__ = ["Origin", "find_origin"]


@dataclass(frozen=True)
class Origin:
    """The first bad number.

    Args:
        what: in words, such as "the output of module 'linear2'".
        module: the module's or parameter's name; empty where the inputs are bad.
        epoch: of the step, counted from 1.
        step: global step, counted from 1.
        rows: row numbers within the training part whose values are bad; empty where none can be singled out.
        rate: the learning rate at that step.
    """

    what: str
    module: str
    epoch: int
    step: int
    rows: tuple[int, ...]
    rate: float


def find_origin(training: Training, good: Mapping[str, Any], *, limit: int = 20_000) -> Origin | None:
    """Repeat the steps from a good state until a number goes bad; the training is left in that good state.

    Args:
        training: its model, optimizer, schedule and batches are used.
        good: what ``training.state_dict()`` gave when all was well.
        limit: steps to repeat at most.

    Returns:
        The origin, or None if no bad number appears within ``limit`` steps.
    """
    t = training
    t.load_state_dict(good)
    t.model.train()
    origin: Origin | None = None
    done = 0
    while origin is None and done < limit and t.epoch < t.stopping.max_epochs:
        for place, batches in enumerate(t.batches.epoch(t.epoch, start=t.step_in_epoch), t.step_in_epoch):
            origin = _watched_step(t, batches, place)
            done += 1
            if origin is not None or done >= limit:
                break
        else:
            t.epoch, t.step_in_epoch = t.epoch + 1, 0
    t.load_state_dict(good)
    return origin


def _watched_step(t: Training, batches: Sequence[Batch], place: int) -> Origin | None:
    rate = t.schedule.factor(t.step)
    for group in t.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * rate
    before = clone(t.model.state_dict())
    loss = cast(Tensor, t.optimizer.step(cast(Any, t.objective.at(batches, t.epoch, place))))
    t.step += 1
    weights = {name: p for name, p in t.model.named_parameters() if p.requires_grad}
    if bool(loss.isfinite()) and _all_finite(list(weights.values())):
        return None

    def origin(what: str, module: str, rows: tuple[int, ...] = ()) -> Origin:
        return Origin(what, module, t.epoch + 1, t.step, rows, t.optimizer.param_groups[0]["lr"])

    gradients = {name: clone(p.grad) for name, p in weights.items() if p.grad is not None}
    spoilt = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    t.model.load_state_dict(before)
    found = _bad_forward(t, batches, place)
    if found is not None:
        return origin(*found)
    for name, gradient in gradients.items():
        if not bool(gradient.isfinite().all()):
            return origin(f"the gradient of '{name}'", name.rpartition(".")[0])
    name = spoilt[0] if spoilt else ""
    return origin(f"the update of '{name}'" if name else "the loss", name.rpartition(".")[0])


def _bad_forward(
    t: Training, batches: Sequence[Batch], place: int
) -> tuple[str, str, tuple[int, ...]] | None:
    """The first bad module of a forward pass, with the rows whose values are bad."""
    found: list[tuple[str, str, Tensor]] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if found or not isinstance(output, Tensor) or not output.is_floating_point():
                return
            bad = ~output.isfinite()
            if bool(bad.any()):
                found.append((f"the output of module '{name}' ({type(module).__name__})", name, bad))

        return hook

    leaves = [(name, module) for name, module in t.model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    rows = t.batches.rows(t.epoch, place)
    try:
        t.objective.at(batches, t.epoch, place).seed_step()
        for index, batch in zip(rows, batches, strict=True):
            if not bool(batch.inputs.isfinite().all()):
                return "the inputs", "", _rows(index, ~batch.inputs.isfinite())
            if batch.targets.is_floating_point() and not bool(batch.targets.isfinite().all()):
                return "the targets", "", _rows(index, ~batch.targets.isfinite())
            with t.objective.autocast(), torch.no_grad():
                outputs = t.model(batch.inputs)
                if found:
                    what, name, bad = found[0]
                    return what, name, _rows(index, bad)
                if not bool(t.objective.loss(outputs.float(), batch.targets, batch.weights).isfinite()):
                    return "the loss", "loss", ()
    finally:
        for handle in handles:
            handle.remove()
    return None


def _rows(index: Tensor, bad: Tensor) -> tuple[int, ...]:
    """Row numbers with a bad value; empty where the values do not belong to rows one by one, or all are bad."""
    if bad.shape[:1] != index.shape:
        return ()
    of_row = bad.reshape(len(index), -1).any(dim=1).cpu()
    return tuple(int(row) for row in index[of_row])


def _all_finite(tensors: list[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
