"""First-order optimizers: PyTorch's, fused where PyTorch has it for the parameters at hand.

With g the gradient at x and t the rate (all operations element by element):

============ =====================================================================================
name         step
============ =====================================================================================
sgd          v ← μ v + (1 − τ) g;  x ← x − t v,  or x − t (g + μ v) with Nesterov
adagrad      s ← s + g²;  x ← x − t g / (√s + ε)
rmsprop      s ← α s + (1 − α) g²;  x ← x − t g / (√s + ε)
adam, adamw  m ← β₁ m + (1 − β₁) g;  s ← β₂ s + (1 − β₂) g²;
             x ← x − t (m / (1 − β₁ᵏ)) / (√(s / (1 − β₂ᵏ)) + ε)
sparse_adam  adam on the entries that have a gradient
adamax       u ← max(β₂ u, abs(g) + ε);  x ← x − (t / (1 − β₁ᵏ)) m / u
============ =====================================================================================

Every constructor takes an iterable of parameters, or of groups: dicts with ``params`` and settings of their
own. None has a weight decay: that belongs to :mod:`descend.regularization`; a group's own ``weight_decay`` is
respected, and means an added λ x in the gradient for all but ``adamw``, where it is decoupled.
"""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from descend.cards import method
from descend.optim.base import Params
from descend.optim.building import build
from descend.param_types import Fraction, NonNegative, Positive

__all__ = ["adagrad", "adam", "adamax", "adamw", "rmsprop", "sgd", "sparse_adam"]

_CPU_AND_CUDA = frozenset({"cpu", "cuda"})


@method(
    row="D3",
    reference="Robbins and Monro 1951; Polyak 1964; Sutskever et al. 2013; torch.optim.SGD",
    formula="v <- mu v + (1 - tau) g; x <- x - t v, or x <- x - t (g + mu v) with nesterov",
    note="PyTorch keeps the rate outside the buffer: it equals the lecture's heavy ball, "
    "x - t g + mu (x - x_old), only while the rate is constant; heavy_ball is that one. The first step has v = g "
    "whatever the dampening. The lecture's index sets run over {0, ..., m - 1}; [data] sampling says how they are drawn.",
)
def sgd(
    params: Params,
    *,
    lr: Positive = 0.05,
    momentum: Fraction = 0.0,
    nesterov: bool = False,
    dampening: Fraction = 0.0,
    fused: bool | None = None,
) -> Optimizer:
    """Stochastic gradient descent, with momentum.

    Args:
        params: parameters or groups.
        lr: t, the rate. Default 0.05; a recipe's rule for regression on few rows is finer (docs/defaults.md).
        momentum: μ, how much of the last direction is kept. Default 0.
        nesterov: take the gradient's step after the momentum's, which is Nesterov's method seen from the
            look-ahead point. Default False.
        dampening: τ, how much of the new gradient is left out. Default 0.
        fused: one kernel for all parameters; None decides from the parameters. Default None.

    Raises:
        UserError: a setting outside its domain; ``nesterov`` without momentum or with dampening.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = sgd([w], lr=0.5)
    >>> (w * 3).sum().backward(); optimizer.step(); w.item()
    -0.5
    """
    settings = {
        "lr": lr,
        "momentum": momentum,
        "nesterov": nesterov,
        "dampening": dampening,
        "weight_decay": 0.0,
    }
    return build(torch.optim.SGD, params, settings, fused=fused, fused_on=_CPU_AND_CUDA)


@method(
    row="D6",
    reference="Duchi, Hazan and Singer 2011; torch.optim.Adagrad",
    formula="s <- s + g^2; x <- x - t g / (sqrt(s) + eps)",
    note="The lecture prints eps under the root; PyTorch, followed here, adds it outside.",
)
def adagrad(
    params: Params,
    *,
    lr: Positive = 1e-2,
    eps: NonNegative = 1e-10,
    initial: NonNegative = 0.0,
    fused: bool | None = None,
) -> Optimizer:
    """Divides each coordinate by the root of the sum of its squared gradients: frequent ones slow down.

    Args:
        params: parameters or groups.
        lr: t, the rate. Default 0.01.
        eps: ε, against division by zero. Default 1e-10.
        initial: the first value of s. Default 0.
        fused: one kernel for all parameters; None decides from the parameters. Default None.

    Raises:
        UserError: a setting outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adagrad([w], lr=0.5)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.5
    """
    settings = {"lr": lr, "eps": eps, "initial_accumulator_value": initial, "weight_decay": 0.0}
    return build(torch.optim.Adagrad, params, settings, fused=fused, fused_on=frozenset({"cpu"}))


@method(
    row="D6",
    reference="Tieleman and Hinton 2012; torch.optim.RMSprop",
    formula="s <- a s + (1 - a) g^2; x <- x - t g / (sqrt(s) + eps)",
    note="The lecture prints eps under the root; PyTorch, followed here, adds it outside. There is no bias "
    "correction, so the first step is 1/sqrt(1 - a) times as long as Adam's.",
)
def rmsprop(
    params: Params,
    *,
    lr: Positive = 1e-2,
    alpha: Fraction = 0.99,
    eps: NonNegative = 1e-8,
    momentum: Fraction = 0.0,
    centered: bool = False,
) -> Optimizer:
    """Adagrad that forgets: the sum of squares becomes an exponential average.

    Args:
        params: parameters or groups.
        lr: t, the rate. Default 0.01.
        alpha: α, the lecture's β: how much of the average is kept. Default 0.99.
        eps: ε, against division by zero. Default 1e-8.
        momentum: how much of the last step is kept. Default 0.
        centered: subtract the squared average gradient from s, an estimate of the variance. Default False.

    Raises:
        UserError: a setting outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = rmsprop([w], lr=0.05, alpha=0.99)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 4)
    0.5
    """
    settings = {
        "lr": lr,
        "alpha": alpha,
        "eps": eps,
        "momentum": momentum,
        "centered": centered,
        "weight_decay": 0.0,
    }
    return build(torch.optim.RMSprop, params, settings)


