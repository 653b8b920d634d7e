"""Diagnosis of the learning rate from the loss curve: very high, high, good and low.

A network for the digits with a fifth of the labels wrong, plain SGD with batches of 10, four constant learning rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from descend.gallery.datasets import digits
from descend.gallery.intervals import mean, ratio, repetitions
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.training import evaluate, network, train_epoch
from descend.optim import sgd

__all__ = ["LEARNING_RATES", "Measurement", "measure", "picture"]

LEARNING_RATES = {"very high": 1.0, "high": 0.7, "good": 0.1, "low": 0.0003}

DIVERGED = 1e3
"""Value to which losses are clipped, because the network has diverged."""


@dataclass(frozen=True)
class Measurement:
    """Training losses by learning rate: for each seed, before training and after each epoch; inf if not finite."""

    losses: dict[str, list[list[float]]]


def measure(seed: int = 0, *, seeds: int = 6, epochs: int = 16, train: int = 600) -> Measurement:
    """Train the same networks with each learning rate.

    Args:
        seed: seed of all random numbers.
        seeds: number of networks.
        epochs: passes over the rows.
        train: number of training rows, a fifth of them with wrong labels.
    """
    losses: dict[str, list[list[float]]] = {name: [] for name in LEARNING_RATES}
    for each in repetitions(seed, seeds):
        data = digits(each, train=train, noise=0.2).train
        for name, lr in LEARNING_RATES.items():
            model = network(each, hidden=(64,))
            optimizer = sgd(model.parameters(), lr=lr)
            run = [evaluate(model, data)[0]]
            for epoch in range(1, epochs + 1):
                train_epoch(model, optimizer, data, seed=each, epoch=epoch, size=10)
                loss, _ = evaluate(model, data)
                run.append(loss if math.isfinite(loss) else math.inf)
            losses[name].append(run)
    return Measurement(losses)


def picture(result: Measurement) -> Picture:
    """Return a panel of the four loss curves."""
    epochs = range(len(result.losses["good"][0]))
    colors = {"very high": "s4", "high": "s2", "good": "s3", "low": "s1"}
    lines = []
    for name, runs in result.losses.items():
        rows = [[_log(run[at]) for run in runs] for at in epochs]
        bands = [mean(row) for row in rows]
        lines.append(
            Line(
                numbers(epochs),
                numbers(10**band.value for band in bands),
                f"{name}, {LEARNING_RATES[name]:g}",
                colors[name],
                low=numbers(10 ** (band.value if band.low is None else band.low) for band in bands),
                high=numbers(10 ** (band.value if band.high is None else band.high) for band in bands),
            )
        )
    first = mean(run[0] for run in result.losses["good"])
    ends = {name: ratio(min(run[-1], DIVERGED) for run in runs) for name, runs in result.losses.items()}
    end_losses = {
        name: f"over {DIVERGED:,.0f}" if end.value > 0.99 * DIVERGED else str(end)
        for name, end in ends.items()
    }
    sloping = mean(run[-1] / run[-3] for run in result.losses["low"])
    over_good = {
        name: ratio(
            min(run[-1], DIVERGED) / good[-1] for run, good in zip(runs, result.losses["good"], strict=True)
        )
        for name, runs in result.losses.items()
    }
    order = all((over_good[name].low or over_good[name].value) > 1.0 for name in ("very high", "high", "low"))
    exploded = ends["very high"].value > first.value
    last = len(epochs) - 1
    return Picture(
        name="learning_rate",
        title="Four learning rates",
        claim="A very high learning rate makes the loss explode. With a high one the loss falls fast and "
        "flattens too early. With "
        "a low one it converges, but slowly. With a good one it falls fast and far.",
        see="With the high learning rate the loss fluctuates and flattens above that of the good one. With the low one the curve "
        "still falls at the end, which suggests more epochs or a larger learning rate.",
        number="final loss with the high learning rate over that with the good one",
        value=over_good["high"],
        finding=f"From an initial loss of {first.value:.2f}, after {last} epochs: "
        + ", ".join(f"{name} ({LEARNING_RATES[name]:g}) {end_losses[name]}" for name in LEARNING_RATES)
        + ". "
        f"In the last two epochs the low learning rate still reduces its loss to {sloping.value:.1%}.",
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
    return math.log10(min(max(loss, 1e-12), DIVERGED))
