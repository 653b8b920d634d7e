"""SOAP: Adam in the coordinates in which Shampoo's preconditioner is diagonal.

Shampoo divides by roots of the eigenvalues of L ⊗ R, the covariances of rows and columns; with the eigenvectors Q_L and Q_R this
is a division of each entry of Q_Lᵀ G Q_R. SOAP keeps the eigenvectors and obtains the divisors from Adam, that is, from the
squares of the entries, at every step, while the eigenvectors are updated less often:

    G' = Q_Lᵀ G Q_R,     m ← β₁ m + (1 − β₁) G',     v ← β₂ v + (1 − β₂) G'²,     W ← W − t Q_L [m̂ / (√v̂ + ε)] Q_Rᵀ.

The eigenvectors are updated by one step of orthogonal iteration, Q ← qr(L Q), since covariances change slowly. The first
eigenvectors are those of the first gradient, so the first step is t U Vᵀ for a gradient U S Vᵀ. The momentum is stored in the
current coordinates and transformed with them.

The functions below are the method; they work on all blocks of equal shape at once (:mod:`descend.optim.stacked`).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.linalg.kronecker import eigenvectors
from descend.optim.base import Params
from descend.optim.blocks import Stack
from descend.optim.stacked import ParameterStack, StackedStep, multiply
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["SOAP", "soap"]

_ROUNDING = 64.0


def soap_update(stack: ParameterStack) -> None:
    """Take a step: covariances, their eigenvectors Q, and Adam's step in these coordinates."""
    group, steps = stack.group, stack.step
    beta1, beta2 = group["betas"]
    gradient = stack.gradient()
    basis = stack.matrices("basis")
    if basis:
        update_basis(stack, gradient)
        gradient = stack.mapped(gradient, basis, "rotated", transposed=True)  # G' = Q_Lᵀ G Q_R
    average = stack.vector("average").lerp_(gradient, 1 - beta1)
    square = stack.vector("square").mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    step = stack.buffer("step")
    torch.sqrt(square, out=step).mul_((1 - beta2**steps) ** -0.5).add_(group["eps"])
    for each in stack.blocks.stacks:
        raise_to_rounding_(each.of(step))
    torch.div(average, step, out=step)
    if basis:
        step = stack.mapped(step, basis, "update")  # Q_L [m̂ / (√v̂ + ε)] Q_Rᵀ
    stack.move(step, -float(group["lr"]) / (1 - beta1**steps))


def raise_to_rounding_(roots: Tensor) -> None:
    """Add a bound of the rounding errors to the divisors √v̂ + ε of each block, in place.

    Along eigenvectors in which the gradients have no component, which at first are most of them, the rotated gradient consists of
    rounding errors of its largest entries. Its root mean square is equally small, so the quotient would be of order 1.
    """
    largest = roots.flatten(1).amax(-1).view(-1, *(1 for _ in roots.shape[1:]))
    roots.add_(largest, alpha=_ROUNDING * torch.finfo(roots.dtype).eps)


def update_basis(stack: ParameterStack, gradient: Tensor) -> None:
    """L ← β L + (1 − β) G Gᵀ and R likewise; every ``precondition_frequency`` steps, update their eigenvectors."""
    group, step = stack.group, stack.step
    beta = group["shampoo_beta"]
    covariances, basis = stack.matrices("covariance"), stack.matrices("basis")
    stack.accumulate(gradient, covariances, keep=beta, add=1 - beta)
    if step > 1 and step % group["precondition_frequency"]:
        return
    for each, sides, vectors in zip(stack.blocks.stacks, covariances, basis, strict=True):
        for side, covariance, old in zip(each.sides, sides, vectors, strict=True):
            if step == 1:
                # In descending order, as orthogonal iteration sorts them. A gradient that is not finite must still propagate.
                old.copy_(eigenvectors(covariance.nan_to_num(0.0, 0.0, 0.0))[1].flip(-1))
            else:
                orthogonal_iteration_(stack, each, side, covariance, old)


