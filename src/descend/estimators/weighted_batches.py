"""Batches that sample rows in proportion to their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from descend.data.batches import Batch, Order, OrderedBatches
from descend.rng import generator

__all__ = ["WeightedBatches", "samples_per_epoch"]

MAX_SAMPLES = (2, 2000)
"""An epoch has at most this multiple of the number of rows, or at most this many samples if that is more."""


def samples_per_epoch(weights: Tensor) -> int:
    """Return the number of rows sampled in an epoch, so that the row with the smallest weight occurs once.

    n w_mean / w_min, limited by :data:`MAX_SAMPLES`. For integer weights with smallest weight 1 this is their sum, so
    that an epoch passes over the repeated rows. For equal weights it is n.

    >>> samples_per_epoch(torch.tensor([1.0, 1.0, 3.0])), samples_per_epoch(torch.tensor([2.0, 2.0]))
    (5, 2)
    """
    rows, exact = len(weights), weights.double()
    smallest = exact[exact > 0].min()
    return min(math.ceil(exact.sum() / smallest - 1e-6), max(MAX_SAMPLES[0] * rows, MAX_SAMPLES[1]))


class WeightedBatches(OrderedBatches):
    """Rows of tensors in memory, sampled in proportion to their weights, so that the loss needs no weights.

    The gradient of a step is an estimate of that of sum_i w_i loss_i / sum_i w_i. A weighted average within each batch
    would be biased: rows in a batch with a heavy row would have almost no effect, and the others the same effect as
    without the heavy row. Sampling rows by weight has no such bias. The samples are systematic: N equidistant positions
    on the line of cumulated weights, from a random start, so that row i occurs floor(N p_i) or ceil(N p_i) times in
    every epoch, where p_i is its share of the weight; they are shuffled in every epoch. With equal weights and N = n
    this is the plain epoch that visits every row once.

    Args:
        inputs: (n, ...).
        targets: (n,) or (n, T).
        weights: (n,), 0 or more.
        batch_size: rows in a batch.
        samples: number of rows N in an epoch.
        accumulate: number of batches in a step. Default 1.
        sampling: "epoch" (systematic, as described, the default) or "with_replacement" (independent samples).
        seed: seed of the run. The rows of an epoch are a pure function of the seed and the epoch. Default 0.

    Source: systematic sampling, Madow 1949, Annals of Mathematical Statistics 20(3).

    >>> x = torch.arange(2.0).unsqueeze(1)
    >>> batches = WeightedBatches(x, x[:, 0], torch.tensor([1.0, 3.0]), batch_size=4, samples=8)
    >>> sorted(torch.cat([batch.targets for step in batches.epoch(0) for batch in step]).tolist())
    [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
        *,
        batch_size: int,
        samples: int,
        accumulate: int = 1,
        sampling: Literal["epoch", "with_replacement"] = "epoch",
        seed: int = 0,
    ) -> None:
        self.inputs, self.targets, self.sampling = inputs, targets, sampling
        self.order = Order(samples, batch_size, accumulate, "epoch", seed)
        self._cumulated = weights.detach().cpu().double().cumsum(0)

    def sampled_rows(self, epoch: int) -> Tensor:
        """Return the rows of an epoch in order, (N,) int64."""
        rng = generator(self.order.seed, "draw", epoch)
        count = self.order.rows
        if self.sampling == "epoch":
            start = torch.rand((), dtype=torch.float64, generator=rng)
            positions = torch.arange(count, dtype=torch.float64) + start
        else:
            positions = torch.rand(count, dtype=torch.float64, generator=rng) * count
        rows = torch.searchsorted(self._cumulated, positions * (self._cumulated[-1] / count), right=True)
        return rows.clamp_(max=len(self._cumulated) - 1)[self.order.indices(epoch)]

    def rows(self, epoch: int, step: int) -> list[Tensor]:
        """Return the row numbers of each batch of a step."""
        first = step * self.order.accumulate
        return list(self._batches(epoch)[first : first + self.order.accumulate])

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        return torch.split(self.sampled_rows(epoch), self.order.sizes())

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Yield the batches of each step, from step ``start`` on."""
        batches = [rows.to(self.inputs.device) for rows in self._batches(epoch)]
        accumulate = self.order.accumulate
        for first in range(start * accumulate, len(batches), accumulate):
            yield [
                Batch(self.inputs.index_select(0, rows), self.targets.index_select(0, rows), None)
                for rows in batches[first : first + accumulate]
            ]