@method(
    row="D6",
    reference="Kingma and Ba 2015; Reddi, Kale and Kumar 2018 (amsgrad); torch.optim.Adam",
    formula="m <- b1 m + (1-b1) g; s <- b2 s + (1-b2) g^2; x <- x - t m/(1-b1^k) / (sqrt(s/(1-b2^k)) + eps)",
    note="The lecture prints it without bias correction and with eps under the root; PyTorch, followed here, "
    "corrects the bias and adds eps outside. The first step is -t g/(|g| + eps).",
)
def adam(
    params: Params,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> Optimizer:
    """Momentum over RMSprop, both averages corrected for their start at zero.

    Args:
        params: parameters or groups.
        lr: t, the rate: about the largest change of a coordinate in one step. Default 0.001.
        betas: β₁ and β₂, how much of the averages of g and g² is kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        amsgrad: divide by the largest s so far. Default False.
        fused: one kernel for all parameters; None decides from the parameters. Default None.

    Raises:
        UserError: a setting outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adam([w], lr=0.25)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.75
    """
    settings = {"lr": lr, "betas": tuple(betas), "eps": eps, "amsgrad": amsgrad, "weight_decay": 0.0}
    return build(torch.optim.Adam, params, settings, fused=fused, fused_on=_CPU_AND_CUDA)


@method(
    row="D6",
    reference="Loshchilov and Hutter 2019; torch.optim.AdamW",
    formula="x <- (1 - t w) x, then Adam's step",
    note="Without a weight decay it is Adam, which the lecture prints without bias correction and with eps under the "
    "root; [regularize] weight_decay gives it one, 0 by default where PyTorch's is 0.01. It is decoupled: the lecture's "
    "penalty w ||W||^2 would add 2 w W to the gradient, and PyTorch's weight_decay of SGD adds w W.",
)
def adamw(
    params: Params,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    amsgrad: bool = False,
    fused: bool | None = None,
) -> Optimizer:
    """Adam with weight decay decoupled from the gradient: w is not divided by √s.

    Args:
        params: parameters or groups; a group's ``weight_decay`` is its w, 0 where it has none.
        lr: t, the rate. Default 0.001.
        betas: β₁ and β₂, how much of the averages of g and g² is kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        amsgrad: divide by the largest s so far. Default False.
        fused: one kernel for all parameters; None decides from the parameters. Default None.

    Raises:
        UserError: a setting outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adamw([{"params": [w], "weight_decay": 0.4}], lr=0.25)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.65
    """
    settings = {"lr": lr, "betas": tuple(betas), "eps": eps, "amsgrad": amsgrad, "weight_decay": 0.0}
    return build(torch.optim.AdamW, params, settings, fused=fused, fused_on=_CPU_AND_CUDA)


@method(
    row="D6",
    reference="torch.optim.SparseAdam",
    formula="Adam on the entries that have a gradient; the averages of the others do not decay",
    note="Needs sparse gradients, as of torch.nn.Embedding(sparse=True). PyTorch adds eps to the root "
    "before the bias correction, so the first step is -t g/(|g| + eps/sqrt(1 - b2)).",
)
def sparse_adam(
    params: Params,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
) -> Optimizer:
    """Adam for sparse gradients: rows without a gradient, and their averages, are not touched.

    Args:
        params: parameters or groups whose gradients are sparse.
        lr: t, the rate. Default 0.001.
        betas: β₁ and β₂, how much of the averages of g and g² is kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.

    Raises:
        UserError: a setting outside its domain.

    >>> table = torch.nn.Embedding(3, 1, sparse=True)
    >>> before = table.weight.detach().clone()
    >>> optimizer = sparse_adam(table.parameters(), lr=0.25)
    >>> table(torch.tensor([1])).sum().backward(); optimizer.step()
    >>> (table.weight == before).flatten().tolist()
    [True, False, True]
    """
    return build(torch.optim.SparseAdam, params, {"lr": lr, "betas": tuple(betas), "eps": eps})


@method(
    row="D6",
    reference="Kingma and Ba 2015, section 7.1; torch.optim.Adamax",
    formula="m <- b1 m + (1-b1) g; u <- max(b2 u, |g| + eps); x <- x - t/(1-b1^k) m/u",
)
def adamax(
    params: Params,
    *,
    lr: Positive = 2e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
) -> Optimizer:
    """Adam with the largest recent gradient in place of the root of the mean square.

    Args:
        params: parameters or groups.
        lr: t, the rate. Default 0.002.
        betas: β₁ and β₂, how much of m and of u is kept. Default (0.9, 0.999).
        eps: ε, against division by zero. Default 1e-8.

    Raises:
        UserError: a setting outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adamax([w], lr=0.25)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.75
    """
    return build(
        torch.optim.Adamax, params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": 0.0}
    )
