"""PyTorch's first-order optimizers, with settings that are checked and documented.

With g the gradient at x and t the learning rate (all operations element by element):

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

Each function takes the arguments of the class of PyTorch in the same order and with the same defaults, and returns an
object of this class. A weight decay λ adds λ x to the gradient, except in ``adamw``, where it is decoupled. A recipe sets
the weight decay in [regularize], and leaves the options of the implementation to PyTorch, except for ``fused``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, Optimizer, RMSprop, SparseAdam

from descend.cards import method
from descend.optim.base import Params, catalogue_name, checked_settings, list_params, raising_user_errors
from descend.param_types import Fraction, NonNegative, Positive

__all__ = ["adagrad", "adam", "adamax", "adamw", "build", "can_fuse", "rmsprop", "sgd", "sparse_adam"]

T = TypeVar("T", bound=Optimizer)


@method(
    row="D3",
    reference="Robbins and Monro 1951; Polyak 1964; Sutskever et al. 2013; torch.optim.SGD",
    formula="v <- mu v + (1 - tau) g; x <- x - t v, or x <- x - t (g + mu v) with nesterov",
    note="PyTorch keeps the learning rate outside of the buffer: it equals the heavy ball, x - t g + mu (x - x_old), only "
    "while the learning rate is constant; heavy_ball keeps it inside. The first step has v = g whatever the dampening. "
    "For batches, index sets run over {0, ..., m - 1}; [data] sampling specifies how they are sampled.",
)
def sgd(
    params: Params,
    lr: Positive = 1e-3,
    momentum: Fraction = 0.0,
    dampening: Fraction = 0.0,
    weight_decay: NonNegative = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
    foreach: bool | None = None,
    differentiable: bool = False,
    fused: bool | None = None,
) -> SGD:
    """Stochastic gradient descent, with momentum.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.001; the default of a recipe is 0.05, and finer for regression on few rows
            (docs/defaults.md).
        momentum: μ, the share of the previous direction that is kept. Default 0.
        dampening: τ, the share of the new gradient that is left out. Default 0.
        weight_decay: λ; λ x is added to the gradient. Default 0.
        nesterov: apply the gradient step after the momentum step, which is Nesterov's method seen from the look-ahead
            point. Default False.
        maximize: maximize the loss. Default False.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        differentiable: let autograd record the step. Default False.
        fused: use one kernel for all parameters. Default None: in a recipe wherever
            it is possible, otherwise PyTorch's choice.

    Raises:
        UserError: a setting is outside its domain; ``nesterov`` without momentum or with dampening.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = sgd([w], lr=0.5)
    >>> (w * 3).sum().backward(); optimizer.step(); w.item()
    -0.5
    """
    return build(SGD, sgd, locals())


@method(
    row="D6",
    reference="Duchi, Hazan and Singer 2011; torch.optim.Adagrad",
    formula="s <- s + g^2; x <- x - t g / (sqrt(s) + eps)",
    note="PyTorch adds eps outside the root; some texts put eps under the root.",
)
def adagrad(
    params: Params,
    lr: Positive = 1e-2,
    lr_decay: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    initial_accumulator_value: NonNegative = 0.0,
    eps: NonNegative = 1e-10,
    foreach: bool | None = None,
    *,
    maximize: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
) -> Adagrad:
    """Adagrad: divides each coordinate by the root of the sum of its squared gradients.

    The steps of a coordinate with frequent gradients shrink fast.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.01.
        lr_decay: the learning rate of step k is t / (1 + (k − 1) · lr_decay). Default 0.
        weight_decay: λ; λ x is added to the gradient. Default 0.
        initial_accumulator_value: the first value of s. Default 0.
        eps: ε, against division by zero. Default 1e-10.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        maximize: maximize the loss. Default False.
        differentiable: let autograd record the step. Default False.
        fused: use one kernel for all parameters. Default None: in a recipe wherever
            it is possible, otherwise PyTorch's choice.

    Raises:
        UserError: a setting is outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adagrad([w], lr=0.5)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.5
    """
    return build(Adagrad, adagrad, locals())


@method(
    row="D6",
    reference="Tieleman and Hinton 2012; torch.optim.RMSprop",
    formula="s <- a s + (1 - a) g^2; x <- x - t g / (sqrt(s) + eps)",
    note="PyTorch adds eps outside the root; some texts put eps under the root. There is no bias "
    "correction, so the first step is 1/sqrt(1 - a) times as long as Adam's.",
)
def rmsprop(
    params: Params,
    lr: Positive = 1e-2,
    alpha: Fraction = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum: Fraction = 0.0,
    centered: bool = False,
    capturable: bool = False,
    foreach: bool | None = None,
    maximize: bool = False,
    differentiable: bool = False,
) -> RMSprop:
    """RMSprop: Adagrad with an exponential moving average instead of the sum of squares.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.01.
        alpha: α, the share of the average that is kept; β in some texts. Default 0.99.
        eps: ε, against division by zero. Default 1e-8.
        weight_decay: λ; λ x is added to the gradient. Default 0.
        momentum: the share of the previous step that is kept. Default 0.
        centered: subtract the squared average gradient from s, which estimates the variance. Default False.
        capturable: allow capture in a CUDA graph. Default False.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        maximize: maximize the loss. Default False.
        differentiable: let autograd record the step. Default False.

    Raises:
        UserError: a setting is outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = rmsprop([w], lr=0.05, alpha=0.99)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 4)
    0.5
    """
    return build(RMSprop, rmsprop, locals())


@method(
    row="D6",
    reference="Kingma and Ba 2015; Reddi, Kale and Kumar 2018 (amsgrad); torch.optim.Adam",
    formula="m <- b1 m + (1-b1) g; s <- b2 s + (1-b2) g^2; x <- x - t m/(1-b1^k) / (sqrt(s/(1-b2^k)) + eps)",
    note="Some texts print it without bias correction and with eps under the root; PyTorch corrects the bias and adds "
    "eps outside. The first step is -t g/(|g| + eps).",
)
def adam(
    params: Params,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    amsgrad: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
    decoupled_weight_decay: bool = False,
) -> Adam:
    """Adam: RMSprop with momentum, both averages corrected for their start at zero.

    Args:
        params: parameters or groups.
        lr: t, the learning rate: about the largest change of a coordinate in one step. Default 0.001.
        betas: β₁ and β₂, the shares of the averages of g and g² that are kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        weight_decay: λ; λ x is added to the gradient. Default 0.
        amsgrad: divide by the largest s so far. Default False.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        maximize: maximize the loss. Default False.
        capturable: allow capture in a CUDA graph. Default False.
        differentiable: let autograd record the step. Default False.
        fused: use one kernel for all parameters. Default None: in a recipe wherever
            it is possible, otherwise PyTorch's choice.
        decoupled_weight_decay: decay as ``adamw`` does. Default False.

    Raises:
        UserError: a setting is outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adam([w], lr=0.25)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.75
    """
    return build(Adam, adam, locals())


@method(
    row="D6",
    reference="Loshchilov and Hutter 2019; torch.optim.AdamW",
    formula="x <- (1 - t w) x, then Adam's step",
    note="Without weight decay it is Adam: PyTorch corrects the bias and adds eps outside the root; some texts put eps "
    "under the root and print no bias correction. PyTorch's default of weight_decay is 0.01; in a recipe it is set by "
    "[regularize] weight_decay. It is decoupled: a penalty w ||W||^2 would add 2 w W to the gradient, and PyTorch's "
    "weight_decay of SGD adds w W.",
)
def adamw(
    params: Params,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    foreach: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
    fused: bool | None = None,
) -> AdamW:
    """AdamW: Adam with weight decay that is decoupled from the gradient, and not divided by √s.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.001.
        betas: β₁ and β₂, the shares of the averages of g and g² that are kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        weight_decay: w; x is multiplied by 1 − t w. Default 0.01.
        amsgrad: divide by the largest s so far. Default False.
        maximize: maximize the loss. Default False.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        capturable: allow capture in a CUDA graph. Default False.
        differentiable: let autograd record the step. Default False.
        fused: use one kernel for all parameters. Default None: in a recipe wherever
            it is possible, otherwise PyTorch's choice.

    Raises:
        UserError: a setting is outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adamw([w], lr=0.25, weight_decay=0.4)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.65
    """
    return build(AdamW, adamw, locals())


@method(
    row="D6",
    reference="torch.optim.SparseAdam",
    formula="Adam on the entries that have a gradient; the averages of the others do not decay",
    note="It needs sparse gradients, such as those of torch.nn.Embedding(sparse=True). PyTorch adds eps to the root "
    "before the bias correction, so the first step is -t g/(|g| + eps/sqrt(1 - b2)).",
)
def sparse_adam(
    params: Params,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    maximize: bool = False,
) -> SparseAdam:
    """Adam for sparse gradients: rows without a gradient, and their averages, do not change.

    Args:
        params: parameters or groups whose gradients are sparse.
        lr: t, the learning rate. Default 0.001.
        betas: β₁ and β₂, the shares of the averages of g and g² that are kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        maximize: maximize the loss. Default False.

    Raises:
        UserError: a setting is outside its domain.

    >>> table = torch.nn.Embedding(3, 1, sparse=True)
    >>> before = table.weight.detach().clone()
    >>> optimizer = sparse_adam(table.parameters(), lr=0.25)
    >>> table(torch.tensor([1])).sum().backward(); optimizer.step()
    >>> (table.weight == before).flatten().tolist()
    [True, False, True]
    """
    return build(SparseAdam, sparse_adam, locals())


@method(
    row="D6",
    reference="Kingma and Ba 2015, section 7.1; torch.optim.Adamax",
    formula="m <- b1 m + (1-b1) g; u <- max(b2 u, |g| + eps); x <- x - t/(1-b1^k) m/u",
)
def adamax(
    params: Params,
    lr: Positive = 2e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    foreach: bool | None = None,
    *,
    maximize: bool = False,
    differentiable: bool = False,
    capturable: bool = False,
) -> Adamax:
    """Adamax: Adam with the largest recent gradient instead of the root mean square.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.002.
        betas: β₁ and β₂, the shares of m and u that are kept. Default (0.9, 0.999).
        eps: ε, against division by zero. Default 1e-8.
        weight_decay: λ; λ x is added to the gradient. Default 0.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        maximize: maximize the loss. Default False.
        differentiable: let autograd record the step. Default False.
        capturable: allow capture in a CUDA graph. Default False.

    Raises:
        UserError: a setting is outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = adamax([w], lr=0.25)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.75
    """
    return build(Adamax, adamax, locals())


def build(constructor: Callable[..., T], function: Callable[..., T], arguments: Mapping[str, Any]) -> T:
    """Check the arguments of a function and of groups against its annotations, and pass them on to PyTorch's class unchanged."""
    settings = {name: value for name, value in arguments.items() if name != "params"}
    checked_settings(function, settings)
    with raising_user_errors(catalogue_name(function)):
        params = list_params(arguments["params"])
        for group in params if isinstance(params, list) else ():
            if isinstance(group, dict):
                checked_settings(function, {name: value for name, value in group.items() if name in settings})
        return constructor(params, **settings)


_FUSED_DEVICES: Mapping[Callable[..., Optimizer], frozenset[str]] = {
    sgd: frozenset({"cpu", "cuda"}),
    adagrad: frozenset({"cpu"}),
    adam: frozenset({"cpu", "cuda"}),
    adamw: frozenset({"cpu", "cuda"}),
}
_FUSED_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16})


def can_fuse(constructor: Callable[..., Any], params: Params) -> bool:
    """Return whether an optimizer has a fused kernel for all of these parameters.

    >>> can_fuse(adam, [torch.ones(2)]), can_fuse(adam, [torch.ones(2).half()]), can_fuse(rmsprop, [torch.ones(2)])
    (True, False, False)
    """
    devices = _FUSED_DEVICES.get(constructor, frozenset())
    return all(
        isinstance(p, Tensor) and p.device.type in devices and p.dtype in _FUSED_DTYPES
        for p in _tensors(params)
    )


def _tensors(params: Any) -> Iterator[Any]:
    for entry in params:
        if isinstance(entry, dict):
            yield from _tensors(entry["params"])
        else:
            yield entry[1] if isinstance(entry, tuple) else entry  # a pair from named_parameters()
