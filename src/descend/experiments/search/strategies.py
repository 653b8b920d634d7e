"""Which configurations are tried: strategies that are asked for points and told, by records, what came of them.

A strategy is a pure function of its seed, of a trial's number, and of the records of earlier trials. It has no
state of its own, so a search that was killed asks again and gets the same answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from descend.errors import UserError, did_you_mean, require
from descend.experiments.search.dimension import Dimension, plain
from descend.experiments.search.sampling import grid_points, quasi_random_points, random_points
from descend.experiments.search.space import Point, Space
from descend.experiments.search.trial import Trial
from descend.metrics import better
from descend.rng import key

__all__ = [
    "METHODS",
    "Evaluate",
    "Grid",
    "Method",
    "QuasiRandom",
    "Random",
    "Strategy",
    "Tpe",
    "explore",
    "strategy",
]

Method = Literal["random", "quasi_random", "grid", "tpe", "halving"]
METHODS: tuple[Method, ...] = ("random", "quasi_random", "grid", "tpe", "halving")

Evaluate = Callable[[Mapping[int, Point], int], Mapping[int, Trial]]
"""(points by number, place of their block) -> their records."""


class Strategy(Protocol):
    """Says what to try."""

    trials: int
    batch: int
    """How many it is asked for at a time unless told otherwise."""

    def ask(self, numbers: range, before: Sequence[Trial]) -> list[Point]:
        """The points of trials, given the records of all trials with smaller numbers."""


class Random:
    """Independent points: :func:`random_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        self.space, self.trials, self.seed = space, trials, seed

    def ask(self, numbers: range, before: Sequence[Trial]) -> list[Point]:
        """The points of trials; what came before does not matter."""
        return random_points(self.space, len(numbers), self.seed, start=numbers[0])


class QuasiRandom:
    """Evenly spread points: :func:`quasi_random_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        self.space, self.trials, self.seed = space, trials, seed

    def ask(self, numbers: range, before: Sequence[Trial]) -> list[Point]:
        """The points of trials; what came before does not matter."""
        return quasi_random_points(self.space, len(numbers), self.seed, start=numbers[0])


class Grid:
    """Every point of a grid of at most ``trials`` points: :func:`grid_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int) -> None:
        self._points = grid_points(space, trials)
        self.trials = len(self._points)

    def ask(self, numbers: range, before: Sequence[Trial]) -> list[Point]:
        """The points of trials; what came before does not matter."""
        return [self._points[number] for number in numbers]


class Tpe:
    """The tree-structured Parzen estimator, by Optuna: points where good trials are dense and bad ones are not.

    Asked for several points at once it takes the ones it has just given for bad ones (the "constant liar"), so
    that they spread. Trials that diverged count as worse than all others. Each batch is asked of a sampler made
    anew, from the records alone and with a seed of its own.

    Args:
        space: where to search.
        trials: how many.
        seed: of the draws.
        metric: what is told; whether higher or lower is better is known by its name.
        startup: so many finished trials are drawn at random before the model is asked.

    Source: Bergstra, Bardenet, Bengio, Kégl, "Algorithms for hyper-parameter optimization", 2011.
    """

    batch = 8

    def __init__(self, space: Space, trials: int, seed: int, metric: str, startup: int = 10) -> None:
        self._optuna: Any = require("optuna", "search", "searching by TPE")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self.space, self.trials, self.seed, self.metric, self.startup = space, trials, seed, metric, startup

    def ask(self, numbers: range, before: Sequence[Trial]) -> list[Point]:
        """The points of a batch, by the records of all trials before it."""
        optuna = self._optuna
        with warnings.catch_warnings():
            # "group", which learns each branch of a conditional space by itself, is called experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=self.startup,
                multivariate=True,
                group=True,
                constant_liar=True,
                seed=key(self.seed, "search tpe", numbers[0]) % 2**32,
            )
        higher = better(self.metric) == "higher"
        study = optuna.create_study(sampler=sampler, direction="maximize" if higher else "minimize")
        for trial in before:
            study.add_trial(self._told(trial))
        return [self._point(study.ask()) for _ in numbers]

    def _point(self, asked: Any) -> Point:
        found: Point = {}
        for dimension in self.space:
            if self.space.counts(dimension, found):
                found[dimension.key] = self._suggested(asked, dimension)
        return found

    def _suggested(self, asked: Any, dimension: Dimension) -> Any:
        """The value of one dimension. Choices go by their place: Optuna holds none but plain ones."""
        if dimension.kind == "choices":
            places = list(range(len(dimension.options)))
            return dimension.options[asked.suggest_categorical(dimension.key, places)]
        if dimension.whole:
            low, high = int(dimension.low), int(dimension.high)
            return asked.suggest_int(dimension.key, low, high, log=dimension.log)
        return asked.suggest_float(dimension.key, dimension.low, dimension.high, log=dimension.log)

    def _distribution(self, dimension: Dimension) -> Any:
        of = self._optuna.distributions
        if dimension.kind == "choices":
            return of.CategoricalDistribution(list(range(len(dimension.options))))
        if dimension.whole:
            return of.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return of.FloatDistribution(dimension.low, dimension.high, log=dimension.log)

    def _told(self, trial: Trial) -> Any:
        states = self._optuna.trial.TrialState
        values = {
            name: self.space[name].place(value) if self.space[name].kind == "choices" else value
            for name, value in trial.values.items()
        }
        return self._optuna.trial.create_trial(
            state=states.PRUNED if trial.score is None else states.COMPLETE,
            value=trial.score,
            params=values,
            distributions={name: self._distribution(self.space[name]) for name in values},
        )


def strategy(method: Method, space: Space, trials: int, seed: int, metric: str) -> Strategy:
    """The strategy of a method. Successive halving draws its points at random.

    Raises:
        UserError: no such method, or a grid that needs more trials.
    """
    match method:
        case "random" | "halving":
            return Random(space, trials, seed)
        case "quasi_random":
            return QuasiRandom(space, trials, seed)
        case "grid":
            return Grid(space, trials)
        case "tpe":
            return Tpe(space, trials, seed, metric)
    raise UserError(f"no such method of search '{method}'; {did_you_mean(str(method), METHODS)}")


def explore(
    asked: Strategy,
    evaluate: Evaluate,
    blocks: Sequence[range],
    known: Mapping[int, Trial],
) -> dict[int, Trial]:
    """Ask, evaluate, and tell, block by block; what is known already is not evaluated again.

    Args:
        asked: the strategy.
        evaluate: (points by number, place of the block) -> records by number.
        blocks: trial numbers, in order.
        known: records of trials that are done.

    Returns:
        All records by number.

    Raises:
        UserError: a record that is known holds other values than the strategy gives.
    """
    done = dict(known)
    for place, block in enumerate(blocks):
        if all(number in done for number in block):
            continue
        before = [done[number] for number in sorted(done) if number < block.start]
        points = dict(zip(block, asked.ask(block, before), strict=True))
        for number in block:
            if number in done and plain(done[number].values) != plain(points[number]):
                raise UserError(
                    f"trial {number} was recorded with {done[number].values}, and this search would try "
                    f"{plain(points[number])}; it was begun by another version or altered: search anew"
                )
        missing = {number: point for number, point in points.items() if number not in done}
        done |= evaluate(missing, place)
    return done
