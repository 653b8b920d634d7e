"""A cubic fitted to the sine, implemented in five ways.

y = a + b x + c x² + d x³ on 2000 points of [−π, π], F = Σ (y − sin x)², 2000 steps of gradient descent with learning
rate 10⁻⁶. The five implementations are the same computation, so that from one start they must find the same cubic.
F is a quadratic, so that the exact least-squares cubic is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.gallery.intervals import exact, format_number
from descend.gallery.picture import Axis, Dash, Line, Panel, Picture, numbers
from descend.optim import rmsprop, sgd
from descend.rng import generator

__all__ = ["WAYS", "Measurement", "measure", "picture"]

Record = list[float]


@dataclass(frozen=True)
class Measurement:
    """Coefficients and losses of each implementation and of RMSprop, and the exact cubic.

    Args:
        x: points.
        coefficients: by implementation, (4,).
        losses: by implementation, the loss before each step.
        exact: coefficients of the least-squares cubic, (4,).
        least: smallest possible loss.
        adaptive: coefficients found by RMSprop, (4,).
        adaptive_losses: its loss before each step.
    """

    x: Tensor
    coefficients: dict[str, Tensor]
    losses: dict[str, Record]
    exact: Tensor
    least: float
    adaptive: Tensor
    adaptive_losses: Record

    @property
    def apart(self) -> float:
        """Largest difference between the coefficients of two implementations."""
        stacked = torch.stack(list(self.coefficients.values()))
        return float((stacked.max(0).values - stacked.min(0).values).max())


def by_hand(x: Tensor, y: Tensor, start: Tensor, lr: float, steps: int) -> tuple[Tensor, Record]:
    """Derivatives worked out by hand."""
    a, b, c, d = start.clone()
    losses = []
    for _ in range(steps):
        error = a + b * x + c * x**2 + d * x**3 - y
        losses.append(float(error.square().sum()))
        twice = 2.0 * error
        a = a - lr * twice.sum()
        b = b - lr * (twice * x).sum()
        c = c - lr * (twice * x**2).sum()
        d = d - lr * (twice * x**3).sum()
    return torch.stack([a, b, c, d]), losses


def _known(gradient: Tensor | None) -> Tensor:
    assert gradient is not None, "backward sets the gradient of every weight"
    return gradient


def by_autograd(x: Tensor, y: Tensor, start: Tensor, lr: float, steps: int) -> tuple[Tensor, Record]:
    """Derivatives by ``backward``."""
    weights = [value.clone().requires_grad_() for value in start]
    a, b, c, d = weights
    losses = []
    for _ in range(steps):
        loss = (a + b * x + c * x**2 + d * x**3 - y).pow(2).sum()
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for weight in weights:
                weight -= lr * _known(weight.grad)
                weight.grad = None
    return torch.stack([weight.detach() for weight in weights]), losses


def _linear(start: Tensor) -> nn.Sequential:
    layer = nn.Linear(3, 1).to(start.dtype)
    with torch.no_grad():
        layer.bias.copy_(start[:1])
        layer.weight.copy_(start[1:].reshape(1, 3))
    return nn.Sequential(layer, nn.Flatten(0, 1))


def _read(model: nn.Sequential) -> Tensor:
    weight, bias = model.parameters()
    return torch.cat([bias.detach(), weight.detach().flatten()])


def _powers(x: Tensor) -> Tensor:
    return x.unsqueeze(-1).pow(torch.tensor([1, 2, 3]))


def by_module(x: Tensor, y: Tensor, start: Tensor, lr: float, steps: int) -> tuple[Tensor, Record]:
    """A linear layer of ``torch.nn`` on the powers of x, with a manual update."""
    model, powers, losses = _linear(start), _powers(x), []
    loss_of = nn.MSELoss(reduction="sum")
    for _ in range(steps):
        loss = loss_of(model(powers), y)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(lr * _known(parameter.grad))
    return _read(model), losses


def by_optimizer(x: Tensor, y: Tensor, start: Tensor, lr: float, steps: int) -> tuple[Tensor, Record]:
    """The same layer, updated by :func:`descend.optim.sgd`."""
    model, powers, losses = _linear(start), _powers(x), []
    loss_of, optimizer = nn.MSELoss(reduction="sum"), sgd(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = loss_of(model(powers), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _read(model), losses


class Cubic(nn.Module):
    """A custom module with four parameters."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Parameter(value.clone()) for value in start)

    def forward(self, x: Tensor) -> Tensor:
        """(n,) → (n,)."""
        return self.a + self.b * x + self.c * x**2 + self.d * x**3


