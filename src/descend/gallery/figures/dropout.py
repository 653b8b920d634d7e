"""Dropout: training and evaluation mode, and the ensemble of sub-networks that evaluation mode approximates.

In training, each pass drops units at random, which selects one of the 2ⁿ sub-networks. In evaluation nothing is
dropped, which approximates the mean over all sub-networks in one pass. As in PyTorch, ``p`` is the probability to drop
a unit; some texts use p for the probability to keep it.

Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, section 7.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.gallery.datasets import digits
from descend.gallery.intervals import mean, ratio, repetitions
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.training import evaluate, network, train_epoch
from descend.optim import adam
from descend.rng import forked, key

__all__ = ["COUNTS", "Measurement", "measure", "picture"]

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Numbers of sub-networks whose probabilities are averaged."""


@dataclass(frozen=True)
class Measurement:
    """Test losses, ensemble losses, errors and output differences for each seed.

    Args:
        plain: test loss by epoch without dropout, (seeds, epochs).
        dropped: test loss by epoch with dropout, (seeds, epochs).
        ensembles: loss of averaged probabilities, (seeds, counts).
        single: loss of one pass in evaluation mode, (seeds,).
        errors: final error without and with dropout, (seeds, 2).
        gaps: mean distance between the probabilities of two passes in training mode, and largest distance between
            those of two passes in evaluation mode, (seeds, 2).
    """

    plain: Tensor
    dropped: Tensor
    ensembles: Tensor
    single: Tensor
    errors: Tensor
    gaps: Tensor


def measure(
    seed: int = 0, *, seeds: int = 5, epochs: int = 50, train: int = 200, width: int = 128, p: float = 0.5
) -> Measurement:
    """Train with and without dropout on a few rows with some wrong labels, then average sub-networks.

    Args:
        seed: seed of all random numbers.
        seeds: number of networks.
        epochs: passes over the rows.
        train: number of training rows.
        width: width of the two hidden layers.
        p: probability to drop a unit.
    """
    kept: dict[str, list[object]] = {
        name: [] for name in ("plain", "dropped", "ensembles", "single", "errors", "gaps")
    }
    for each in repetitions(seed, seeds):
        data = digits(each, train=train, validation=997, noise=0.2)
        curves, last, model = {}, {}, nn.Sequential()
        for name, drop in (("plain", 0.0), ("dropped", p)):
            model = network(each, hidden=(width, width), dropout=drop)
            optimizer = adam(model.parameters(), lr=2e-3, fused=True)
            curve = []
            for epoch in range(1, epochs + 1):
                train_epoch(model, optimizer, data.train, seed=each, epoch=epoch, size=25)
                curve.append(evaluate(model, data.test))
            curves[name] = [loss for loss, _ in curve]
            last[name] = curve[-1][1]
        kept["plain"].append(curves["plain"])
        kept["dropped"].append(curves["dropped"])
        kept["errors"].append([last["plain"], last["dropped"]])
        ensembles, single, gaps = _ensembles(model, *data.test, each)
        kept["ensembles"].append(ensembles)
        kept["single"].append(single)
        kept["gaps"].append(gaps)
    return Measurement(**{name: torch.tensor(values) for name, values in kept.items()})


@torch.no_grad()
def _ensembles(
    model: nn.Module, rows: Tensor, labels: Tensor, seed: int
) -> tuple[list[float], float, list[float]]:
    """Return the losses of averaged sub-networks and of one evaluation pass, and two-pass differences of each mode."""
    model.train()
    with forked():
        torch.manual_seed(key(seed, "gallery/dropout/ensemble"))
        passes = torch.stack([model(rows).softmax(1) for _ in range(COUNTS[-1])])
    model.eval()
    whole, again = (model(rows).softmax(1) for _ in range(2))

    def loss(probabilities: Tensor) -> float:
        return float(-probabilities.gather(1, labels.unsqueeze(1)).log().mean())

    running = passes.cumsum(0)
    losses = [loss(running[count - 1] / count) for count in COUNTS]
    return (
        losses,
        loss(whole),
        [float((passes[0] - passes[1]).abs().sum(1).mean()), float((whole - again).abs().max())],
    )


def picture(result: Measurement) -> Picture:
    """Return panels of the test losses during training and of the loss of ensembles."""
    epochs = range(1, result.plain.shape[1] + 1)
    training = Panel(
        "Test loss during training",
        (
            _band(epochs, result.plain, "without dropout", "s2"),
            _band(epochs, result.dropped, "with dropout, p = 0.5", "s1"),
        ),
        Axis("epoch"),
        Axis("cross-entropy"),
        note="Measured in evaluation mode. Bands are 95 % intervals over networks.",
    )
    whole = mean(result.single.tolist())
    ensembles = Panel(
        "Ensemble of sub-networks",
        (
            _band(COUNTS, result.ensembles, "mean of n sub-networks", "s3", dots=True),
            Line(
                numbers((COUNTS[0], COUNTS[-1])),
                numbers((whole.value,) * 2),
                "one pass in evaluation mode",
                "s1",
                "dash",
            ),
        ),
        Axis("averaged sub-networks n", log=True),
        Axis("test cross-entropy"),
        note="One pass in training mode is one sub-network.",
    )
    gain = ratio((result.ensembles[:, 0] / result.ensembles[:, -1]).tolist())
    one = ratio((result.ensembles[:, 0] / result.single).tolist())
    short = ratio((result.single / result.ensembles[:, -1]).tolist())
    regular = ratio((result.plain[:, -1] / result.dropped[:, -1]).tolist())
    errors = [mean((100 * result.errors[:, at]).tolist()) for at in range(2)]
    return Picture(
        name="dropout",
        title="Dropout as an ensemble of sub-networks",
        claim="Dropout drops units at random for each sample in training and none in evaluation. This is equivalent to "
        "averaging 2ⁿ sub-networks, and such bagging avoids overfitting.",
        see="A single sub-network is worse than the full network. The more sub-networks are averaged, the lower the loss, and "
        "one pass without dropping comes close to the average of many. Without dropout the test loss rises again.",
        number="loss of one sub-network over that of one evaluation pass",
        value=one,
        finding=f"The test loss of one sub-network is {one} times that of one pass in evaluation mode, and "
        f"{gain} times that of the "
        f"average of {COUNTS[-1]} sub-networks; the single pass has {short} times the loss of the average. At the end of "
        f"training the loss without dropout is {regular} times that with it; the error is {errors[0]} % without and "
        f"{errors[1]} % with dropout. Two passes differ by {result.gaps[:, 0].mean():.2f} in training mode and by "
        f"{result.gaps[:, 1].max():g} in evaluation mode.",
        supported=(gain.low or gain.value) > 1.0
        and (one.low or one.value) > 1.0
        and (regular.low or regular.value) > 1.0
        and float(result.gaps[:, 1].max()) == 0.0,
        panels=(training, ensembles),
    )


def _band(x: range | tuple[int, ...], values: Tensor, name: str, color: str, *, dots: bool = False) -> Line:
    ends = [mean(values[:, at].tolist()) for at in range(len(x))]
    return Line(
        numbers(x),
        numbers(end.value for end in ends),
        name,
        color,
        dots=dots,
        low=numbers(end.value if end.low is None else end.low for end in ends),
        high=numbers(end.value if end.high is None else end.high for end in ends),
    )
