"""Rows in the same order in every epoch."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord

__all__ = ["RowsInOrder"]

UNLIKE = 5.0
"""How many times as much as random rows the classes of batches must differ to count as sorted."""


@method(
    row="I3",
    reference="Bottou 2009, Curiously fast convergence of some stochastic gradient descent algorithms",
)
class RowsInOrder(Cause):
    """The batches of every epoch contain the same rows in the same order.

    The gradients of a fixed order are not independent samples. Where the rows are sorted, by class or by time, each batch
    sees one kind of them, and the network forgets the others until the next epoch.
    """

    title = "Rows are not shuffled: every epoch has the same batches in the same order."
    advice = "Shuffle the training rows in every epoch: DataLoader(..., shuffle=True)."

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Look for a period in the order of the batches, and for batches of one class."""
        sorted_rows = _sorted(loop)
        period = _period(loop.batches)
        if period is None and not sorted_rows:
            return None
        evidence = [] if period is None else [f"the same {period} batches were repeated in the same order"]
        return cls.found(0.95 if sorted_rows else 0.6, *evidence, *sorted_rows)


def _period(batches: Sequence[float]) -> int | None:
    """Return the number of batches after which their order repeats, at least twice; None for none.

    >>> _period([0, 1, 2, 0, 1, 2, 0, 1]), _period([0, 1, 2, 1, 0, 2]), _period([0, 0, 0, 0])
    (3, None, None)
    """
    n = len(batches)
    for period in range(2, n // 2 + 1):
        if all(batches[at] == batches[at - period] for at in range(period, n)):
            return period if len(set(batches[:period])) > 1 else None
    return None


def _sorted(loop: LoopRecord) -> list[str]:
    """Return a sentence where the classes of a batch are more alike than those of random rows."""
    counts = [
        Counter(each.classes) for each in loop.losses if each.classes and sum(each.classes.values()) >= 8
    ]
    together = sum(counts, Counter[int]())
    if len(counts) < 3 or len(together) < 2:
        return []
    ratio = heterogeneity(counts)
    if ratio < UNLIKE:
        return []
    most = statistics.fmean(max(each.values()) / each.total() for each in counts)
    return [
        f"the classes differ between batches {ratio:.0f} times as much as those of random rows would; on average "
        f"{round(100 * most)} % of a batch are of one class"
    ]


def heterogeneity(counts: Sequence[Counter[int]]) -> float:
    """Return the chi-square statistic of equal shares of the classes in all batches, divided by its degrees of freedom.

    It is 1 on average for batches of random rows, and about the size of a batch where each consists of one class.

    Args:
        counts: the number of rows of each class, by batch.

    >>> heterogeneity([Counter({0: 10}), Counter({1: 10})]), heterogeneity([Counter({0: 5, 1: 5})] * 2)
    (20.0, 0.0)
    """
    together = sum(counts, Counter[int]())
    rows = together.total()
    statistic = 0.0
    for each in counts:
        for label, total in together.items():
            expected = each.total() * total / rows
            statistic += (each[label] - expected) ** 2 / expected
    return statistic / max(1, (len(counts) - 1) * (len(together) - 1))
