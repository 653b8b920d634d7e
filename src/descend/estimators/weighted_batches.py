"""Batches that draw rows in proportion to their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from descend.data.batches import Batch, Order, OrderedBatches
from descend.rng import generator

__all__ = ["WeightedBatches", "draws_of_epoch"]

LONGEST = (2, 2000)
"""An epoch draws at most this many times the number of rows, or this many rows where that is more."""


def draws_of_epoch(weights: Tensor) -> int:
    """Rows drawn in an epoch: enough for the lightest row to come up once.

    n w_mean / w_min, limited by :data:`LONGEST`. Whole-number weights of which the smallest is 1 give their
    sum: an epoch is then one over the repeated rows. Equal weights give n.

    >>> draws_of_epoch(torch.tensor([1.0, 1.0, 3.0])), draws_of_epoch(torch.tensor([2.0, 2.0]))
    (5, 2)
    """
    rows, own = len(weights), weights.double()
    lightest = own[own > 0].min()
    return min(math.ceil(own.sum() / lightest - 1e-6), max(LONGEST[0] * rows, LONGEST[1]))


class WeightedBatches(OrderedBatches):
    """Rows of tensors in memory, drawn in proportion to their weights; the loss then needs no weights.

    A step's gradient is an estimate of that of sum_i w_i loss_i / sum_i w_i. Averaging with weights inside
    each batch is a biased one: rows that share a batch with a heavy row vanish beside it, and the others
    count as if the heavy row were not there. Drawing rows by weight has no such bias. The draws are
    systematic: N positions at equal distances on the line of cumulated weights, from a random start, so
    that row i comes up floor(N p_i) or ceil(N p_i) times in every epoch, p_i being its share; in an order
    shuffled anew. With equal weights and N = n this is the plain epoch that visits every row once.

    Args:
        inputs: (n, ...).
        targets: (n,) or (n, T).
        weights: (n,), 0 or more.
        batch_size: rows in a batch.
        draws: rows in an epoch, N.
        accumulate: batches in a step.
        sampling: "epoch", as described; "with_replacement", where every draw is independent.
        seed: of the run. The rows of an epoch are a pure function of it and the epoch.

    Source: systematic sampling, Madow 1949, Annals of Mathematical Statistics 20(3).

    >>> x = torch.arange(2.0).unsqueeze(1)
    >>> batches = WeightedBatches(x, x[:, 0], torch.tensor([1.0, 3.0]), batch_size=4, draws=8)
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
        draws: int,
        accumulate: int = 1,
        sampling: Literal["epoch", "with_replacement"] = "epoch",
        seed: int = 0,
    ) -> None:
        self.inputs, self.targets, self.sampling = inputs, targets, sampling
        self.order = Order(draws, batch_size, accumulate, "epoch", seed)
        self._cumulated = weights.detach().cpu().double().cumsum(0)

    def drawn(self, epoch: int) -> Tensor:
        """The rows of an epoch in their order, (N,) int64."""
        draw = generator(self.order.seed, "draw", epoch)
        count = self.order.rows
        if self.sampling == "epoch":
            start = torch.rand((), dtype=torch.float64, generator=draw)
            places = torch.arange(count, dtype=torch.float64) + start
        else:
            places = torch.rand(count, dtype=torch.float64, generator=draw) * count
        rows = torch.searchsorted(self._cumulated, places * (self._cumulated[-1] / count), right=True)
        return rows.clamp_(max=len(self._cumulated) - 1)[self.order.indices(epoch)]

    def rows(self, epoch: int, step: int) -> list[Tensor]:
        """Row numbers of each batch of a step."""
        first = step * self.order.accumulate
        return list(self._batches(epoch)[first : first + self.order.accumulate])

    def _batches(self, epoch: int) -> tuple[Tensor, ...]:
        return torch.split(self.drawn(epoch), self.order.sizes())

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """For each step from ``start`` on, its batches."""
        batches = [rows.to(self.inputs.device) for rows in self._batches(epoch)]
        each = self.order.accumulate
        for first in range(start * each, len(batches), each):
            yield [
                Batch(self.inputs.index_select(0, rows), self.targets.index_select(0, rows), None)
                for rows in batches[first : first + each]
            ]
