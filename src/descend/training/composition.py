"""Averages of outputs between network and loss, for optimizers of compositional objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

from torch import Tensor

__all__ = ["Composition"]


@final
class Composition:
    """The function that a compositional optimizer applies to outputs before the loss: an average over steps for each row.

    Args:
        average: a function of outputs, row numbers and the number of rows, as :meth:`descend.optim.SCGD.average`.
        rows: a function of epoch and step that returns the row numbers of each batch of the step.
        total: the number of rows.

    >>> import torch
    >>> batches = lambda epoch, step: [torch.tensor([2, 0])]
    >>> composition = Composition(lambda outputs, rows, total: outputs + rows[:, None], batches, 3)
    >>> composition.begin(epoch=0, step=0)
    >>> composition(torch.zeros(2, 1)).tolist()
    [[2.0], [0.0]]
    """

    def __init__(
        self,
        average: Callable[[Tensor, Tensor, int], Tensor],
        rows: Callable[[int, int], Sequence[Tensor]],
        total: int,
    ) -> None:
        self._average, self._rows, self._total = average, rows, total
        self._numbers: Iterator[Tensor] = iter(())

    def begin(self, epoch: int, step: int) -> None:
        """Begin an evaluation of a step; its batches follow in order."""
        self._numbers = iter(self._rows(epoch, step))

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the averages of the next batch's outputs."""
        return self._average(outputs, next(self._numbers).to(outputs.device), self._total)
