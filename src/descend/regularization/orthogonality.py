"""Orthogonality penalties: penalties on the deviation of weight matrices from orthonormal rows or columns.

A weight is treated as a matrix W with d_out rows; for a convolution it has d_in·height·width columns. M = W Wᵀ - I if
there are at most as many rows as columns, and M = Wᵀ W - I otherwise, so that M can be 0. The values ‖Wᵀ W - I‖²_F and
‖W Wᵀ - I‖²_F differ by the constant |rows - columns|, so the gradient of ``so`` is that of the paper for any shape, and
the gradient of ``dso`` is twice that.

========  =====================================================  ====================
name      penalty on a weight                                    0 if and only if
========  =====================================================  ====================
so        ‖M‖²_F                                                 orthonormal
dso       ‖W Wᵀ - I‖²_F + ‖Wᵀ W - I‖²_F                          square, orthonormal
mc        max_ij |M_ij|                                          orthonormal
srip      the largest |eigenvalue| of M                          orthonormal
========  =====================================================  ====================

Random vectors are sampled from torch's default generator of the device, which descend seeds at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.errors import UserError, did_you_mean
from descend.param_types import Count

__all__ = [
    "ORTHOGONALITIES",
    "Probes",
    "add_gradients",
    "dso",
    "mc",
    "no_penalty",
    "orthogonality_penalty",
    "regular_weights",
    "so",
    "srip",
]

Probes = Count | Literal["exact"]

DEFAULT_PROBES = 4
"""With this number the penalty costs a fraction of a step, and its noise is comparable to that of a small batch."""


@method(row="G4", reference="", formula="0")
def no_penalty(weight: Tensor) -> None:
    """Return None: no penalty.

    Args:
        weight: not used.
    """


@method(
    row="G4",
    reference="Bansal, Chen and Wang 2018; probes: Hutchinson 1990",
    formula="||W W^T - I||_F^2 (or W^T W, the smaller), estimated by the mean of ||(W W^T - I) z||^2, z random signs",
)
def so(weight: Tensor, *, probes: Probes = DEFAULT_PROBES) -> Tensor:
    """Soft orthogonality (SO): the squared distance of the Gram matrix from the identity.

    The exact penalty costs about twice a forward pass of the layer with as many rows as the layer has units, which is several
    times the cost of a training step. For random signs z, E z zᵀ = I, so ‖M z‖² is an unbiased estimate of ‖M‖²_F, and
    its gradient is unbiased as well; the Gram matrix is never formed.

    Args:
        weight: (d_out, ...).
        probes: the number of vectors z to average over, or ``"exact"``; at least as many as M has rows are also exact.
            Default 4.

    >>> so(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    tensor(9.)
    """
    wide = _wide(weight)
    size = len(wide)
    if probes == "exact" or probes >= size:
        return (wide @ wide.mT - torch.eye(size, dtype=wide.dtype, device=wide.device)).square().sum()
    signs = _signs(wide, probes)
    return torch.addmm(signs, signs @ wide, wide.mT, beta=-1).square().sum() / probes


@method(
    row="G4",
    reference="Bansal, Chen and Wang 2018",
    formula="||W^T W - I||_F^2 + ||W W^T - I||_F^2",
    note="Its gradient is exactly twice that of so for every shape, since the two terms differ by a constant.",
)
def dso(weight: Tensor, *, probes: Probes = DEFAULT_PROBES) -> Tensor:
    """Double soft orthogonality (DSO): the penalty on both Gram matrices.

    Args:
        weight: (d_out, ...).
        probes: as in :func:`so`.

    >>> dso(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))      # 9 + (9 + 1): two rows cannot span three columns
    tensor(19.)
    """
    rows, columns = weight.flatten(1).shape
    return 2.0 * so(weight, probes=probes) + float(abs(rows - columns))


@method(
    row="G4",
    reference="Bansal, Chen and Wang 2018",
    formula="max_ij |(W W^T - I)_ij|",
    note="The paper's norm is interpreted entrywise, which for unit rows is the mutual coherence.",
)
def mc(weight: Tensor) -> Tensor:
    """Mutual coherence (MC): the largest absolute entry of the Gram matrix minus the identity.

    Args:
        weight: (d_out, ...).

    >>> mc(torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
    tensor(0.6000)
    """
    wide = _wide(weight)
    return (wide @ wide.mT - torch.eye(len(wide), dtype=wide.dtype, device=wide.device)).abs().amax()


@method(
    row="G4",
    reference="Bansal, Chen and Wang 2018",
    formula="sigma(W W^T - I), the spectral norm, by power iteration",
)
def srip(weight: Tensor, *, iterations: Count = 2) -> Tensor:
    """Spectral restricted isometry property (SRIP): the largest |eigenvalue| of the Gram matrix minus the identity.

    Power iteration from a random vector, without a graph, yields v. The penalty is ‖M v‖, a lower bound that converges to
    the spectral norm with the number of iterations, and so does its gradient.

    Args:
        weight: (d_out, ...).
        iterations: the number of products with M before the last one. Default 2, as in the paper.

    >>> srip(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), iterations=50)
    tensor(8.)
    """
    wide = _wide(weight)
    fixed = wide.detach()
    start = torch.randn(len(wide), 1, dtype=wide.dtype, device=wide.device)
    vector = nn.functional.normalize(start, dim=0)
    for _ in range(iterations):
        vector = nn.functional.normalize(torch.addmm(vector, fixed, fixed.mT @ vector, beta=-1), dim=0)
    norm: Tensor = torch.linalg.vector_norm(torch.addmm(vector, wide, wide.mT @ vector, beta=-1))
    return norm


ORTHOGONALITIES: Mapping[str, Callable[..., Tensor | None]] = {
    "none": no_penalty,
    "so": so,
    "dso": dso,
    "mc": mc,
    "srip": srip,
}
"""The penalties by name, each a function of a weight and its settings."""


def orthogonality_penalty(
    weights: Iterable[Tensor],
    kind: str = "so",
    **settings: Any,
) -> Tensor:
    """Return the sum of an orthogonality penalty over weights, a scalar.

    Args:
        weights: of two or more dimensions; see :func:`regular_weights`.
        kind: ``"so"``, ``"dso"``, ``"mc"`` or ``"srip"``. Default ``"so"``.
        settings: of that kind, such as ``probes`` or ``iterations``.

    Raises:
        UserError: an unknown kind, or no weights.

    >>> orthogonality_penalty([torch.eye(3), torch.ones(1, 2)], "mc")
    tensor(1.)
    """
    if kind not in ORTHOGONALITIES or kind == "none":
        raise UserError(
            f"there is no orthogonality penalty '{kind}'; {did_you_mean(kind, ['so', 'dso', 'mc', 'srip'])}"
        )
    penalty = ORTHOGONALITIES[kind]
    terms = [term for weight in weights if (term := penalty(weight, **settings)) is not None]
    if not terms:
        raise UserError("an orthogonality penalty needs at least one weight with two or more dimensions")
    return torch.stack(terms).sum()


@torch.no_grad()
def add_gradients(
    weights: Iterable[Tensor], strength: float, *, kind: str = "so", probes: Probes = DEFAULT_PROBES
) -> Tensor:
    """Add the gradient of strength·``so`` (or ``dso``) to ``.grad`` of each weight; return the value, detached.

    This has the effect of ``(strength * orthogonality_penalty(weights, kind)).backward()`` without autograd, in one pass
    over the memory of each gradient: with R = M Z for the probes Z, the gradient is 2/p (R (Wᵀ Z)ᵀ + Z (Wᵀ R)ᵀ), a single
    matrix product.

    Args:
        weights: leaves of autograd, with or without a gradient.
        strength: the factor of the penalty.
        kind: ``"so"`` or ``"dso"``. Default ``"so"``.
        probes: as in :func:`so`.

    >>> w = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    >>> add_gradients([w], 0.5), w.grad         # 0.5 (w w^T - 1)^2 and its gradient
    (tensor(4.5000), tensor([[12.,  0.]]))
    """
    values, times = [], 2.0 if kind == "dso" else 1.0
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        gradient, wide = _wide(weight.grad), _wide(weight)
        size = len(wide)
        if probes == "exact" or probes >= size:
            left = wide @ wide.mT
            left.diagonal().sub_(1.0)
            value, right, factor = left.square().sum(), wide, 4.0
        else:
            signs = _signs(wide, probes)
            inner = signs @ wide
            rest = torch.addmm(signs, inner, wide.mT, beta=-1)
            value, factor = rest.square().sum() / probes, 2.0 / probes
            left = torch.cat([rest, signs]).mT
            right = torch.cat([inner, rest @ wide])
        gradient.addmm_(left, right, alpha=strength * times * factor)
        if gradient.data_ptr() != weight.grad.data_ptr():  # its matrix form is a copy
            weight.grad.copy_((gradient if len(weight) == size else gradient.mT).view_as(weight))
        shape = weight.flatten(1).shape
        values.append(times * value + (abs(shape[0] - shape[1]) if kind == "dso" else 0.0))
    return strength * torch.stack(values).sum()


def _signs(like: Tensor, probes: int) -> Tensor:
    """Return random signs, one row per probe: products with few rows are faster than products with few columns."""
    return (
        torch.empty(probes, len(like), dtype=like.dtype, device=like.device).bernoulli_().mul_(2.0).sub_(1.0)
    )


def regular_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights of all linear and convolutional layers as the layers use them, parametrized or not.

    >>> [tuple(w.shape) for w in regular_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 5)))]
    [(2, 1, 3, 3), (5, 4)]
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights = [module.weight for module in model.modules() if isinstance(module, layers)]
    return list({id(weight): weight for weight in weights if weight.requires_grad}.values())


def _wide(weight: Tensor) -> Tensor:
    """Return the weight as a matrix with at most as many rows as columns."""
    matrix = weight.flatten(1)
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
