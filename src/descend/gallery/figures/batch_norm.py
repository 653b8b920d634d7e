"""Batch normalization: the training loss without it, before and after the activation, and the smoothness of the loss.

Smoothness is measured as by Santurkar et al.: at each step, along the direction of the gradient, the range of the loss
over steps of ½ to 4 times the learning rate, the change of the gradient, and the largest
‖∇L(w) − ∇L(w − t g)‖ / ‖t g‖ among them, the effective β-smoothness.

Source: Santurkar, Tsipras, Ilyas and Madry, "How does batch normalization help optimization?", 2018, figure 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from descend.gallery.datasets import digits
from descend.gallery.intervals import Estimate, format_number, ratio, repetitions
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.training import network, shuffled
from descend.optim import sgd

__all__ = ["CASES", "Measurement", "Probe", "measure", "picture", "probe"]

CASES = {
    "no norm": {"norm": "none"},
    "before": {"norm": "batch", "norm_position": "before"},
    "after": {"norm": "batch", "norm_position": "after"},
}

LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Learning rates of the sweep."""

CHANCE = math.log(10)
"""Loss of a uniform guess, to which the loss of a diverged network is clipped."""

REACH = (0.5, 1.0, 2.0, 4.0)
"""Step lengths along the gradient, in units of the learning rate."""


@dataclass(frozen=True)
class Probe:
    """Along one gradient: lowest and highest loss, largest change of the gradient, and the effective β."""

    low: float
    high: float
    change: float
    smoothness: float


@dataclass(frozen=True)
class Measurement:
    """Results of each case.

    Args:
        every: steps between probes.
        losses: losses of the batches, (seeds, steps).
        low: lowest loss along the gradient, (seeds, probes).
        high: highest loss along the gradient, (seeds, probes).
        change: largest change of the gradient, (seeds, probes).
        smoothness: effective β, (seeds, probes).
        ends: mean loss of the last twenty steps, at most ``CHANCE``, (seeds, learning rates).
    """

    every: int
    losses: dict[str, Tensor]
    low: dict[str, Tensor]
    high: dict[str, Tensor]
    change: dict[str, Tensor]
    smoothness: dict[str, Tensor]
    ends: dict[str, Tensor]


