"""Shampoo: full-matrix Adagrad with a Kronecker-factored matrix, the covariances of the rows and of the columns.

For the gradient G (m, n) of a weight matrix, running averages of both covariances are kept,

    L ← β₂ L + (1 − β₂) G Gᵀ,      R ← β₂ R + (1 − β₂) Gᵀ G,

and the preconditioned gradient is P = L^(-1/4) G R^(-1/4). A tensor of order k has a covariance along each dimension, and the
exponent is −1/(2k): for vectors −1/2, which is full-matrix Adagrad. With a single gradient and no regularization, P is U Vᵀ,
the orthogonal factor of G = U S Vᵀ.

P determines the direction; the length of each tensor's step is that of a simpler method ("grafting"). Momentum is applied
last, to the preconditioned and grafted gradient, in Nesterov's form, as in Anil et al. 2020.

The term that regularizes the roots is relative to the largest eigenvalue along a dimension of the whole tensor, not of each
block. Blocks approximate one matrix; a block with hardly any gradient, such as that of pixels that are rarely non-zero, would
otherwise be scaled up to the size of the others and dominate the length of the tensor's step.

The functions below are the method; they work on all blocks of equal shape at once (:mod:`descend.optim.stacked`).
"""

from __future__ import annotations

import functools
from typing import Literal, final

import torch
from torch import Tensor

from descend.cards import method
from descend.linalg import inverse_roots
from descend.optim.base import Params
from descend.optim.blocks import Blocks
from descend.optim.stacked import ParameterStack, StackedStep
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["Shampoo", "shampoo"]

Grafting = Literal["rmsprop", "adam", "adagrad", "sgd", "none"]


def shampoo_update(stack: ParameterStack) -> None:
    """Take a step: covariances, their roots, P with the length of the simple step, and momentum."""
    group, blocks = stack.group, stack.blocks
    beta1, grafting = group["betas"][0], group["grafting"]
    gradient = stack.gradient()
    simple = simple_step(stack, gradient)
    update = simple
    if blocks.stacks:
        update_covariances(stack, gradient)
        update_roots(stack)
        if stack.number("rooted"):
            update = stack.mapped(gradient, stack.matrices("root"), "update")  # P
            update[blocks.split :].copy_(simple[blocks.split :])
            if grafting != "none":
                graft_(blocks, update, blocks.norms(simple))
        elif grafting == "none" and update is not gradient:
            update[: blocks.split].copy_(gradient[: blocks.split])
    lr = float(group["lr"])
    if beta1 == 0:
        stack.move(update, -lr)
        return
    momentum, steps = stack.vector("momentum").lerp_(update, 1 - beta1), stack.step  # M ← β₁ M + (1 − β₁) P
    if group["nesterov"]:  # β₁ M + (1 − β₁) P once more
        momentum, steps = torch.lerp(momentum, update, 1 - beta1, out=stack.buffer("update")), steps + 1
    if grafting != "adam":
        stack.move(momentum, -lr / (1 - beta1**steps))
        return
    # Adam's step has its own momentum: it determines the length of this one, and is the step of tensors without matrices.
    update = momentum if group["nesterov"] else stack.buffer("update").copy_(momentum)
    update[blocks.split :].copy_(simple[blocks.split :])
    if blocks.stacks:
        graft_(blocks, update, blocks.norms(simple))
    stack.move(update, -lr)


def update_covariances(stack: ParameterStack, gradient: Tensor) -> None:
    """L ← β₂ L + (1 − β₂) G Gᵀ and R likewise, or sums; every ``statistics_frequency`` steps."""
    group, beta2 = stack.group, stack.group["betas"][1]
    covariances = stack.matrices("covariance")
    if (stack.step - 1) % group["statistics_frequency"] == 0:
        keep, add = (1.0, 1.0) if group["statistics"] == "sum" else (beta2, 1 - beta2)
        stack.accumulate(gradient, covariances, keep=keep, add=add)


