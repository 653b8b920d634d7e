"""Search strategies: they propose the configurations to try, given the records of earlier trials.

A strategy is a pure function of its seed, of the trial number, and of the records of earlier trials, so a resumed search
proposes the same configurations. No configuration is proposed twice: all trials share one seed, so a second training
would repeat the first.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from descend.errors import UserError, did_you_mean, require
from descend.experiments.search.dimension import Dimension, to_plain
from descend.experiments.search.distinct import all_points, distinct_points, point_name, untried
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

_SUGGESTIONS = 16
"""Suggestions of the model that may repeat earlier points before a random point is taken."""

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
    """Independent random points without repetitions: :func:`random_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        self.trials = _most(space, trials)
        self._points = distinct_points(
            space, lambda n, start: random_points(space, n, seed, start=start), seed
        )
        self._taken: list[Point] = []

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of the given trials, independent of ``history``."""
        return _take(self._points, self._taken, numbers)


class QuasiRandom:
    """Scrambled Sobol points without repetitions: :func:`quasi_random_points`."""

    batch = 32

    def __init__(self, space: Space, trials: int, seed: int) -> None:
        self.trials = _most(space, trials)
        self._points = distinct_points(
            space, lambda n, start: quasi_random_points(space, n, seed, start=start), seed
        )
        self._taken: list[Point] = []

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of the given trials, independent of ``history``."""
        return _take(self._points, self._taken, numbers)


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
    points differ. A point that was tried before is replaced by another one. Trials that diverged rank below all others.
    Each batch uses a new sampler with its own seed, built from the records alone.

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
        self.space, self.seed, self.metric, self.startup = space, seed, metric, startup
        self.trials = _most(space, trials)

    def ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
        """Return the points of a batch, given the records of all earlier trials."""
        logging = self._optuna.logging
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.WARNING)
        try:
            return self._ask(numbers, history)
        finally:
            logging.set_verbosity(verbosity)

    def _ask(self, numbers: range, history: Sequence[Trial]) -> list[Point]:
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
        tried = {point_name(dict(trial.values)) for trial in history}
        points = []
        for _ in numbers:
            points.append(self._new_point(study, tried))
            tried.add(point_name(points[-1]))
        return points

    def _new_point(self, study: Any, tried: set[str]) -> Point:
        """Return a suggestion that was not tried yet, or else a random point that was not."""
        for _ in range(_SUGGESTIONS):
            point = self._suggest_point(study.ask())
            if point_name(point) not in tried:
                return point
        space, seed = self.space, self.seed
        others = distinct_points(space, lambda n, start: random_points(space, n, seed, start=start), seed)
        return untried(others, tried) or point

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


def _most(space: Space, trials: int) -> int:
    """Return the number of trials, at most the number of points of the space."""
    points = all_points(space, trials)
    return trials if points is None else min(trials, len(points))


def _take(points: Iterator[Point], taken: list[Point], numbers: range) -> list[Point]:
    """Return the points with the given numbers; ``taken`` contains those that were generated before."""
    taken.extend(itertools.islice(points, max(0, numbers.stop - len(taken))))
    return taken[numbers.start : numbers.stop]


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