def probe(model: nn.Module, rows: Tensor, labels: Tensor, lr: float) -> Probe:
    """Evaluate the loss along the gradient from the current parameters, which are not changed."""
    here = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def at(length: float, direction: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        moved = {name: (value - length * direction[name]).requires_grad_() for name, value in here.items()}
        loss = nn.functional.cross_entropy(functional_call(model, moved, (rows,)), labels)
        gradients = torch.autograd.grad(loss, list(moved.values()))
        return float(loss.detach()), dict(zip(moved, gradients, strict=True))

    still = {name: torch.zeros_like(value) for name, value in here.items()}
    _, gradient = at(0.0, still)
    size = float(torch.stack([g.square().sum() for g in gradient.values()]).sum().sqrt())
    losses, changes, gradients = [], [], []
    for reach in REACH:
        loss, there = at(reach * lr, gradient)
        off = float(
            torch.stack([(there[name] - g).square().sum() for name, g in gradient.items()]).sum().sqrt()
        )
        losses.append(loss)
        changes.append(off)
        gradients.append(off / max(reach * lr * size, 1e-30))
    return Probe(min(losses), max(losses), max(changes), max(gradients))


def measure(
    seed: int = 0,
    *,
    seeds: int = 5,
    sweep_seeds: int = 3,
    steps: int = 160,
    every: int = 8,
    layers: int = 8,
    width: int = 48,
    lr: float = 0.1,
) -> Measurement:
    """Train deep networks on the digits with SGD and probe the loss during training.

    Args:
        seed: seed of all random numbers.
        seeds: number of networks of each case.
        sweep_seeds: number of networks trained with each of the ``LEARNING_RATES``.
        steps: number of training steps.
        every: steps between probes.
        layers: number of hidden layers.
        width: width of the hidden layers.
        lr: learning rate of SGD while probing.
    """
    hidden = (width,) * layers
    table: dict[str, dict[str, list[list[float]]]] = {}
    for name, settings in CASES.items():
        kept: dict[str, list[list[float]]] = {
            key: [] for key in ("losses", "low", "high", "change", "smoothness")
        }
        for each in repetitions(seed, seeds):
            losses, probes = _train(each, settings, steps, every, hidden, lr)
            kept["losses"].append(losses)
            for key in ("low", "high", "change", "smoothness"):
                kept[key].append([getattr(one, key) for one in probes])
        table[name] = kept

    ends = {
        name: torch.tensor(
            [
                [_end(each, settings, steps, hidden, one) for one in LEARNING_RATES]
                for each in repetitions(seed, sweep_seeds)
            ]
        )
        for name, settings in CASES.items()
    }

    def of(key: str) -> dict[str, Tensor]:
        return {name: torch.tensor(kept[key]) for name, kept in table.items()}

    return Measurement(every, of("losses"), of("low"), of("high"), of("change"), of("smoothness"), ends)


def _train(
    seed: int, settings: dict[str, str], steps: int, every: int, hidden: tuple[int, ...], lr: float
) -> tuple[list[float], list[Probe]]:
    rows, labels = digits(seed).train
    model = network(seed, hidden=hidden, **settings).train()
    optimizer = sgd(model.parameters(), lr=lr)
    losses, probes = [], []
    per_epoch = len(rows) // 100
    for step in range(steps):
        if step % per_epoch == 0:
            batches = list(shuffled(seed, len(rows), step // per_epoch, 100))
        chosen = batches[step % per_epoch]
        if step % every == 0:
            probes.append(probe(model, rows[chosen], labels[chosen], lr))
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(rows[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, probes


def _end(seed: int, settings: dict[str, str], steps: int, hidden: tuple[int, ...], lr: float) -> float:
    losses, _ = _train(seed, settings, steps, steps, hidden, lr)
    last = sum(losses[-20:]) / len(losses[-20:])
    return min(last, CHANCE) if math.isfinite(last) else CHANCE


_COLORS = {"no norm": "s2", "before": "s1", "after": "s3"}


def picture(result: Measurement) -> Picture:
    """Return panels of losses, the range of the loss along the gradient, the change of the gradient, and β."""
    steps = range(result.losses["before"].shape[1])
    probed = range(0, len(steps), result.every)
    training = tuple(
        Line(numbers(steps), numbers(_smooth(losses.mean(0)), above=0.0), name, _COLORS[name])
        for name, losses in result.losses.items()
    )
    ranges = tuple(
        Line(
            numbers(probed),
            numbers((result.low[name].mean(0) + result.high[name].mean(0)) / 2),
            name,
            _COLORS[name],
            low=numbers(result.low[name].mean(0)),
            high=numbers(result.high[name].mean(0)),
        )
        for name in ("no norm", "before")
    )

    def lines(of: dict[str, Tensor]) -> tuple[Line, ...]:
        return tuple(
            Line(numbers(probed), numbers(values.log().mean(0).exp(), above=0.0), name, _COLORS[name])
            for name, values in of.items()
        )

    spans = {name: result.high[name] - result.low[name] for name in result.low}
    narrower = _against(spans, "before")
    steadier = _against(result.change, "before")
    smoother = _against(result.smoothness, "before")
    smooth = all((one.low or one.value) > 1.0 for one in (narrower, smoother))
    best = ", ".join(f"{name} {_best(ends)}" for name, ends in result.ends.items())
    quarter = max(1, result.smoothness["before"].shape[1] // 4)
    beginning = _against({name: values[:, :quarter] for name, values in result.smoothness.items()}, "before")
    return Picture(
        name="batch_norm",
        title="Batch normalization and the smoothness of the loss",
        claim="Batch normalization makes the optimization problem smoother (Santurkar et al. 2018). Whether it belongs before "
        "or after the activation is debated.",
        see="The band shows how much the loss varies along one gradient: with batch norm it is narrower, and the gradient "
        "changes less. The last panel shows the learning rates at which each network learns.",
        number="effective β without batch norm over that with it",
        value=smoother,
        finding=f"Ratios without over with batch norm (before the activation): range of the loss along the gradient {narrower}, "
        f"change of the gradient {steadier}, effective β {smoother} (in the first quarter of training {beginning}). "
        f"Final training loss with the best learning rate of each case: {best}. Without batch norm the largest learning "
        f"rate that trains is {_largest(result.ends['no norm'])}, with it {_largest(result.ends['before'])} before and "
        f"{_largest(result.ends['after'])} after the activation.",
        supported=smooth,
        panels=(
            Panel("Training loss, mean over runs", training, Axis("step"), Axis("cross-entropy", log=True)),
            Panel("Range of the loss along the gradient", ranges, Axis("step"), Axis("cross-entropy")),
            Panel(
                "Largest change of the gradient", lines(result.change), Axis("step"), Axis("norm", log=True)
            ),
            Panel("Effective β", lines(result.smoothness), Axis("step"), Axis("β", log=True)),
            Panel(
                "Final training loss by learning rate",
                tuple(_ended(name, ends) for name, ends in result.ends.items()),
                Axis("learning rate", log=True),
                Axis("cross-entropy", log=True),
                shape="wide",
                note=f"Mean of the last 20 of {len(steps)} steps; {CHANCE:.2f} is the loss of a uniform guess. "
                "Bands reach from the best network to the worst.",
            ),
        ),
    )


def _ended(name: str, ends: Tensor) -> Line:
    """Return the geometric mean over networks, with a band from the best to the worst."""
    return Line(
        numbers(LEARNING_RATES),
        numbers(ends.log().mean(0).exp()),
        name,
        _COLORS[name],
        dots=True,
        low=numbers(ends.min(0).values),
        high=numbers(ends.max(0).values),
    )


def _best(ends: Tensor) -> str:
    at = int(ends.log().mean(0).argmin())
    return f"{format_number(float(ends[:, at].log().mean().exp()))} at {LEARNING_RATES[at]:g}"


def _largest(ends: Tensor) -> str:
    """Return the largest learning rate at which every network is well below a uniform guess."""
    learns = [
        lr for lr, column in zip(LEARNING_RATES, ends.T, strict=True) if float(column.max()) < 0.5 * CHANCE
    ]
    return f"{max(learns):g}" if learns else "none of these"


def _against(of: dict[str, Tensor], name: str) -> Estimate:
    """Return the geometric mean over steps without batch norm over that with it, one ratio per seed."""
    logs = {each: of[each].clamp(min=1e-12).log().mean(1) for each in ("no norm", name)}
    return ratio((logs["no norm"] - logs[name]).exp().tolist())


def _smooth(values: Tensor, width: int = 9) -> Tensor:
    padded = nn.functional.pad(values.reshape(1, 1, -1), (width // 2, width // 2), mode="replicate")
    return nn.functional.avg_pool1d(padded, width, 1).flatten()
