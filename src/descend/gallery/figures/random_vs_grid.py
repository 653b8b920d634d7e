"""Random search against grid search, when only one of two hyperparameters matters.

Networks for the digits are trained on a lattice of learning rates and weight decays, all as one batched program, and
their validation losses are kept. A 4 × 4 grid tries 4 different learning rates, 16 random trials almost 16. Both are
sampled from the same lattice many times, so that they differ only in where they look.

Source: Bergstra and Bengio, "Random search for hyper-parameter optimization", 2012, figure 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.datasets import digits
from descend.gallery.intervals import Estimate, mean, repetitions
from descend.gallery.picture import Axis, Cells, Line, Panel, Picture, Points, numbers
from descend.gallery.training import shuffled
from descend.optim import sgd
from descend.rng import generator

__all__ = ["SIDE", "TRIALS", "Measurement", "effective", "measure", "picture"]

SIDE = 20
"""Number of values of each hyperparameter."""

TRIALS = (4, 9, 16, 25)

LEARNING_RATES = (1e-3, 10.0)
WEIGHT_DECAYS = (1e-6, 1e-2)


@dataclass(frozen=True)
class Measurement:
    """Validation losses on the lattice, and the results of both searches.

    Args:
        tables: validation losses, a row per learning rate and a column per weight decay, (seeds, SIDE, SIDE).
        grid: mean best loss of grids over all offsets, (seeds, trials).
        random: mean best loss of random searches, (seeds, trials).
        wins: how often 16 random trials are better than a 4 × 4 grid, with ties counted as half, (seeds,).
    """

    tables: Tensor
    grid: Tensor
    random: Tensor
    wins: Tensor


def effective(table: Tensor) -> float:
    """Return the fraction of the table's variance that the learning rate alone explains.

    >>> effective(torch.tensor([[1.0, 1.0], [3.0, 3.0]]))
    1.0
    """
    return float(table.mean(1).var(correction=0) / table.var(correction=0))


def measure(
    seed: int = 0, *, seeds: int = 4, epochs: int = 4, train: int = 500, searches: int = 2000
) -> Measurement:
    """Compute the tables, then search them.

    Args:
        seed: seed of all random numbers.
        seeds: number of tables, each with its own data and initial weights.
        epochs: epochs of training.
        train: number of training rows.
        searches: number of random searches on each table.
    """
    tables = torch.stack([_table(each, epochs, train) for each in repetitions(seed, seeds)])
    best = {
        count: [_searched(table, count, searches, at) for at, table in enumerate(tables)] for count in TRIALS
    }
    grid = torch.tensor([[float(best[count][at][0].mean()) for count in TRIALS] for at in range(seeds)])
    random = torch.tensor([[float(best[count][at][1].mean()) for count in TRIALS] for at in range(seeds)])
    wins = torch.tensor([_won(*best[16][at]) for at in range(seeds)])
    return Measurement(tables, grid, random, wins)


def _lattice() -> tuple[Tensor, Tensor]:
    lrs = torch.logspace(math.log10(LEARNING_RATES[0]), math.log10(LEARNING_RATES[1]), SIDE)
    decays = torch.logspace(math.log10(WEIGHT_DECAYS[0]), math.log10(WEIGHT_DECAYS[1]), SIDE)
    return lrs.repeat_interleave(SIDE), decays.repeat(SIDE)


def _table(seed: int, epochs: int, train: int, width: int = 24) -> Tensor:
    """Return the validation losses of SIDE² networks with one hidden layer, trained as one batch.

    Every network sees the same batches from the same initial weights. One optimizer updates all of them, with learning
    rate 1 on gradients that are multiplied by each network's learning rate.
    """
    data = digits(seed, train=train)
    lrs, decays = _lattice()
    count = len(lrs)
    start = generator(seed, "gallery/random_vs_grid")
    first = torch.randn(64, width, generator=start) * (2 / 64) ** 0.5
    second = torch.randn(width, 10, generator=start) * width**-0.5
    weights = [w.expand(count, *w.shape).clone().requires_grad_() for w in (first, second)]
    optimizer = sgd(weights, lr=1.0)
    rows, labels = data.train

    def losses(x: Tensor, y: Tensor) -> Tensor:
        outputs = torch.relu(x @ weights[0]) @ weights[1]
        return torch.nn.functional.cross_entropy(
            outputs.flatten(0, 1), y.repeat(count), reduction="none"
        ).reshape(count, -1)

    for epoch in range(epochs):
        for chosen in shuffled(seed, train, epoch, 50):
            optimizer.zero_grad(set_to_none=True)
            losses(rows[chosen], labels[chosen]).mean(1).sum().backward()
            for weight in weights:
                assert weight.grad is not None
                gradient = weight.grad + decays.view(-1, 1, 1) * weight.detach()
                weight.grad = gradient * lrs.view(-1, 1, 1)
            optimizer.step()
    with torch.no_grad():
        # The loss of a diverged network is clipped to that of a uniform guess, ln 10.
        result = losses(*data.validation).mean(1).nan_to_num(nan=torch.inf).clamp(max=2.302585)
    return result.reshape(SIDE, SIDE).double()


def _searched(table: Tensor, count: int, searches: int, at: int) -> tuple[Tensor, Tensor]:
    """Return the best loss of every grid of ``count`` trials, and of random searches with as many."""
    side = round(count**0.5)
    step = SIDE // side
    grids = [
        table[first::step, second::step][:side, :side].min()
        for first in range(step)
        for second in range(step)
    ]
    chosen = torch.randint(
        SIDE * SIDE, (searches, count), generator=generator(at, "gallery/random_vs_grid/draws", count)
    )
    return torch.stack(grids), table.flatten()[chosen].min(1).values


def _won(grids: Tensor, randoms: Tensor) -> float:
    better = (randoms.unsqueeze(1) < grids).double().mean()
    return float(better + 0.5 * (randoms.unsqueeze(1) == grids).double().mean())


def picture(result: Measurement) -> Picture:
    """Return panels of the table with both searches, and of the best loss by number of trials."""
    table = result.tables[0]
    top = float(table.max())
    shown = Cells(tuple(numbers(top - row) for row in table), 0.0, float((top - table).max()))
    spots = torch.randint(SIDE * SIDE, (16,), generator=generator(0, "gallery/random_vs_grid/draws", 16))
    axis = Axis("weight decay, 10⁻⁶ to 10⁻²", ticks=False)
    lr_axis = Axis("learning rate, 10 (bottom) to 10⁻³ (top)", ticks=False)
    grid = [(row, column) for row in range(2, SIDE, 5) for column in range(2, SIDE, 5)]
    maps = [
        Panel(
            title,
            (shown, Points(numbers(x), numbers(y), "a trial", color, size=9)),
            axis,
            lr_axis,
            shape="square",
            note=f"{len(set(y))} different learning rates. Strong color: low validation loss.",
        )
        for title, y, x, color in (
            ("A grid of 16", [row for row, _ in grid], [column for _, column in grid], "s2"),
            ("16 random trials", (spots // SIDE).tolist(), (spots % SIDE).tolist(), "s4"),
        )
    ]
    gain = mean((result.grid[:, 2] - result.random[:, 2]).tolist())
    wins = mean((100 * result.wins).tolist())
    share = mean(effective(each) for each in result.tables)
    best = float(result.tables.amin((1, 2)).mean())
    curves = Panel(
        "Best validation loss found",
        (
            _band(result.grid, "grid", "s2"),
            _band(result.random, "random", "s1"),
            Line(numbers(TRIALS), numbers([best] * len(TRIALS)), "best of the lattice", "muted", "dash"),
        ),
        Axis("trials"),
        Axis("cross-entropy"),
        shape="wide",
        note=f"Means over all grid offsets and many random searches; bands over {len(result.tables)} lattices.",
    )
    return Picture(
        name="random_vs_grid",
        title="Random search against grid search",
        claim="Random search finds better hyperparameters than a grid with the same number of trials when only "
        "few of them matter "
        "(Bergstra and Bengio 2012).",
        see="The color changes from row to row and hardly along a row: the learning rate matters, the weight decay does not. "
        "The grid tries each of its four learning rates four times.",
        number="% of comparisons in which 16 random trials are better than a 4 × 4 grid",
        value=wins,
        finding=f"The learning rate alone explains {_percent(share)} of the variance of the validation loss. With 16 trials "
        f"random search beats the grid in {wins} % of the comparisons (ties count half); the mean best loss is "
        f"{result.random[:, 2].mean():.4f} against {result.grid[:, 2].mean():.4f}, a difference of {gain}.",
        supported=(gain.low or 0.0) > 0.0,
        panels=(*maps, curves),
    )


def _percent(estimate: Estimate) -> str:
    return "more than 99.9 %" if estimate.value > 0.999 else f"{100 * estimate.value:.1f} %"


def _band(values: Tensor, name: str, color: str) -> Line:
    ends = [mean(values[:, at].tolist()) for at in range(len(TRIALS))]
    return Line(
        numbers(TRIALS),
        numbers(end.value for end in ends),
        name,
        color,
        dots=True,
        low=numbers(end.value if end.low is None else end.low for end in ends),
        high=numbers(end.value if end.high is None else end.high for end in ends),
    )
