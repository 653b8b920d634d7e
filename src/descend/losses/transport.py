"""Optimal transport losses: the Wasserstein distance between histograms.

Cross-entropy and Kullback-Leibler divergence compare bins independently: a prediction in a neighboring bin is as wrong
as one in the most distant bin. The transport cost between histograms p and q over K bins, with C_ij the cost of moving a
unit of mass from bin i to bin j,

    W(p, q) = min_P Σ_ij P_ij C_ij   over P ≥ 0 with row sums p and column sums q,

increases with the distance. In one dimension with C_ij = |x_i − x_j| the minimum has a closed form, the area between the
cumulative distributions (:func:`wasserstein_1d`). For other costs it is a linear program; :func:`sinkhorn` adds the
regularization ε KL(P ‖ p qᵀ), which makes the problem strictly convex and changes its value by at most ε log K.
"""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError
from descend.losses.base import Form, Loss, Reduction, same_shape
from descend.losses.classification import one_hot
from descend.param_types import Count, Positive

__all__ = ["Wasserstein", "check_histograms", "sinkhorn", "wasserstein_1d"]


def check_histograms(histograms: Tensor, what: str = "wasserstein: the targets") -> None:
    """Raise a UserError if rows are not probability distributions over bins; synchronizes with the device.

    Args:
        histograms: (n, K).
        what: the subject of the message.

    Raises:
        UserError: there are no bins, an entry is negative or NaN, a row is empty (sums to 0), or a row does not sum to 1
            within 1e-4.

    >>> check_histograms(torch.tensor([[2.0, 2.0]]))
    Traceback (most recent call last):
    ...
    descend.errors.UserError: wasserstein: the targets must be distributions; row 0 sums to 4: divide it by its sum
    """
    if histograms.dim() != 2 or histograms.shape[1] == 0:
        raise UserError(
            f"{what} must be histograms (n, K) with K >= 1 bins, got shape {tuple(histograms.shape)}"
        )
    sums = histograms.sum(1)
    valid = (histograms >= 0).all(1) & ((sums - 1).abs() <= 1e-4)
    if bool(valid.all()):
        return
    row = int((~valid).nonzero()[0])
    total = float(sums[row])
    if not bool((histograms[row] >= 0).all()):
        fault = "has an entry that is negative or NaN"
    elif total == 0:
        fault = "is empty (sums to 0)"
    else:
        fault = f"sums to {total:.6g}: divide it by its sum"
    raise UserError(f"{what} must be distributions; row {row} {fault}")


def wasserstein_1d(p: Tensor, q: Tensor, positions: Tensor) -> Tensor:
    """Σ_k |P_k − Q_k| (x_{k+1} − x_k) with P and Q the cumulative sums: (n, K), (n, K), (K,) → (n,).

    It is differentiable unless some P_k = Q_k, where the derivative is a subgradient.

    Args:
        p: distributions.
        q: distributions.
        positions: positions of the bins, increasing.

    >>> wasserstein_1d(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]), torch.arange(3.0))
    tensor([2.])

    Source: Vallender 1974; scipy.stats.wasserstein_distance.
    """
    return ((p - q).cumsum(1)[:, :-1].abs() * positions.diff()).sum(1)


def sinkhorn(p: Tensor, q: Tensor, cost: Tensor, *, epsilon: float = 0.01, iterations: int = 200) -> Tensor:
    """Transport cost with entropic regularization, min_P <P, C> + ε KL(P ‖ p qᵀ): (n, K), (n, L), (K, L) → (n,).

    Sinkhorn's iteration in the log domain, which is stable for every ε, alternates for potentials f and g

        g_j ← −ε log Σ_i p_i exp((f_i − C_ij)/ε),   f_i ← −ε log Σ_j q_j exp((g_j − C_ij)/ε),

    and the value is Σ p f + Σ q g. By duality it is at most the minimum, and converges to it; the minimum
    itself is between W and W + ε min(H(p), H(q)). Its derivative with respect to p is f (Danskin's theorem), so no
    derivative passes through the iterations and memory does not grow with them; for the same reason second derivatives are
    not available. It does not synchronize with the device.

    Args:
        p: distributions; bins may be empty.
        q: distributions; bins may be empty.
        cost: C.
        epsilon: ε, in the unit of the costs. Default 0.01.
        iterations: number of pairs of updates; a smaller ε relative to the costs needs more. Default 200.

    >>> p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    >>> sinkhorn(p, q, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    tensor([0.5000])

    Source: Cuturi 2013; Peyré and Cuturi 2019, section 4.4; Feydy et al. 2019 for this form.
    """
    with torch.no_grad():
        scaled = (cost / epsilon).unsqueeze(0)
        # An empty bin has logarithm −∞ and contributes to no sum.
        a, b = p.log().unsqueeze(2), q.log().unsqueeze(1)
        f = torch.zeros_like(p)
        g = torch.zeros_like(q)
        for _ in range(iterations):
            g = -epsilon * torch.logsumexp(a + f.unsqueeze(2) / epsilon - scaled, 1)
            f = -epsilon * torch.logsumexp(b + g.unsqueeze(1) / epsilon - scaled, 2)
    return (p * f).sum(1) + (q * g).sum(1)


