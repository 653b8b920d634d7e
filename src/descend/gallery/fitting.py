"""The plain loop that figures train with: practical stochastic gradient descent, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from descend.losses import CrossEntropy
from descend.nn import initialize, mlp
from descend.nn.init import kaiming_normal
from descend.rng import forked, generator, key

__all__ = ["Data", "loss_of", "measured", "network", "shuffled", "train_epoch"]

Data = tuple[Tensor, Tensor]

_LOSS = CrossEntropy()
_LOSS.trust(torch.tensor([0]))  # labels here are whole numbers from 0 by construction


def loss_of(model: nn.Module, data: Data) -> Tensor:
    """Mean cross-entropy of a classifier's outputs."""
    rows, labels = data
    value: Tensor = _LOSS(model(rows), labels)
    return value


def network(seed: int, **settings: Any) -> nn.Sequential:
    """A multilayer perceptron from 64 pixels to 10 classes, as :func:`descend.nn.mlp` makes it.

    The weights are Kaiming's and follow from the seed.

    >>> len(network(0, hidden=(16,)))
    3
    """
    with forked():
        torch.manual_seed(key(seed, "gallery/network"))
        model = mlp((64,), 10, **settings)
    initialize(model, kaiming_normal(), generator=generator(seed, "gallery/init"))
    return model


def shuffled(seed: int, rows: int, epoch: int, size: int) -> Iterator[Tensor]:
    """The row numbers of an epoch's batches: each row once, the last incomplete batch left out.

    >>> sorted(torch.cat(list(shuffled(0, 6, epoch=1, size=2))).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    order = torch.randperm(rows, generator=generator(seed, "gallery/order", epoch))
    for at in range(0, rows - size + 1, size):
        yield order[at : at + size]


def train_epoch(
    model: nn.Module, optimizer: Optimizer, data: Data, *, seed: int, epoch: int, size: int = 50
) -> float:
    """One pass over the rows; the mean loss of its batches, each before its own step.

    Dropout draws from a stream of its own, so the global random state stays as it was.
    """
    rows, labels = data
    losses = []
    model.train()
    with forked():
        torch.manual_seed(key(seed, "gallery/dropout", epoch))
        for chosen in shuffled(seed, len(rows), epoch, size):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model, (rows[chosen], labels[chosen]))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return float(torch.stack(losses).mean())


@torch.no_grad()
def measured(model: nn.Module, data: Data) -> tuple[float, float]:
    """Mean loss and share of wrong answers, in evaluation mode."""
    model.eval()
    rows, labels = data
    outputs = model(rows)
    return float(_LOSS(outputs, labels)), float((outputs.argmax(1) != labels).float().mean())