def orthogonal_iteration_(
    stack: ParameterStack, blocks: Stack, side: int, covariance: Tensor, basis: Tensor
) -> None:
    """Q ← qr(L Q) along one side of the blocks, in place, with averages and squares transformed to the new coordinates."""
    image = covariance @ basis
    order = (basis * image).sum(-2).argsort(stable=True, dim=-1, descending=True)
    ordered = image.gather(-1, order.unsqueeze(-2).expand_as(image))
    # As torch.linalg.qr, without its R.
    updated = torch.linalg.householder_product(*torch.geqrf(ordered))
    # Squares belong to eigenvectors and are permuted with them; the average is a tensor and is expressed in the new basis.
    square = blocks.of(stack.vector("square"))
    places = order.view(order.shape[0], *(-1 if dim == side else 1 for dim in range(len(blocks.block))))
    square.copy_(square.gather(side + 1, places.expand_as(square)))
    average = blocks.of(stack.vector("average"))
    multiply(updated.mT @ basis, average.clone(), side, average)
    basis.copy_(updated)


@method(
    row="D11",
    reference="Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson and Kakade 2024",
    formula="G' = QL' G QR; m, v <- Adam's averages of G', G'^2; W <- W - t QL [m^ / (sqrt(v^) + eps)] QR'; "
    "QL, QR eigenvectors of averages of G G', G' G",
    note="The paper's code takes no step at the first gradient; here the first step uses the eigenvectors of the first gradient.",
)
@final
class SOAP(StackedStep):
    """SOAP: Adam in the eigenbasis of Shampoo's covariances of rows and columns, which is updated periodically.

    Shampoo's preconditioner is as old as its last roots; SOAP's divisors follow the gradient at every step, so its eigenvectors
    may be older. Blocks, their stacks and tensors of higher order are handled as in :class:`~descend.optim.Shampoo`; tensors
    of one dimension take Adam's step.

    The state, in numbers for each parameter of a matrix, is 4 for covariances and eigenvectors of square blocks
    (2 (a² + b²)/(a b) for blocks a × b), and Adam's two. It is in float32 also for parameters of half precision. Its keys are
    ``step``, an integer; ``average`` and ``square``, Adam's, in rotated coordinates; and ``covariance`` and ``basis``,
    matrices of each block, with a suffix ".r" for a region of the parameter in which all blocks have equal shape, and ".r.i"
    for its dimension i.

    A step costs six products of blocks with square matrices, and every ``precondition_frequency`` steps a product and a QR
    factorization of each covariance.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.001; the paper's 0.003 is faster with many rows.
        betas: β₁ and β₂, decay of the averages of G' and G'². Default (0.95, 0.95), as in the paper.
        shampoo_beta: decay of the covariances. Default 0.95.
        block_size: maximum number of rows and columns of a block. Default 128.
        precondition_frequency: number of steps between two updates of the eigenvectors. Default 10, as in the paper.
        eps: ε, outside the root. Default 1e-8.
        one_sided: rotate only the smallest dimension of a tensor. Default False.
        max_preconditioner_dim: dimensions that are larger are not rotated; 1 is Adam. Default 8192.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse or complex.

    >>> w = torch.zeros(2, 2, requires_grad=True)
    >>> optimizer = SOAP([w], lr=1.0)
    >>> (w * torch.tensor([[3.0, 4.0], [6.0, 8.0]])).sum().backward(); optimizer.step()
    >>> w.detach().round(decimals=1)  # one singular value: a step of length t along its vectors
    tensor([[-0.3000, -0.4000],
            [-0.5000, -0.7000]])
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1e-3,
        betas: tuple[Fraction, Fraction] = (0.95, 0.95),
        *,
        shampoo_beta: Fraction = 0.95,
        block_size: Count = 128,
        precondition_frequency: Count = 10,
        eps: NonNegative = 1e-8,
        one_sided: bool = False,
        max_preconditioner_dim: Count = 8192,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, stack: ParameterStack) -> None:
        """Move the parameters of a stack by :func:`soap_update`."""
        soap_update(stack)


soap = SOAP
