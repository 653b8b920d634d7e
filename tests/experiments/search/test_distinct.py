"""Tests that a search tries each configuration once, and a small space completely."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import descend
from descend.experiments.search.distinct import all_points, distinct_points, point_name
from descend.experiments.search.sampling import quasi_random_points, random_points
from descend.experiments.search.space import Space
from descend.experiments.search.strategies import METHODS, make_strategy

SAMPLES = {"random": random_points, "quasi_random": quasi_random_points}
SMALL = Space.of({"optimizer.name": ["sgd", "adam"], "data.batch_size": {"integers": [16, 21]}})
CONDITIONAL = Space.of(
    {
        "optimizer": {
            "name": ["sgd", "adam"],
            "momentum": {"choices": [0.0, 0.5, 0.9], "when": {"optimizer.name": "sgd"}},
        }
    }
)


def test_all_points_of_a_space_with_conditions() -> None:
    points = all_points(CONDITIONAL)
    assert points is not None
    assert len(points) == 4
    assert {"optimizer.name": "adam"} in points
    assert all_points(Space.of({"optimizer.lr": {"uniform": [0.1, 0.2]}})) is None
    assert all_points(SMALL, most=11) is None
    assert len(all_points(SMALL, most=12) or []) == 12


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("space", [SMALL, CONDITIONAL], ids=["small", "conditional"])
@given(seed=st.integers(0, 2**40), repeats=st.sampled_from([1, 3, 64]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_every_point_once(name: str, space: Space, seed: int, repeats: int) -> None:
    def sample(n: int, start: int) -> list[dict[str, Any]]:
        return SAMPLES[name](space, n, seed, start=start)

    points = list(distinct_points(space, sample, seed, repeats))
    assert Counter(map(point_name, points)) == Counter(map(point_name, all_points(space) or []))
    firsts = list(dict.fromkeys(map(point_name, sample(2, 0))))
    assert [point_name(point) for point in points[: len(firsts)]] == firsts


@pytest.mark.parametrize("name", SAMPLES)
def test_a_space_with_an_interval_has_the_points_of_the_sequence(name: str) -> None:
    space = Space.of({"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}, "optimizer.name": ["sgd", "adam"]})
    points = distinct_points(space, lambda n, start: SAMPLES[name](space, n, 5, start=start), 5)
    assert list(itertools.islice(points, 100)) == SAMPLES[name](space, 100, 5)


@pytest.mark.parametrize("method", ["random", "quasi_random", "halving"])
def test_the_points_do_not_depend_on_the_batches_and_a_longer_search_begins_with_a_shorter_one(
    method: Any,
) -> None:
    def strategy(trials: int) -> Any:
        return make_strategy(method, SMALL, trials, 3, "loss")

    whole = strategy(12).ask(range(12), ())
    one = strategy(12)
    assert [one.ask(range(at, at + 1), ())[0] for at in range(12)] == whole
    assert strategy(12).ask(range(7, 12), ()) == whole[7:]  # a resumed search
    assert strategy(8).ask(range(8), ()) == whole[:8]
    assert strategy(500).trials == 12


@pytest.mark.parametrize("method", METHODS)
def test_a_search_trains_each_configuration_once(method: Any, tmp_path: Path) -> None:
    if method == "tpe":
        pytest.importorskip("optuna")
    space = {"optimizer.name": ["sgd", "adam"], "data.batch_size": [16, 32]}
    result = descend.search(
        "iris", {"stop": {"max_epochs": 1}}, space=space, trials=9, method=method, out=tmp_path / "s", batch=3
    )
    lines = (tmp_path / "s" / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    tried = Counter(json.dumps(json.loads(line)["values"], sort_keys=True) for line in lines)
    assert sorted(tried.values()) == [1, 1, 1, 1]
    assert len(result.trials) == 4
