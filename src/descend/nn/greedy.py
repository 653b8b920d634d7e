"""Greedy selection of an ensemble: the networks whose mean prediction is best on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from descend.cards import method
from descend.nn.ensemble import mean_outputs
from descend.nn.outputs import Link

__all__ = ["greedy", "shrunk"]


@method(
    row="K11",
    reference="Caruana, Niculescu-Mizil, Crew and Ksikes 2004",
    formula="S_1 = {best}; S_{j+1} = S_j + argmin_m loss(mean of S_j and m), with repetition, while the loss falls",
    note="Networks may be added several times, which weights them; a network that does not help is not used.",
)
def greedy(
    outputs: Sequence[Tensor],
    link: Link,
    loss: Callable[[Tensor], Tensor],
    *,
    size: int,
    steps: int = 50,
) -> dict[int, int]:
    """Select networks for an ensemble one after another, each the one that lowers the loss of the mean most.

    The loss on the selection rows never rises: the selection ends when no network lowers it. Ties go to the network
    with the lower number.

    Args:
        outputs: of each network the raw outputs (n, K) on the selection rows.
        link: the link of the output activation (:mod:`descend.nn.outputs`), which defines the mean.
        loss: the loss of raw outputs (n, K) on the selection rows, lower is better.
        size: the maximum number of different networks.
        steps: the maximum number of additions. Default 50.

    Returns:
        How often each selected network was added, by its number, in the order of the first additions.

    >>> truth = torch.tensor([[0.0], [1.0]])
    >>> networks = [truth + 0.2, truth - 0.1, truth + 5.0]  # the errors of the first two cancel in the ratio 1 : 2
    >>> greedy(networks, "identity", lambda z: (z - truth).square().mean(), size=2)
    {1: 2, 0: 1}

    Source: Caruana et al., "Ensemble selection from libraries of models", 2004.
    """
    stacked = torch.stack(list(outputs))
    counts = torch.zeros(len(stacked), dtype=stacked.dtype, device=stacked.device)
    best, order = math.inf, dict[int, int]()
    for _ in range(steps):
        candidates = range(len(stacked)) if len(order) < size else sorted(order)
        losses = {each: float(loss(_mean(stacked, link, counts, each))) for each in candidates}
        chosen = min(losses, key=lambda each: (math.isnan(losses[each]), losses[each], each))
        if not losses[chosen] < best:
            break
        best = losses[chosen]
        counts[chosen] += 1
        order[chosen] = order.get(chosen, 0) + 1
    return order


def shrunk(counts: Mapping[int, int], networks: Sequence[int], shrinkage: float) -> dict[int, float]:
    """Return the weights of a greedy selection, moved toward equal weights.

    The weight of network m is (1 - s) n_m / Σ n + s / M with the count n_m, the shrinkage s and M networks. Counts that are
    chosen on few rows fit their noise; equal weights have none, and ignore that some networks are better.

    Args:
        counts: how often each selected network was added, as :func:`greedy` returns it.
        networks: the M networks that have a share of the equal weights, which include the selected ones.
        shrinkage: s, from 0 for the weights of the selection to 1 for equal weights.

    Returns:
        The positive weights by number, with sum 1: those of the selected networks first.

    >>> shrunk({2: 3, 0: 1}, range(4), 0.5)
    {2: 0.5, 0: 0.25, 1: 0.125, 3: 0.125}
    """
    total = sum(counts.values())
    order = dict.fromkeys([*counts, *networks])
    weights = {
        each: (1.0 - shrinkage) * counts.get(each, 0) / total + shrinkage / len(order) for each in order
    }
    return {each: weight for each, weight in weights.items() if weight > 0.0}


def _mean(outputs: Tensor, link: Link, counts: Tensor, added: int) -> Tensor:
    weights = counts.clone()
    weights[added] += 1
    used = weights > 0
    return mean_outputs(outputs[used], link, weights[used] / weights.sum())
