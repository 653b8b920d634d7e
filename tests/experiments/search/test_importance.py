import numpy as np
import pytest

from descend.experiments.search import Space, Trial, random_points
from descend.experiments.search.importance import MIN_FIT, permutation_importance

SPACE = Space.of({f"model.x{i}": {"uniform": [0.0, 1.0]} for i in range(3)} | {"model.y": ["a", "b"]})


def tried(score, count=80):
    return [Trial(n, p, "finished", score(p)) for n, p in enumerate(random_points(SPACE, count, seed=4))]


@pytest.mark.slow
def test_shares_match_the_explained_variance():
    """The variances of the two terms of 3 x0 + x1 have the ratio 9 : 1."""
    importance = permutation_importance(tried(lambda p: 3 * p["model.x0"] + p["model.x1"]), SPACE, "loss")
    assert importance.fit > 0.8
    assert importance.shares["model.x0"] == pytest.approx(0.9, abs=0.08)
    assert importance.shares["model.x1"] == pytest.approx(0.1, abs=0.08)
    assert importance.shares["model.x2"] < 0.02
    assert sum(importance.shares.values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_choices_have_importance():
    importance = permutation_importance(
        tried(lambda p: float(p["model.y"] == "a") + 0.1 * p["model.x2"]), SPACE, "accuracy"
    )
    assert importance.shares["model.y"] > 0.8


@pytest.mark.slow
def test_noise_has_a_low_fit():
    random = np.random.default_rng(1)
    assert permutation_importance(tried(lambda p: random.random()), SPACE, "loss").fit < MIN_FIT


def test_too_few_trials():
    assert permutation_importance(tried(lambda p: p["model.x0"], 11), SPACE, "loss") is None
