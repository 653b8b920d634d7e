"""Batch normalisation: the training loss without it, before and after the activation, and how smooth the loss is.

Smoothness as Santurkar et al. measure it: at each step, along the direction of the gradient, how much the loss
varies over steps of ½ to 4 times the rate, how far the gradient moves, and the largest
‖∇L(w) − ∇L(w − t g)‖ / ‖t g‖ among them, the effective β of smoothness.

Source: Santurkar, Tsipras, Ilyas and Madry, "How does batch normalization help optimization?", 2018, figure 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from descend.gallery.fitting import network, shuffled
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.samples import digits
from descend.gallery.spread import Estimate, ratio, repetitions, words
from descend.optim import sgd

__all__ = ["CASES", "Measured", "Probe", "measure", "picture", "probe"]

CASES = {
    "no norm": {"norm": "none"},
    "before": {"norm": "batch", "norm_position": "before"},
    "after": {"norm": "batch", "norm_position": "after"},
}

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Rates that training is tried with."""

CHANCE = math.log(10)
"""The loss of a guess: a network that exploded is worth no less."""

REACH = (0.5, 1.0, 2.0, 4.0)
"""Lengths along the gradient, in units of the rate."""


@dataclass(frozen=True)
class Probe:
    """Along one gradient: lowest and highest loss, largest change of the gradient, and the effective β."""

    low: float
    high: float
    change: float
    smoothness: float


@dataclass(frozen=True)
class Measured:
    """What was found in each case.

    Args:
        every: steps between probes.
        losses: (seeds, steps), of the batches.
        low: (seeds, probes), the lowest loss along the gradient.
        high: (seeds, probes), the highest.
        change: (seeds, probes), the largest change of the gradient.
        smoothness: (seeds, probes), the effective β.
        ends: (seeds, rates), the mean loss of the last twenty steps, at most ``CHANCE``.
    """

    every: int
    losses: dict[str, Tensor]
    low: dict[str, Tensor]
    high: dict[str, Tensor]
    change: dict[str, Tensor]
    smoothness: dict[str, Tensor]
    ends: dict[str, Tensor]


