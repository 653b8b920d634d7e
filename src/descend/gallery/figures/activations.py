"""Activation functions and their derivatives: dead gradients and computational cost.

An activation function should be differentiable almost everywhere, have a nonzero derivative, and be cheap. The
second property is measured as the share of inputs z ~ N(0, 2²) at which |f'(z)| < 0.01, the third as the time for
a million values.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from descend.gallery.intervals import Estimate, proportion
from descend.gallery.picture import Axis, Bars, Line, Panel, Picture, numbers
from descend.nn import activation
from descend.rng import generator

__all__ = ["FLAT", "INPUT_STD", "Measurement", "measure", "picture"]

FLAT = 0.01
"""Threshold below which a derivative counts as zero."""

INPUT_STD = 2.0
"""Standard deviation of the inputs."""

NAMES = ("sign", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "maxout")


class Sign(nn.Module):
    """The sign function, which the catalogue does not offer for training."""

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sign(z)


class TwoPieces(nn.Module):
    """Maxout over the two affine maps −z/2 and z, as a single trained unit could have them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxout = activation({"name": "maxout", "k": 2})

    def forward(self, z: Tensor) -> Tensor:
        """(n,) → (n,)."""
        pieces: Tensor = self.maxout(torch.stack([-0.5 * z, z], 1))
        return pieces.squeeze(1)


@dataclass(frozen=True)
class Measurement:
    """Result of :func:`measure`.

    Args:
        z: points on a line.
        values: by activation, its values at z.
        derivatives: by activation, its derivatives at z.
        flat: by activation, the share of random inputs with a derivative below ``FLAT``.
        milliseconds: by activation, the median time.
    """

    z: Tensor
    values: dict[str, Tensor]
    derivatives: dict[str, Tensor]
    flat: dict[str, Estimate]
    milliseconds: dict[str, float]


def _function(name: str) -> nn.Module:
    return Sign() if name == "sign" else TwoPieces() if name == "maxout" else activation(name)


def _derivative(function: nn.Module, z: Tensor) -> Tensor:
    point = z.clone().requires_grad_()
    function(point).sum().backward()
    return torch.zeros_like(z) if point.grad is None else point.grad


def measure(
    seed: int = 0, *, samples: int = 100_000, repeats: int = 15, elements: int = 1_000_000
) -> Measurement:
    """Evaluate, differentiate and time each activation.

    Args:
        seed: seed of the random inputs.
        samples: number of random inputs.
        repeats: number of timings, of which the median is kept.
        elements: number of values in a timing.
    """
    z = torch.linspace(-4, 4, 321, dtype=torch.float64)
    inputs = INPUT_STD * torch.randn(
        samples, generator=generator(seed, "gallery/activations"), dtype=torch.float64
    )
    many = torch.linspace(-4, 4, elements)
    functions = {name: _function(name) for name in NAMES}
    with torch.no_grad():
        values = {name: function(z) for name, function in functions.items()}
    derivatives = {name: _derivative(function, z) for name, function in functions.items()}
    flat = {
        name: proportion(int((_derivative(function, inputs).abs() < FLAT).sum()), samples)
        for name, function in functions.items()
    }
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    with torch.no_grad():
        for _ in range(repeats):  # interleaved, so that a disturbance affects all equally
            for name, function in functions.items():
                start = perf_counter()
                function(many)
                times[name].append(1e3 * (perf_counter() - start))
    return Measurement(
        z, values, derivatives, flat, {name: statistics.median(each) for name, each in times.items()}
    )


_COLORS = {
    name: f"s{at}" for at, name in enumerate(("relu", "sigmoid", "leaky_relu", "tanh", "elu", "gelu"), 1)
}
_COLORS |= {"maxout": "s7", "sign": "s8"}


def picture(result: Measurement) -> Picture:
    """Return panels of functions, derivatives, shares of flat derivatives and times."""
    z = numbers(result.z)
    shown = ["sign", "sigmoid", "tanh", "maxout", "leaky_relu", "relu"]
    timed = [name for name in NAMES if name not in ("sign", "maxout")]

    def lines(of: dict[str, Tensor], names: list[str]) -> tuple[Line, ...]:
        return tuple(
            Line(z, numbers(of[name]), _name(name), _COLORS[name], "dash" if name == "relu" else "solid")
            for name in names
        )

    panels = (
        Panel("Functions", lines(result.values, shown), Axis("z"), Axis("f(z)", ends=(-1.6, 3))),
        Panel("Derivatives", lines(result.derivatives, shown), Axis("z"), Axis("f'(z)", ends=(-0.7, 1.3))),
        Panel(
            "Inputs with a vanishing derivative",
            (
                Bars(
                    tuple(map(_name, NAMES)),
                    numbers(100 * result.flat[name].value for name in NAMES),
                    color="s2",
                ),
            ),
            Axis(""),
            Axis(f"% of inputs with |f'| < {FLAT}", ends=(0, 105)),
            note=f"Inputs are normally distributed with mean 0 and standard deviation {INPUT_STD:g}.",
        ),
        Panel(
            "Time for a million values",
            (
                Bars(
                    tuple(map(_name, timed)),
                    numbers(result.milliseconds[name] for name in timed),
                    color="s1",
                ),
            ),
            Axis(""),
            Axis("milliseconds, one thread"),
            note="Median of repeated timings on this machine.",
        ),
    )
    cost = result.milliseconds["sigmoid"] / result.milliseconds["relu"]
    flat = {name: result.flat[name].value for name in NAMES}
    steepest = float(result.derivatives["sigmoid"].max())
    return Picture(
        name="activations",
        title="Activation functions and vanishing derivatives",
        claim="The derivative of the sign function is zero almost everywhere. The derivatives of the sigmoid and tanh "
        "vanish for large inputs, that of ReLU for negative inputs, that of leaky ReLU nowhere. The exponential is "
        "relatively expensive.",
        see="Where a function is flat, its derivative is zero and no gradient passes. The sign function passes no "
        "gradient anywhere; leaky ReLU passes it everywhere.",
        number="% of inputs at which ReLU's gradient is zero",
        value=Estimate(*(100 * (end or 0.0) for end in _ends(result.flat["relu"]))),
        finding=f"The derivative is below {FLAT} for {flat['sign']:.0%} of the inputs for the sign function, "
        f"{flat['relu']:.1%} for ReLU, {flat['tanh']:.1%} for tanh, {flat['sigmoid']:.1%} for the sigmoid and "
        f"{flat['leaky_relu']:.0%} for leaky ReLU. The sigmoid's derivative is at most {steepest:.2f}. The "
        f"sigmoid takes {cost:.1f} times as long as ReLU.",
        supported=flat["sign"] == 1.0
        and flat["leaky_relu"] == 0.0
        and min(flat["relu"], flat["tanh"], flat["sigmoid"]) > 0.0
        and cost > 1.0,
        panels=panels,
    )


def _ends(estimate: Estimate) -> tuple[float, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _name(name: str) -> str:
    return {"relu": "ReLU", "leaky_relu": "leaky ReLU", "elu": "ELU", "gelu": "GELU"}.get(name, name)
