"""The best eager loop that can be written by hand with PyTorch's public names: the rival to match.

Data stay in memory as tensors and are drawn by index, Adam is the fused one, nothing is read from the device
within an epoch. Four ways to write it are measured first, on one thread and on all, and the fastest is kept:

- *gather*: the rows of a whole epoch are gathered at once and split into views, or batch by batch;
- *flat*: all weights are views of one vector, so that Adam and clearing gradients are one call for the whole
  network rather than one a tensor. It adds each gradient into a buffer rather than taking it over.

``torch.compile`` is left out: this is the eager loop. What remains without modules, autograd and optimizer
object is :mod:`contenders.floor`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contenders.contract import LEARNING_RATE, Contender, Problem, Run, Timing
from contenders.network import mlp

__all__ = ["INDEX_LOOP"]


def prepare(
    problem: Problem,
    seed: int,
    *,
    gather: str,
    flat: bool,
    rate: float = LEARNING_RATE,
    network: Callable[[], nn.Module] | None = None,
    device: str = "cpu",
) -> Run:
    """The loop; ``network`` builds another one than the problem's."""
    train, held = (problem.x_train, problem.y_train), (problem.x_validation, problem.y_validation)
    inputs, targets = (torch.from_numpy(array).to(device) for array in train)
    held_inputs, held_targets = (torch.from_numpy(array).to(device) for array in held)
    build = network or partial(mlp, problem.widths)
    batches = {"epoch": _views_of_an_epoch, "step": _batch_by_batch}[gather]

    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        model = build().to(device)
        parameters = [_flattened(model)] if flat else list(model.parameters())
        optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)
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
                logits = model(held_inputs)
                held_loss = F.cross_entropy(logits, held_targets)
                accuracy = (logits.argmax(1) == held_targets).float().mean()
                history.append(torch.stack([torch.stack(losses).mean(), held_loss, accuracy]).tolist())
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
    """Lay all weights, and all gradients, into one vector each; the model's own become views of it."""
    weights = list(model.parameters())
    sizes = [weight.numel() for weight in weights]
    vector = nn.Parameter(torch.cat([weight.detach().flatten() for weight in weights]))
    vector.grad = torch.zeros_like(vector)
    for weight, piece, slope in zip(weights, vector.data.split(sizes), vector.grad.split(sizes), strict=True):
        weight.data = piece.view_as(weight)
        weight.grad = slope.view_as(weight)
    return vector


INDEX_LOOP = Contender(
    name="index-loop",
    on="rows drawn by index from memory, fused Adam, losses kept as tensors; nothing else",
    packages=("torch",),
    variants={
        f"gather by {gather}{', flat' if flat else ''}": partial(prepare, gather=gather, flat=flat)
        for gather in ("epoch", "step")
        for flat in (False, True)
    },
    threads="best",
)
