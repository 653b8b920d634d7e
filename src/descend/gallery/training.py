"""The training loop of the figures: plain stochastic gradient descent."""

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

__all__ = ["Data", "evaluate", "loss_of", "network", "shuffled", "train_epoch"]

Data = tuple[Tensor, Tensor]

_LOSS = CrossEntropy()
_LOSS.trust(torch.tensor([0]))  # labels are integers from 0 by construction


def loss_of(model: nn.Module, data: Data) -> Tensor:
    """Return the mean cross-entropy of a classifier's outputs."""
    rows, labels = data
    value: Tensor = _LOSS(model(rows), labels)
    return value


def network(seed: int, **settings: Any) -> nn.Sequential:
    """Return a multilayer perceptron from 64 pixels to 10 classes, see :func:`descend.nn.mlp`.

    The weights follow Kaiming's initialization and depend on the seed only.

    >>> len(network(0, hidden=(16,)))
    3
    """
    with forked():
        torch.manual_seed(key(seed, "gallery/network"))
        model = mlp((64,), 10, **settings)
    initialize(model, kaiming_normal(), generator=generator(seed, "gallery/init"))
    return model


def shuffled(seed: int, rows: int, epoch: int, size: int) -> Iterator[Tensor]:
    """Yield the row numbers of each batch of an epoch: each row at most once, without the last incomplete batch.

    >>> sorted(torch.cat(list(shuffled(0, 6, epoch=1, size=2))).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    order = torch.randperm(rows, generator=generator(seed, "gallery/order", epoch))
    for at in range(0, rows - size + 1, size):
        yield order[at : at + size]


def train_epoch(
    model: nn.Module, optimizer: Optimizer, data: Data, *, seed: int, epoch: int, size: int = 50
) -> float:
    """Train for one epoch and return the mean loss of its batches, each before its own step.

    Dropout uses a random stream of its own, and the global random state is unchanged.
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
def evaluate(model: nn.Module, data: Data) -> tuple[float, float]:
    """Return the mean loss and the error rate in evaluation mode."""
    model.eval()
    rows, labels = data
    outputs = model(rows)
    return float(_LOSS(outputs, labels)), float((outputs.argmax(1) != labels).float().mean())
