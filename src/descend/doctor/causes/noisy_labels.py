"""Labels that are shuffled or noisy."""

from __future__ import annotations

import torch
from torch import Tensor

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.runs.plan import Plan

__all__ = ["NoisyLabels"]


@method(
    row="I3",
    reference="Cover and Hart 1967; Zhang et al. 2017, Understanding deep learning requires rethinking generalization",
    formula="share of noise = 1 - (agreement - chance) / (agreement without noise - chance)",
)
class NoisyLabels(Cause):
    """Labels do not agree with those of similar rows: they were shuffled, or many are wrong.

    A network fits any labels, so the training loss does not show it; the validation score does not rise above that of a
    constant.
    """

    title = "The labels do not agree with the inputs: they are shuffled or very noisy."
    advice = "Check how inputs and labels were joined, and a sample of the labels."
    explains = ("overfitting", "network_too_small", "learning_rate_too_low", "too_few_epochs")

    @classmethod
    def in_data(cls, planned: Plan) -> Finding | None:
        """Compare the label of each row with those of its nearest neighbors."""
        part, schema = planned.prepared.train, planned.prepared.schema
        if (
            part.inputs is None
            or part.stored
            or schema.task not in ("binary", "multiclass")
            or len(part) < 100
        ):
            return None
        inputs, targets = part.inputs[:MOST].flatten(1).float(), part.targets[:MOST].long().flatten()
        agreement, chance, deviation = neighbor_agreement(inputs, targets)
        if agreement > chance + 3 * deviation:
            return None
        return cls.found(
            0.75,
            f"a row has the label of its nearest neighbors in {round(100 * agreement)} % of the cases, and "
            f"{round(100 * chance)} % would agree by chance",
            title="No relation between inputs and labels was found: the labels may be shuffled.",
        )


MOST = 2000
"""The number of rows that are compared."""
NEIGHBORS = 5
"""The number of neighbors of a row."""


def neighbor_agreement(inputs: Tensor, targets: Tensor) -> tuple[float, float, float]:
    """Return the share of neighbors with the label of their row, the share by chance, and its standard deviation.

    Args:
        inputs: (n, d), scaled.
        targets: class numbers (n,).

    >>> x = torch.arange(40.0)[:, None]
    >>> agreement, chance, _ = neighbor_agreement(x, (x.flatten() >= 20).long())
    >>> agreement > 0.9, chance
    (True, 0.5)
    """
    distances = torch.cdist(inputs, inputs)
    distances.fill_diagonal_(torch.inf)
    nearest = distances.topk(min(NEIGHBORS, len(inputs) - 1), largest=False).indices
    same = (targets[nearest] == targets[:, None]).float().mean(1)
    shares = torch.bincount(targets).float() / len(targets)
    chance = float(shares.square().sum())
    return float(same.mean()), chance, (chance * (1 - chance) / len(targets)) ** 0.5
