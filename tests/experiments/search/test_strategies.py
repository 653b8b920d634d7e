import numpy as np
import pytest

from descend.errors import UserError
from descend.experiments.search import Space, Trial, random_points
from descend.experiments.search.strategies import Random, explore, strategy

SPACE = Space.of(
    {
        "optimizer.lr": {"log_uniform": [1e-5, 1.0]},
        "model.dropout": {"uniform": [0.0, 1.0]},
        "model.width": {"log_integers": [1, 1024]},
        "model.activation": ["relu", "tanh", "gelu"],
    }
)


def cost(point):
    """Smallest, 0, at lr = 1e-2, dropout = 0.3, width = 64, gelu."""
    return (
        (np.log10(point["optimizer.lr"]) + 2) ** 2 / 4
        + 4 * (point["model.dropout"] - 0.3) ** 2
        + (np.log2(point["model.width"]) - 6) ** 2 / 16
        + {"relu": 0.5, "tanh": 1.0, "gelu": 0.0}[point["model.activation"]]
    )


def run(method, seed, trials=48, *, metric="loss", known=None, asked=None):
    sign = -1.0 if metric == "accuracy" else 1.0
    made = strategy(method, SPACE, trials, seed, metric)
    blocks = [range(at, min(at + made.batch, trials)) for at in range(0, trials, made.batch)]

    def evaluate(points, place):
        if asked is not None:
            asked.extend(points)
        return {
            number: Trial(number, point, "diverged")
            if point["optimizer.lr"] > 0.5
            else Trial(number, point, "finished", sign * cost(point))
            for number, point in points.items()
        }

    return explore(made, evaluate, blocks, known or {})


def best(trials):
    return min(cost(trial.values) for trial in trials.values() if trial.score is not None)


class TestTpe:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip("optuna")

    @pytest.mark.parametrize("metric", ["loss", "accuracy"])
    def test_finds_more_than_random_does(self, metric):
        tpe = [best(run("tpe", seed, metric=metric)) for seed in range(6)]
        drawn = [best(run("random", seed, metric=metric)) for seed in range(6)]
        assert np.mean(tpe) < 0.6 * np.mean(drawn)

    def test_goes_on_from_any_records_as_if_it_had_not_stopped(self):
        whole = run("tpe", 3)
        asked = []
        some = {number: whole[number] for number in [*range(16), 17, 20]}
        assert run("tpe", 3, known=some, asked=asked) == whole
        assert asked == [number for number in range(16, 48) if number not in (17, 20)]

    def test_a_batch_is_not_one_point(self):
        points = strategy("tpe", SPACE, 40, 0, "loss").ask(range(24, 32), list(run("tpe", 0, 24).values()))
        assert len({repr(point) for point in points}) == 8

    def test_conditions(self, space):
        asked = strategy("tpe", space, 40, 0, "loss")
        before = [
            Trial(number, point, "finished", float(number))
            for number, point in enumerate(random_points(space, 24))
        ]
        for point in asked.ask(range(24, 40), before):
            assert ("optimizer.momentum" in point) == (point["optimizer.name"] == "sgd")
            assert all(space[key].holds(value) for key, value in point.items())

    def test_records_read_from_a_file_are_the_same(self, space):
        asked = strategy("tpe", space, 40, 0, "loss")
        before = [
            Trial(number, point, "finished", float(number))
            for number, point in enumerate(random_points(space, 12))
        ]
        again = [Trial.from_json(trial.to_json()) for trial in before]
        assert asked.ask(range(12, 16), before) == asked.ask(range(12, 16), again)


class TestExplore:
    def test_what_is_known_is_not_tried_again(self):
        whole = run("random", 1)
        asked = []
        some = {number: whole[number] for number in range(0, 48, 2)}
        assert run("random", 1, known=some, asked=asked) == whole
        assert asked == list(range(1, 48, 2))

    def test_records_of_another_search_are_refused(self):
        with pytest.raises(UserError, match="trial 3 was recorded with"):
            run("random", 1, known={3: run("random", 2)[3]})

    def test_a_shorter_search_is_the_beginning_of_a_longer_one(self):
        assert list(run("random", 1, 12).values()) == list(run("random", 1, 40).values())[:12]


def test_no_such_method():
    with pytest.raises(UserError, match="did you mean 'random'"):
        strategy("randm", SPACE, 4, 0, "loss")


def test_halving_draws_at_random():
    assert isinstance(strategy("halving", SPACE, 4, 0, "loss"), Random)
