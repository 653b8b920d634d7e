"""What stands between a network's outputs and its loss, where an optimizer minimises the loss of an average of outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

from torch import Tensor

__all__ = ["Composition"]


@final
class Composition:
    """What an optimizer puts between outputs and loss: an average of each row's outputs over steps.

    Args:
        average: as :meth:`descend.optim.SCGD.average`.
        rows: numbers of the rows of each batch of a step, by epoch and step.
        total: of rows.

    >>> import torch
    >>> told = Composition(lambda outputs, rows, total: outputs + rows[:, None], lambda epoch, step: [torch.tensor([2, 0])], 3)
    >>> told.begin(epoch=0, step=0)
    >>> told(torch.zeros(2, 1)).tolist()
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
        """An evaluation of a step begins; its batches follow in order."""
        self._numbers = iter(self._rows(epoch, step))

    def __call__(self, outputs: Tensor) -> Tensor:
        """The averages of the next batch's outputs."""
        return self._average(outputs, next(self._numbers).to(outputs.device), self._total)
