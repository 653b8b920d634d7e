"""Search strategies: they propose the configurations to try, given the records of earlier trials.

A strategy is a pure function of its seed, of the trial number, and of the records of earlier trials. It holds no state,
so a resumed search proposes the same configurations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from descend.errors import UserError, did_you_mean, require
from descend.experiments.search.dimension import Dimension, to_plain
from descend.experiments.search.sampling import grid_points, quasi_random_points, random_points
from descend.experiments.search.space import Point, Space
from descend.experiments.search.trial import Trial
from descend.metrics import better
from descend.process import exclusive
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
    "make_strategy",
]

Method = Literal["random", "quasi_random", "grid", "tpe", "halving"]
METHODS: tuple[Method, ...] = ("random", "quasi_random", "grid", "tpe", "halving")

Evaluate = Callable[[Mapping[int, Point], int], Mapping[int, Trial]]
"""Trains configurations: (points by trial number, index of the batch) -> records by trial number."""


class Strategy(Protocol):
    """Proposes the configurations of a search."""

    trials: int
    """Number of trials of the whole search."""

    batch: int
    """Default number of points to propose at a time."""

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of the given trials; ``history`` holds the records of all trials with lower numbers."""


class Random:
    """Independent random points: :func:`random_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        self.space, self.trials, self.seed = space, trials, seed

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of the given trials, independent of ``history``."""
        return random_points(self.space, len(numbers), self.seed, start=numbers[0])


class QuasiRandom:
    """Scrambled Sobol points: :func:`quasi_random_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        self.space, self.trials, self.seed = space, trials, seed

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of the given trials, independent of ``history``."""
        return quasi_random_points(self.space, len(numbers), self.seed, start=numbers[0])


class Grid:
    """All points of a grid of at most ``trials`` points: :func:`grid_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int) -> None:
        self._points = grid_points(space, trials)
        self.trials = len(self._points)

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of the given trials, independent of ``history``."""
        return [self._points[number] for number in numbers]


class Tpe:
    """Optuna's tree-structured Parzen estimator: points where good trials are dense and bad ones are sparse.

    If several points are requested at once, the pending ones count as bad (the "constant liar" heuristic), so that the
    points differ. Trials that diverged rank below all others. Each batch uses a new sampler with its own seed, built
    from the records alone.

    Args:
        space: the search space.
        trials: number of trials.
        seed: seed of the samplers.
        metric: name of the metric; it implies whether higher or lower is better.
        startup: number of random trials before the model is used.

    Source: Bergstra, Bardenet, Bengio, Kégl, "Algorithms for hyper-parameter optimization", 2011.
    """

    batch = 8

    def __init__(self, space: Space, trials: int, seed: int, metric: str, startup: int = 10) -> None:
        self._optuna: Any = require("optuna", "search", "searching by TPE")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self.space, self.trials, self.seed, self.metric, self.startup = space, trials, seed, metric, startup

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of a batch, given the records of all earlier trials."""
        optuna = self._optuna
        with exclusive(), warnings.catch_warnings():
            # Optuna marks "group", which models each branch of a conditional space separately, as experimental.
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
        for trial in history:
            study.add_trial(self._optuna_trial(trial))
        return [self._suggest_point(study.ask()) for _ in numbers]

    def _suggest_point(self, optuna_trial: Any) -> Point:
        point: Point = {}
        for dimension in self.space:
            if self.space.is_active(dimension, point):
                point[dimension.key] = self._suggest_value(optuna_trial, dimension)
        return point

    def _suggest_value(self, optuna_trial: Any, dimension: Dimension) -> Any:
        """The value of one dimension. Choices are passed by index, since Optuna accepts only scalar choices."""
        if dimension.kind == "choices":
            indices = list(range(len(dimension.options)))
            return dimension.options[optuna_trial.suggest_categorical(dimension.key, indices)]
        if dimension.is_integer:
            low, high = int(dimension.low), int(dimension.high)
            return optuna_trial.suggest_int(dimension.key, low, high, log=dimension.is_log)
        return optuna_trial.suggest_float(dimension.key, dimension.low, dimension.high, log=dimension.is_log)

    def _distribution(self, dimension: Dimension) -> Any:
        distributions = self._optuna.distributions
        if dimension.kind == "choices":
            return distributions.CategoricalDistribution(list(range(len(dimension.options))))
        if dimension.is_integer:
            low, high = int(dimension.low), int(dimension.high)
            return distributions.IntDistribution(low, high, log=dimension.is_log)
        return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)

    def _optuna_trial(self, trial: Trial) -> Any:
        states = self._optuna.trial.TrialState
        params = {
            name: self.space[name].index_of(value) if self.space[name].kind == "choices" else value
            for name, value in trial.values.items()
        }
        return self._optuna.trial.create_trial(
            state=states.PRUNED if trial.score is None else states.COMPLETE,
            value=trial.score,
            params=params,
            distributions={name: self._distribution(self.space[name]) for name in params},
        )


def make_strategy(method: Method, space: Space, trials: int, seed: int, metric: str) -> Strategy:
    """Create the strategy of a method; successive halving samples its points at random.

    Raises:
        UserError: the method does not exist, or the smallest grid has more than ``trials`` points.
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
    raise UserError(f"unknown search method '{method}'; {did_you_mean(str(method), METHODS)}")


def explore(
    strategy: Strategy,
    evaluate: Evaluate,
    batches: Sequence[range],
    known: Mapping[int, Trial],
) -> dict[int, Trial]:
    """Run a strategy batch by batch: ask for points, evaluate them, and pass their records to the next batch.

    Args:
        strategy: proposes the points.
        evaluate: (points by number, index of the batch) -> records by number.
        batches: the trial numbers of each batch, in order.
        known: records of trials that were completed earlier; these are not evaluated again.

    Returns:
        All records by number.

    Raises:
        UserError: a known record has other values than the strategy proposes.
    """
    records = dict(known)
    for index, batch in enumerate(batches):
        if all(number in records for number in batch):
            continue
        history = [records[number] for number in sorted(records) if number < batch.start]
        points = dict(zip(batch, strategy.ask(batch, history), strict=True))
        for number in batch:
            if number in records and to_plain(records[number].values) != to_plain(points[number]):
                raise UserError(
                    f"trial {number} was recorded with {records[number].values}, but this search would try "
                    f"{to_plain(points[number])}: it was started by another version of descend, or its records were "
                    "changed; start a new search"
                )
        missing = {number: point for number, point in points.items() if number not in records}
        records |= evaluate(missing, index)
    return records