def probe(model: nn.Module, rows: Tensor, labels: Tensor, rate: float) -> Probe:
    """Look along the gradient from where the model stands; its parameters stay as they are."""
    here = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def at(length: float, direction: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        moved = {name: (value - length * direction[name]).requires_grad_() for name, value in here.items()}
        loss = nn.functional.cross_entropy(functional_call(model, moved, (rows,)), labels)
        slopes = torch.autograd.grad(loss, list(moved.values()))
        return float(loss.detach()), dict(zip(moved, slopes, strict=True))

    still = {name: torch.zeros_like(value) for name, value in here.items()}
    _, gradient = at(0.0, still)
    size = float(torch.stack([g.square().sum() for g in gradient.values()]).sum().sqrt())
    losses, changes, slopes = [], [], []
    for reach in REACH:
        loss, there = at(reach * rate, gradient)
        off = float(
            torch.stack([(there[name] - g).square().sum() for name, g in gradient.items()]).sum().sqrt()
        )
        losses.append(loss)
        changes.append(off)
        slopes.append(off / max(reach * rate * size, 1e-30))
    return Probe(min(losses), max(losses), max(changes), max(slopes))


def measure(
    seed: int = 0,
    *,
    seeds: int = 5,
    tried: int = 3,
    steps: int = 160,
    every: int = 8,
    layers: int = 8,
    width: int = 48,
    rate: float = 0.1,
) -> Measured:
    """Train deep networks for the digits with SGD and probe them on their way.

    Args:
        seed: of all.
        seeds: how many networks of each case.
        tried: how many of them are trained with each of the ``RATES``.
        steps: of training.
        every: steps between probes.
        layers: hidden layers.
        width: of each.
        rate: of SGD.
    """
    hidden = (width,) * layers
    table: dict[str, dict[str, list[list[float]]]] = {}
    for name, settings in CASES.items():
        kept: dict[str, list[list[float]]] = {
            key: [] for key in ("losses", "low", "high", "change", "smoothness")
        }
        for each in repetitions(seed, seeds):
            losses, probes = _train(each, settings, steps, every, hidden, rate)
            kept["losses"].append(losses)
            for key in ("low", "high", "change", "smoothness"):
                kept[key].append([getattr(one, key) for one in probes])
        table[name] = kept

    ends = {
        name: torch.tensor(
            [[_end(each, settings, steps, hidden, one) for one in RATES] for each in repetitions(seed, tried)]
        )
        for name, settings in CASES.items()
    }

    def of(key: str) -> dict[str, Tensor]:
        return {name: torch.tensor(kept[key]) for name, kept in table.items()}

    return Measured(every, of("losses"), of("low"), of("high"), of("change"), of("smoothness"), ends)


def _train(
    seed: int, settings: dict[str, str], steps: int, every: int, hidden: tuple[int, ...], rate: float
) -> tuple[list[float], list[Probe]]:
    rows, labels = digits(seed).train
    model = network(seed, hidden=hidden, **settings).train()
    optimizer = sgd(model.parameters(), lr=rate)
    losses, probes = [], []
    per_epoch = len(rows) // 100
    for step in range(steps):
        if step % per_epoch == 0:
            batches = list(shuffled(seed, len(rows), step // per_epoch, 100))
        chosen = batches[step % per_epoch]
        if step % every == 0:
            probes.append(probe(model, rows[chosen], labels[chosen], rate))
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(rows[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, probes


def _end(seed: int, settings: dict[str, str], steps: int, hidden: tuple[int, ...], rate: float) -> float:
    losses, _ = _train(seed, settings, steps, steps, hidden, rate)
    last = sum(losses[-20:]) / len(losses[-20:])
    return min(last, CHANCE) if math.isfinite(last) else CHANCE


_COLOURS = {"no norm": "s2", "before": "s1", "after": "s3"}


def picture(found: Measured) -> Picture:
    """Losses, the range of the loss along the gradient, the change of the gradient, and β."""
    steps = range(found.losses["before"].shape[1])
    probed = range(0, len(steps), found.every)
    training = tuple(
        Line(numbers(steps), numbers(_smooth(losses.mean(0)), above=0.0), name, _COLOURS[name])
        for name, losses in found.losses.items()
    )
    ranges = tuple(
        Line(
            numbers(probed),
            numbers((found.low[name].mean(0) + found.high[name].mean(0)) / 2),
            name,
            _COLOURS[name],
            low=numbers(found.low[name].mean(0)),
            high=numbers(found.high[name].mean(0)),
        )
        for name in ("no norm", "before")
    )

    def lines(of: dict[str, Tensor]) -> tuple[Line, ...]:
        return tuple(
            Line(numbers(probed), numbers(values.log().mean(0).exp(), above=0.0), name, _COLOURS[name])
            for name, values in of.items()
        )

    spans = {name: found.high[name] - found.low[name] for name in found.low}
    narrower = _against(spans, "before")
    steadier = _against(found.change, "before")
    smoother = _against(found.smoothness, "before")
    smooth = all((one.low or one.value) > 1.0 for one in (narrower, smoother))
    best = ", ".join(f"{name} {_best(ends)}" for name, ends in found.ends.items())
    quarter = max(1, found.smoothness["before"].shape[1] // 4)
    beginning = _against({name: values[:, :quarter] for name, values in found.smoothness.items()}, "before")
    return Picture(
        name="batch_norm",
        title="Batch normalisation and the smoothness of the loss",
        claim="Batch normalisation makes the optimisation problem nicer, or smoother (Santurkar et al. 2018). Before or "
        "after the activation is debatable.",
        see="The band shows how much the loss varies along one gradient: with batch norm it is narrower and the gradient "
        "changes less. Below, the rates at which each network learns.",
        number="effective β without the norm over that with it",
        value=smoother,
        finding=f"Without over with batch norm (before): range of the loss along the gradient {narrower}, change of the "
        f"gradient {steadier}, effective β {smoother} (in the first quarter {beginning}). "
        f"Training loss at the end with the best rate of each: {best}. Without the norm the largest "
        f"rate that learns is {_largest(found.ends['no norm'])}, with it {_largest(found.ends['before'])} before and "
        f"{_largest(found.ends['after'])} after the activation.",
        supported=smooth,
        panels=(
            Panel("Training loss, mean of all runs", training, Axis("step"), Axis("cross-entropy", log=True)),
            Panel("Range of the loss along the gradient", ranges, Axis("step"), Axis("cross-entropy")),
            Panel(
                "Largest change of the gradient", lines(found.change), Axis("step"), Axis("norm", log=True)
            ),
            Panel("Effective β", lines(found.smoothness), Axis("step"), Axis("β", log=True)),
            Panel(
                "Training loss at the end, by rate",
                tuple(_ended(name, ends) for name, ends in found.ends.items()),
                Axis("rate", log=True),
                Axis("cross-entropy", log=True),
                shape="wide",
                note=f"The mean of the last 20 of {len(steps)} steps; {CHANCE:.2f} is the loss of a guess. "
                "Bands reach from the best network to the worst.",
            ),
        ),
    )


def _ended(name: str, ends: Tensor) -> Line:
    """The geometric mean over networks, and from the best to the worst of them."""
    return Line(
        numbers(RATES),
        numbers(ends.log().mean(0).exp()),
        name,
        _COLOURS[name],
        dots=True,
        low=numbers(ends.min(0).values),
        high=numbers(ends.max(0).values),
    )


def _best(ends: Tensor) -> str:
    at = int(ends.log().mean(0).argmin())
    return f"{words(float(ends[:, at].log().mean().exp()))} at {RATES[at]:g}"


def _largest(ends: Tensor) -> str:
    """The largest rate at which each network is well below a guess."""
    learns = [rate for rate, column in zip(RATES, ends.T, strict=True) if float(column.max()) < 0.5 * CHANCE]
    return f"{max(learns):g}" if learns else "none of these"


def _against(of: dict[str, Tensor], name: str) -> Estimate:
    """The geometric mean over steps without the norm over that with it, one ratio for each seed."""
    logs = {each: of[each].clamp(min=1e-12).log().mean(1) for each in ("no norm", name)}
    return ratio((logs["no norm"] - logs[name]).exp().tolist())


def _smooth(values: Tensor, width: int = 9) -> Tensor:
    padded = nn.functional.pad(values.reshape(1, 1, -1), (width // 2, width // 2), mode="replicate")
    return nn.functional.avg_pool1d(padded, width, 1).flatten()
