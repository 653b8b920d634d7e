"""Vanishing and exploding gradients: the size of the gradient of each layer, at the start of training.

Networks of ten hidden layers for the digits, initialised for their activation. The lecture says that derivatives
of early layers tend to be orders of magnitude smaller than those of late ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from descend.gallery.fitting import loss_of
from descend.gallery.picture import Axis, Bars, Line, Panel, Picture, numbers
from descend.gallery.samples import digits
from descend.gallery.spread import Estimate, ratio, repetitions
from descend.nn import initialize, mlp
from descend.nn.init import kaiming_normal, xavier_normal
from descend.rng import forked, generator, key

__all__ = ["CASES", "Measured", "measure", "picture"]

CASES: dict[str, dict[str, Any]] = {
    "sigmoid": {"activation": "sigmoid"},
    "tanh": {"activation": "tanh"},
    "ReLU": {"activation": "relu"},
    "ReLU, × 2": {"activation": "relu", "factor": 2.0},
    "sigmoid, norm": {"activation": "sigmoid", "norm": "batch"},
}
"""Networks; ``factor`` multiplies every weight of a hidden layer."""


@dataclass(frozen=True)
class Measured:
    """By network: for each seed the norm of the gradient of each hidden layer's weight, the first layer first."""

    norms: dict[str, list[list[float]]]


def measure(seed: int = 0, *, seeds: int = 8, layers: int = 10, width: int = 64, rows: int = 500) -> Measured:
    """One backward pass through each network.

    Args:
        seed: of all.
        seeds: how many networks of each kind.
        layers: hidden layers.
        width: of each.
        rows: in the batch.
    """
    norms: dict[str, list[list[float]]] = {name: [] for name in CASES}
    for each in repetitions(seed, seeds):
        data = digits(each, train=rows).train
        for name, case in CASES.items():
            model = _network(each, case, (width,) * layers)
            loss_of(model, data).backward()
            linear = [module for module in model if isinstance(module, nn.Linear)]
            norms[name].append([float(_gradient(layer).norm()) for layer in linear[:-1]])
    return Measured(norms)


def _gradient(layer: nn.Linear) -> torch.Tensor:
    found = layer.weight.grad
    assert found is not None
    return found


def _network(seed: int, case: dict[str, Any], hidden: tuple[int, ...]) -> nn.Sequential:
    settings = {name: value for name, value in case.items() if name != "factor"}
    with forked():
        torch.manual_seed(key(seed, "gallery/depth"))
        model = mlp((64,), 10, hidden=hidden, **settings)
    scheme = kaiming_normal() if case["activation"] == "relu" else xavier_normal()
    initialize(model, scheme, generator=generator(seed, "gallery/depth"))
    with torch.no_grad():
        for module in list(model)[:-1]:
            if isinstance(module, nn.Linear):
                module.weight *= case.get("factor", 1.0)
    return model


def picture(found: Measured) -> Picture:
    """Gradient norms along the layers, and the ratio of the first to the last."""
    colours = {name: f"s{at}" for at, name in enumerate(CASES, 1)}
    layers = range(1, len(found.norms["sigmoid"][0]) + 1)
    lines = []
    for name, runs in found.norms.items():
        ends = [ratio(run[at - 1] for run in runs) for at in layers]
        lines.append(
            Line(
                numbers(layers),
                numbers(end.value for end in ends),
                name,
                colours[name],
                dots=True,
                low=numbers(end.low or end.value for end in ends),
                high=numbers(end.high or end.value for end in ends),
            )
        )
    first = {name: ratio(run[0] / run[-1] for run in runs) for name, runs in found.norms.items()}
    bars = Bars(
        tuple(CASES),
        numbers(first[name].value for name in CASES),
        colour="s1",
        low=numbers(first[name].low or first[name].value for name in CASES),
        high=numbers(first[name].high or first[name].value for name in CASES),
    )
    orders = {name: _inverse(estimate) for name, estimate in first.items()}
    vanishes = (orders["sigmoid"].low or orders["sigmoid"].value) > 100
    steady = max(orders["ReLU"].value, 1 / orders["ReLU"].value) < 10
    return Picture(
        name="depth",
        title="Gradients through depth",
        claim="Derivatives of early layers tend to be orders of magnitude smaller than those of late layers: the "
        "vanishing and exploding gradient.",
        see="The sigmoid's line falls from right to left, by about a fixed factor for each layer: the first layer hardly "
        "learns. The lines of ReLU and tanh with their initialisation are level, so the claim is one about the sigmoid "
        "and about wrong scales, not about depth itself.",
        number="gradient of the last hidden layer over the first's, sigmoid",
        value=orders["sigmoid"],
        finding=f"With ten sigmoid layers the gradient of the last is {orders['sigmoid']} times that of the first. "
        f"With tanh it is {orders['tanh'].value:.2g} times, with ReLU {orders['ReLU'].value:.2g} times, with sigmoid "
        f"and batch norm {orders['sigmoid, norm'].value:.2g} times: with a fitting initialisation or a norm the "
        "gradient " + ("does not vanish." if steady else "changes as well."),
        supported=vanishes,
        panels=(
            Panel(
                "Norm of the gradient of a layer's weights",
                tuple(lines),
                Axis("hidden layer"),
                Axis("norm", log=True),
                note="Bands are 95 % intervals over networks.",
            ),
            Panel(
                "The first layer's gradient over the last's",
                (bars,),
                Axis(""),
                Axis("ratio", log=True),
                note="1 is level. Doubling all weights doubles the signal of each layer: the output explodes, and "
                "with it every layer's gradient.",
            ),
        ),
    )


def _inverse(found: Estimate) -> Estimate:
    if found.low is None or found.high is None:
        return Estimate(1 / found.value)
    return Estimate(1 / found.value, 1 / found.high, 1 / found.low)
