"""SOAP: Adam in the coordinates in which Shampoo's preconditioner is diagonal.

Shampoo divides by roots of eigenvalues of L ⊗ R, the covariances of rows and columns; with its eigenvectors Q_L and Q_R this is a
division of each entry of Q_Lᵀ G Q_R. SOAP keeps the eigenvectors and lets Adam find the divisors: from squares of the
entries themselves, at every step, while the eigenvectors are renewed seldom.

    G' = Q_Lᵀ G Q_R,     m ← β₁ m + (1 − β₁) G',     v ← β₂ v + (1 − β₂) G'²,     W ← W − t Q_L [m̂ / (√v̂ + ε)] Q_Rᵀ.

The eigenvectors are renewed by one step of orthogonal iteration from those there are, Q ← qr(L Q), since covariances change
slowly; the first are those of the first gradient's, so that the first step is t U Vᵀ for a gradient U S Vᵀ. The momentum lives
in the coordinates of the day, and is taken along.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.cards import method
from descend.linalg.kronecker import eigenvectors
from descend.optim.base import Params
from descend.optim.blocks import Stack
from descend.optim.building import build
from descend.optim.stacked import ParameterStack, StackedStep, multiply
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["SOAP", "soap"]


@final
class SOAP(StackedStep):
    """Adam in the eigenbasis of each block's covariances; see :func:`soap`, which has the defaults.

    The state of a parameter is ``step``, a whole number; ``average`` and ``square``, Adam's, as many numbers as it has, in
    rotated coordinates; and ``covariance`` and ``basis``, matrices of each block: ".r" names a region of the parameter in
    which all blocks have one shape, ".r.i" a dimension of it.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        *,
        covariance_beta: float = 0.95,
        block_size: int = 128,
        basis_every: int = 10,
        eps: float = 1e-8,
        one_sided: bool = False,
        max_size: int = 8192,
    ) -> None:
        settings = {
            "lr": lr, "betas": tuple(betas), "covariance_beta": covariance_beta, "block_size": block_size,
            "basis_every": basis_every, "eps": eps, "one_sided": one_sided, "max_size": max_size,
        }  # fmt: skip
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose settings are checked."""
        found = {**self.defaults, **param_group}
        for name in ("block_size", "basis_every", "max_size"):
            if not found[name] >= 1:
                raise ValueError(f"{name} must be 1 or more; found {found[name]}")
        for name in ("lr", "eps"):
            if not found[name] >= 0:
                raise ValueError(f"{name} must be 0 or more; found {found[name]}")
        if not all(0 <= beta < 1 for beta in (*found["betas"], found["covariance_beta"])):
            raise ValueError(
                "betas and covariance_beta must be 0 or more and below 1; "
                f"found {found['betas']} and {found['covariance_beta']}"
            )
        super().add_param_group(param_group)

    def advance(self, fleet: ParameterStack) -> None:
        """Covariances, the basis if it is its turn, and Adam's step in it."""
        group, age = fleet.group, fleet.age
        beta1, beta2 = group["betas"]
        gradient = fleet.gradient()
        basis = fleet.matrices("basis")
        if basis:
            _turn(fleet, gradient)
            gradient = fleet.mapped(gradient, basis, "rotated", transposed=True)
        average = fleet.vector("average").lerp_(gradient, 1 - beta1)
        square = fleet.vector("square").mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        step = fleet.scratch("step")
        torch.sqrt(square, out=step).mul_((1 - beta2**age) ** -0.5).add_(group["eps"])
        for stack in fleet.blocks.stacks:
            _lift(stack.of(step))
        torch.div(average, step, out=step)
        if basis:
            step = fleet.mapped(step, basis, "found")
        fleet.move(step, -float(group["lr"]) / (1 - beta1**age))


def _lift(roots: Tensor) -> None:
    """Keep what is rounding alone from being divided up to the size of a gradient.

    Along eigenvectors that gradients have no part in, and at first these are most, the rotated gradient is not 0 but
    the rounding of its largest entries, and so is the root of its squares.
    """
    largest = roots.flatten(1).amax(-1).view(-1, *(1 for _ in roots.shape[1:]))
    roots.add_(largest, alpha=_ROUNDING * torch.finfo(roots.dtype).eps)


_ROUNDING = 64.0


