"""The diagnosis of a learning rate from the loss curve: very high, high, good and low.

A network for the digits, plain SGD, four constant rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from descend.gallery.fitting import loss_of, network, train_epoch
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.samples import digits
from descend.gallery.spread import mean
from descend.optim import sgd

__all__ = ["RATES", "Measured", "measure", "picture"]

RATES = {"very high": 8.0, "high": 1.2, "good": 0.1, "low": 0.001}


@dataclass(frozen=True)
class Measured:
    """Training losses by rate: for each seed one for every epoch and one before the first; not finite is inf."""

    losses: dict[str, list[list[float]]]


def measure(seed: int = 0, *, seeds: int = 5, epochs: int = 20, train: int = 600) -> Measured:
    """Train the same networks with each rate.

    Args:
        seed: the first.
        seeds: how many networks.
        epochs: passes over the rows.
        train: training rows, in batches of 50.
    """
    losses: dict[str, list[list[float]]] = {name: [] for name in RATES}
    for each in range(seed, seed + seeds):
        data = digits(each, train=train).train
        for name, rate in RATES.items():
            model = network(each, hidden=(64, 64))
            optimizer = sgd(model.parameters(), lr=rate)
            run = [float(loss_of(model, data).detach())]
            for epoch in range(1, epochs + 1):
                loss = train_epoch(model, optimizer, data, seed=each, epoch=epoch)
                run.append(loss if math.isfinite(loss) else math.inf)
            losses[name].append(run)
    return Measured(losses)


def picture(found: Measured) -> Picture:
    """The four curves."""
    epochs = range(len(found.losses["good"][0]))
    colours = {"very high": "s4", "high": "s2", "good": "s3", "low": "s1"}
    lines = []
    for name, runs in found.losses.items():
        rows = [[_log(run[at]) for run in runs] for at in epochs]
        bands = [mean(row) for row in rows]
        lines.append(
            Line(
                numbers(epochs),
                numbers(10**band.value for band in bands),
                f"{name}, {RATES[name]:g}",
                colours[name],
                low=numbers(10 ** (band.value if band.low is None else band.low) for band in bands),
                high=numbers(10 ** (band.value if band.high is None else band.high) for band in bands),
            )
        )
    first = mean(run[0] for run in found.losses["good"])
    ends = {name: mean(min(run[-1], 1e6) for run in runs) for name, runs in found.losses.items()}
    early = {name: mean(min(run[3], 1e6) for run in runs) for name, runs in found.losses.items()}
    sloping = mean(run[-1] / run[-3] for run in found.losses["low"])
    order = all(
        run["good"][-1] < run["high"][-1] and run["good"][-1] < run["low"][-1] and run["very high"][-1] > run["very high"][0]
        for run in (dict(zip(RATES, each, strict=True)) for each in zip(*found.losses.values(), strict=True))
    )
    last = len(epochs) - 1
    return Picture(
        name="learning_rate",
        title="Four learning rates",
        claim="A very high rate makes the loss explode; a high one falls fast and flattens too early; a low one converges "
        "but takes forever; a good one falls fast and low.",
        see="The high rate is the one that flattens at a loss above the good one's; the low rate's curve still slopes "
        "at the end, which asks for more epochs or a larger rate.",
        number="end loss of the high rate over the good one's",
        value=mean(
            min(high[-1], 1e6) / good[-1]
            for high, good in zip(found.losses["high"], found.losses["good"], strict=True)
        ),
        finding=f"From a loss of {first.value:.2f}, after {last} epochs: "
        + ", ".join(f"{name} ({RATES[name]:g}) {ends[name]}" for name in RATES)
        + f". After 3 epochs: high {early['high'].value:.2f}, good {early['good'].value:.2f}, low {early['low'].value:.2f}. "
        f"The low rate's last two epochs still lower its loss to {sloping.value:.1%} of what it was.",
        supported=order and sloping.value < 0.99,
        panels=(
            Panel(
                "Training loss",
                tuple(lines),
                Axis("epoch"),
                Axis("cross-entropy", log=True),
                shape="wide",
                note="Bands are 95 % intervals over networks, data orders and splits.",
            ),
        ),
    )


def _log(loss: float) -> float:
    return math.log10(min(max(loss, 1e-12), 1e6))
