"""The preset good is a list of members, which changes no key that the recipe specifies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

import descend
from descend.errors import RecipeError
from descend.estimators import Classifier
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.recipe.members import network_recipe
from descend.recipe.presets import GOOD_FOR_TABLES, MANY_NUMBERS, members_of_preset
from descend.runs.plan import Planner, plan_run

X, Y = load_wine(return_X_y=True)
SHORT = {"stop.max_epochs": 2}


def test_it_trains_every_member_and_is_written_into_the_recipe():
    run = descend.train("wine", {"model.preset": "good", **SHORT})
    assert len(run.metrics["members"]["validation"]) == len(GOOD_FOR_TABLES) == run.recipe.model["ensemble"]
    # Keys that equal the recipe's own value are left out.
    assert all(
        set(one) <= set(other)
        for one, other in zip(run.recipe.model["members"], GOOD_FOR_TABLES, strict=True)
    )
    assert sum(map(len, run.recipe.model["members"])) >= 5
    weights = run.metrics["members"]["weights"]
    assert len(weights) == len(GOOD_FOR_TABLES)
    assert min(weights) >= run.recipe.model["ensemble_shrinkage"] / len(GOOD_FOR_TABLES) > 0.1
    assert "preset good" in run.reasons["model.members"]
    again = descend.train("wine", run.recipe)
    assert np.array_equal(again.predict_proba(X), run.predict_proba(X))


def test_specified_keys_are_those_of_every_member():
    recipe = {
        "optimizer.lr": 0.05,
        "model.dropout": 0.0,
        "model.hidden": [8],
        "model.preset": "good",
        **SHORT,
    }
    run = descend.train("wine", recipe)
    for member in run.recipe.model["members"]:
        assert not {"optimizer.lr", "model.dropout", "model.hidden"} & set(member)
    assert members_of_preset({"model": {"number_embedding": "linear", "dropout": 0.1}}) == (
        {},
        {"regularize.weight_decay": 0.01, "optimizer.lr": 0.004},
        {"regularize.weight_decay": 0.02, "optimizer.lr": 0.002},
    )


def test_embeddings_of_many_numbers_are_narrower():
    for numbers, widths in ((5, (1, 16, 4)), (MANY_NUMBERS + 1, (1, 8, 2))):
        plan = plan_run((np.random.default_rng(0).normal(size=(100, numbers)), np.arange(100) % 2))
        for number, width in enumerate(widths):
            recipe = network_recipe(plan.recipe, number)
            network = build_model(recipe, facts_of(plan.prepared.schema), 0, plan.prepared.train)
            first = next(one for one in network.modules() if isinstance(one, torch.nn.Linear))
            assert first.in_features == numbers * width


def test_one_network_where_it_does_not_apply():
    assert "members" not in descend.train("wine", SHORT).metrics
    assert "members" not in descend.train("digits", {"model.preset": "good", "stop.max_epochs": 1}).metrics
    validated = {"model.preset": "good", "data.validation": 0, "stop.patience": "none", **SHORT}
    assert "members" not in descend.train("wine", validated).metrics


def test_a_table_without_numbers():
    colors = np.array(["red", "green", "blue"])[np.random.default_rng(0).integers(0, 3, 200)]
    table = {"color": colors.tolist(), "y": (colors == "red").astype(int).tolist()}
    run = descend.train(table, {"model.preset": "good", **SHORT}, target="y")
    assert all("model.number_embedding" not in member for member in run.recipe.model["members"])


def test_a_named_network_is_refused():
    with pytest.raises(RecipeError, match=r"chooses the networks, and model\.name is 'linear'"):
        descend.train("wine", {"model": {"preset": "good", "name": "linear"}})
    with pytest.raises(RecipeError, match='"quick", "good" or "best"'):
        descend.train("wine", {"model.preset": "goood"})


def test_estimators_take_it():
    model = Classifier(preset="good", max_epochs=2).fit(X, Y)
    assert len(model.run_.metrics["members"]["validation"]) == len(GOOD_FOR_TABLES)


@pytest.mark.parametrize(
    ("recipe", "cause"),
    [
        ({"model.hidden": [8]}, "model.hidden"),
        ({"loss": "focal"}, "loss.name"),
        ({"init.sample_index": 1}, "init.sample_index"),
        ({"optimizer": {"name": "auto", "lr": 0.1}}, "optimizer.lr"),
        ({"schedule": "cosine"}, "schedule.name"),
        ({"gradient.clip_norm": 1.0}, "gradient.clip_norm"),
        ({"regularize.weight_decay": 0.1}, "regularize.weight_decay"),
        ({"constrain.norm_ball": "*"}, "constrain.norm_ball"),
        ({"stop.max_epochs": 2}, "stop.max_epochs"),
        ({"data.augment": ["mixup"]}, "data.augment"),
    ],
)
def test_a_recipe_that_describes_a_network_trains_it(recipe, cause):
    resolved = plan_run("wine", recipe).resolved
    assert resolved.recipe.model["preset"] == "quick"
    assert resolved.recipe.model["members"] == ()
    assert resolved.reasons["model.preset"].startswith(f"the recipe specifies {cause}, ")


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"data": {"scale": "robust", "batch_size": 16}},
        {"model.preset": "auto"},
        {"model": {"name": "auto", "calibration": "none"}, "optimizer": "auto"},
        {"stop.metrics": ["f1_macro"], "engine.threads": 1, "checkpoint.every_epochs": 3},
    ],
)
def test_an_open_recipe_trains_several_networks(recipe):
    resolved = plan_run("wine", recipe).resolved
    assert resolved.recipe.model["preset"] == "good"
    assert len(resolved.recipe.model["members"]) == len(GOOD_FOR_TABLES)
    assert "model.preset" in resolved.reasons


def test_one_network_of_data_for_which_there_is_no_ensemble():
    reason = plan_run("wine", {"data.validation": 0}).resolved.reasons["model.preset"]
    assert "no validation rows" in reason
    pictures = np.zeros((60, 8, 8), np.uint8), np.arange(60) % 2
    assert plan_run(pictures).recipe.model["preset"] == "quick"
    rows = torch.utils.data.TensorDataset(torch.randn(60, 3), torch.arange(60) % 2)
    assert plan_run(rows).recipe.model["preset"] == "quick"


def test_a_module_of_ones_own_is_one_network():
    run = descend.train("wine", {"stop.max_epochs": 1}, model=torch.nn.Linear(13, 3))
    assert run.recipe.model["preset"] == "quick"
    assert plan_run("wine", ensembles=False).recipe.model["preset"] == "quick"


def test_comparisons_and_searches_train_one_network_per_variant():
    assert Planner("wine").plan().recipe.model["preset"] == "quick"
    assert Planner("wine").plan({"model.preset": "good"}).recipe.model["preset"] == "good"
    assert Planner("wine", ensembles=True).plan().recipe.model["preset"] == "good"
