"""The diagnosis of a learning rate from the loss curve: very high, high, good and low.

A network for the digits with a fifth of the labels wrong, plain SGD in batches of 10, four constant rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from descend.gallery.fitting import measured, network, train_epoch
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.samples import digits
from descend.gallery.spread import mean, ratio, repetitions
from descend.optim import sgd

__all__ = ["RATES", "Measured", "measure", "picture"]

RATES = {"very high": 1.0, "high": 0.7, "good": 0.1, "low": 0.0003}

LOUD = 1e3
"""A loss above this counts as this: the network has exploded."""


@dataclass(frozen=True)
class Measured:
    """Training losses by rate: for each seed one for every epoch and one before the first; not finite is inf."""

    losses: dict[str, list[list[float]]]


def measure(seed: int = 0, *, seeds: int = 6, epochs: int = 16, train: int = 600) -> Measured:
    """Train the same networks with each rate.

    Args:
        seed: of all.
        seeds: how many networks.
        epochs: passes over the rows.
        train: training rows, in batches of 10, a fifth of their labels wrong.
    """
    losses: dict[str, list[list[float]]] = {name: [] for name in RATES}
    for each in repetitions(seed, seeds):
        data = digits(each, train=train, noise=0.2).train
        for name, rate in RATES.items():
            model = network(each, hidden=(64,))
            optimizer = sgd(model.parameters(), lr=rate)
            run = [measured(model, data)[0]]
            for epoch in range(1, epochs + 1):
                train_epoch(model, optimizer, data, seed=each, epoch=epoch, size=10)
                loss, _ = measured(model, data)
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
    ends = {name: ratio(min(run[-1], LOUD) for run in runs) for name, runs in found.losses.items()}
    said = {name: f"over {LOUD:,.0f}" if end.value > 0.99 * LOUD else str(end) for name, end in ends.items()}
    sloping = mean(run[-1] / run[-3] for run in found.losses["low"])
    over_good = {
        name: ratio(
            min(run[-1], LOUD) / good[-1] for run, good in zip(runs, found.losses["good"], strict=True)
        )
        for name, runs in found.losses.items()
    }
    order = all((over_good[name].low or over_good[name].value) > 1.0 for name in ("very high", "high", "low"))
    exploded = ends["very high"].value > first.value
    last = len(epochs) - 1
    return Picture(
        name="learning_rate",
        title="Four learning rates",
        claim="A very high rate makes the loss explode; a high one falls fast and flattens too early; a low one converges "
        "but takes forever; a good one falls fast and low.",
        see="The high rate hops about and flattens at a loss above the good one's; the low rate's curve still slopes "
        "at the end, which asks for more epochs or a larger rate.",
        number="end loss of the high rate over the good one's",
        value=over_good["high"],
        finding=f"From a loss of {first.value:.2f}, after {last} epochs: "
        + ", ".join(f"{name} ({RATES[name]:g}) {said[name]}" for name in RATES)
        + ". "
        f"The low rate's last two epochs still lower its loss to {sloping.value:.1%} of what it was.",
        supported=order and exploded and sloping.value < 0.99,
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
    return math.log10(min(max(loss, 1e-12), LOUD))
