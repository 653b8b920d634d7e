from typing import Any

import numpy as np
import pytest

from descend.errors import UserError
from descend.experiments.search import Space, Trial, random_points
from descend.experiments.search.strategies import Random, explore, make_strategy

SPACE = Space.of(
    {
        "optimizer.lr": {"log_uniform": [1e-5, 1.0]},
        "model.dropout": {"uniform": [0.0, 1.0]},
        "model.width": {"log_integers": [1, 1024]},
        "model.activation": ["relu", "tanh", "gelu"],
    }
)


def cost(point):
    """A synthetic objective with minimum 0 at lr = 1e-2, dropout = 0.3, width = 64, gelu."""
    return (
        (np.log10(point["optimizer.lr"]) + 2) ** 2 / 4
        + 4 * (point["model.dropout"] - 0.3) ** 2
        + (np.log2(point["model.width"]) - 6) ** 2 / 16
        + {"relu": 0.5, "tanh": 1.0, "gelu": 0.0}[point["model.activation"]]
    )


def run(method, seed, trials=48, *, metric="loss", known=None, evaluated=None):
    sign = -1.0 if metric == "accuracy" else 1.0
    strategy = make_strategy(method, SPACE, trials, seed, metric)
    size = strategy.batch
    batches = [range(start, min(start + size, trials)) for start in range(0, trials, size)]

    def evaluate(points, index):
        if evaluated is not None:
            evaluated.extend(points)
        return {
            number: Trial(number, point, "diverged")
            if point["optimizer.lr"] > 0.5
            else Trial(number, point, "finished", sign * cost(point))
            for number, point in points.items()
        }

    return explore(strategy, evaluate, batches, known or {})


def best(trials):
    return min(cost(trial.values) for trial in trials.values() if trial.score is not None)


class TestTpe:
    @pytest.fixture(autouse=True)
    def optuna(self):
        pytest.importorskip("optuna")

    @pytest.mark.slow
    @pytest.mark.parametrize("metric", ["loss", "accuracy"])
    def test_is_better_than_random_search(self, metric):
        tpe = [best(run("tpe", seed, metric=metric)) for seed in range(6)]
        random = [best(run("random", seed, metric=metric)) for seed in range(6)]
        assert np.mean(tpe) < 0.6 * np.mean(random)

    @pytest.mark.slow
    def test_resumes_from_any_records_with_the_same_result(self):
        uninterrupted = run("tpe", 3)
        evaluated: list[Any] = []
        some = {number: uninterrupted[number] for number in [*range(16), 17, 20]}
        assert run("tpe", 3, known=some, evaluated=evaluated) == uninterrupted
        assert evaluated == [number for number in range(16, 48) if number not in (17, 20)]

    def test_points_of_a_batch_differ(self):
        points = make_strategy("tpe", SPACE, 40, 0, "loss").ask(
            range(24, 32), list(run("tpe", 0, 24).values())
        )
        assert len({repr(point) for point in points}) == 8

    def test_conditions(self, space):
        strategy = make_strategy("tpe", space, 40, 0, "loss")
        history = [
            Trial(number, point, "finished", float(number))
            for number, point in enumerate(random_points(space, 24))
        ]
        for point in strategy.ask(range(24, 40), history):
            assert ("optimizer.momentum" in point) == (point["optimizer.name"] == "sgd")
            assert all(space[key].contains(value) for key, value in point.items())

    def test_records_read_from_a_file_are_equivalent(self, space):
        strategy = make_strategy("tpe", space, 40, 0, "loss")
        history = [
            Trial(number, point, "finished", float(number))
            for number, point in enumerate(random_points(space, 12))
        ]
        reread = [Trial.from_json(trial.to_json()) for trial in history]
        assert strategy.ask(range(12, 16), history) == strategy.ask(range(12, 16), reread)


class TestExplore:
    def test_known_trials_are_not_evaluated_again(self):
        uninterrupted = run("random", 1)
        evaluated: list[Any] = []
        some = {number: uninterrupted[number] for number in range(0, 48, 2)}
        assert run("random", 1, known=some, evaluated=evaluated) == uninterrupted
        assert evaluated == list(range(1, 48, 2))

    def test_records_of_another_search_are_refused(self):
        with pytest.raises(UserError, match="trial 3 was recorded with"):
            run("random", 1, known={3: run("random", 2)[3]})

    def test_a_longer_search_starts_with_the_trials_of_a_shorter_one(self):
        assert list(run("random", 1, 12).values()) == list(run("random", 1, 40).values())[:12]


def test_unknown_method():
    with pytest.raises(UserError, match="did you mean 'random'"):
        make_strategy("randm", SPACE, 4, 0, "loss")


def test_halving_samples_at_random():
    assert isinstance(make_strategy("halving", SPACE, 4, 0, "loss"), Random)
