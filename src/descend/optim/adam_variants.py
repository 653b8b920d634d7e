"""PyTorch's variants of Adam: NAdam, RAdam and Adafactor, with settings that are checked and documented.

With g the gradient at x, t the learning rate, and Adam's averages m ← β₁ m + (1 − β₁) g and s ← β₂ s + (1 − β₂) g²:

========= ========================================================================================
name      step
========= ========================================================================================
nadam     x ← x − t [μ_(k+1) m / (1 − μ₁⋯μ_(k+1)) + (1 − μ_k) g / (1 − μ₁⋯μ_k)] / (√(s / (1 − β₂ᵏ)) + ε),
          μ_k = β₁ (1 − ½ · 0.96^(k ψ))
radam     x ← x − t r_k (m / (1 − β₁ᵏ)) √(1 − β₂ᵏ) / (√s + ε) with the rectification r_k, or while the variance of
          1/√s is not finite, x ← x − t m / (1 − β₁ᵏ)
adafactor x ← x − max(ε₂, RMS(x)) · min(t, 1/√k) · u / max(1, RMS(u)/d),  u = g / √(R Cᵀ / mean R), where R and C are
          averages of the means of g² over columns and over rows; for vectors u = g / √s
========= ========================================================================================

Each function takes the arguments of the class of PyTorch in the same order and with the same defaults, and returns an
object of this class.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Le
from torch.optim import Adafactor, NAdam, Optimizer, RAdam

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import Params
from descend.optim.first_order import build
from descend.param_types import AtLeastOne, Fraction, NonNegative, Positive

__all__ = ["adafactor", "nadam", "radam"]


@method(
    row="K2",
    reference="Dozat 2016; torch.optim.NAdam",
    formula="x <- x - t [mu_{k+1} m / (1 - mu_1...mu_{k+1}) + (1 - mu_k) g / (1 - mu_1...mu_k)] / (sqrt(s/(1-b2^k)) + eps), "
    "mu_k = b1 (1 - 0.96^(k psi) / 2)",
    note="The momentum grows from about b1/2 to b1, so that the first steps follow the gradient more than Adam's do.",
)
def nadam(
    params: Params,
    lr: Positive = 2e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum_decay: NonNegative = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
) -> NAdam:
    """NAdam: Adam with Nesterov's momentum, in which the current gradient has a larger share.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.002.
        betas: β₁ and β₂, the shares of the averages of g and g² that are kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        weight_decay: λ; λ x is added to the gradient. Default 0.
        momentum_decay: ψ, how fast the momentum grows. Default 0.004.
        decoupled_weight_decay: decay as ``adamw`` does. Default False.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        maximize: maximize the loss. Default False.
        capturable: allow capture in a CUDA graph. Default False.
        differentiable: let autograd record the step. Default False.

    Raises:
        UserError: a setting is outside its domain.

    >>> import torch
    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = nadam([w], lr=0.25, betas=(0.0, 0.999))  # without momentum it is Adam
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)
    0.75
    """
    optimizer = build(NAdam, nadam, locals())
    optimizer.register_load_state_dict_post_hook(_restore_precision)
    return optimizer


@method(
    row="K2",
    reference="Liu, Jiang, He, Chen, Liu, Gao and Han 2020; torch.optim.RAdam",
    formula="x <- x - t r_k m/(1-b1^k) sqrt(1-b2^k) / (sqrt(s) + eps), r_k^2 = (p-4)(p-2) q / ((q-4)(q-2) p), "
    "p = q - 2 k b2^k/(1-b2^k), q = 2/(1-b2) - 1; while p <= 5: x <- x - t m/(1-b1^k)",
    note="With b2 = 0.999 the first five steps are those of momentum, whose length is that of the gradient. It replaces a "
    "warm-up; eps is added to sqrt(s) before the bias correction, unlike in Adam.",
)
def radam(
    params: Params,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    decoupled_weight_decay: bool = False,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
    capturable: bool = False,
    differentiable: bool = False,
) -> RAdam:
    """RAdam: Adam with steps that are shortened while the average of squared gradients is uncertain.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.001.
        betas: β₁ and β₂, the shares of the averages of g and g² that are kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        weight_decay: λ; λ x is added to the gradient. Default 0.
        decoupled_weight_decay: decay as ``adamw`` does. Default False.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        maximize: maximize the loss. Default False.
        capturable: allow capture in a CUDA graph. Default False.
        differentiable: let autograd record the step. Default False.

    Raises:
        UserError: a setting is outside its domain.

    >>> import torch
    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = radam([w], lr=0.25)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)  # the first step is along the gradient
    0.25
    """
    return build(RAdam, radam, locals())


@method(
    row="K2",
    reference="Shazeer and Stern 2018; torch.optim.Adafactor",
    formula="R, C: averages of the row and column means of G^2; U = G / sqrt(R C' / mean R); "
    "W <- W - max(eps2, RMS(W)) min(t, 1/sqrt(k)) U / max(1, RMS(U)/d)",
    note="The learning rate is relative to the size of the weights, and at most 1/sqrt(k) at step k. eps1 bounds the "
    "root, where the paper adds it to G^2. There is no momentum. Weight decay is decoupled. Where squares of gradients "
    "overflow, weights become NaN.",
)
def adafactor(
    params: Params,
    lr: Positive = 1e-2,
    beta2_decay: Annotated[float, Le(0)] = -0.8,
    eps: tuple[NonNegative | None, NonNegative] = (None, 1e-3),
    d: AtLeastOne = 1.0,
    weight_decay: NonNegative = 0.0,
    *,
    foreach: bool | None = None,
    maximize: bool = False,
) -> Adafactor:
    """Adafactor: Adam without momentum that stores, for a matrix, averages of rows and columns instead of all squares.

    The state of a matrix (m, n) is m + n numbers. Tensors of higher order are stacks of matrices of their last two dimensions.

    Args:
        params: parameters or groups.
        lr: t, the largest learning rate, relative to the root mean square of a tensor's weights. Default 0.01.
        beta2_decay: exponent c; the averages keep a share 1 − kᶜ at step k. Default −0.8.
        eps: ε₁, the smallest root of an average; None is the precision of the dtype; and ε₂, the smallest root mean square of
            a tensor by which the learning rate is multiplied. Default (None, 0.001).
        d: largest root mean square of an update u before the learning rate. Default 1.
        weight_decay: λ; x is multiplied by 1 − t λ. Default 0.
        foreach: use operations on lists of tensors; None lets PyTorch choose. Default None.
        maximize: maximize the loss. Default False.

    Raises:
        UserError: a setting is outside its domain; a parameter is complex.

    >>> import torch
    >>> w = torch.full((1,), 2.0, requires_grad=True)
    >>> optimizer = adafactor([w], lr=0.25)
    >>> (w * 3).sum().backward(); optimizer.step(); round(w.item(), 6)  # a quarter of its size
    1.5
    """
    optimizer = build(Adafactor, adafactor, locals())
    if any(p.is_complex() for group in optimizer.param_groups for p in group["params"]):
        raise UserError("adafactor: expected real parameters, got complex ones; use adam or sgd")
    return optimizer


def _restore_precision(optimizer: Optimizer) -> None:
    """Convert the product of momenta back to the dtype of the step; PyTorch loads it with that of the parameter."""
    for state in optimizer.state.values():
        if "mu_product" in state:
            state["mu_product"] = state["mu_product"].to(state["step"].dtype)
