import numpy as np
import pytest

from descend.experiments.search import Space, Trial, random_points
from descend.experiments.search.importance import TELLING, importance

SPACE = Space.of({f"model.x{i}": {"uniform": [0.0, 1.0]} for i in range(3)} | {"model.y": ["a", "b"]})


def tried(score, count=80):
    return [Trial(n, p, "finished", score(p)) for n, p in enumerate(random_points(SPACE, count, seed=4))]


def test_shares_follow_the_variance_that_a_key_explains():
    """Of 3 x0 + x1 the variances of the parts are as 9 to 1."""
    found = importance(tried(lambda p: 3 * p["model.x0"] + p["model.x1"]), SPACE, "loss")
    assert found.fit > 0.8
    assert found.shares["model.x0"] == pytest.approx(0.9, abs=0.08)
    assert found.shares["model.x1"] == pytest.approx(0.1, abs=0.08)
    assert found.shares["model.x2"] < 0.02
    assert sum(found.shares.values()) == pytest.approx(1.0)


def test_choices_count_too():
    found = importance(tried(lambda p: float(p["model.y"] == "a") + 0.1 * p["model.x2"]), SPACE, "accuracy")
    assert found.shares["model.y"] > 0.8


def test_noise_is_said_to_be_noise():
    drawn = np.random.default_rng(1)
    assert importance(tried(lambda p: drawn.random()), SPACE, "loss").fit < TELLING


def test_few_trials_say_nothing():
    assert importance(tried(lambda p: p["model.x0"], 11), SPACE, "loss") is None