def update_roots(stack: ParameterStack) -> None:
    """(C + matrix_eps · u I)^(−1/(2k)) of the covariances C, u the largest eigenvalue, every ``precondition_frequency`` steps."""
    group, step = stack.group, stack.step
    if step < group["start_preconditioning_step"] or (
        step % group["precondition_frequency"] and stack.number("rooted")
    ):
        return
    covariances = stack.matrices("covariance")
    # The averages start at zero; this is the sum of their weights so far.
    updates = (step - 1) // group["statistics_frequency"] + 1
    weight = 1.0 if group["statistics"] == "sum" else 1 - group["betas"][1] ** updates
    roots = [root for sides in stack.matrices("root") for root in sides]
    powers = [2 * len(sides) for sides in covariances for _ in sides]
    results = inverse_roots(
        [covariance for sides in covariances for covariance in sides],
        powers,
        group["matrix_eps"],
        units=functools.partial(largest_of_tensor, stack.blocks, weight / group["matrix_eps"]),
    )
    for result, power, root in zip(results, powers, roots, strict=True):
        # Since the regularization is relative, the weight can be divided out afterwards.
        torch.mul(result, weight ** (1 / power), out=root)
    stack.set_numbers(rooted=step)


def largest_of_tensor(blocks: Blocks, default: float, largest: list[Tensor]) -> list[Tensor]:
    """Largest eigenvalue along each dimension of a tensor, for all of its blocks.

    ``default``, for which the root is I, replaces zeros: a tensor whose gradients have all been zero.
    """
    sides = [(number, side) for number, stack in enumerate(blocks.stacks) for side in stack.sides]
    units = dict(zip(sides, largest, strict=True))
    for dim in {side for _, side in sides}:
        known = [
            units.get((number, dim), largest[0].new_zeros(stack.count))
            for number, stack in enumerate(blocks.stacks)
        ]
        for number, unit in enumerate(blocks.largest(known)):
            if (number, dim) in units:
                units[number, dim] = torch.where(unit == 0, default, unit)
    return [units[side] for side in sides]


def simple_step(stack: ParameterStack, gradient: Tensor) -> Tensor:
    """Step of the method that determines the length, without the learning rate: G, or (the average of) G / (√s + ε)."""
    group, grafting = stack.group, stack.group["grafting"]
    beta1, beta2 = group["betas"]
    if grafting == "sgd" or (grafting == "none" and stack.blocks.split == stack.blocks.size):
        return gradient
    square, step = stack.vector("square"), stack.buffer("simple")
    if grafting == "adagrad" or (grafting == "none" and group["statistics"] == "sum"):
        square.addcmul_(gradient, gradient)
        weight = 1.0
    else:
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        weight = 1 - beta2**stack.step
    torch.sqrt(square, out=step).mul_(weight**-0.5).add_(group["eps"])
    if grafting != "adam":
        return torch.div(gradient, step, out=step)
    average = stack.vector("average").lerp_(gradient, 1 - beta1)
    return torch.div(average, step, out=step).mul_(1 / (1 - beta1**stack.step))


def graft_(blocks: Blocks, update: Tensor, lengths: Tensor) -> None:
    """Scale the part of each tensor that has matrices to the given norm, in place; zeros remain zeros."""
    norms = blocks.norms(update)
    blocks.scale(update, torch.where(norms > 0, lengths / norms, 0.0))


