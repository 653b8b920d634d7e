"""Vanishing and exploding gradients: the norm of each layer's gradient at the start of training.

Networks of ten hidden layers for the digits, initialized for their activation function. Derivatives of early layers
tend to be orders of magnitude smaller than those of late layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from descend.gallery.datasets import digits
from descend.gallery.intervals import Estimate, ratio, repetitions
from descend.gallery.picture import Axis, Bars, Line, Panel, Picture, numbers
from descend.gallery.training import loss_of
from descend.nn import initialize, mlp
from descend.nn.init import kaiming_normal, xavier_normal
from descend.rng import forked, generator, key

__all__ = ["CASES", "Measurement", "measure", "picture"]

CASES: dict[str, dict[str, Any]] = {
    "sigmoid": {"activation": "sigmoid"},
    "tanh": {"activation": "tanh"},
    "ReLU": {"activation": "relu"},
    "ReLU, × 2": {"activation": "relu", "factor": 2.0},
    "sigmoid, norm": {"activation": "sigmoid", "norm": "batch"},
}
"""Settings of each network; ``factor`` multiplies the weights of the hidden layers."""


@dataclass(frozen=True)
class Measurement:
    """By network, for each seed, the gradient norm of each hidden layer's weights, from the first layer to the last."""

    norms: dict[str, list[list[float]]]


def measure(
    seed: int = 0, *, seeds: int = 8, layers: int = 10, width: int = 64, rows: int = 500
) -> Measurement:
    """Run one backward pass through each network.

    Args:
        seed: seed of all random numbers.
        seeds: number of networks of each kind.
        layers: number of hidden layers.
        width: width of the hidden layers.
        rows: rows in the batch.
    """
    norms: dict[str, list[list[float]]] = {name: [] for name in CASES}
    for each in repetitions(seed, seeds):
        data = digits(each, train=rows).train
        for name, case in CASES.items():
            model = _network(each, case, (width,) * layers)
            loss_of(model, data).backward()
            linear = [module for module in model if isinstance(module, nn.Linear)]
            norms[name].append([float(_gradient(layer).norm()) for layer in linear[:-1]])
    return Measurement(norms)


def _gradient(layer: nn.Linear) -> torch.Tensor:
    result = layer.weight.grad
    assert result is not None
    return result


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


def picture(result: Measurement) -> Picture:
    """Return panels of the gradient norms by layer, and of the ratio of the first to the last."""
    colors = {name: f"s{at}" for at, name in enumerate(CASES, 1)}
    layers = range(1, len(result.norms["sigmoid"][0]) + 1)
    lines = []
    for name, runs in result.norms.items():
        ends = [ratio(run[at - 1] for run in runs) for at in layers]
        lines.append(
            Line(
                numbers(layers),
                numbers(end.value for end in ends),
                name,
                colors[name],
                dots=True,
                low=numbers(end.low or end.value for end in ends),
                high=numbers(end.high or end.value for end in ends),
            )
        )
    first = {name: ratio(run[0] / run[-1] for run in runs) for name, runs in result.norms.items()}
    bars = Bars(
        tuple(CASES),
        numbers(first[name].value for name in CASES),
        color="s1",
        low=numbers(first[name].low or first[name].value for name in CASES),
        high=numbers(first[name].high or first[name].value for name in CASES),
    )
    orders = {name: _inverse(estimate) for name, estimate in first.items()}
    vanishes = (orders["sigmoid"].low or orders["sigmoid"].value) > 100
    steady = max(orders["ReLU"].value, 1 / orders["ReLU"].value) < 10
    return Picture(
        name="depth",
        title="Gradients through depth",
        claim="Derivatives of early layers tend to be orders of magnitude smaller than those of late layers: vanishing and "
        "exploding gradients.",
        see="The line of the sigmoid falls from right to left by about a constant factor per layer, so that the first layer "
        "hardly learns. With suitable initialization the lines of ReLU and tanh are level: the claim concerns the sigmoid "
        "and unsuitable weight scales, not depth itself.",
        number="gradient of the last hidden layer over that of the first, sigmoid",
        value=orders["sigmoid"],
        finding=f"With ten sigmoid layers the gradient of the last layer is {orders['sigmoid']} times that of the first. "
        f"With tanh the ratio is {orders['tanh'].value:.2g}, with ReLU {orders['ReLU'].value:.2g}, with sigmoid and batch "
        f"norm {orders['sigmoid, norm'].value:.2g}: with suitable initialization or normalization the gradient "
        + ("does not vanish." if steady else "changes as well."),
        supported=vanishes,
        panels=(
            Panel(
                "Gradient norm of each layer's weights",
                tuple(lines),
                Axis("hidden layer"),
                Axis("norm", log=True),
                note="Bands are 95 % intervals over networks.",
            ),
            Panel(
                "Gradient of the first layer over that of the last",
                (bars,),
                Axis(""),
                Axis("ratio", log=True),
                note="A ratio of 1 is level. Doubling all weights doubles the signal in each layer: the output explodes, and "
                "with it the gradient of every layer.",
            ),
        ),
    )


def _inverse(estimate: Estimate) -> Estimate:
    if estimate.low is None or estimate.high is None:
        return Estimate(1 / estimate.value)
    return Estimate(1 / estimate.value, 1 / estimate.high, 1 / estimate.low)
