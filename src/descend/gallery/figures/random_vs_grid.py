"""Random search against a grid, when only one of two hyperparameters matters.

Networks for the digits are trained over a lattice of rates and weight decays, all as one batched program, and
their validation errors kept. A grid of 4 × 4 tries 4 different rates, 16 random draws almost 16. Both are drawn
from the same lattice many times over, so they differ in nothing but where they look.

Source: Bergstra and Bengio, "Random search for hyper-parameter optimization", 2012, figure 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.fitting import shuffled
from descend.gallery.picture import Axis, Cells, Line, Panel, Picture, Points, numbers
from descend.gallery.samples import digits
from descend.gallery.spread import Estimate, mean, repetitions
from descend.optim import sgd
from descend.rng import generator

__all__ = ["SIDE", "TRIALS", "Measured", "effective", "measure", "picture"]

SIDE = 20
"""Values of each hyperparameter."""

TRIALS = (4, 9, 16, 25)

RATES = (1e-3, 10.0)
DECAYS = (1e-6, 1e-2)


@dataclass(frozen=True)
class Measured:
    """For each seed a table (SIDE, SIDE) of validation losses: a row for each rate, a column for each decay.

    Args:
        tables: (seeds, SIDE, SIDE).
        grid: (seeds, trials), the mean best of grids at all offsets.
        random: (seeds, trials), the mean best of random draws.
        wins: (seeds,), how often 16 random trials are better than a 4 × 4 grid, ties counting half.
    """

    tables: Tensor
    grid: Tensor
    random: Tensor
    wins: Tensor


def effective(table: Tensor) -> float:
    """The share of the table's variance that the rate alone explains: a row's mean in place of its entries.

    >>> effective(torch.tensor([[1.0, 1.0], [3.0, 3.0]]))
    1.0
    """
    return float(table.mean(1).var(correction=0) / table.var(correction=0))


def measure(
    seed: int = 0, *, seeds: int = 4, epochs: int = 4, train: int = 500, draws: int = 2000
) -> Measured:
    """Fill the tables, then search them.

    Args:
        seed: of all.
        seeds: tables, each with its own data and starts.
        epochs: of training.
        train: rows.
        draws: random searches on each table.
    """
    tables = torch.stack([_table(each, epochs, train) for each in repetitions(seed, seeds)])
    best = {
        count: [_searched(table, count, draws, at) for at, table in enumerate(tables)] for count in TRIALS
    }
    grid = torch.tensor([[float(best[count][at][0].mean()) for count in TRIALS] for at in range(seeds)])
    random = torch.tensor([[float(best[count][at][1].mean()) for count in TRIALS] for at in range(seeds)])
    wins = torch.tensor([_won(*best[16][at]) for at in range(seeds)])
    return Measured(tables, grid, random, wins)


def _lattice() -> tuple[Tensor, Tensor]:
    rates = torch.logspace(math.log10(RATES[0]), math.log10(RATES[1]), SIDE)
    decays = torch.logspace(math.log10(DECAYS[0]), math.log10(DECAYS[1]), SIDE)
    return rates.repeat_interleave(SIDE), decays.repeat(SIDE)


def _table(seed: int, epochs: int, train: int, width: int = 24) -> Tensor:
    """Validation losses of SIDE² networks of one hidden layer, trained side by side.

    Every network sees the same batches from the same start. One optimizer moves them all: with rate 1 on gradients
    that carry each network's own rate.
    """
    data = digits(seed, train=train)
    rates, decays = _lattice()
    count = len(rates)
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
                weight.grad = gradient * rates.view(-1, 1, 1)
            optimizer.step()
    with torch.no_grad():
        # Chance is the most that a network loses: one that exploded says nothing worse than that it is useless.
        found = losses(*data.validation).mean(1).nan_to_num(nan=torch.inf).clamp(max=2.302585)
    return found.reshape(SIDE, SIDE).double()


def _searched(table: Tensor, count: int, draws: int, at: int) -> tuple[Tensor, Tensor]:
    """The best of every grid of ``count`` trials, and of random searches with as many."""
    side = round(count**0.5)
    step = SIDE // side
    grids = [
        table[first::step, second::step][:side, :side].min()
        for first in range(step)
        for second in range(step)
    ]
    chosen = torch.randint(
        SIDE * SIDE, (draws, count), generator=generator(at, "gallery/random_vs_grid/draws", count)
    )
    return torch.stack(grids), table.flatten()[chosen].min(1).values


def _won(grids: Tensor, randoms: Tensor) -> float:
    better = (randoms.unsqueeze(1) < grids).double().mean()
    return float(better + 0.5 * (randoms.unsqueeze(1) == grids).double().mean())


def picture(found: Measured) -> Picture:
    """The table with both searches, and the best found against the number of trials."""
    table = found.tables[0]
    top = float(table.max())
    shown = Cells(tuple(numbers(top - row) for row in table), 0.0, float((top - table).max()))
    spots = torch.randint(SIDE * SIDE, (16,), generator=generator(0, "gallery/random_vs_grid/draws", 16))
    axis = Axis("weight decay, 10⁻⁶ to 10⁻²", ticks=False)
    rate = Axis("rate, 10 (below) to 10⁻³ (above)", ticks=False)
    grid = [(row, column) for row in range(2, SIDE, 5) for column in range(2, SIDE, 5)]
    maps = [
        Panel(
            title,
            (shown, Points(numbers(x), numbers(y), "a trial", colour, size=9)),
            axis,
            rate,
            shape="square",
            note=f"{len(set(y))} different rates. Strong colour: low validation loss.",
        )
        for title, y, x, colour in (
            ("A grid of 16", [row for row, _ in grid], [column for _, column in grid], "s2"),
            ("16 random trials", (spots // SIDE).tolist(), (spots % SIDE).tolist(), "s4"),
        )
    ]
    gain = mean((found.grid[:, 2] - found.random[:, 2]).tolist())
    wins = mean((100 * found.wins).tolist())
    share = mean(effective(each) for each in found.tables)
    best = float(found.tables.amin((1, 2)).mean())
    curves = Panel(
        "Best validation loss found",
        (
            _band(found.grid, "grid", "s2"),
            _band(found.random, "random", "s1"),
            Line(numbers(TRIALS), numbers([best] * len(TRIALS)), "best of the lattice", "muted", "dash"),
        ),
        Axis("trials"),
        Axis("cross-entropy"),
        shape="wide",
        note=f"Means over all offsets of the grid and many random searches; bands: {len(found.tables)} lattices.",
    )
    return Picture(
        name="random_vs_grid",
        title="Random search against a grid",
        claim="Hyperparameters are searched for; random search finds better ones than a grid of as many trials when few of "
        "them matter (Bergstra and Bengio 2012).",
        see="The colour changes from row to row and hardly along a row: the rate matters, the weight decay does not. "
        "The grid repeats its four rates four times each.",
        number="% of comparisons in which 16 random trials beat a 4 × 4 grid",
        value=wins,
        finding=f"The rate alone explains {_percent(share)} of the variance of the validation loss. With 16 trials random "
        f"search beats the grid in {wins} % of the comparisons (ties half); the mean best loss is "
        f"{found.random[:, 2].mean():.4f} against {found.grid[:, 2].mean():.4f}, a difference of {gain}.",
        supported=(gain.low or 0.0) > 0.0,
        panels=(*maps, curves),
    )


def _percent(found: Estimate) -> str:
    return "more than 99.9 %" if found.value > 0.999 else f"{100 * found.value:.1f} %"


def _band(values: Tensor, name: str, colour: str) -> Line:
    ends = [mean(values[:, at].tolist()) for at in range(len(TRIALS))]
    return Line(
        numbers(TRIALS),
        numbers(end.value for end in ends),
        name,
        colour,
        dots=True,
        low=numbers(end.value if end.low is None else end.low for end in ends),
        high=numbers(end.value if end.high is None else end.high for end in ends),
    )
