"""Decorrelated batch normalization: whitening of activations by an eigendecomposition of their covariance."""

from __future__ import annotations

from typing import Literal

from torch import nn

from descend.cards import method
from descend.nn.whitening.layer import Groups, Whitening
from descend.nn.whitening.roots import Backward, SpectralRoot
from descend.param_types import Count, Positive, Share

__all__ = ["DecorrelatedBatchNorm1d", "DecorrelatedBatchNorm2d", "decorrelated"]

EPS = 1e-3
ITERATIONS = 19


class DecorrelatedBatchNorm1d(Whitening):
    """Decorrelated batch normalization of vectors (n, C): whitening by the mean and covariance of the batch.

    y = γ ∘ (W (x - μ)) + β with W = (S + ε I)^(-1/2) from the eigenvectors of the covariance S, group by
    group; see :class:`descend.nn.whitening.layer.Whitening`. The gradient is exact and finite for repeated eigenvalues as
    well, for which the gradient of ``torch.linalg.eigh`` is not.

    Shapes: (n, C) → (n, C), or (n, C, L) → (n, C, L).

    Args:
        features: C, the number of channels.
        groups: a divisor of C; ``"auto"`` is the smallest number of groups with at most 16 channels each. A group of d
            channels needs considerably more than d rows in a batch. Default ``"auto"``.
        momentum: the weight of the current batch in the running averages. Default 0.1.
        eps: ε, added to the eigenvalues. Default 1e-3, the authors' value.
        affine: whether the layer has a learned weight γ and bias β. Default True.
        backward: ``"exact"``, or ``"power_iteration"`` for the gradient of Wang et al., which is finite as well, but too
            small by a factor 1 - q^K for eigenvalues of ratio q. Default ``"exact"``.
        iterations: K, the number of power iterations. Default 19, as in the paper.

    Raises:
        UserError: ``groups`` does not divide C.

    Source: Huang, Yang, Lang and Deng 2018; Wang, Dang, Hu, Fua and Salzmann 2019.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(100, 4) @ torch.randn(4, 4)
    >>> y = DecorrelatedBatchNorm1d(4, eps=1e-6)(x)
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
        backward: Backward = "exact",
        iterations: int = ITERATIONS,
    ) -> None:
        super().__init__(
            features,
            SpectralRoot(eps, backward, iterations),
            groups=groups,
            dims=1,
            momentum=momentum,
            eps=eps,
            affine=affine,
        )


class DecorrelatedBatchNorm2d(Whitening):
    """Decorrelated batch normalization of images (n, C, H, W): each position counts as a row.

    Arguments, errors and sources are those of :class:`DecorrelatedBatchNorm1d`.

    >>> import torch
    >>> DecorrelatedBatchNorm2d(6, groups=2)(torch.randn(5, 6, 4, 4)).shape
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
        backward: Backward = "exact",
        iterations: int = ITERATIONS,
    ) -> None:
        super().__init__(
            features,
            SpectralRoot(eps, backward, iterations),
            groups=groups,
            dims=2,
            momentum=momentum,
            eps=eps,
            affine=affine,
        )


@method(
    row="F5, F7",
    reference="Huang, Yang, Lang and Deng 2018; Wang, Dang, Hu, Fua and Salzmann 2019",
    formula="y = g W (x - mean_batch) + b, W = (cov_batch + eps I)^(-1/2), group by group",
    note="The running average is that of the covariance; the papers average W, which is biased for small batches. "
    "backward = 'exact' needs no approximation for repeated eigenvalues; 'power_iteration' is the method of Wang et al.",
)
def decorrelated(
    features: int,
    *,
    dims: Literal[1, 2],
    groups: Groups = "auto",
    momentum: Share = 0.1,
    eps: Positive = EPS,
    backward: Backward = "exact",
    iterations: Count = ITERATIONS,
) -> nn.Module:
    """Build a decorrelated batch normalization layer, which whitens groups of channels.

    Args:
        features: C, the number of channels.
        dims: 1 for (n, C), 2 for (n, C, H, W).
        groups: a divisor of C; ``"auto"`` is the smallest number of groups with at most 16 channels each. A group of d
            channels needs considerably more than d rows (or rows times positions) in a batch. Default ``"auto"``.
        momentum: the weight of the current batch in the running averages. Default 0.1.
        eps: ε, added to the eigenvalues of the covariance. Default 1e-3.
        backward: the gradient of the inverse root, ``"exact"`` or ``"power_iteration"``. Default ``"exact"``.
        iterations: the number of power iterations. Default 19.

    Raises:
        UserError: ``groups`` does not divide C.

    >>> decorrelated(64, dims=1)
    DecorrelatedBatchNorm1d(64, groups=4, momentum=0.1, eps=0.001)
    """
    kind = DecorrelatedBatchNorm1d if dims == 1 else DecorrelatedBatchNorm2d
    return kind(features, groups=groups, momentum=momentum, eps=eps, backward=backward, iterations=iterations)
