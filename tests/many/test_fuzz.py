"""Random variants: train_many returns the runs of train, with any engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

import descend
from descend import train_many

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
SCORE = X @ RNG.normal(size=(5, 3)) + 0.3 * RNG.normal(size=(60, 3))
TARGETS = {"multiclass": SCORE.argmax(1), "binary": (SCORE[:, 0] > 0).astype(int), "regression": SCORE[:, 0]}
# A large eps: Adam divides by the size of a gradient, and amplifies the rounding of one that is nearly 0.
OPTIMIZERS = st.one_of(
    st.fixed_dictionaries(
        {"name": st.just("sgd"), "lr": st.floats(1e-3, 0.1), "momentum": st.sampled_from([0.0, 0.9])}
    ),
    st.fixed_dictionaries(
        {"name": st.just("adam"), "lr": st.floats(1e-4, 1e-2), "eps": st.floats(1e-3, 1e-2)}
    ),
)
RECIPES = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries({"batch_size": st.sampled_from([8, 16])}),
        "model": st.fixed_dictionaries(
            {
                "hidden": st.lists(st.integers(3, 12), min_size=1, max_size=2),
                "norm": st.sampled_from(["none", "none", "layer"]),
                "activation": st.sampled_from(["relu", "tanh"]),
                "dropout": st.sampled_from([0.0, 0.3]),
            }
        ),
        "optimizer": OPTIMIZERS,
        "schedule": st.fixed_dictionaries({"name": st.sampled_from(["constant", "cosine"])}),
        "regularize": st.fixed_dictionaries({"weight_decay": st.sampled_from([0.0, 0.1])}),
        # Rounding may change which epoch is the best, so the number of epochs decides when a member stops.
        "stop": st.fixed_dictionaries(
            {
                "max_epochs": st.integers(1, 3),
                "patience": st.just("none"),
                "average": st.sampled_from([0.0, 1.0]),
            }
        ),
        "engine": st.just({"threads": 1}),
    }
)


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(TARGETS)), st.lists(st.tuples(RECIPES, st.integers(0, 2)), min_size=2, max_size=5)
)
def test_runs_equal_those_of_train(task: str, variants: list[tuple[dict[str, Any], int]]) -> None:
    data = (X, TARGETS[task])
    runs = train_many([own for own, _ in variants], data, seeds=[seed for _, seed in variants])
    for (own, seed), run in zip(variants, runs, strict=True):
        solo = descend.train(data, own, seed=seed)
        assert len(run.history) == len(solo.history) == own["stop"]["max_epochs"]
        for packed, expected in zip(run.history, solo.history, strict=True):
            assert packed["lr"] == expected["lr"]
            for part in ("train", "validation"):
                assert packed[part]["loss"] == pytest.approx(expected[part]["loss"], rel=1e-4, abs=1e-6)
        if run.metrics["best_epoch"] == solo.metrics["best_epoch"]:
            state = solo.model.state_dict()
            for name, tensor in run.model.state_dict().items():
                torch.testing.assert_close(tensor, state[name], rtol=1e-3, atol=1e-5)
            for part in ("train", "validation", "test"):
                assert run.metrics[part]["loss"] == pytest.approx(
                    solo.metrics[part]["loss"], rel=1e-4, abs=1e-6
                )
