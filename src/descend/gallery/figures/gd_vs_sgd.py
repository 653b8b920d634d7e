"""Gradient descent against stochastic gradient descent, by step and by epoch.

Least squares, F(w) = ‖y − X w‖²/m with X of 10000 × 500 normal numbers. A step of gradient descent looks at all
rows, one of SGD at a batch; an epoch of SGD costs what one step of gradient descent costs.

Source: Bottou and Bousquet, "The tradeoffs of large scale learning", 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from descend.gallery.fitting import shuffled
from descend.gallery.picture import Axis, Line, Panel, Picture, numbers
from descend.gallery.spread import Estimate, mean, ratio, repetitions
from descend.optim import sgd
from descend.rng import generator

__all__ = ["Measured", "measure", "picture"]


@dataclass(frozen=True)
class Measured:
    """Excess F(w) − min F, as a share of the first: a row for each seed.

    Args:
        descent: (seeds, epochs + 1), after each step of gradient descent, which is an epoch.
        steps: (seeds, steps + 1), after each step of SGD.
        per_epoch: steps of SGD in an epoch.
        seconds: (seeds, 2) of an epoch of each, the evaluation of F left out.
    """

    descent: Tensor
    steps: Tensor
    per_epoch: int
    seconds: Tensor

    @property
    def epochs(self) -> Tensor:
        """(seeds, epochs + 1), SGD's excess after each epoch."""
        return self.steps[:, :: self.per_epoch]


