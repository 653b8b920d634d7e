"""Prodigy: Adam that estimates its learning rate from the distance to the initial weights.

Let D = ‖x₀ − x*‖ be the distance from the initial weights x₀ to a minimum. The subgradient method with steps D/√(Σ‖g‖²) needs
no tuning, but D is unknown. For a convex loss, Σ ⟨g_k, x₀ − x_k⟩ / ‖Σ g_k‖ is a lower bound of D up to a constant factor, and
d is the largest such estimate so far, starting at a small d₀. With β₃ = √β₂ by default and t the learning rate, normally 1, or
that of a schedule, step k = 1, 2, ... of the variant for Adam is

    η = d t;
    r ← β₃ r + (d/d₀) η ⟨g, x₀ − x⟩;    s ← β₃ s + (d/d₀) η g;
    m ← β₁ m + (1 − β₁) d g;            v ← β₂ v + (1 − β₂) d² g²;
    d⁺ = max(d, c r / ‖s‖₁);
    x ← (1 − η λ) x − η m / (√v + d⁺ ε);    d ← d⁺.

r, ‖s‖₁ and d belong to all parameters together. The factor 1/d₀ only avoids very small numbers.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from descend.cards import method
from descend.optim.base import Params
from descend.optim.elementwise import ElementwiseStep, Moving
from descend.param_types import AtLeastOne, Fraction, NonNegative, Positive

__all__ = ["Prodigy", "next_estimate", "prodigy"]


def next_estimate(
    d: Tensor, d_max: Tensor, numerator: Tensor, denominator: Tensor, settings: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Return d⁺ and the largest estimate so far, from r and ‖s‖₁; elementwise, so that it is the step of several optimizers.

    In the first steps d jumps to the estimate; later ``growth_rate`` may limit its growth.
    """
    estimate = settings["d_coef"] * numerator / torch.where(denominator > 0, denominator, 1.0)
    estimate = torch.where(denominator > 0, estimate, d)
    grown = torch.where(d == settings["d0"], torch.maximum(d, estimate), d)
    largest = torch.maximum(d_max, estimate)
    if settings["growth_rate"] is None:
        return largest, largest
    return torch.minimum(largest, grown * settings["growth_rate"]), largest


def bias_correction(settings: dict[str, Any], step: int) -> float:
    """Return √(1 − β₂ᵏ) / (1 − β₁ᵏ), the factor of the learning rate with bias correction, or 1."""
    beta1, beta2 = settings["betas"]
    return math.sqrt(1 - beta2**step) / (1 - beta1**step) if settings["use_bias_correction"] else 1.0


def average_decay(settings: dict[str, Any]) -> float:
    """Return β₃."""
    beta3 = settings["beta3"]
    return math.sqrt(settings["betas"][1]) if beta3 is None else float(beta3)


