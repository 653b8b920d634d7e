"""IterNorm: whitening of activations by Newton's iteration, without eigenvectors."""

from __future__ import annotations

from typing import Literal

from torch import nn

from descend.cards import method
from descend.nn.whitening.layer import Groups, Whitening
from descend.nn.whitening.roots import NewtonRoot
from descend.param_types import Count, Positive, Share

__all__ = ["IterNorm1d", "IterNorm2d", "iterative"]

EPS = 1e-5
ITERATIONS = 5


class IterNorm1d(Whitening):
    """Iterative normalisation of vectors (n, C): whitened up to T steps of Newton's iteration.

    y = γ ∘ (W (x - μ)) + β with W ≈ (S + ε I)^(-1/2) after T steps
    (:class:`descend.nn.whitening.roots.NewtonRoot`). Directions of large variance are whitened fully, those of small
    variance partly: stopping early keeps what is mostly noise from being blown up. As T grows it becomes
    :class:`descend.nn.DecorrelatedBatchNorm1d`. Evaluation takes the same T steps on the running covariance.

    Shapes: (n, C) → (n, C), or (n, C, L) → (n, C, L).

    Args:
        features: C, the number of channels.
        groups: a divisor of C. Default ``"auto"``, the fewest groups with at most 16 channels.
        momentum: the weight of the newest batch in the running averages. Default 0.1.
        eps: ε, added to the covariance's diagonal. Default 1e-5.
        affine: whether there is a learned scale γ and shift β. Default True.
        iterations: T. Default 5, the paper's.

    Raises:
        UserError: ``groups`` does not divide C.

    Source: Huang, Zhou, Zhu, Liu and Shao 2019.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(100, 4) @ torch.randn(4, 4)
    >>> y = IterNorm1d(4, iterations=40)(x)
    >>> torch.allclose(y.T @ y / 100, torch.eye(4), atol=1e-2)
    True
    """

    def __init__(
        self,
        features: int,
        *,
        groups: int | Literal["auto"] = "auto",
        momentum: float = 0.1,
        eps: float = EPS,
        affine: bool = True,
        iterations: int = ITERATIONS,
    ) -> None:
        super().__init__(
            features,
            NewtonRoot(iterations, eps),
            groups=groups,
            dims=1,
            momentum=momentum,
            eps=eps,
            affine=affine,
        )


class IterNorm2d(Whitening):
    """Iterative normalisation of images (n, C, H, W): every position counts as a row.

    Arguments, errors and source as of :class:`IterNorm1d`.

    >>> import torch
    >>> IterNorm2d(6, groups=2)(torch.randn(5, 6, 4, 4)).shape
    torch.Size([5, 6, 4, 4])
    """

    def __init__(
        self,
        features: int,
        *,
        groups: int | Literal["auto"] = "auto",
        momentum: float = 0.1,
        eps: float = EPS,
        affine: bool = True,
        iterations: int = ITERATIONS,
    ) -> None:
        super().__init__(
            features,
            NewtonRoot(iterations, eps),
            groups=groups,
            dims=2,
            momentum=momentum,
            eps=eps,
            affine=affine,
        )


@method(
    row="F6",
    reference="Huang, Zhou, Zhu, Liu and Shao 2019",
    formula="y = g W (x - mean_batch) + b, W = P_T / sqrt(t), P_{k+1} = (3 P_k - P_k^3 N) / 2, N = cov / t, "
    "t = tr(cov)",
    note="The lecture names it without a formula. The running average is that of the covariance; the paper "
    "averages W.",
)
def iterative(
    features: int,
    *,
    dims: Literal[1, 2],
    groups: Groups = "auto",
    momentum: Share = 0.1,
    eps: Positive = EPS,
    iterations: Count = ITERATIONS,
) -> nn.Module:
    """IterNorm: whitens groups of channels by a few Newton steps; no eigenvectors, and gentle on weak directions.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        groups: a divisor of C; ``"auto"`` is the fewest with at most 16 channels each.
        momentum: the weight of the newest batch in the running averages. Default 0.1.
        eps: ε, added to the covariance's diagonal. Default 1e-5.
        iterations: T, Newton steps. Default 5.

    Raises:
        UserError: ``groups`` does not divide C.

    >>> iterative(64, dims=1)
    IterNorm1d(64, groups=4, momentum=0.1, eps=1e-05)
    """
    kind = IterNorm1d if dims == 1 else IterNorm2d
    return kind(features, groups=groups, momentum=momentum, eps=eps, iterations=iterations)