def measure(
    seed: int = 0,
    *,
    seeds: int = 4,
    rows: int = 10_000,
    columns: int = 500,
    batch: int = 100,
    epochs: int = 12,
) -> Measured:
    """Minimise the same problem by both, for several problems.

    Gradient descent has its best rate, 2/(L + μ) from the exact eigenvalues. SGD has the constant rate B/(n + B)
    over the mean eigenvalue, about the best for normal rows.

    Args:
        seed: of all problems.
        seeds: how many problems.
        rows: m.
        columns: n.
        batch: B.
        epochs: passes over the rows.
    """
    descents, stochastic, times = [], [], []
    for each in repetitions(seed, seeds):
        found = _problem(each, rows, columns)
        exact, gap = _exact(*found)
        slow, first = _descend(*found, exact, gap, epochs)
        fast, second = _stochastic(*found, gap, epochs, batch, each)
        descents.append(slow)
        stochastic.append(fast)
        times.append([first, second])
    return Measured(torch.stack(descents), torch.stack(stochastic), rows // batch, torch.tensor(times))


def _problem(seed: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    draws = generator(seed, "gallery/gd_vs_sgd")
    x = torch.randn(rows, columns, generator=draws)
    truth = torch.randn(columns, generator=draws)
    return x, x @ truth + torch.randn(rows, generator=draws)


Gap = tuple[Tensor, Tensor]
"""The Hessian's half XᵀX/m, and the solution, so that F(w) − min F = (w − w*)ᵀ (XᵀX/m) (w − w*)."""


def _exact(x: Tensor, y: Tensor) -> tuple[Tensor, Gap]:
    gram = (x.T @ x).double() / len(x)
    solution = torch.linalg.solve(gram, (x.T @ y).double() / len(x))
    return torch.linalg.eigvalsh(gram), (gram, solution)


def _excess(w: Tensor, gap: Gap) -> Tensor:
    gram, solution = gap
    off = w.detach().double() - solution
    return off @ gram @ off


def _gradient(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return x.T @ (x @ w.detach() - y) * (2 / len(x))


def _descend(x: Tensor, y: Tensor, spectrum: Tensor, gap: Gap, epochs: int) -> tuple[Tensor, float]:
    w = torch.zeros(x.shape[1], requires_grad=True)
    # 2/(L + μ) of F, whose Hessian is twice the Gram matrix.
    optimizer = sgd([w], lr=1.0 / float(spectrum[0] + spectrum[-1]))
    excess, seconds = [_excess(w, gap)], 0.0
    for _ in range(epochs):
        start = perf_counter()
        w.grad = _gradient(w, x, y)
        optimizer.step()
        seconds += perf_counter() - start
        excess.append(_excess(w, gap))
    return torch.stack(excess) / excess[0], seconds / epochs


def _stochastic(x: Tensor, y: Tensor, gap: Gap, epochs: int, batch: int, seed: int) -> tuple[Tensor, float]:
    w = torch.zeros(x.shape[1], requires_grad=True)
    optimizer = sgd([w], lr=0.5 * batch / (x.shape[1] + batch))
    excess, seconds = [_excess(w, gap)], 0.0
    for epoch in range(epochs):
        for chosen in shuffled(seed, len(x), epoch, batch):
            start = perf_counter()
            w.grad = _gradient(w, x[chosen], y[chosen])
            optimizer.step()
            seconds += perf_counter() - start
            excess.append(_excess(w, gap))
    return torch.stack(excess) / excess[0], seconds / epochs


def picture(found: Measured) -> Picture:
    """Both curves twice: against the step and against the epoch."""
    epochs = found.descent.shape[1] - 1
    most = 2 * epochs
    early = found.steps[:, : most + 1]
    by_step = Panel(
        "By step",
        (
            _line(range(epochs + 1), found.descent, "gradient descent", "s2"),
            _line(range(most + 1), early, "SGD", "s1"),
        ),
        Axis("step"),
        Axis("excess loss, share of the first", log=True),
        note="A step of gradient descent reads as many rows as a whole epoch of SGD.",
    )
    by_epoch = Panel(
        "By epoch, which is by cost",
        (
            _line(range(epochs + 1), found.descent, "gradient descent", "s2"),
            _line(range(epochs + 1), found.epochs, "SGD", "s1"),
        ),
        Axis("passes over the rows"),
        Axis("excess loss, share of the first", log=True),
        note="With a constant rate SGD stops at the size of its noise, and gradient descent passes it.",
    )
    after = ratio((found.descent[:, 1] / found.epochs[:, 1]).tolist())
    behind = ratio((found.steps[:, epochs] / found.descent[:, epochs]).tolist())
    cost = mean((found.seconds[:, 1] / found.seconds[:, 0]).tolist())
    crossing = _crossing(found)
    return Picture(
        name="gd_vs_sgd",
        title="Gradient descent against SGD",
        claim="By iteration gradient descent is faster; by epoch, which is by cost, SGD is. SGD is quicker to find a "
        "solution of medium accuracy.",
        see="On the left gradient descent falls faster, but each of its steps reads every row. On the right both have "
        "read the same number of rows: SGD is far ahead after one pass, and then stays at the height of its noise.",
        number="loss of gradient descent over that of SGD after one pass",
        value=after,
        finding=f"After one pass over the rows the excess loss of gradient descent is {after} times that of SGD; "
        f"after {epochs} steps each, SGD's is {behind} times that of gradient descent. SGD's noise floor is "
        f"reached, and gradient descent is ahead, from pass {crossing} on. An epoch of SGD took {cost} times as "
        "long as a step of gradient descent (the lecture: about as long): it must gather its rows.",
        supported=(after.low or after.value) > 1.0 and (behind.low or behind.value) > 1.0,
        panels=(by_step, by_epoch),
    )


def _crossing(found: Measured) -> str:
    ahead = (found.descent < found.epochs)[:, 1:].all(0)
    return str(int(ahead.int().argmax()) + 1) if bool(ahead.any()) else "none of those shown"


def _line(x: range, values: Tensor, name: str, colour: str) -> Line:
    ends = [_interval(values[:, at]) for at in range(len(x))]
    return Line(
        numbers(x),
        numbers((found.value for found in ends), above=0.0),
        name,
        colour,
        low=numbers((found.low or found.value for found in ends), above=0.0),
        high=numbers((found.high or found.value for found in ends), above=0.0),
    )


def _interval(values: Tensor) -> Estimate:
    return ratio(values.clamp(min=1e-30).tolist())