@method(
    row="K3",
    reference="Mishchenko and Defazio 2023",
    formula="r <- b3 r + d^2/d0 t <g, x0 - x>; s <- b3 s + d^2/d0 t g; d <- max(d, c r/|s|_1); m, v: Adam's averages of "
    "d g, (d g)^2; x <- x - d t m/(sqrt(v) + d eps)",
    note="The learning rate is a factor of the estimated one: leave it at 1. The estimate d belongs to all parameters and never "
    "falls, so a decaying schedule is useful. With a warm-up, set safeguard_warmup, as recipes do.",
)
@final
class Prodigy(ElementwiseStep):
    """Prodigy: Adam whose learning rate is the estimated distance to the solution, and needs no tuning.

    The state is four numbers for each parameter, twice Adam's: ``exp_avg`` and ``exp_avg_sq``, Adam's; ``s``; and ``p0``, the
    initial weights x₀. The state of the first parameter also holds ``d``, ``d_max`` and ``d_numerator``, the scalars of the
    method, and ``k``, the number of steps. :attr:`d` is the current estimate. Parameters of a group with learning rate 0 do
    not move and do not take part in the estimate.

    As in Adam, a gradient that is C times as large as the others, such as one of 10¹⁵, shortens all steps until the average of
    squares has forgotten it, for about 2 ln C/(1 − β₂) steps, and delays the growth of d. Clip gradients where such batches
    can occur.

    Args:
        params: parameters or groups.
        lr: t, the factor of the estimated learning rate. Default 1.
        betas: β₁ and β₂, the shares of the averages of d g and (d g)² that are kept. Default (0.9, 0.999).
        beta3: β₃, the share of the sums r and s that is kept. Default None, √β₂.
        eps: ε, outside the root, relative to d; above 0, since d starts small. Default 1e-8.
        weight_decay: λ; x is multiplied by 1 − d t λ. Default 0.
        use_bias_correction: multiply the step by √(1 − β₂ᵏ)/(1 − β₁ᵏ), as Adam. Default False.
        safeguard_warmup: leave t out of s, so that a warm-up of t does not inflate the estimate. Default False; recipes, whose
            default schedule has a warm-up, set it to True.
        d0: d₀, the first estimate; any small number. Default 1e-6.
        d_coef: c, factor of the estimate. Default 1.
        growth_rate: largest factor by which d grows in a step after its first growth. Default None, no limit.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse.

    >>> w = torch.full((4,), 5.0, requires_grad=True)
    >>> optimizer = Prodigy([w])
    >>> for _ in range(20):
    ...     optimizer.zero_grad(); w.abs().sum().backward(); optimizer.step()
    >>> round(optimizer.d.item())  # each coordinate is 5 away from its minimum
    3
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        betas: tuple[Fraction, Fraction] = (0.9, 0.999),
        beta3: Fraction | None = None,
        eps: Positive = 1e-8,
        weight_decay: NonNegative = 0.0,
        *,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: Positive = 1e-6,
        d_coef: Positive = 1.0,
        growth_rate: AtLeastOne | None = None,
    ) -> None:
        super().__init__(params, locals())

    @property
    def d(self) -> Tensor:
        """The current estimate, d."""
        estimate: Tensor = self._memory()["d"]
        return estimate

    def _memory(self) -> dict[str, Any]:
        first = self.param_groups[0]["params"][0]
        memory: dict[str, Any] = self.state[first]
        if "d" not in memory:
            dtype = torch.promote_types(first.dtype, torch.float32)
            start = torch.full((), self.param_groups[0]["d0"], dtype=dtype, device=first.device)
            memory.update(k=0, d=start, d_max=start.clone(), d_numerator=torch.zeros_like(start))
        return memory

    def advance(self, moving: Moving) -> None:
        """Move these parameters independently of others; :meth:`advance_all` moves all together, as the method requires."""
        self.advance_all([moving])

    def advance_all(self, parts: list[Moving]) -> None:
        """Move all parameters that have gradients by one step of Prodigy."""
        parts = [moving for moving in parts if moving.lr > 0]
        if not parts:
            return
        memory, settings = self._memory(), self.param_groups[0]
        d, beta3 = memory["d"], average_decay(settings)
        correction = bias_correction(settings, memory["k"] + 1)
        inner, total = torch.zeros_like(d), torch.zeros_like(d)
        for moving in parts:
            eta = d * (moving.lr * correction)
            weight = d if settings["safeguard_warmup"] else eta
            inner += self._average(moving, d, beta3, weight) * eta * (d / settings["d0"])
            total += sum_of(torch._foreach_norm(moving.tensors("s"), 1), d)
        moves = total > 0  # all gradients so far were zero otherwise
        numerator = torch.where(moves, beta3 * memory["d_numerator"] + inner, memory["d_numerator"])
        estimate, memory["d_max"] = next_estimate(d, memory["d_max"], numerator, total, settings)
        for moving in parts:
            self._move(moving, d * (moving.lr * correction), estimate, moves)
        memory.update(k=memory["k"] + 1, d=estimate, d_numerator=numerator)

    def _average(self, moving: Moving, d: Tensor, beta3: float, weight: Tensor) -> Tensor:
        """Update m, v and s, and return ⟨g, x₀ − x⟩."""
        beta1, beta2 = moving.group["betas"]
        start = moving.tensors("p0", torch.clone)
        gradients, d = moving.gradients, d.to(moving.params[0])
        products = torch._foreach_sub(start, moving.params)
        torch._foreach_mul_(products, gradients)
        scaled = torch._foreach_mul(gradients, d)
        averages, squares, sums = (moving.tensors(name) for name in ("exp_avg", "exp_avg_sq", "s"))
        torch._foreach_mul_(averages, beta1)
        torch._foreach_add_(averages, scaled, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, scaled, scaled, 1 - beta2)
        torch._foreach_mul_(sums, beta3)
        factor = (weight / moving.group["d0"]).to(d.device)
        torch._foreach_mul_(scaled, factor.to(d.dtype))
        torch._foreach_add_(sums, scaled)
        return sum_of([product.sum() for product in products], weight)

    def _move(self, moving: Moving, eta: Tensor, estimate: Tensor, moves: Tensor) -> None:
        """Set x ← (1 − η λ) x − η m / (√v + d⁺ ε), unless all gradients so far were zero."""
        like = moving.params[0]
        roots = torch._foreach_sqrt(moving.tensors("exp_avg_sq"))
        torch._foreach_add_(roots, (estimate * moving.group["eps"]).to(like))
        steps = torch._foreach_div(moving.tensors("exp_avg"), roots)
        torch._foreach_mul_(steps, eta.to(like))
        if moving.group["weight_decay"]:
            kept = torch.where(moves, 1 - eta * moving.group["weight_decay"], 1.0)
            torch._foreach_mul_(moving.params, kept.to(like))
        torch._foreach_sub_(moving.params, steps)


def sum_of(values: Any, like: Tensor) -> Tensor:
    """Return the sum of 0-dimensional tensors, with the dtype and on the device of another."""
    return torch.stack([value.to(like) for value in values]).sum()


prodigy = Prodigy
