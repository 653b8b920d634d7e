"""The fastest hand-written eager loop that uses only public functions of PyTorch.

The data are tensors in memory, rows are selected by index, Adam is fused, and nothing is read from the device within
an epoch. Four variants are measured first, with one thread and with all cores, and the fastest is selected:

- *gather*: the rows of an epoch are gathered at once and split into views, or they are gathered batch by batch;
- *flat*: all weights are views of one vector, so that Adam's update and clearing the gradients are one call for the
  network and not one per tensor. Autograd then adds each gradient to a buffer and does not replace it.

``torch.compile`` is not used. :mod:`contenders.floor` is the same loop without modules, autograd and optimizer object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing
from contenders.network import mlp

__all__ = ["INDEX_LOOP"]


def prepare(
    problem: Problem,
    seed: int,
    *,
    gather: str,
    flat: bool,
    learning_rate: float = LEARNING_RATE,
    network: Callable[[], nn.Module] | None = None,
    device: str = "cpu",
) -> Run:
    """Prepare the loop; ``network`` builds a network that replaces the MLP of the problem."""
    train, validation = (problem.x_train, problem.y_train), (problem.x_validation, problem.y_validation)
    inputs, targets = (torch.from_numpy(array).to(device) for array in train)
    validation_inputs, validation_targets = (torch.from_numpy(array).to(device) for array in validation)
    build = network or partial(mlp, problem.widths)
    batches = {"epoch": _views_of_an_epoch, "step": _batch_by_batch}[gather]

    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        model = build().to(device)
        parameters = [_flattened(model)] if flat else list(model.parameters())
        optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
        steps, history = 0, []
        start = time.perf_counter()
        for _ in range(epochs):
            losses = []
            for x, y in batches(inputs, targets, problem.batch_size):
                optimizer.zero_grad(set_to_none=not flat)
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            steps += len(losses)
            with torch.inference_mode():
                logits = model(validation_inputs)
                validation_loss = F.cross_entropy(logits, validation_targets)
                accuracy = (logits.argmax(1) == validation_targets).float().mean()
                history.append(torch.stack([torch.stack(losses).mean(), validation_loss, accuracy]).tolist())
        return Timing(steps, time.perf_counter() - start, history[-1][-1])

    return run


def _views_of_an_epoch(inputs: Tensor, targets: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(inputs), device=inputs.device)
    x, y = inputs.index_select(0, order), targets.index_select(0, order)
    return zip(x.split(batch_size), y.split(batch_size), strict=True)


def _batch_by_batch(inputs: Tensor, targets: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(inputs), device=inputs.device).split(batch_size):
        yield inputs.index_select(0, rows), targets.index_select(0, rows)


def _flattened(model: nn.Module) -> nn.Parameter:
    """Copy all weights into one vector and all gradients into another; those of the model become views of them."""
    weights = list(model.parameters())
    sizes = [weight.numel() for weight in weights]
    vector = nn.Parameter(torch.cat([weight.detach().flatten() for weight in weights]))
    vector.grad = torch.zeros_like(vector)
    for weight, piece, gradient in zip(
        weights, vector.data.split(sizes), vector.grad.split(sizes), strict=True
    ):
        weight.data = piece.view_as(weight)
        weight.grad = gradient.view_as(weight)
    return vector


INDEX_LOOP = Contender(
    name="index-loop",
    on="rows selected by index in memory, fused Adam, losses kept as tensors; no extras",
    packages=("torch",),
    variants={
        f"gather by {gather}{', flat' if flat else ''}": partial(prepare, gather=gather, flat=flat)
        for gather in ("epoch", "step")
        for flat in (False, True)
    },
    threads="best",
)
