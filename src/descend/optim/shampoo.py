"""Shampoo: full-matrix Adagrad whose matrix is a Kronecker product, of the covariances of rows and of columns.

For the gradient G (m, n) of a matrix of weights, averages of both covariances are kept,

    L ← β₂ L + (1 − β₂) G Gᵀ,      R ← β₂ R + (1 − β₂) Gᵀ G,

and the step goes along P = L^(-1/4) G R^(-1/4). For a tensor of order k there is a covariance along each dimension, and the
exponent is −1/(2k): for vectors −1/2, which is full-matrix Adagrad. With one gradient alone and no ridge P is U Vᵀ, the
orthogonal factor of G = U S Vᵀ.

P has the direction; its length is that of a simpler method's step, for each tensor ("grafting"). Momentum comes last, over
what was preconditioned and grafted, and as Nesterov's, as in Anil et al. 2020.

What the ridge is measured by is the largest eigenvalue along a dimension of the whole tensor, not of each block. Blocks are
an approximation of one matrix, and one that has hardly seen a gradient, of pixels that are seldom lit, would otherwise be
raised to the size of the others, and take most of the length that the tensor has.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.cards import method
from descend.linalg import inverse_roots
from descend.optim.base import Params
from descend.optim.blocks import Blocks
from descend.optim.building import build
from descend.optim.stacked import ParameterStack, StackedStep
from descend.param_types import Count, Fraction, NonNegative, Positive

__all__ = ["Shampoo", "shampoo"]

Graft = Literal["rmsprop", "adam", "adagrad", "sgd", "none"]


@final
class Shampoo(StackedStep):
    """Preconditions each block of each tensor along all its dimensions; see :func:`shampoo`, which has the defaults.

    The state of a parameter is ``step`` and ``rooted``, the step of the last roots, whole numbers; ``momentum``,
    ``square`` and ``average``, as many numbers as it has, and ``covariance`` and ``root``, matrices of each block: ".r"
    names a region of the parameter in which all blocks have one shape, ".r.i" a dimension of it.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        *,
        block_size: int = 128,
        roots_every: int = 10,
        roots_from: int = 1,
        statistics_every: int = 1,
        statistics: Literal["average", "sum"] = "average",
        graft: Graft = "rmsprop",
        nesterov: bool = True,
        ridge: float = 1e-6,
        eps: float = 1e-8,
        vectors: Literal["graft", "matrix"] = "graft",
        one_sided: bool = False,
        max_size: int = 8192,
    ) -> None:
        settings = {
            "lr": lr, "betas": tuple(betas), "block_size": block_size, "roots_every": roots_every, "roots_from": roots_from,
            "statistics_every": statistics_every, "statistics": statistics, "graft": graft,
            "nesterov": nesterov, "ridge": ridge, "eps": eps, "vectors": vectors, "one_sided": one_sided, "max_size": max_size,
        }  # fmt: skip
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, whose settings are checked."""
        found = {**self.defaults, **param_group}
        for name in ("block_size", "roots_every", "roots_from", "statistics_every", "max_size"):
            if not found[name] >= 1:
                raise ValueError(f"{name} must be 1 or more; found {found[name]}")
        for name in ("lr", "eps"):
            if not found[name] >= 0:
                raise ValueError(f"{name} must be 0 or more; found {found[name]}")
        if not found["ridge"] > 0:
            raise ValueError(f"ridge must be above 0; found {found['ridge']}")
        if not all(0 <= beta < 1 for beta in found["betas"]):
            raise ValueError(f"betas must be 0 or more and below 1; found {found['betas']}")
        for name, known in _WORDS.items():
            if found[name] not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; found {found[name]!r}")
        super().add_param_group(param_group)

    def advance(self, fleet: ParameterStack) -> None:
        """Covariances, roots if it is their turn, the preconditioned gradient, its length, momentum, and the step."""
        group, blocks = fleet.group, fleet.blocks
        beta = group["betas"][0]
        gradient = fleet.gradient()
        simple = _simple_step(fleet, gradient)
        found = simple
        if blocks.stacks:
            self._learn(fleet, gradient)
            if fleet.recall("rooted"):
                found = fleet.mapped(gradient, fleet.matrices("root"), "found")
                found[blocks.cut :].copy_(simple[blocks.cut :])
                if group["graft"] != "none":
                    _graft(fleet, found, blocks.norms(simple))
            elif group["graft"] == "none" and found is not gradient:
                found[: blocks.cut].copy_(gradient[: blocks.cut])
        lr = float(group["lr"])
        if beta == 0:
            fleet.move(found, -lr)
            return
        momentum, steps = fleet.vector("momentum").lerp_(found, 1 - beta), fleet.age
        if group["nesterov"]:
            # The momentum as it would be after the same P once more.
            momentum, steps = torch.lerp(momentum, found, 1 - beta, out=fleet.scratch("found")), steps + 1
        if group["graft"] != "adam":
            fleet.move(momentum, -lr / (1 - beta**steps))
            return
        # Adam's step has a momentum of its own: it gives the length of ours, and is the step of what is not cut.
        found = momentum if group["nesterov"] else fleet.scratch("found").copy_(momentum)
        found[blocks.cut :].copy_(simple[blocks.cut :])
        if blocks.stacks:
            _graft(fleet, found, blocks.norms(simple))
        fleet.move(found, -lr)

    def _learn(self, fleet: ParameterStack, gradient: Tensor) -> None:
        """Take the gradient into the covariances, and compute their roots when it is time."""
        group, age = fleet.group, fleet.age
        beta, every = group["betas"][1], group["statistics_every"]
        covariances = fleet.matrices("covariance")
        summed = group["statistics"] == "sum"
        if (age - 1) % every == 0:
            keep, add = (1.0, 1.0) if summed else (beta, 1 - beta)
            fleet.accumulate(gradient, covariances, keep=keep, add=add)
        if age < group["roots_from"] or (age % group["roots_every"] and fleet.recall("rooted")):
            return
        # The averages start at zero; their sum of weights so far is:
        weight = 1.0 if summed else 1 - beta ** ((age - 1) // every + 1)
        roots = [root for sides in fleet.matrices("root") for root in sides]
        powers = [2 * len(sides) for sides in covariances for _ in sides]
        found = inverse_roots(
            [covariance for sides in covariances for covariance in sides],
            powers,
            group["ridge"],
            units=functools.partial(_units, fleet.blocks, weight / group["ridge"]),
        )
        for each, power, root in zip(found, powers, roots, strict=True):
            # As the ridge is relative, the weight may be divided out afterwards.
            torch.mul(each, weight ** (1 / power), out=root)
        fleet.remember(rooted=age)


_WORDS = {
    "graft": ("rmsprop", "adam", "adagrad", "sgd", "none"),
    "statistics": ("average", "sum"),
    "vectors": ("graft", "matrix"),
}


def _units(blocks: Blocks, unknown: float, largest: list[Tensor]) -> list[Tensor]:
    """The largest eigenvalue along each dimension of a tensor, for all of its blocks.

    Where a tensor had no gradient but zeros, nothing is known of it, and ``unknown`` is taken: that for which the root is I.
    """
    sides = [(number, side) for number, stack in enumerate(blocks.stacks) for side in stack.sides]
    found = dict(zip(sides, largest, strict=True))
    for dim in {side for _, side in sides}:
        known = [
            found.get((number, dim), largest[0].new_zeros(stack.count))
            for number, stack in enumerate(blocks.stacks)
        ]
        for number, unit in enumerate(blocks.largest(known)):
            if (number, dim) in found:
                found[number, dim] = torch.where(unit == 0, unknown, unit)
    return [found[place] for place in sides]


def _simple_step(fleet: ParameterStack, gradient: Tensor) -> Tensor:
    """The step of the method that is grafted from, without its rate."""
    group, kind = fleet.group, fleet.group["graft"]
    beta1, beta2 = group["betas"]
    if kind == "sgd" or (kind == "none" and fleet.blocks.cut == fleet.blocks.size):
        return gradient
    square, found = fleet.vector("square"), fleet.scratch("simple")
    if kind == "adagrad" or (kind == "none" and group["statistics"] == "sum"):
        square.addcmul_(gradient, gradient)
        weight = 1.0
    else:
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        weight = 1 - beta2**fleet.age
    torch.sqrt(square, out=found).mul_(weight**-0.5).add_(group["eps"])
    if kind != "adam":
        return torch.div(gradient, found, out=found)
    average = fleet.vector("average").lerp_(gradient, 1 - beta1)
    return torch.div(average, found, out=found).mul_(1 / (1 - beta1**fleet.age))


def _graft(fleet: ParameterStack, found: Tensor, lengths: Tensor) -> None:
    """Give each tensor of ``found`` that is cut this length; a zero stays one."""
    own = fleet.blocks.norms(found)
    fleet.blocks.scale(found, torch.where(own > 0, lengths / own, 0.0))


@method(
    row="D11",
    reference="Gupta, Koren and Singer 2018; Anil, Gupta, Koren, Regan and Singer 2020",
    formula="L <- b2 L + (1-b2) G G'; R <- b2 R + (1-b2) G' G; P = L^(-1/4) G R^(-1/4), with the length of RMSProp's "
    "step; M <- b1 M + (1-b1) P; W <- W - t (b1 M + (1-b1) P) / (1-b1^(k+1))",
    note="For tensors of order k the exponent is -1/(2k). The first roots are those of the first gradient; steps before "
    "roots_from, if that is later, are those of the method which gives the length.",
)
def shampoo(
    params: Params,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.99),
    block_size: Count = 128,
    roots_every: Count = 10,
    roots_from: Count = 1,
    statistics_every: Count = 1,
    statistics: Literal["average", "sum"] = "average",
    graft: Graft = "rmsprop",
    nesterov: bool = True,
    ridge: Positive = 1e-6,
    eps: NonNegative = 1e-8,
    vectors: Literal["graft", "matrix"] = "graft",
    one_sided: bool = False,
    max_size: Count = 8192,
) -> Optimizer:
    """Preconditions the gradient of a matrix by roots of the covariances of its rows and of its columns.

    Large matrices are cut into blocks, each with its own covariances; blocks of one shape are computed together
    (:mod:`descend.optim.blocks`). Tensors of higher order have a covariance along each dimension, after small dimensions
    have been merged: a convolution's weight (o, i, h, w) is a matrix (o, i h w) if i h w is at most ``block_size``.

    State, in numbers for each parameter of a matrix: 4 for covariances and roots of square blocks (2 (a² + b²)/(a b) for
    blocks of a by b), one for the momentum, one for the squares of "rmsprop" and "adagrad", two for "adam". In float32
    also where the parameters are of half precision.

    Cost of a step: four products of blocks with square matrices; every ``roots_every`` steps an eigendecomposition of each
    covariance. Use it where steps are expensive beside that: large batches, few and wide layers.

    Args:
        params: parameters or groups.
        lr: t, the rate; that of RMSProp or Adam will do, as steps have their length. Default 0.001.
        betas: β₁, how much of the momentum is kept, and β₂, of covariances and squares. Default (0.9, 0.99).
        block_size: the most rows and columns of a block. Default 128.
        roots_every: steps from one computation of the roots to the next. Default 10.
        roots_from: the step of the first roots; steps before it are those of the method that gives the length, for
            "none" of the gradient. Default 1.
        statistics_every: steps from one gradient taken into the covariances to the next. Default 1.
        statistics: covariances are an "average" that forgets, or a "sum" as Adagrad's. Default "average".
        graft: the method whose step gives the length for each tensor: "rmsprop", "adagrad" or "sgd" that of this step
            alone, before momentum; "adam" that of Adam's step, after it; "none" leaves P as it is. Biases and other
            vectors take that method's step itself, and for "none" a diagonal Adagrad's (RMSProp's for averages).
            Default "rmsprop".
        nesterov: steps are along the momentum as it would be after the same P once more, β₁ M + (1 − β₁) P, and not along
            M. Default True.
        ridge: added to covariances, in units of the largest eigenvalue along this dimension of any block of the tensor.
            Default 1e-6.
        eps: ε of the simple method, outside its root. Default 1e-8.
        vectors: "matrix" gives vectors a covariance as well: full-matrix Adagrad. Default "graft".
        one_sided: only the smallest dimension of a tensor has a covariance; the exponent is −1/2. Default False.
        max_size: a dimension of more numbers has no covariance. Default 8192.

    Raises:
        UserError: a setting outside its domain; sparse or complex gradients.

    >>> w = torch.zeros(2, 2, requires_grad=True)
    >>> optimizer = shampoo([w], lr=1.0, graft="none", ridge=1e-12)
    >>> (w * torch.tensor([[0.0, 5.0], [-3.0, 0.0]])).sum().backward(); optimizer.step()
    >>> w.detach().round(decimals=3) + 0.0  # one gradient: U Vᵀ, whatever its size
    tensor([[ 0., -1.],
            [ 1.,  0.]])
    """
    settings = {
        "lr": lr, "betas": tuple(betas), "block_size": block_size, "roots_every": roots_every, "roots_from": roots_from,
        "statistics_every": statistics_every, "statistics": statistics, "graft": graft,
        "nesterov": nesterov, "ridge": ridge, "eps": eps, "vectors": vectors, "one_sided": one_sided, "max_size": max_size,
    }  # fmt: skip
    return build(Shampoo, params, settings)
