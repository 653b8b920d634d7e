"""Learning-rate schedules in closed form."""

from __future__ import annotations

import math

from descend.cards import method
from descend.param_types import Count, NonNegative, Positive, Probability, Share
from descend.schedules.base import ClosedForm, Per, Schedule, counter, share_of_training

__all__ = [
    "constant",
    "cosine",
    "coslog4",
    "exponential",
    "flat_cosine",
    "inverse",
    "one_cycle",
    "staircase",
    "warmup",
]


@method(row="D16", reference="", formula="t_k = a")
def constant(steps_per_epoch: int, total_steps: int, *, warmup: NonNegative = 0.0) -> Schedule:
    """Keep the base learning rate at every step.

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: not used.
        warmup: epochs of linear warm-up. Default 0.

    >>> constant(10, 100, warmup=1.0).factor(4)
    0.5
    """
    return ClosedForm(lambda step: 1.0, ramp=warmup * steps_per_epoch)


@method(
    row="D16",
    reference="Robbins and Monro 1951",
    formula="t_k = a / (1 + b k)",
    note="Σ t_k = ∞ and Σ t_k² < ∞: it satisfies the classical conditions for convergence.",
)
def inverse(
    steps_per_epoch: int,
    total_steps: int,
    *,
    beta: NonNegative = 1e-3,
    per: Per = "step",
    warmup: NonNegative = 0.0,
) -> Schedule:
    """Decay the learning rate as 1/k (inverse-time decay).

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: not used.
        beta: β; the learning rate is halved at k = 1/β. Default 0.001.
        per: k counts steps or epochs. Default ``"step"``.
        warmup: epochs of linear warm-up. Default 0.

    >>> inverse(10, 100, beta=0.1).factor(10)
    0.5
    """
    k = counter(per, steps_per_epoch)
    return ClosedForm(lambda step: 1.0 / (1.0 + beta * k(step)), ramp=warmup * steps_per_epoch)


@method(
    row="D16",
    reference="torch.optim.lr_scheduler.ExponentialLR",
    formula="t_k = a exp(-b k)",
    note="PyTorch's gamma is exp(-b).",
)
def exponential(
    steps_per_epoch: int,
    total_steps: int,
    *,
    beta: NonNegative = 1e-3,
    per: Per = "step",
    warmup: NonNegative = 0.0,
) -> Schedule:
    """Decay the learning rate by the same factor at every k (exponential decay).

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: not used.
        beta: β; the learning rate is halved every log(2)/β. Default 0.001.
        per: k counts steps or epochs. Default ``"step"``.
        warmup: epochs of linear warm-up. Default 0.

    >>> round(exponential(10, 100, beta=0.1).factor(10), 6) == round(math.exp(-1), 6)
    True
    """
    k = counter(per, steps_per_epoch)
    return ClosedForm(lambda step: math.exp(-beta * k(step)), ramp=warmup * steps_per_epoch)


