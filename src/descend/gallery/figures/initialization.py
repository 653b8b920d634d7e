"""Where to start: the size of the signal through thirty rectifier layers, for each scheme.

With weights of variance v and inputs of second moment q, a layer of d inputs has q' = v d q/2 behind a
rectifier. So q grows or shrinks by v d/2 for each layer: 1 for Kaiming's v = 2/d, ½ for Xavier's v = 1/d as the
lecture derives it for the identity, σ² d/2 for a fixed σ. The gradient goes back by the same factor.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.spread import mean, repetitions, words
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

__all__ = ["SCHEMES", "Measured", "factor", "measure", "picture"]

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
"""Each scheme's constructor and its gain; None is the rectifier's, √2."""


def factor(name: str, width: int) -> float:
    """What theory says that one layer multiplies the second moment by."""
    return {
        "zeros": 0.0,
        "normal, σ = 0.01": 0.01**2 * width / 2,
        "normal, σ = 0.2": 0.2**2 * width / 2,
        "Xavier, gain 1": 0.5,
    }.get(name, 1.0)


@dataclass(frozen=True)
class Measured:
    """By scheme: (seeds, layers + 1) second moments behind each layer, and mean squared gradients there."""

    width: int
    moments: dict[str, Tensor]
    gradients: dict[str, Tensor]


def measure(
    seed: int = 0, *, seeds: int = 8, layers: int = 30, width: int = 256, rows: int = 256
) -> Measured:
    """Send normal numbers forward and normal numbers back.

    Args:
        seed: of all.
        seeds: how many networks for each scheme.
        layers: hidden layers.
        width: of each, and of the input.
        rows: in the batch.
    """
    model = mlp((width,), width, hidden=(width,) * layers)
    forward: dict[str, list[Tensor]] = {name: [] for name in SCHEMES}
    backward: dict[str, list[Tensor]] = {name: [] for name in SCHEMES}
    for each in repetitions(seed, seeds):
        draws = generator(each, "gallery/initialization/data")
        x, back = (torch.randn(rows, width, generator=draws) for _ in range(2))
        for name, (scheme, gain) in SCHEMES.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the bad ones are bad is what is shown
                initialize(model, scheme(), gain=gain, generator=generator(each, "gallery/initialization"))
            moments, gradients = _through(model, x, back)
            forward[name].append(moments)
            backward[name].append(gradients)
    return Measured(
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


def picture(found: Measured) -> Picture:
    """Second moments forward and backward, layer by layer."""
    colours = {
        name: f"s{at}" for at, name in enumerate(("normal, σ = 0.01", "normal, σ = 0.2", "Kaiming normal"), 1)
    }
    colours |= {
        "Xavier, gain 1": "s4",
        "Kaiming uniform": "s5",
        "orthogonal": "s6",
        "geometric": "s7",
        "zeros": "s8",
    }
    layers = range(next(iter(found.moments.values())).shape[1])

    def lines(of: dict[str, Tensor], *, theory: bool) -> tuple[Line, ...]:
        drawn = []
        for name, values in of.items():
            shown = values.mean(0).clamp(min=1e-300).log10()
            drawn.append(Line(numbers(layers), _powers(shown), name, colours[name]))
            step = factor(name, found.width)
            if theory and step not in (0.0, 1.0):
                predicted = torch.tensor([at * math.log10(step) for at in layers])
                drawn.append(Line(numbers(layers), _powers(predicted), "", "ink", dash="dot", width=1.3))
        return tuple(drawn)

    last = {name: mean((values[:, -1] / values[:, 0]).tolist()) for name, values in found.moments.items()}
    deep = len(layers) - 1
    small, large = (words(last[f"normal, σ = {std}"].value) for std in (0.01, 0.2))
    kaiming, xavier = last["Kaiming normal"], last["Xavier, gain 1"]
    return Picture(
        name="initialization",
        title="The signal through thirty layers",
        claim="Zero weights get no gradient; very large or small ones make values and gradients large or small, the more "
        "the deeper. Xavier is derived for the identity, Kaiming for ReLU.",
        see="Only the schemes made for the rectifier keep the line level, forward and backward. Xavier's variance, derived "
        "for the identity, loses half in each layer; dotted lines are that theory.",
        number="second moment behind the last layer over the input's, Kaiming",
        value=kaiming,
        finding=f"Behind {deep} rectifier layers the signal's second moment is {kaiming} of the input's with Kaiming, "
        f"{words(xavier.value)} with Xavier at gain 1 (theory: {words(0.5**deep)}), {small} with σ = "
        f"0.01 and {large} with σ = 0.2; with zeros it is 0.",
        supported=0.2 < kaiming.value < 5.0
        and 0.2 < xavier.value / 0.5**deep < 5.0
        and float(found.moments["zeros"][:, 1:].abs().max()) == 0.0,
        panels=(
            Panel(
                "Forward: mean square of the activations",
                lines(found.moments, theory=True),
                Axis("layer"),
                Axis("second moment", log=True, ends=(1e-16, 1e16)),
                note="Zeros have none behind the first layer. Dotted: theory.",
            ),
            Panel(
                "Backward: mean square of the gradient",
                lines(found.gradients, theory=False),
                Axis("layer"),
                Axis("second moment", log=True, ends=(1e-16, 1e16)),
                note="The gradient enters behind the last layer and goes to the left.",
            ),
        ),
    )


def _powers(exponents: Tensor) -> tuple[float | None, ...]:
    return numbers(10.0 ** float(value) if -30 < float(value) < 30 else math.nan for value in exponents)