@method(
    row="D11",
    reference="Gupta, Koren and Singer 2018; Anil, Gupta, Koren, Regan and Singer 2020",
    formula="L <- b2 L + (1-b2) G G'; R <- b2 R + (1-b2) G' G; P = L^(-1/4) G R^(-1/4), with the length of RMSProp's "
    "step; M <- b1 M + (1-b1) P; W <- W - t (b1 M + (1-b1) P) / (1-b1^(k+1))",
    note="For tensors of order k the exponent is -1/(2k). The first roots are computed from the first gradient; steps before "
    "start_preconditioning_step, if that is later, are those of the grafting method.",
)
@final
class Shampoo(StackedStep):
    """Shampoo: preconditions the gradient of a matrix by roots of the covariances of its rows and of its columns.

    Large matrices are partitioned into blocks, each with its own covariances; blocks of equal shape are processed in batch
    (:mod:`descend.optim.blocks`). Tensors of higher order have a covariance along each dimension, after small dimensions
    have been merged: a convolution's weight (o, i, h, w) is a matrix (o, i h w) if i h w is at most ``block_size``.

    The state, in numbers for each parameter of a matrix, is 4 for covariances and roots of square blocks (2 (a² + b²)/(a b) for
    blocks a × b), one for the momentum, one for the squares of "rmsprop" and "adagrad", and two for "adam". It is in float32
    also for parameters of half precision. Its keys are ``step`` and ``rooted``, the step of the last roots, integers;
    ``momentum``, ``square`` and ``average``; and ``covariance`` and ``root``, matrices of each block, with a suffix ".r" for a
    region of the parameter in which all blocks have equal shape, and ".r.i" for its dimension i.

    A step costs four products of blocks with square matrices, and every ``precondition_frequency`` steps an eigendecomposition of
    each covariance. Use it if gradients are expensive compared to that: large batches, few and wide layers.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Values for RMSProp or Adam are suitable, since steps have their length. Default 0.001.
        betas: β₁, decay of the momentum, and β₂, decay of covariances and squares. Default (0.9, 0.99).
        block_size: maximum number of rows and columns of a block. Default 128.
        precondition_frequency: number of steps between two computations of the roots. Default 10.
        start_preconditioning_step: step of the first roots; earlier steps are those of the grafting method, or along the
            gradient for "none". Default 1.
        statistics_frequency: number of steps between two updates of the covariances. Default 1.
        statistics: covariances are an exponential "average", or a "sum" as in Adagrad. Default "average".
        grafting: method whose step determines the length for each tensor: "rmsprop", "adagrad" or "sgd", of the current step
            before momentum; "adam", of Adam's step after momentum; "none" uses P as it is. Biases and other vectors take the step
            of that method itself, and with "none" a step of diagonal Adagrad (of RMSProp for averages). Default "rmsprop".
        nesterov: move along β₁ M + (1 − β₁) P, the momentum after one more update with the same P, instead of M. Default True.
        matrix_eps: added to the covariances, relative to the largest eigenvalue along the same dimension of any block of the
            tensor. Default 1e-6.
        eps: ε of the grafting method, outside its root. Default 1e-8.
        vectors: "matrix" also keeps a covariance for vectors: full-matrix Adagrad. Default "graft".
        one_sided: only the smallest dimension of a tensor has a covariance; the exponent is −1/2. Default False.
        max_preconditioner_dim: dimensions that are larger have no covariance. Default 8192.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse or complex.

    >>> w = torch.zeros(2, 2, requires_grad=True)
    >>> optimizer = Shampoo([w], lr=1.0, grafting="none", matrix_eps=1e-12)
    >>> (w * torch.tensor([[0.0, 5.0], [-3.0, 0.0]])).sum().backward(); optimizer.step()
    >>> w.detach().round(decimals=3) + 0.0  # one gradient: U Vᵀ, whatever its size
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1e-3,
        betas: tuple[Fraction, Fraction] = (0.9, 0.99),
        *,
        block_size: Count = 128,
        precondition_frequency: Count = 10,
        start_preconditioning_step: Count = 1,
        statistics_frequency: Count = 1,
        statistics: Literal["average", "sum"] = "average",
        grafting: Grafting = "rmsprop",
        nesterov: bool = True,
        matrix_eps: Positive = 1e-6,
        eps: NonNegative = 1e-8,
        vectors: Literal["graft", "matrix"] = "graft",
        one_sided: bool = False,
        max_preconditioner_dim: Count = 8192,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, stack: ParameterStack) -> None:
        """Move the parameters of a stack by :func:`shampoo_update`."""
        shampoo_update(stack)


shampoo = Shampoo
