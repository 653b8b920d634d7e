"""Schedules of weight decay and dropout: values at each step, resumed runs, and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.small_runs import assert_same
from tests.support.stop_at import StopAt
from torch import nn

import descend
from descend.errors import Interrupted, RecipeError, RunError, UserError
from descend.many import train_many
from descend.regularization import weight_decay

RECIPE: dict[str, Any] = {
    "model": {"hidden": [8], "dropout": 0.4, "dropout_schedule": "flat_cosine"},
    "regularize": {"weight_decay": 0.5, "weight_decay_schedule": "flat_cosine"},
    "stop": {"max_epochs": 4, "patience": None},
    "engine": {"threads": 1},
}


class Values:
    """Records the settings that each step has used."""

    def __init__(self, key: str) -> None:
        self.key, self.decays, self.rates = key, list[float](), list[float]()

    def stepped(self, training: Any) -> None:
        self.decays.append(training.optimizer.param_groups[0][self.key])
        self.rates.append(training.model.get_submodule("drop1").p)


def flat_cosine(t: float) -> float:
    return 1.0 if t < 0.5 else (1 + math.cos(math.pi * (2 * t - 1))) / 2


@pytest.mark.parametrize(
    ("optimizer", "key", "base"), [("adamw", "weight_decay", 0.5), ("sgd", "weight_decay_factor", 1.0)]
)
def test_each_step_has_the_value_of_the_formula(optimizer: str, key: str, base: float) -> None:
    seen = Values(key)
    run = descend.train("diabetes", {**RECIPE, "optimizer": optimizer}, observers=[seen])
    steps = run.metrics["steps"]
    expected = [flat_cosine(k / steps) for k in range(steps)]
    assert seen.decays == pytest.approx([base * each for each in expected], abs=1e-12)
    assert seen.rates == pytest.approx([0.4 * each for each in expected], abs=1e-12)
    # A trained network has the rates of its recipe again.
    assert run.model.get_submodule("drop1").p == 0.4


def test_the_factor_multiplies_decoupled_decay() -> None:
    w = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([w], lr=0.5)
    weight_decay(optimizer, [w], 0.2)
    optimizer.param_groups[0]["weight_decay_factor"] = 0.25
    w.grad = torch.zeros(3)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((3,), 1 - 0.5 * 0.2 * 0.25))


def test_a_constant_schedule_has_the_bits_of_none() -> None:
    plain = {**RECIPE, "model": {"hidden": [8], "dropout": 0.4}, "regularize": {"weight_decay": 0.5}}
    constant = {
        **plain,
        "model": {**plain["model"], "dropout_schedule": "constant"},
        "regularize": {"weight_decay": 0.5, "weight_decay_schedule": "constant"},
    }
    weights = [descend.train("diabetes", each).model.state_dict() for each in (plain, constant, RECIPE)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["linear1.weight"], weights[2]["linear1.weight"])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_has_the_same_bits(optimizer: str, tmp_path: Path) -> None:
    recipe = {**RECIPE, "optimizer": optimizer, "stop": {**RECIPE["stop"], "average": 0.0}}
    whole = descend.train("diabetes", recipe, seed=1)
    with pytest.raises(Interrupted):
        descend.train("diabetes", recipe, seed=1, out=tmp_path / "run", observers=[StopAt(25)])
    resumed = descend.train("diabetes", out=tmp_path / "run", resume=True)
    assert_same(resumed, whole)


def test_other_epochs_would_have_changed_the_steps_already_taken(tmp_path: Path) -> None:
    recipe = {**RECIPE, "model": {"hidden": [8]}}
    with pytest.raises(Interrupted):
        descend.train("diabetes", recipe, out=tmp_path / "run", observers=[StopAt(30)])
    with pytest.raises(
        RunError, match="weight_decay_schedule = 'flat_cosine' depends on the number of epochs"
    ):
        descend.train("diabetes", {"stop": {"max_epochs": 40}}, out=tmp_path / "run", resume=True)


def test_many_are_trained_one_after_another() -> None:
    runs = train_many([RECIPE, {**RECIPE, "optimizer": {"lr": 0.01}}], "diabetes")
    solo = descend.train("diabetes", RECIPE)
    assert "dropout_schedule has no packed form" in runs[0].environment["engine"]["why"]
    assert all(
        torch.equal(t, runs[0].model.state_dict()[name]) for name, t in solo.model.state_dict().items()
    )


def test_nothing_to_schedule_is_refused() -> None:
    recipe = {
        **RECIPE,
        "model": {**RECIPE["model"], "dropout": 0.0},
        "regularize": {**RECIPE["regularize"], "weight_decay": 0.0},
    }
    with pytest.raises(RecipeError) as caught:
        descend.train("diabetes", recipe)
    assert "there is no dropout to schedule" in str(caught.value)
    assert "there is no weight decay to schedule" in str(caught.value)


def test_passes_without_a_known_end_are_refused() -> None:
    model = descend.Regressor(recipe={"model": {"dropout": 0.1, "dropout_schedule": "flat_cosine"}})
    with pytest.raises(UserError, match=r"model.dropout_schedule .* the number of passes is unknown"):
        model.partial_fit(np.random.default_rng(0).normal(size=(20, 2)), np.arange(20.0))
