"""IterNorm (iterative normalization): whitening of activations by Newton's iteration, without an eigendecomposition."""

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
    """Iterative normalization of vectors (n, C): approximate whitening by T steps of Newton's iteration.

    y = γ ∘ (W (x - μ)) + β with W ≈ (S + ε I)^(-1/2) after T steps
    (:class:`descend.nn.whitening.roots.NewtonRoot`). Directions of large variance are whitened fully, directions of
    small variance partly, so that early stopping avoids the amplification of noise. As T grows, the layer converges to
    :class:`descend.nn.DecorrelatedBatchNorm1d`. Evaluation uses the same T steps on the running covariance.

    Shapes: (n, C) → (n, C), or (n, C, L) → (n, C, L).

    Args:
        features: C, the number of channels.
        groups: a divisor of C; ``"auto"`` is the smallest number of groups with at most 16 channels each. Default
            ``"auto"``.
        momentum: the weight of the current batch in the running averages. Default 0.1.
        eps: ε, added to the diagonal of the covariance. Default 1e-5.
        affine: whether the layer has a learned weight γ and bias β. Default True.
        iterations: T, the number of Newton steps. Default 5, as in the paper.

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
    """Iterative normalization of images (n, C, H, W): each position counts as a row.

    Arguments, errors and source are those of :class:`IterNorm1d`.

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
    note="The running average is that of the covariance; the paper averages W.",
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
    """Build an IterNorm layer, which whitens groups of channels by Newton steps, and directions of small variance partly.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        groups: a divisor of C; ``"auto"`` is the smallest number of groups with at most 16 channels each. Default
            ``"auto"``.
        momentum: the weight of the current batch in the running averages. Default 0.1.
        eps: ε, added to the diagonal of the covariance. Default 1e-5.
        iterations: T, the number of Newton steps. Default 5.

    Raises:
        UserError: ``groups`` does not divide C.

    >>> iterative(64, dims=1)
    IterNorm1d(64, groups=4, momentum=0.1, eps=1e-05)
    """
    kind = IterNorm1d if dims == 1 else IterNorm2d
    return kind(features, groups=groups, momentum=momentum, eps=eps, iterations=iterations)
