"""Initialization: the size of the signal through thirty ReLU layers, for each scheme.

With weights of variance v and inputs of second moment q, the second moment behind a layer of d inputs and a ReLU is
q' = v d q/2. So q changes by the factor v d/2 per layer: 1 for Kaiming's v = 2/d, ½ for Xavier's v = 1/d, which is
derived for the identity, σ² d/2 for a fixed σ. The gradient changes by the same factor on its way back.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.gallery.intervals import format_number, mean, repetitions
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.nn import initialize, mlp
from descend.nn.init import (
    Fill,
    geometric,
    kaiming_normal,
    kaiming_uniform,
    normal,
    orthogonal,
    xavier_normal,
    zeros,
)
from descend.rng import generator

__all__ = ["SCHEMES", "Measurement", "factor", "measure", "picture"]

SCHEMES: dict[str, tuple[Callable[[], Fill], float | None]] = {
    "zeros": (zeros, None),
    "normal, σ = 0.01": (lambda: normal(std=0.01), None),
    "normal, σ = 0.2": (lambda: normal(std=0.2), None),
    "Xavier, gain 1": (xavier_normal, 1.0),
    "Kaiming normal": (kaiming_normal, None),
    "Kaiming uniform": (kaiming_uniform, None),
    "orthogonal": (orthogonal, None),
    "geometric": (geometric, None),
}
"""Constructor and gain of each scheme; None is the gain of ReLU, √2."""


def factor(name: str, width: int) -> float:
    """Return the theoretical factor by which one layer multiplies the second moment."""
    return {
        "zeros": 0.0,
        "normal, σ = 0.01": 0.01**2 * width / 2,
        "normal, σ = 0.2": 0.2**2 * width / 2,
        "Xavier, gain 1": 0.5,
    }.get(name, 1.0)


@dataclass(frozen=True)
class Measurement:
    """By scheme, the second moments behind each layer and the mean squared gradients there, (seeds, layers + 1)."""

    width: int
    moments: dict[str, Tensor]
    gradients: dict[str, Tensor]


def measure(
    seed: int = 0, *, seeds: int = 8, layers: int = 30, width: int = 256, rows: int = 256
) -> Measurement:
    """Propagate normally distributed inputs forward and normally distributed gradients backward.

    Args:
        seed: seed of all random numbers.
        seeds: number of networks for each scheme.
        layers: number of hidden layers.
        width: width of the hidden layers and of the input.
        rows: rows in the batch.
    """
    model = mlp((width,), width, hidden=(width,) * layers)
    forward: dict[str, list[Tensor]] = {name: [] for name in SCHEMES}
    backward: dict[str, list[Tensor]] = {name: [] for name in SCHEMES}
    for each in repetitions(seed, seeds):
        rng = generator(each, "gallery/initialization/data")
        x, back = (torch.randn(rows, width, generator=rng) for _ in range(2))
        for name, (scheme, gain) in SCHEMES.items():
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # warnings about unsuitable schemes, which this figure shows on purpose
                initialize(model, scheme(), gain=gain, generator=generator(each, "gallery/initialization"))
            moments, gradients = _through(model, x, back)
            forward[name].append(moments)
            backward[name].append(gradients)
    return Measurement(
        width,
        {name: torch.stack(rows) for name, rows in forward.items()},
        {name: torch.stack(rows) for name, rows in backward.items()},
    )


def _through(model: nn.Sequential, x: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
    kept = [x.requires_grad_()]
    value = x
    for module in list(model)[:-1]:
        value = module(value)
        if isinstance(module, nn.ReLU):
            kept.append(value)
    gradients = torch.autograd.grad(value, kept, back)
    return (
        torch.stack([h.detach().double().square().mean() for h in kept]),
        torch.stack([g.double().square().mean() for g in gradients]),
    )


def picture(result: Measurement) -> Picture:
    """Return panels of the second moments forward and backward by layer."""
    colors = {
        name: f"s{at}" for at, name in enumerate(("normal, σ = 0.01", "normal, σ = 0.2", "Kaiming normal"), 1)
    }
    colors |= {
        "Xavier, gain 1": "s4",
        "Kaiming uniform": "s5",
        "orthogonal": "s6",
        "geometric": "s7",
        "zeros": "s8",
    }
    layers = range(next(iter(result.moments.values())).shape[1])

    def lines(of: dict[str, Tensor], *, theory: bool) -> tuple[Line, ...]:
        curves = []
        for name, values in of.items():
            shown = values.mean(0).clamp(min=1e-300).log10()
            curves.append(Line(numbers(layers), _powers(shown), name, colors[name]))
            step = factor(name, result.width)
            if theory and step not in (0.0, 1.0):
                predicted = torch.tensor([at * math.log10(step) for at in layers])
                curves.append(Line(numbers(layers), _powers(predicted), "", "ink", dash="dot", width=1.3))
        return tuple(curves)

    last = {name: mean((values[:, -1] / values[:, 0]).tolist()) for name, values in result.moments.items()}
    deep = len(layers) - 1
    small, large = (format_number(last[f"normal, σ = {std}"].value) for std in (0.01, 0.2))
    kaiming, xavier = last["Kaiming normal"], last["Xavier, gain 1"]
    return Picture(
        name="initialization",
        title="The signal through thirty ReLU layers",
        claim="Zero weights get no gradient. Very large or very small weights make values and gradients explode or vanish, more "
        "so in deeper networks. Xavier initialization is derived for the identity, Kaiming initialization for ReLU.",
        see="Only the schemes derived for ReLU keep the line level, forward and backward. The variance of Xavier, derived for "
        "the identity, loses half of the signal in each layer. Dotted lines show the theory.",
        number="second moment behind the last layer over that of the input, Kaiming",
        value=kaiming,
        finding=f"Behind {deep} ReLU layers the second moment of the signal is {kaiming} times that of the input with Kaiming, "
        f"{format_number(xavier.value)} with Xavier at gain 1 (theory: {format_number(0.5**deep)}), {small} with σ = 0.01 and "
        f"{large} with σ = 0.2; with zeros it is 0.",
        supported=0.2 < kaiming.value < 5.0
        and 0.2 < xavier.value / 0.5**deep < 5.0
        and float(result.moments["zeros"][:, 1:].abs().max()) == 0.0,
        panels=(
            Panel(
                "Forward: mean square of the activations",
                lines(result.moments, theory=True),
                Axis("layer"),
                Axis("second moment", log=True, ends=(1e-16, 1e16)),
                note="Zero weights give no signal behind the first layer. Dotted: theory.",
            ),
            Panel(
                "Backward: mean square of the gradient",
                lines(result.gradients, theory=False),
                Axis("layer"),
                Axis("second moment", log=True, ends=(1e-16, 1e16)),
                note="The gradient enters behind the last layer and propagates to the left.",
            ),
        ),
    )


def _powers(exponents: Tensor) -> tuple[float | None, ...]:
    return numbers(10.0 ** float(value) if -30 < float(value) < 30 else math.nan for value in exponents)