def _turn(fleet: ParameterStack, gradient: Tensor) -> None:
    """Take the gradient into the covariances, and renew their eigenvectors when it is time."""
    group, age = fleet.group, fleet.age
    beta = group["covariance_beta"]
    covariances, basis = fleet.matrices("covariance"), fleet.matrices("basis")
    fleet.accumulate(gradient, covariances, keep=beta, add=1 - beta)
    if age > 1 and age % group["basis_every"]:
        return
    for stack, sides, vectors in zip(fleet.blocks.stacks, covariances, basis, strict=True):
        for side, covariance, old in zip(stack.sides, sides, vectors, strict=True):
            if age == 1:
                # Largest first, as orthogonal iteration orders them. A gradient that is not finite shall come out as it is.
                found = eigenvectors(covariance.nan_to_num(0.0, 0.0, 0.0))[1].flip(-1)
                old.copy_(found)
            else:
                _renew(fleet, stack, side, covariance, old)


def _renew(fleet: ParameterStack, stack: Stack, side: int, covariance: Tensor, basis: Tensor) -> None:
    """One step of orthogonal iteration of the eigenvectors along a side, with averages and squares taken along."""
    image = covariance @ basis
    order = (basis * image).sum(-2).argsort(stable=True, dim=-1, descending=True)
    ordered = image.gather(-1, order.unsqueeze(-2).expand_as(image))
    # What torch.linalg.qr does, without its R.
    found = torch.linalg.householder_product(*torch.geqrf(ordered))
    # Squares belong to their vectors, and change places with them. The average is a tensor, and is seen from the new ones.
    square = stack.of(fleet.vector("square"))
    places = order.view(order.shape[0], *(-1 if dim == side else 1 for dim in range(len(stack.block))))
    square.copy_(square.gather(side + 1, places.expand_as(square)))
    average = stack.of(fleet.vector("average"))
    multiply(found.mT @ basis, average.clone(), side, average)
    basis.copy_(found)


@method(
    row="D11",
    reference="Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson and Kakade 2024",
    formula="G' = QL' G QR; m, v <- Adam's averages of G', G'^2; W <- W - t QL [m^ / (sqrt(v^) + eps)] QR'; "
    "QL, QR eigenvectors of averages of G G', G' G",
    note="The paper's code takes no step at the first gradient; here it has the first gradient's own eigenvectors.",
)
def soap(
    params: Params,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.95, 0.95),
    covariance_beta: Fraction = 0.95,
    block_size: Count = 128,
    basis_every: Count = 10,
    eps: NonNegative = 1e-8,
    one_sided: bool = False,
    max_size: Count = 8192,
) -> Optimizer:
    """Adam in the eigenvectors of Shampoo's covariances of rows and columns, which are renewed now and then.

    Where Shampoo's preconditioner is as old as its last root, SOAP's divisors follow the gradient at every step, so that
    the eigenvectors may be older. Blocks, their stacks and tensors of higher order are as those of
    :func:`~descend.optim.shampoo.shampoo`; tensors of one dimension take Adam's step.

    State, in numbers for each parameter of a matrix: 4 for covariances and eigenvectors of square blocks (2 (a² + b²)/(a b) for
    blocks of a by b), and Adam's two. In float32 also where the parameters are of half precision.

    Cost of a step: six products of blocks with square matrices; every ``basis_every`` steps a product and a QR factorisation of
    each covariance.

    Args:
        params: parameters or groups.
        lr: t, the rate. Default 0.001; the paper's 0.003 learns faster where rows are many.
        betas: β₁ and β₂, how much of the averages of G' and G'² is kept. Default (0.95, 0.95), the paper's.
        covariance_beta: how much of the covariances is kept. Default 0.95.
        block_size: the most rows and columns of a block. Default 128.
        basis_every: steps from one renewal of the eigenvectors to the next. Default 10, the paper's.
        eps: ε, outside the root. Default 1e-8.
        one_sided: only the smallest dimension of a tensor is rotated. Default False.
        max_size: a dimension of more numbers is not rotated; 1 gives Adam. Default 8192.

    Raises:
        UserError: a setting outside its domain; sparse or complex gradients.

    >>> w = torch.zeros(2, 2, requires_grad=True)
    >>> optimizer = soap([w], lr=1.0)
    >>> (w * torch.tensor([[3.0, 4.0], [6.0, 8.0]])).sum().backward(); optimizer.step()
    >>> w.detach().round(decimals=1)  # one singular value: a step of length t along its vectors
    tensor([[-0.3000, -0.4000],
            [-0.5000, -0.7000]])
    """
    settings = {
        "lr": lr, "betas": tuple(betas), "covariance_beta": covariance_beta, "block_size": block_size,
        "basis_every": basis_every, "eps": eps, "one_sided": one_sided, "max_size": max_size,
    }  # fmt: skip
    return build(SOAP, params, settings)
