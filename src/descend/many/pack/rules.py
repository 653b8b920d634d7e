"""Steps of a pack for optimizers that use more than a direction: numbers of each member, other iterates, sums over all weights.

Each rule is the formula of the optimizer of the same name (:mod:`descend.optim`), with settings of each member. Numbers of a
member, such as 1 − β₂ᵏ, are computed in float64, as in a solo run. Products and sums are separate operations, so that the bits of
a member do not depend on its place in the pack. Padding, whose weights and gradients are 0, remains 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import NAdam, Optimizer, RAdam

from descend.many.pack.flat_buffer import per_member
from descend.optim import Lion, Prodigy, ScheduleFreeAdamW

__all__ = ["RULES", "Rule", "Step"]


@dataclass(frozen=True)
class Step:
    """What a rule works on: tensors (K, …) for each stacked tensor, and numbers (K,) of the members.

    Args:
        weights: changed in place.
        gradients: at the weights.
        state: by name, changed in place.
        numbers: the state of each member that is not a tensor of the weights' shape, by name; replaced by the rule.
        settings: by name, in float64.
        counts: the 1-based number of the step, in float64.
        lr: learning rates, in float64.
        decays: λ of each member, in float64.
        decayed: for each stacked tensor, whether weight decay applies to it.
    """

    weights: Sequence[Tensor]
    gradients: Sequence[Tensor]
    state: Mapping[str, Sequence[Tensor]]
    numbers: dict[str, Tensor]
    settings: Mapping[str, Tensor]
    counts: Tensor
    lr: Tensor
    decays: Tensor
    decayed: Sequence[bool]

    def pieces(self, *names: str) -> Iterator[tuple[Tensor, ...]]:
        """Yield weights, gradients and the state of these names, for each stacked tensor."""
        return zip(self.weights, self.gradients, *(self.state[name] for name in names), strict=True)

    def of(self, values: Tensor, like: Tensor) -> Tensor:
        """Return numbers of the members so that they broadcast over a stacked tensor, in its dtype."""
        return per_member(values.to(like.dtype), like)

    def decay(self, factors: Tensor) -> None:
        """Multiply the weights that decay by factors (K,)."""
        for weight, decays in zip(self.weights, self.decayed, strict=True):
            if decays:
                weight.mul_(self.of(factors, weight))


def _average(s: Step, average: Tensor, value: Tensor, beta: Tensor) -> None:
    """Set the average to β average + (1 − β) value."""
    average.mul_(s.of(beta, average)).add_(value * s.of(1 - beta, average))


def _nadam(s: Step) -> None:
    beta1, beta2, k = s.settings["beta1"], s.settings["beta2"], s.counts

    def momentum(step: Tensor) -> Tensor:
        return beta1 * (1.0 - 0.5 * 0.96 ** (step * s.settings["momentum_decay"]))

    current, following = momentum(k), momentum(k + 1)
    s.numbers["mu_product"] = s.numbers["mu_product"] * current.float()  # in float32, as PyTorch's
    product = s.numbers["mu_product"].double()
    of_gradient, of_average = (1 - current) / (1 - product), following / (1 - product * following)
    for w, g, mean, square in s.pieces("mean", "square"):
        _average(s, mean, g, beta1)
        _average(s, square, g * g, beta2)
        root = square.div(s.of(1 - beta2**k, w)).sqrt_().add_(s.of(s.settings["eps"], w))
        direction = (g * s.of(of_gradient, w)).add_(mean * s.of(of_average, w)).div_(root)
        w.sub_(direction.mul_(s.of(s.lr, w)))


def _radam(s: Step) -> None:
    beta1, beta2, k = s.settings["beta1"], s.settings["beta2"], s.counts
    limit, correction = 2 / (1 - beta2) - 1, 1 - beta2**k
    length = limit - 2 * k * beta2**k / correction
    rectified = length > 5
    ratio = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
    factor = torch.where(rectified, ratio.clamp_min(0).sqrt() * correction.sqrt(), 1.0)
    for w, g, mean, square in s.pieces("mean", "square"):
        _average(s, mean, g, beta1)
        _average(s, square, g * g, beta2)
        root = square.sqrt().add_(s.of(s.settings["eps"], w))
        divisor = torch.where(per_member(rectified, w), root, 1.0)
        w.sub_((mean / divisor).mul_(s.of(s.lr * factor / (1 - beta1**k), w)))


def _lion(s: Step) -> None:
    beta1, beta2 = s.settings["beta1"], s.settings["beta2"]
    s.decay(1 - s.lr * s.decays)
    for w, g, mean in s.pieces("mean"):
        value = (mean * s.of(beta1, w)).add_(g * s.of(1 - beta1, w))
        # The difference is NaN where the value is not finite, whose sign would be 0.
        w.sub_(value.sign().add_(value - value).mul_(s.of(s.lr, w)))
        _average(s, mean, g, beta2)


def _schedule_free(s: Step) -> None:
    beta1, beta2, k = s.settings["beta1"], s.settings["beta2"], s.counts
    warmup = s.settings["warmup_steps"]
    lr = s.lr * torch.where(warmup > 0, (k / warmup.clamp_min(1)).clamp_max(1), 1.0)
    largest = torch.maximum(lr, s.numbers["lr_max"])
    weight = k ** s.settings["r"] * largest ** s.settings["weight_lr_power"]
    total = s.numbers["weight_sum"] + weight
    s.numbers.update(lr_max=largest, weight_sum=total)
    share = torch.where(total > 0, weight / torch.where(total > 0, total, 1.0), 0.0)
    for (w, g, z, square), decays in zip(s.pieces("z", "square"), s.decayed, strict=True):
        _average(s, square, g * g, beta2)
        root = square.div(s.of(1 - beta2**k, w)).sqrt_().add_(s.of(s.settings["eps"], w))
        direction = g / root
        if decays:
            direction.add_(w * s.of(s.decays, w))
        w.add_((z - w).mul_(s.of(share, w)))
        w.sub_(direction * s.of(lr * (1 - beta1 * (1 - share)), w))
        z.sub_(direction.mul_(s.of(lr, w)))


def _schedule_free_average(s: Step) -> None:
    """Replace the weights y by the averages x = z + (y − z)/β₁."""
    for w, z in zip(s.weights, s.state["z"], strict=True):
        w.copy_((w - z).div_(s.of(s.settings["beta1"], w)).add_(z))


def _prodigy(s: Step) -> None:
    settings, numbers = s.settings, s.numbers
    beta1, beta2, beta3, d = settings["beta1"], settings["beta2"], settings["beta3"], numbers["d"]
    active = s.lr > 0
    k = numbers["k"] + active
    corrected = (1 - beta2**k).sqrt() / (1 - beta1 ** k.clamp_min(1))
    eta = d * s.lr * torch.where(settings["use_bias_correction"] > 0, corrected, 1.0)
    weight = torch.where(active, torch.where(settings["safeguard_warmup"] > 0, d, eta), 0.0)

    def kept(beta: Tensor) -> Tensor:  # a member whose learning rate is 0 keeps its state
        return torch.where(active, beta, 1.0)

    inner, total = torch.zeros_like(d), torch.zeros_like(d)
    for w, g, mean, square, sums, start in s.pieces("mean", "square", "s", "p0"):
        inner += ((start - w).mul_(g)).flatten(1).sum(1).double()
        scaled = g * s.of(torch.where(active, d, 0.0), w)
        mean.mul_(s.of(kept(beta1), w)).add_(scaled * s.of(1 - beta1, w))
        square.mul_(s.of(kept(beta2), w)).add_(scaled * scaled * s.of(1 - beta2, w))
        sums.mul_(s.of(kept(beta3), w)).add_(scaled.mul_(s.of(weight / settings["d0"], w)))
        total += sums.flatten(1).abs().sum(1).double()
    moves = active & (total > 0)
    numerator = torch.where(
        moves, beta3 * numbers["d_numerator"] + d / settings["d0"] * eta * inner, numbers["d_numerator"]
    )
    estimate = torch.where(moves, settings["d_coef"] * numerator / torch.where(moves, total, 1.0), d)
    grown = torch.where(d == settings["d0"], torch.maximum(d, estimate), d)
    largest = torch.maximum(numbers["d_max"], estimate)
    following = torch.minimum(largest, grown * settings["growth_rate"])
    s.decay(torch.where(moves, 1 - eta * s.decays, 1.0))
    for w, _, mean, square in s.pieces("mean", "square"):
        root = square.sqrt().add_(s.of(following * settings["eps"], w))
        w.sub_((mean / root).mul_(s.of(eta, w)))
    numbers.update(d=following, d_max=largest, d_numerator=numerator, k=k)


@dataclass(frozen=True)
class Rule:
    """The packed form of an optimizer.

    Args:
        step: takes the step.
        settings: names of the settings, which may differ between members; "betas" are beta1 and beta2.
        state: names of tensors that start at 0.
        copies: names of tensors that start as copies of the weights.
        numbers: the initial numbers of each member, from the settings of its parameter group.
        own_decay: whether the step contains weight decay, rather than following it.
        average: replaces the weights by those that are evaluated; None for the weights themselves.
        value: the number for a setting that is not one.
    """

    step: Callable[[Step], None]
    settings: tuple[str, ...]
    state: tuple[str, ...]
    copies: tuple[str, ...] = ()
    numbers: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda group: {}
    own_decay: bool = False
    average: Callable[[Step], None] | None = None
    value: Callable[[str, Mapping[str, Any]], float] = lambda name, group: float(group[name])


def _number_of_prodigy(name: str, group: Mapping[str, Any]) -> float:
    unspecified = {"beta3": float(group["betas"][1]) ** 0.5, "growth_rate": float("inf")}
    return unspecified[name] if group[name] is None else float(group[name])


RULES: Mapping[type[Optimizer], Rule] = {
    NAdam: Rule(
        _nadam,
        ("betas", "eps", "momentum_decay"),
        ("mean", "square"),
        numbers=lambda group: {"mu_product": 1.0},
    ),
    RAdam: Rule(_radam, ("betas", "eps"), ("mean", "square")),
    Lion: Rule(_lion, ("betas",), ("mean",), own_decay=True),
    ScheduleFreeAdamW: Rule(
        _schedule_free,
        ("betas", "eps", "warmup_steps", "r", "weight_lr_power"),
        ("square",),
        copies=("z",),
        numbers=lambda group: {"lr_max": 0.0, "weight_sum": 0.0},
        own_decay=True,
        average=_schedule_free_average,
    ),
    Prodigy: Rule(
        _prodigy,
        ("betas", "beta3", "eps", "use_bias_correction", "safeguard_warmup", "d0", "d_coef", "growth_rate"),
        ("mean", "square", "s"),
        copies=("p0",),
        numbers=lambda group: {"d": group["d0"], "d_max": group["d0"], "d_numerator": 0.0, "k": 0.0},
        own_decay=True,
        value=_number_of_prodigy,
    ),
}
"""The packed forms by the class of the optimizer."""
