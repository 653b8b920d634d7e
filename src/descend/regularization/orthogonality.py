"""Penalties that draw weight matrices towards orthonormal rows or columns.

A weight is seen as a matrix W of d_out rows, of a convolution with d_in·height·width columns. M = W Wᵀ - I where
there are at most as many rows as columns, and M = Wᵀ W - I otherwise, which is the one that can be 0. The paper's
‖Wᵀ W - I‖²_F of either side differs from the other's by the constant |rows - columns|, so the gradient of ``so`` is
the paper's for any shape, and that of ``dso`` is twice it.

========  =====================================================  ====================
name      penalty of a weight                                    0 if and only if
========  =====================================================  ====================
so        ‖M‖²_F                                                 orthonormal
dso       ‖W Wᵀ - I‖²_F + ‖Wᵀ W - I‖²_F                          square, orthonormal
mc        max_ij |M_ij|                                          orthonormal
srip      the largest |eigenvalue| of M                          orthonormal
========  =====================================================  ====================

Random vectors come from torch's default generator of the device, which descend seeds at every step.
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

PROBES = 4
"""Few enough that the penalty costs a fraction of a step, and so many that its noise is that of a small batch."""


@method(row="G4", reference="", formula="0")
def no_penalty(weight: Tensor) -> None:
    """No penalty.

    Args:
        weight: not used.
    """


@method(
    row="G4",
    reference="Bansal, Chen and Wang 2018; probes: Hutchinson 1990",
    formula="||W W^T - I||_F^2 (or W^T W, the smaller), estimated by the mean of ||(W W^T - I) z||^2, z random signs",
)
def so(weight: Tensor, *, probes: Probes = PROBES) -> Tensor:
    """Soft orthogonality: the squared distance of the Gram matrix from the identity.

    The exact penalty costs about twice a pass through the layer with as many rows as it has units, several times
    a step of training. With random signs z, E z zᵀ = I, so that ‖M z‖² has the mean ‖M‖²_F, and its
    gradient that of the penalty; the Gram matrix is never formed.

    Args:
        weight: (d_out, ...).
        probes: vectors z to average over, or ``"exact"``; as many as M has rows, or more, are exact too. Default 4.

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
    note="Its gradient is exactly twice that of so, for every shape: the two terms differ by a constant.",
)
def dso(weight: Tensor, *, probes: Probes = PROBES) -> Tensor:
    """Double soft orthogonality: both Gram matrices.

    Args:
        weight: (d_out, ...).
        probes: as of :func:`so`.

    >>> dso(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))      # 9, and 1 more: two rows cannot span three columns
    tensor(19.)
    """
    rows, columns = weight.flatten(1).shape
    return 2.0 * so(weight, probes=probes) + float(abs(rows - columns))


@method(
    row="G4",
    reference="Bansal, Chen and Wang 2018",
    formula="max_ij |(W W^T - I)_ij|",
    note="The paper's norm is read entry by entry, which for unit rows is the mutual coherence it is named for.",
)
def mc(weight: Tensor) -> Tensor:
    """Mutual coherence: the largest entry of the Gram matrix beside the identity.

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
    """Spectral restricted isometry: the largest |eigenvalue| of the Gram matrix beside the identity.

    Power iteration from a random vector, without a graph, gives v; the penalty is ‖M v‖, a lower bound that is
    reached as the iterations grow, with the gradient of the spectral norm there.

    Args:
        weight: (d_out, ...).
        iterations: products with M before the last. Default 2, the paper's.

    >>> srip(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), iterations=50)
    tensor(8.)
    """
    wide = _wide(weight)
    held = wide.detach()
    start = torch.randn(len(wide), 1, dtype=wide.dtype, device=wide.device)
    vector = nn.functional.normalize(start, dim=0)
    for _ in range(iterations):
        vector = nn.functional.normalize(torch.addmm(vector, held, held.mT @ vector, beta=-1), dim=0)
    norm: Tensor = torch.linalg.vector_norm(torch.addmm(vector, wide, wide.mT @ vector, beta=-1))
    return norm


ORTHOGONALITIES: Mapping[str, Callable[..., Tensor | None]] = {
    "none": no_penalty,
    "so": so,
    "dso": dso,
    "mc": mc,
    "srip": srip,
}


def orthogonality_penalty(
    weights: Iterable[Tensor],
    kind: str = "so",
    **settings: Any,
) -> Tensor:
    """The sum of a penalty over weights, a scalar.

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
        raise UserError(f"no penalty '{kind}'; {did_you_mean(kind, ['so', 'dso', 'mc', 'srip'])}")
    penalty = ORTHOGONALITIES[kind]
    terms = [found for weight in weights if (found := penalty(weight, **settings)) is not None]
    if not terms:
        raise UserError("a penalty of orthogonality needs at least one weight of two dimensions or more")
    return torch.stack(terms).sum()


@torch.no_grad()
def add_gradients(
    weights: Iterable[Tensor], strength: float, *, kind: str = "so", probes: Probes = PROBES
) -> Tensor:
    """Add the gradient of strength·``so`` (or ``dso``) to ``.grad`` of each weight; returns the value, detached.

    What ``(strength * orthogonality_penalty(weights, kind)).backward()`` does, without a tape and in one pass over
    each gradient's memory: with R = M Z for the probes Z it is 2/p (R (Wᵀ Z)ᵀ + Z (Wᵀ R)ᵀ), one product.

    Args:
        weights: leaves of autograd, which have a gradient already or none.
        strength: the factor.
        kind: ``"so"`` or ``"dso"``.
        probes: as of :func:`so`.

    >>> w = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    >>> add_gradients([w], 0.5), w.grad         # 0.5 (w w^T - 1)^2 and its gradient
    (tensor(4.5000), tensor([[12.,  0.]]))
    """
    total, times = [], 2.0 if kind == "dso" else 1.0
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
        if gradient.data_ptr() != weight.grad.data_ptr():  # it could not be seen as a matrix in place
            weight.grad.copy_((gradient if len(weight) == size else gradient.mT).view_as(weight))
        shape = weight.flatten(1).shape
        total.append(times * value + (abs(shape[0] - shape[1]) if kind == "dso" else 0.0))
    return strength * torch.stack(total).sum()


def _signs(like: Tensor, probes: int) -> Tensor:
    """Random signs, a row per probe: products of few rows are faster than those of few columns."""
    return (
        torch.empty(probes, len(like), dtype=like.dtype, device=like.device).bernoulli_().mul_(2.0).sub_(1.0)
    )


def regular_weights(model: nn.Module) -> list[Tensor]:
    """The weights of all linear and convolutional layers as the layers use them, parametrised or not.

    >>> [tuple(w.shape) for w in regular_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(4, 5)))]
    [(2, 1, 3, 3), (5, 4)]
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = [module.weight for module in model.modules() if isinstance(module, layers)]
    return list({id(weight): weight for weight in found if weight.requires_grad}.values())


def _wide(weight: Tensor) -> Tensor:
    """The weight as a matrix of at most as many rows as columns."""
    matrix = weight.flatten(1)
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