@method(
    row="C6",
    reference="Vallender 1974 (one dimension); Cuturi 2013; Peyré and Cuturi 2019; scipy.stats.wasserstein_distance",
    formula="sum_k |P_k - Q_k| (x_{k+1} - x_k); with a cost: min_P <P, C> + eps KL(P || p q'), row sums p, column sums q",
    note="The classes are positions on a line in their order; for unordered classes specify a cost, or use "
    "cross_entropy.",
)
@final
class Wasserstein(Loss):
    """Wasserstein distance between the predicted distribution softmax(z) and the target, for ordered classes.

    Without ``cost`` it is the exact Wasserstein-1 distance in one dimension. With ``cost`` it is Sinkhorn's approximation,
    which is exact for targets in one class, Σ p_i C_ik, and otherwise at most ε log K above the optimum. Like that of
    ``squared`` its gradient vanishes where the softmax saturates, so training is slow if the network is confidently wrong.
    Shapes: outputs (n, K), targets int64 (n,) in 0…K−1 or distributions (n, K).

    Args:
        positions: positions x_1 < … < x_K of the bins. Default None: 0, 1, …, K − 1.
        cost: C, K rows of K costs, 0 or more, instead of distances on the line. Default None.
        epsilon: ε of Sinkhorn's iteration, as a fraction of the largest cost. Default 0.02.
        iterations: number of iterations of Sinkhorn's method. Default 200.

    Raises:
        UserError: positions are not increasing; the cost is not square, has negative entries or is zero; both are given;
            or, when called, targets are not distributions or the number of classes differs.

    >>> loss = Wasserstein()
    >>> z = torch.tensor([[9.0, 0.0, 0.0, 0.0]])
    >>> [round(loss(z, torch.tensor([k])).item(), 2) for k in range(4)]
    [0.0, 1.0, 2.0, 3.0]
    """

    form: Form = "logits"
    tasks = frozenset({"multiclass"})

    def __init__(
        self,
        *,
        positions: tuple[float, ...] | None = None,
        cost: tuple[tuple[float, ...], ...] | None = None,
        epsilon: Positive = 0.02,
        iterations: Count = 200,
    ) -> None:
        super().__init__()
        if positions is not None and cost is not None:
            raise UserError("wasserstein: specify positions or a cost, not both")
        if positions is not None and (len(positions) < 2 or not all(a < b for a, b in pairwise(positions))):
            raise UserError(f"wasserstein: positions must be increasing, got {list(positions)}")
        if cost is not None and (
            not cost
            or any(len(row) != len(cost) for row in cost)
            or not all(each >= 0 for row in cost for each in row)
            or not any(each > 0 for row in cost for each in row)
        ):
            raise UserError("wasserstein: cost must be K rows of K numbers, 0 or more, and not all 0")
        if not epsilon > 0:
            raise UserError(f"wasserstein: epsilon must be above 0, got {epsilon}")
        self.positions = None if positions is None else tuple(positions)
        self.cost = None if cost is None else tuple(map(tuple, cost))
        self.epsilon, self.iterations = epsilon, iterations
        self._costs: dict[tuple[torch.device, torch.dtype, int], Tensor] = {}

    def _check(self, targets: Tensor) -> None:
        if targets.dim() == 2:
            check_histograms(targets)

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        classes = outputs.shape[1]
        given = self.cost if self.cost is not None else self.positions
        if given is not None and len(given) != classes:
            what = "cost" if self.cost is not None else "positions"
            raise UserError(
                f"wasserstein: {what} is for {len(given)} classes, but the outputs have {classes}"
            )
        if targets.dim() == 2:
            same_shape(outputs, targets)
        if self.form == "probabilities" and not self._trusted:
            check_histograms(outputs.detach(), "wasserstein: the outputs")
        p = torch.softmax(outputs, 1) if self.form == "logits" else outputs
        q = one_hot(targets, outputs)
        if self.cost is None:
            losses = wasserstein_1d(p, q, self._ground(outputs))
        else:
            epsilon = self.epsilon * max(map(max, self.cost))
            losses = sinkhorn(p, q, self._ground(outputs), epsilon=epsilon, iterations=self.iterations)
        return losses.mean() if reduction == "mean" else losses

    def _ground(self, like: Tensor) -> Tensor:
        """Return the costs or positions as a tensor on the device of the outputs, copied there once."""
        key = (like.device, like.dtype, like.shape[1])
        if key not in self._costs:
            values = self.cost or self.positions or range(like.shape[1])
            self._costs[key] = torch.tensor(values, dtype=like.dtype, device=like.device)
        return self._costs[key]
