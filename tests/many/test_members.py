"""Ensembles of different networks: each member is what its own recipe trains, and the mean is their weighted mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

import descend
from descend.errors import RecipeError, UserError
from descend.estimators import Classifier
from descend.export import load_exported
from descend.nn.ensemble import Ensemble
from descend.recipe.members import network_recipe, networks_per_run

X, Y = load_wine(return_X_y=True)
MEMBERS: list[dict[str, Any]] = [
    {},
    {"model.hidden": [16], "optimizer.lr": 0.02},
    {"model.activation": "relu", "model.norm": "batch"},
    {"model.name": "linear", "optimizer.lr": 0.05},
]
BASE: dict[str, Any] = {"model": {"hidden": [12, 12]}, "stop": {"max_epochs": 12}, "optimizer": {"lr": 0.01}}


def several(**model: Any) -> dict[str, Any]:
    return BASE | {"model": BASE["model"] | {"members": MEMBERS, "ensemble": 3} | model}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> descend.Run:
    return descend.train("wine", several(), out=tmp_path_factory.mktemp("runs") / "one")


def solo(number: int) -> descend.Run:
    """The network of a member, trained by the recipe with the member's keys."""
    recipe = {f"{section}.{key}": value for section, values in BASE.items() for key, value in values.items()}
    if MEMBERS[number].get("model.name") == "linear":
        del recipe["model.hidden"]
    return descend.train("wine", recipe | MEMBERS[number] | {"model.calibration": "none"})


def test_members_are_the_networks_of_their_own_recipes(run):
    kept, weights = run.metrics["members"]["kept"], run.metrics["members"]["weights"]
    assert isinstance(run.model, Ensemble)
    assert 1 < len(kept) <= 3
    assert sum(weights) == pytest.approx(1.0)
    runs = [solo(number) for number in range(4)]
    values = [each.metrics["validation"]["objective"] for each in runs]
    assert run.metrics["members"]["validation"] == pytest.approx(values, rel=1e-4)
    assert kept[0] == int(np.argmin(values))
    inputs = run.preprocess(run.schema.matrix(X))
    with torch.inference_mode():
        mean = sum(
            weight * torch.softmax(runs[number].model(inputs), 1)
            for number, weight in zip(kept, weights, strict=True)
        )
        assert run.calibration is not None
        expected = torch.softmax(run.calibration(mean.log()), 1)
    np.testing.assert_allclose(run.predict_proba(X), expected.numpy(), atol=2e-4)


def test_the_selection_is_at_least_as_good_as_the_best_member(run):
    objective = run.metrics["validation"]["objective"]
    assert objective <= min(run.metrics["members"]["validation"]) * (1 + 1e-6)


def test_saved_and_exported(run, tmp_path):
    assert run.path is not None
    loaded = descend.load(run.path)
    assert np.array_equal(loaded.predict_proba(X), run.predict_proba(X))
    assert loaded.kept == run.kept
    for form in ("pt2", "safetensors"):
        found = load_exported(run.export(form, tmp_path / f"model.{form}"))
        np.testing.assert_allclose(found.predict_proba(X), run.predict_proba(X), atol=1e-6)


def test_a_resolved_recipe_trains_the_same_ensemble(run):
    again = descend.train("wine", run.recipe)
    assert again.metrics["members"] == run.metrics["members"]
    assert np.array_equal(again.predict_proba(X), run.predict_proba(X))


def test_restarts_train_each_member_several_times():
    run = descend.train("wine", several(ensemble=5) | {"init": {"restarts": 2}, "stop": {"max_epochs": 2}})
    assert networks_per_run(run.recipe) == len(run.metrics["members"]["validation"]) == 8
    assert network_recipe(run.recipe, 5).get("init.sample_index") == 1
    assert network_recipe(run.recipe, 5).get("model.hidden") == (16,)
    assert network_recipe(run.recipe, 3).get("model.name") == "linear"


def test_the_best_can_be_selected_instead(run):
    best = descend.train("wine", several(ensemble_selection="best", ensemble=2))
    values = best.metrics["members"]["validation"]
    assert best.metrics["members"]["kept"] == np.argsort(values, kind="stable")[:2].tolist()
    one = descend.train("wine", several(ensemble=1))
    assert not isinstance(one.model, Ensemble)
    assert one.kept == run.kept[:1]


def test_greedy_selection_of_one_architecture():
    recipe = BASE | {
        "model": {"hidden": [8], "ensemble": 3, "ensemble_selection": "greedy"},
        "init": {"restarts": 5},
    }
    run = descend.train("wine", recipe)
    assert len(run.metrics["members"]["validation"]) == 5
    assert len(run.kept) <= 3


def test_regression_and_estimators():
    members = [{}, {"model.hidden": [8]}]
    run = descend.train("diabetes", {"model": {"members": members, "ensemble": 2}, "stop": {"max_epochs": 5}})
    assert np.isfinite(run.predict("diabetes")).all()
    model = Classifier(max_epochs=5, recipe={"model": {"members": members, "ensemble": 2}}).fit(X, Y)
    np.testing.assert_allclose(model.predict_proba(X), model.run_.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([{"data.batch_size": 8}], "member 0 sets data.batch_size"),
        ([{}, {"loss.name": "focal"}], "member 1 sets loss.name"),
        ([{"model.ensemble": 2}], "set it in the recipe itself"),
        ([{"hidden": [3]}], "members may differ in keys of model"),
        ([{"optimizer.lrr": 0.1}], "member 0: .*lrr"),
        ([{"model.name": "convnet"}], "expected images"),
    ],
)
def test_unsuitable_members_are_refused_before_training(members, message, tmp_path):
    with pytest.raises((RecipeError, UserError), match=message):
        descend.train("wine", {"model": {"members": members}}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_members_need_validation_rows():
    with pytest.raises(RecipeError, match="no validation rows"):
        descend.train("wine", several() | {"data": {"validation": 0}})
