"""Dropout: the two modes, and the ensemble of sub-networks that the evaluation mode stands for.

While training, each pass drops units at random, which is one of the 2ⁿ sub-networks. In evaluation nothing is
dropped, which approximates the mean over all sub-networks in one pass. The ``p`` here is PyTorch's, the probability
to DROP; the lecture's code has p as the probability to keep.

Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, section 7.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend.gallery.fitting import measured, network, train_epoch
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.samples import digits
from descend.gallery.spread import mean, ratio, repetitions
from descend.optim import adam
from descend.rng import forked, key

__all__ = ["COUNTS", "Measured", "measure", "picture"]

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Sub-networks whose probabilities are averaged."""


@dataclass(frozen=True)
class Measured:
    """For each seed: test losses by epoch of both networks, of ensembles, of one evaluation pass; output gaps.

    Args:
        plain: (seeds, epochs), without dropout.
        dropped: (seeds, epochs), with it.
        ensembles: (seeds, counts), the loss of averaged probabilities.
        single: (seeds,), the loss of one pass in evaluation mode.
        errors: (seeds, 2), shares of errors at the end, without and with dropout.
        gaps: (seeds, 2), mean distance between probabilities of two training passes, and of two evaluation passes.
    """

    plain: Tensor
    dropped: Tensor
    ensembles: Tensor
    single: Tensor
    errors: Tensor
    gaps: Tensor


def measure(
    seed: int = 0, *, seeds: int = 5, epochs: int = 50, train: int = 200, width: int = 128, p: float = 0.5
) -> Measured:
    """Train with and without dropout on few rows with some wrong labels, then average sub-networks.

    Args:
        seed: of all.
        seeds: how many networks.
        epochs: passes over the rows.
        train: training rows.
        width: of the two hidden layers.
        p: the probability to drop.
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
                curve.append(measured(model, data.test))
            curves[name] = [loss for loss, _ in curve]
            last[name] = curve[-1][1]
        kept["plain"].append(curves["plain"])
        kept["dropped"].append(curves["dropped"])
        kept["errors"].append([last["plain"], last["dropped"]])
        ensembles, single, gaps = _ensembles(model, *data.test, each)
        kept["ensembles"].append(ensembles)
        kept["single"].append(single)
        kept["gaps"].append(gaps)
    return Measured(**{name: torch.tensor(values) for name, values in kept.items()})


@torch.no_grad()
def _ensembles(
    model: nn.Module, rows: Tensor, labels: Tensor, seed: int
) -> tuple[list[float], float, list[float]]:
    """Losses of averaged sub-networks, of one evaluation pass, and how far two passes of each mode are apart."""
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


def picture(found: Measured) -> Picture:
    """Test losses while training, and the loss of ensembles."""
    epochs = range(1, found.plain.shape[1] + 1)
    training = Panel(
        "Test loss while training",
        (
            _band(epochs, found.plain, "without dropout", "s2"),
            _band(epochs, found.dropped, "with dropout, p = 0.5", "s1"),
        ),
        Axis("epoch"),
        Axis("cross-entropy"),
        note="Measured in evaluation mode. Bands are 95 % intervals over networks.",
    )
    whole = mean(found.single.tolist())
    ensembles = Panel(
        "The ensemble of sub-networks",
        (
            _band(COUNTS, found.ensembles, "mean of so many sub-networks", "s3", dots=True),
            Line(
                numbers((COUNTS[0], COUNTS[-1])),
                numbers((whole.value,) * 2),
                "one pass in evaluation mode",
                "s1",
                "dash",
            ),
        ),
        Axis("sub-networks averaged", log=True),
        Axis("test cross-entropy"),
        note="A sub-network is one pass in training mode.",
    )
    gain = ratio((found.ensembles[:, 0] / found.ensembles[:, -1]).tolist())
    one = ratio((found.ensembles[:, 0] / found.single).tolist())
    short = ratio((found.single / found.ensembles[:, -1]).tolist())
    regular = ratio((found.plain[:, -1] / found.dropped[:, -1]).tolist())
    errors = [mean((100 * found.errors[:, at]).tolist()) for at in range(2)]
    return Picture(
        name="dropout",
        title="Dropout and its ensemble",
        claim="Drop units at random for each sample while training, none in evaluation. It is as if 2ⁿ sub-networks were "
        "averaged, and bagging avoids overfitting.",
        see="A single sub-network is worse than the whole; the more are averaged, the better, and one pass without "
        "dropping comes close to many. Without dropout the test loss rises again.",
        number="loss of one sub-network over one evaluation pass",
        value=one,
        finding=f"One sub-network's test loss is {one} times that of one pass in evaluation mode, and {gain} times that of "
        f"{COUNTS[-1]} averaged; the one pass has {short} times the loss of the average. At the end the loss without "
        f"dropout is {regular} times that with it; errors {errors[0]} % without and {errors[1]} % with. Two passes differ "
        f"in training mode by {found.gaps[:, 0].mean():.2f} and in evaluation by {found.gaps[:, 1].max():g}.",
        supported=(gain.low or gain.value) > 1.0
        and (one.low or one.value) > 1.0
        and (regular.low or regular.value) > 1.0
        and float(found.gaps[:, 1].max()) == 0.0,
        panels=(training, ensembles),
    )


def _band(x: range | tuple[int, ...], values: Tensor, name: str, colour: str, *, dots: bool = False) -> Line:
    ends = [mean(values[:, at].tolist()) for at in range(len(x))]
    return Line(
        numbers(x),
        numbers(end.value for end in ends),
        name,
        colour,
        dots=dots,
        low=numbers(end.value if end.low is None else end.low for end in ends),
        high=numbers(end.value if end.high is None else end.high for end in ends),
    )