@method(
    row="D16",
    reference="torch.optim.lr_scheduler.StepLR",
    formula="t_k = a f^floor(k / L)",
    note="Common choices divide the learning rate by 5 or 10: f = 0.2 or 0.1.",
)
def staircase(
    steps_per_epoch: int,
    total_steps: int,
    *,
    factor: Share = 0.1,
    every: Count = 10,
    per: Per = "epoch",
    warmup: NonNegative = 0.0,
) -> Schedule:
    """Multiply the learning rate by ``factor`` every L epochs or steps (step decay).

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: not used.
        factor: f, below 1. Default 0.1.
        every: L. Default 10.
        per: k counts steps or epochs. Default ``"epoch"``.
        warmup: epochs of linear warm-up. Default 0.

    >>> [staircase(10, 100, factor=0.5, every=2).factor(10 * epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    k = counter(per, steps_per_epoch)
    return ClosedForm(lambda step: float(factor ** (k(step) // every)), ramp=warmup * steps_per_epoch)


@method(
    row="D16",
    reference="Loshchilov and Hutter 2017; torch.optim.lr_scheduler.CosineAnnealingLR",
    formula="t_k = a (c + (1 - c) (1 + cos(pi k / K)) / 2)",
    note="K is the length of the whole training; beyond it the learning rate stays at a c.",
)
def cosine(
    steps_per_epoch: int,
    total_steps: int,
    *,
    final: Probability = 0.0,
    per: Per = "step",
    warmup: NonNegative = 0.0,
) -> Schedule:
    """Decay the learning rate along half a cosine from the base learning rate to ``final`` times it (cosine annealing).

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: the optimizer's steps in the whole training.
        final: c, the last learning rate as a fraction of the base learning rate. Default 0.
        per: k counts steps or epochs. Default ``"step"``.
        warmup: epochs of linear warm-up. Default 0.

    >>> cosine(10, 100).factor(50)
    0.5
    """
    time = share_of_training(per, steps_per_epoch, total_steps)

    def at(step: int) -> float:
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * time(step)))

    return ClosedForm(at, ramp=warmup * steps_per_epoch)


@method(
    row="D16",
    reference="torch.optim.lr_scheduler.LinearLR",
    formula="t_k = a min(1, (k + 1) / w)",
    note="The first step has a positive learning rate: PyTorch's LinearLR with start_factor = 1/w.",
)
def warmup(steps_per_epoch: int, total_steps: int, *, length: Positive = 1.0, per: Per = "epoch") -> Schedule:
    """Increase the learning rate linearly to the base learning rate, and keep it.

    Every other schedule has a parameter ``warmup`` that multiplies it by the same factor.

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: not used.
        length: w, in epochs or steps; the learning rate increases at every step in both cases. Default 1.
        per: the unit of ``length``. Default ``"epoch"``.

    >>> [warmup(4, 100).factor(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return ClosedForm(lambda step: 1.0, ramp=length if per == "step" else length * steps_per_epoch)


@method(
    row="D16",
    reference="Smith and Topin 2019; torch.optim.lr_scheduler.OneCycleLR",
    formula="cosine from s a up to a at share q of the training, then cosine down to c a",
    note="The base learning rate is the peak, and both ends are fractions of it: PyTorch's div_factor is 1/s and its "
    "final_div_factor is s/c. The momentum is not cycled.",
)
def one_cycle(
    steps_per_epoch: int,
    total_steps: int,
    *,
    peak_at: Share = 0.3,
    start: Share = 0.04,
    final: Probability = 1e-4,
    warmup: NonNegative = 0.0,
) -> Schedule:
    """Increase the learning rate from a small value to the base learning rate, then decay it to almost zero (1cycle).

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: the optimizer's steps in the whole training.
        peak_at: q, the fraction of the training at which the learning rate peaks. Default 0.3.
        start: s, the first learning rate as a fraction of the base learning rate. Default 1/25.
        final: c, the last learning rate as a fraction of the base learning rate. Default 1e-4.
        warmup: epochs of linear warm-up. Default 0.

    >>> schedule = one_cycle(10, 100)
    >>> round(schedule.factor(0), 6), round(schedule.factor(29), 6), round(schedule.factor(99), 6)
    (0.04, 1.0, 0.0001)
    """
    last = max(1, total_steps - 1)
    peak = max(0.0, peak_at * total_steps - 1.0)

    def at(step: int) -> float:
        if step < peak:
            return _cosine_between(start, 1.0, step / peak)
        return _cosine_between(1.0, final, min(1.0, (step - peak) / max(1e-12, last - peak)))

    return ClosedForm(at, ramp=warmup * steps_per_epoch)


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))


@method(
    row="K8",
    reference="Holzmüller, Grinsztajn and Steinwart 2024, Better by default: strong pre-tuned MLPs (RealMLP)",
    formula="t_k = a (1 - cos(2 pi log2(1 + 15 k/K))) / 2",
    note="K is the length of the whole training. The learning rate is 0 at the ends of the four cycles, and in the first step.",
)
def coslog4(
    steps_per_epoch: int, total_steps: int, *, per: Per = "step", warmup: NonNegative = 0.0
) -> Schedule:
    """Four cosine cycles from zero to the base learning rate and back, each twice as long as the one before.

    The cycles end after 1/15, 3/15, 7/15 and all of the training, so that weights after low learning rates are available
    early, among which a validation part can choose.

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: the optimizer's steps in the whole training.
        per: k counts steps or epochs. Default ``"step"``.
        warmup: epochs of linear warm-up. Default 0.

    >>> schedule = coslog4(10, 150)
    >>> [round(schedule.factor(step), 12) for step in (0, 10, 30, 70, 150)]
    [0.0, 0.0, 0.0, 0.0, 0.0]
    >>> round(schedule.factor(round(10 * (2**3.5 - 1))), 3)
    1.0
    """
    time = share_of_training(per, steps_per_epoch, total_steps)
    return ClosedForm(
        lambda step: 0.5 * (1.0 - math.cos(2.0 * math.pi * math.log2(1.0 + 15.0 * time(step)))),
        ramp=warmup * steps_per_epoch,
    )


@method(
    row="K8",
    reference="Holzmüller, Grinsztajn and Steinwart 2024, Better by default: strong pre-tuned MLPs (RealMLP)",
    formula="t_k = a for k/K < 1/2, then a (1 + cos(pi (2 k/K - 1))) / 2",
    note="K is the length of the whole training. RealMLP uses it for weight decay and dropout rather than the learning rate.",
)
def flat_cosine(
    steps_per_epoch: int, total_steps: int, *, per: Per = "step", warmup: NonNegative = 0.0
) -> Schedule:
    """Keep the base learning rate for half of the training, then decay it along half a cosine to zero.

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: the optimizer's steps in the whole training.
        per: k counts steps or epochs. Default ``"step"``.
        warmup: epochs of linear warm-up. Default 0.

    >>> [flat_cosine(10, 100).factor(step) for step in (0, 50, 75, 100)]
    [1.0, 1.0, 0.5, 0.0]
    """
    time = share_of_training(per, steps_per_epoch, total_steps)
    return ClosedForm(
        lambda step: 0.5 * (1.0 + math.cos(math.pi * max(0.0, 2.0 * time(step) - 1.0))),
        ramp=warmup * steps_per_epoch,
    )