def by_custom_module(x: Tensor, y: Tensor, start: Tensor, lr: float, steps: int) -> tuple[Tensor, Record]:
    """A custom module with the cubic in its ``forward``."""
    model, losses = Cubic(start), []
    loss_of, optimizer = nn.MSELoss(reduction="sum"), sgd(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = loss_of(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.stack([parameter.detach() for parameter in model.parameters()]), losses


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor, float, int], tuple[Tensor, Record]]] = {
    "gradient by hand": by_hand,
    "autograd": by_autograd,
    "torch.nn": by_module,
    "an optimizer": by_optimizer,
    "custom module": by_custom_module,
}


def measure(seed: int = 0, *, points: int = 2000, steps: int = 2000, lr: float = 1e-6) -> Measurement:
    """Fit the cubic with each implementation from one random start, in float64, and exactly.

    Args:
        seed: seed of the start.
        points: number of points x.
        steps: number of steps of gradient descent.
        lr: learning rate of gradient descent on the sum of squares.
    """
    x = torch.linspace(-math.pi, math.pi, points, dtype=torch.float64)
    y = torch.sin(x)
    start = torch.randn(4, generator=generator(seed, "gallery/polynomial"), dtype=torch.float64)
    coefficients, losses = {}, {}
    for name, way in WAYS.items():
        coefficients[name], losses[name] = way(x, y, start, lr, steps)
    table = torch.stack([x**power for power in range(4)], 1)
    best = torch.linalg.lstsq(table, y.unsqueeze(1)).solution.squeeze(1)
    least = float((table @ best - y).square().sum())
    model, powers, adaptive_losses = _linear(start), _powers(x), []
    loss_of, optimizer = nn.MSELoss(reduction="sum"), rmsprop(model.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = loss_of(model(powers), y)
        adaptive_losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Measurement(x, coefficients, losses, best, least, _read(model), adaptive_losses)


_DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "dash", "dot")


def picture(result: Measurement) -> Picture:
    """Return panels of the fits, and of the loss above the minimum."""
    x = result.x[:: max(1, len(result.x) // 200)]
    xs = numbers(x)

    def curve(weights: Tensor) -> tuple[float | None, ...]:
        return numbers(torch.stack([x**power for power in range(4)], 1) @ weights)

    first = next(iter(result.coefficients))
    end = result.losses[first][-1]
    fits = Panel(
        "Fits",
        (
            Line(xs, numbers(torch.sin(x)), "sin x", "muted", width=4),
            Line(xs, curve(result.coefficients[first]), "all five implementations", "s1"),
            Line(xs, curve(result.exact), "exact least squares", "s2", dash="dash"),
        ),
        Axis("x"),
        Axis("y"),
    )
    steps = range(0, len(result.losses[first]), max(1, len(result.losses[first]) // 300))
    excess = Panel(
        "Loss above the minimum",
        (
            *(
                Line(
                    numbers(steps),
                    numbers((losses[step] - result.least for step in steps), above=0.0),
                    name,
                    f"s{at}",
                    dash=_DASHES[at - 1],
                    width=6.5 - at,
                )
                for at, (name, losses) in enumerate(result.losses.items(), start=1)
            ),
            Line(
                numbers(steps),
                numbers((result.adaptive_losses[step] - result.least for step in steps), above=0.0),
                "RMSprop, 10⁻³",
                "s8",
            ),
        ),
        Axis("step"),
        Axis("F − min F", log=True),
        note="The five curves coincide. RMSprop is shown for comparison.",
    )
    written = " ".join(
        f"{'−' if value < 0 else '+'} {abs(value):.4f}{power}"
        for value, power in zip(result.exact.tolist(), ("", " x", " x²", " x³"), strict=True)
    )
    return Picture(
        name="polynomial",
        title="A cubic in five implementations",
        claim="A cubic can be fitted to the sine by gradient descent with derivatives by hand, with autograd, "
        "with torch.nn, with "
        "an optimizer, and with a custom module; all give the same result.",
        see="The five implementations give one curve. It comes close to the exact least-squares cubic, "
        f"y = {written}, but has not reached it after {len(result.losses[first]):,} steps.",
        number="largest difference between the coefficients of two implementations",
        value=exact(result.apart),
        finding=f"From one start the coefficients of the five implementations differ by at most {format_number(result.apart)}. "
        f"Their loss is {end:.4g}; the minimum is {result.least:.4g}.",
        supported=result.apart < 1e-9,
        panels=(fits, excess),
    )
