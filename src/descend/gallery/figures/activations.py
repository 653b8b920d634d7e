"""Activations and their derivatives: where a gradient dies, and what a function costs.

The lecture asks three things of an activation: differentiable almost everywhere, a derivative that is not zero,
and cheap. The second is measured as the share of inputs z ~ N(0, 2²) at which |f'(z)| < 0.01, the third as
time for a million numbers.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from descend.gallery.picture import Axis, Bars, Line, Panel, Picture, numbers
from descend.gallery.spread import Estimate, share
from descend.nn import activation
from descend.rng import generator

__all__ = ["FLAT", "SPREAD", "Measured", "measure", "picture"]

FLAT = 0.01
"""A derivative smaller than this lets a hundredth of the signal through."""

SPREAD = 2.0
"""Standard deviation of the inputs."""

NAMES = ("sign", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "maxout")


class Sign(nn.Module):
    """The sign, which the catalogue refuses to train with."""

    def forward(self, z: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sign(z)


class TwoPieces(nn.Module):
    """Maxout of the two affine maps −z/2 and z, as one trained unit could have them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxout = activation({"name": "maxout", "k": 2})

    def forward(self, z: Tensor) -> Tensor:
        """(n,) → (n,)."""
        pieces: Tensor = self.maxout(torch.stack([-0.5 * z, z], 1))
        return pieces.squeeze(1)


@dataclass(frozen=True)
class Measured:
    """On a line z: values and derivatives; of random inputs the share with a flat derivative; milliseconds."""

    z: Tensor
    values: dict[str, Tensor]
    slopes: dict[str, Tensor]
    flat: dict[str, Estimate]
    milliseconds: dict[str, float]


def _made(name: str) -> nn.Module:
    return Sign() if name == "sign" else TwoPieces() if name == "maxout" else activation(name)


def _slope(function: nn.Module, z: Tensor) -> Tensor:
    point = z.clone().requires_grad_()
    function(point).sum().backward()
    return torch.zeros_like(z) if point.grad is None else point.grad


def measure(seed: int = 0, *, draws: int = 100_000, repeats: int = 15, elements: int = 1_000_000) -> Measured:
    """Evaluate, differentiate and time each activation.

    Args:
        seed: the random inputs.
        draws: how many inputs.
        repeats: timings, of which the median counts.
        elements: numbers in a timing.
    """
    z = torch.linspace(-4, 4, 321, dtype=torch.float64)
    inputs = SPREAD * torch.randn(
        draws, generator=generator(seed, "gallery/activations"), dtype=torch.float64
    )
    many = torch.linspace(-4, 4, elements)
    made = {name: _made(name) for name in NAMES}
    with torch.no_grad():
        values = {name: function(z) for name, function in made.items()}
    slopes = {name: _slope(function, z) for name, function in made.items()}
    flat = {
        name: share(int((_slope(function, inputs).abs() < FLAT).sum()), draws)
        for name, function in made.items()
    }
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    with torch.no_grad():
        for _ in range(repeats):  # in turn, so that a disturbance meets all alike
            for name, function in made.items():
                start = perf_counter()
                function(many)
                times[name].append(1e3 * (perf_counter() - start))
    return Measured(z, values, slopes, flat, {name: statistics.median(each) for name, each in times.items()})


_COLOURS = {
    name: f"s{at}" for at, name in enumerate(("relu", "sigmoid", "leaky_relu", "tanh", "elu", "gelu"), 1)
}
_COLOURS |= {"maxout": "s7", "sign": "s8"}


def picture(found: Measured) -> Picture:
    """Functions, derivatives, flat shares and times."""
    z = numbers(found.z)
    shown = ["sign", "sigmoid", "tanh", "maxout", "leaky_relu", "relu"]
    timed = [name for name in NAMES if name not in ("sign", "maxout")]

    def lines(of: dict[str, Tensor], names: list[str]) -> tuple[Line, ...]:
        return tuple(
            Line(z, numbers(of[name]), _name(name), _COLOURS[name], "dash" if name == "relu" else "solid")
            for name in names
        )

    panels = (
        Panel("The functions", lines(found.values, shown), Axis("z"), Axis("f(z)", ends=(-1.6, 3))),
        Panel("Their derivatives", lines(found.slopes, shown), Axis("z"), Axis("f'(z)", ends=(-0.7, 1.3))),
        Panel(
            "Where the gradient dies",
            (
                Bars(
                    tuple(map(_name, NAMES)),
                    numbers(100 * found.flat[name].value for name in NAMES),
                    colour="s2",
                ),
            ),
            Axis(""),
            Axis(f"% of inputs with |f'| < {FLAT}", ends=(0, 105)),
            note=f"Inputs are normal with mean 0 and standard deviation {SPREAD:g}.",
        ),
        Panel(
            "What a million values cost",
            (
                Bars(
                    tuple(map(_name, timed)), numbers(found.milliseconds[name] for name in timed), colour="s1"
                ),
            ),
            Axis(""),
            Axis("milliseconds, one thread"),
            note="The median of repeated timings on this machine.",
        ),
    )
    cost = found.milliseconds["sigmoid"] / found.milliseconds["relu"]
    flat = {name: found.flat[name].value for name in NAMES}
    steepest = float(found.slopes["sigmoid"].max())
    return Picture(
        name="activations",
        title="Activations, and where their gradients die",
        claim="The derivative of the sign is zero almost everywhere. Those of sigmoid and tanh vanish for large inputs, "
        "ReLU's for negative ones, leaky ReLU's nowhere. The exponential is relatively expensive.",
        see="Below each flat part of a function its derivative is zero, and no gradient passes. "
        "The sign lets none pass anywhere; leaky ReLU stops none.",
        number="% of inputs at which ReLU's gradient is zero",
        value=Estimate(*(100 * (end or 0.0) for end in _ends(found.flat["relu"]))),
        finding=f"The derivative is below {FLAT} for {flat['sign']:.0%} of inputs with the sign, {flat['relu']:.1%} with "
        f"ReLU, {flat['tanh']:.1%} with tanh, {flat['sigmoid']:.1%} with the sigmoid, {flat['leaky_relu']:.0%} with leaky "
        f"ReLU. The sigmoid's derivative is at most {steepest:.2f}. The sigmoid takes {cost:.1f} times as long as ReLU.",
        supported=flat["sign"] == 1.0
        and flat["leaky_relu"] == 0.0
        and min(flat["relu"], flat["tanh"], flat["sigmoid"]) > 0.0
        and cost > 1.0,
        panels=panels,
    )


def _ends(found: Estimate) -> tuple[float, float | None, float | None]:
    return found.value, found.low, found.high


def _name(name: str) -> str:
    return {"relu": "ReLU", "leaky_relu": "leaky ReLU", "elu": "ELU", "gelu": "GELU"}.get(name, name)
