"""The lecture's first example: a cubic fitted to the sine, written in five ways.

y = a + b x + c x² + d x³ on 2000 points of [−π, π], F = Σ (y − sin x)², 2000 steps of gradient descent with
rate 10⁻⁶. The five ways are five notations of one computation, so from one start they must give one cubic.
As F is a quadratic, the exact least-squares cubic is known. The lecture's line ``torch.tensor([1, x, x3])``
is a slip: the exponents are [1, 2, 3].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.gallery.picture import Axis, Dash, Line, Panel, Picture, numbers
from descend.gallery.spread import exact, words
from descend.optim import rmsprop, sgd
from descend.rng import generator

__all__ = ["WAYS", "Measured", "measure", "picture"]

Record = list[float]


@dataclass(frozen=True)
class Measured:
    """Coefficients (4,) and losses of each way, of RMSprop as the lecture writes it, and the exact cubic."""

    x: Tensor
    coefficients: dict[str, Tensor]
    losses: dict[str, Record]
    exact: Tensor
    least: float
    adaptive: Tensor
    adaptive_losses: Record

    @property
    def apart(self) -> float:
        """The largest difference between coefficients of two ways."""
        stacked = torch.stack(list(self.coefficients.values()))
        return float((stacked.max(0).values - stacked.min(0).values).max())


def by_hand(x: Tensor, y: Tensor, start: Tensor, rate: float, steps: int) -> tuple[Tensor, Record]:
    """The derivatives worked out on paper."""
    a, b, c, d = start.clone()
    losses = []
    for _ in range(steps):
        error = a + b * x + c * x**2 + d * x**3 - y
        losses.append(float(error.square().sum()))
        twice = 2.0 * error
        a = a - rate * twice.sum()
        b = b - rate * (twice * x).sum()
        c = c - rate * (twice * x**2).sum()
        d = d - rate * (twice * x**3).sum()
    return torch.stack([a, b, c, d]), losses


def _known(gradient: Tensor | None) -> Tensor:
    assert gradient is not None, "backward gives every weight a gradient"
    return gradient


def by_autograd(x: Tensor, y: Tensor, start: Tensor, rate: float, steps: int) -> tuple[Tensor, Record]:
    """``backward`` in place of the paper."""
    weights = [value.clone().requires_grad_() for value in start]
    a, b, c, d = weights
    losses = []
    for _ in range(steps):
        loss = (a + b * x + c * x**2 + d * x**3 - y).pow(2).sum()
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for weight in weights:
                weight -= rate * _known(weight.grad)
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


def by_module(x: Tensor, y: Tensor, start: Tensor, rate: float, steps: int) -> tuple[Tensor, Record]:
    """A linear layer of ``torch.nn`` on the powers of x, its parameters moved by hand."""
    model, powers, losses = _linear(start), _powers(x), []
    loss_of = nn.MSELoss(reduction="sum")
    for _ in range(steps):
        loss = loss_of(model(powers), y)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(rate * _known(parameter.grad))
    return _read(model), losses


def by_optimizer(x: Tensor, y: Tensor, start: Tensor, rate: float, steps: int) -> tuple[Tensor, Record]:
    """The same layer, moved by :func:`descend.optim.sgd`."""
    model, powers, losses = _linear(start), _powers(x), []
    loss_of, optimizer = nn.MSELoss(reduction="sum"), sgd(model.parameters(), lr=rate)
    for _ in range(steps):
        loss = loss_of(model(powers), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _read(model), losses


class Cubic(nn.Module):
    """A module of one's own with four parameters."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Parameter(value.clone()) for value in start)

    def forward(self, x: Tensor) -> Tensor:
        """(n,) → (n,)."""
        return self.a + self.b * x + self.c * x**2 + self.d * x**3


def by_own_module(x: Tensor, y: Tensor, start: Tensor, rate: float, steps: int) -> tuple[Tensor, Record]:
    """A module with the cubic in its ``forward``."""
    model, losses = Cubic(start), []
    loss_of, optimizer = nn.MSELoss(reduction="sum"), sgd(model.parameters(), lr=rate)
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
    "own module": by_own_module,
}


def measure(seed: int = 0, *, points: int = 2000, steps: int = 2000, rate: float = 1e-6) -> Measured:
    """Fit the cubic in each way from one random start, in float64, and exactly.

    Args:
        seed: the start.
        points: of x.
        steps: of gradient descent.
        rate: of gradient descent on the sum of squares.
    """
    x = torch.linspace(-math.pi, math.pi, points, dtype=torch.float64)
    y = torch.sin(x)
    start = torch.randn(4, generator=generator(seed, "gallery/polynomial"), dtype=torch.float64)
    coefficients, losses = {}, {}
    for name, way in WAYS.items():
        coefficients[name], losses[name] = way(x, y, start, rate, steps)
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
    return Measured(x, coefficients, losses, best, least, _read(model), adaptive_losses)


_DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "dash", "dot")


def picture(found: Measured) -> Picture:
    """The fits, and how far each is from the least possible loss."""
    x = found.x[:: max(1, len(found.x) // 200)]
    xs = numbers(x)

    def curve(weights: Tensor) -> tuple[float | None, ...]:
        return numbers(torch.stack([x**power for power in range(4)], 1) @ weights)

    first = next(iter(found.coefficients))
    end = found.losses[first][-1]
    fits = Panel(
        "The fits",
        (
            Line(xs, numbers(torch.sin(x)), "sin x", "muted", width=4),
            Line(xs, curve(found.coefficients[first]), "all five ways", "s1"),
            Line(xs, curve(found.exact), "exact least squares", "s2", dash="dash"),
        ),
        Axis("x"),
        Axis("y"),
    )
    steps = range(0, len(found.losses[first]), max(1, len(found.losses[first]) // 300))
    excess = Panel(
        "Loss above the least possible",
        (
            *(
                Line(
                    numbers(steps),
                    numbers((losses[step] - found.least for step in steps), above=0.0),
                    name,
                    f"s{at}",
                    dash=_DASHES[at - 1],
                    width=6.5 - at,
                )
                for at, (name, losses) in enumerate(found.losses.items(), start=1)
            ),
            Line(
                numbers(steps),
                numbers((found.adaptive_losses[step] - found.least for step in steps), above=0.0),
                "RMSprop, 10⁻³",
                "s8",
            ),
        ),
        Axis("step"),
        Axis("F − F of the exact cubic", log=True),
        note="The five lie on top of each other. RMSprop is the lecture's fourth way as it is printed.",
    )
    written = " ".join(
        f"{'−' if value < 0 else '+'} {abs(value):.4f}{power}"
        for value, power in zip(found.exact.tolist(), ("", " x", " x²", " x³"), strict=True)
    )
    return Picture(
        name="polynomial",
        title="One cubic, five notations",
        claim="A cubic is fitted to the sine by gradient descent: with derivatives by hand, with autograd, with "
        "torch.nn, with an optimizer, with a module of one's own.",
        see="Five notations of one computation give one curve. It comes close to the exact least-squares cubic, which "
        f"is y = {written}, but after {len(found.losses[first]):,} steps it is not there yet.",
        number="largest difference between the coefficients of two ways",
        value=exact(found.apart),
        finding=f"From one start the five ways end at coefficients that differ by at most {words(found.apart)}. "
        f"Their loss is {end:.4g}; the least possible is {found.least:.4g}.",
        supported=found.apart < 1e-9,
        panels=(fits, excess),
    )
