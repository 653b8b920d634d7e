"""Constructor parameters of estimators as recipes."""

from __future__ import annotations

import numpy as np
import pytest

import descend
from descend.errors import RecipeError
from descend.estimators.parameters import RECIPE_KEYS, sections_of


def recipe_of(task="classification", **parameters):
    return descend.Recipe.of(sections_of(parameters, task))


def test_each_parameter_sets_its_key():
    values = {
        "hidden": (8, 4),
        "activation": "tanh",
        "norm": "layer",
        "dropout": 0.25,
        "optimizer": "sgd",
        "lr": 0.5,
        "schedule": "cosine",
        "weight_decay": 0.125,
        "batch_size": 7,
        "max_epochs": 3,
        "patience": 2,
        "validation_fraction": 0.3,
        "scale": "none",
        "preset": "good",
        "minutes": 2.0,
        "refit": True,
        "device": "cpu",
        "class_weight": {"a": 2.0},
    }
    assert set(values) == set(RECIPE_KEYS)
    specified = recipe_of(**values).specified()
    assert {name: specified.pop(key) for name, key in RECIPE_KEYS.items()} == values
    assert specified == {"data.test": 0.0, "data.task": "classification"}
    estimator = descend.Classifier(**values)
    assert descend.Recipe.of(estimator._sections()) == recipe_of(**values)


def test_none_is_ignored_and_parameters_override_the_recipe():
    base = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}, "stop": {"max_epochs": 9}}
    assert recipe_of(recipe=base, lr=None).get("optimizer.lr") == 0.1
    changed = recipe_of(recipe=base, lr=0.3, max_epochs=2)
    assert (
        changed.get("optimizer.lr"),
        changed.get("optimizer.momentum"),
        changed.get("stop.max_epochs"),
    ) == (0.3, 0.5, 2)
    same = recipe_of(recipe=base, optimizer="sgd")
    assert same.get("optimizer.momentum") == 0.5


def test_another_method_replaces_the_section():
    base = descend.Recipe(optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.5}, schedule="cosine")
    recipe = recipe_of(recipe=base, optimizer="adam", schedule={"name": "staircase", "every": 3})
    assert dict(recipe.optimizer) == {"name": "adam"}
    assert dict(recipe.schedule) == {"name": "staircase", "every": 3}
    assert base.get("optimizer.momentum") == 0.5


def test_numbers_of_numpy_and_a_single_width():
    recipe = recipe_of(hidden=np.int64(5), lr=np.float64(0.5), max_epochs=np.int32(2))
    assert (recipe.get("model.hidden"), recipe.get("optimizer.lr"), recipe.get("stop.max_epochs")) == (
        (5,),
        0.5,
        2,
    )
    assert recipe_of(hidden=[3, np.int64(2)]).get("model.hidden") == (3, 2)


def test_recipe_files_and_bare_names(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('[optimizer]\nname = "sgd"\n[data]\ntarget = "y"\ntest = 0.2\n')
    recipe = recipe_of(recipe=path)
    assert recipe.get("optimizer.name") == "sgd"
    assert recipe.get("data.target") is None
    assert recipe.get("data.test") == 0.0
    assert recipe_of(recipe={"optimizer": "sgd"}).get("optimizer.name") == "sgd"


def test_errors():
    with pytest.raises(RecipeError) as caught:
        recipe_of(lr=-1, dropout=1.5, activation="rleu", recipe={"stop": {"max_epoch": 3}, "modle": {}})
    text = str(caught.value)
    for part in ("[optimizer] lr", "[model] dropout", "'relu'", "'max_epochs'", "'model'"):
        assert part in text, part
    with pytest.raises(
        RecipeError, match=r"\[data\] groups.*\n.*\[data\] task: 'regression' is not supported by"
    ):
        recipe_of(recipe={"data": {"groups": "patient", "task": "regression"}})
    with pytest.raises(RecipeError, match="is not supported by an estimator for regression"):
        recipe_of("regression", recipe={"data": {"task": "binary"}})
    assert recipe_of("regression").get("data.task") == "regression"
    assert recipe_of(recipe={"data": {"task": "multiclass"}}).get("data.task") == "multiclass"
    with pytest.raises(ValueError, match="modle"):
        descend.Classifier(recipe={"modle": {}}).fit([[0.0], [1.0]], [0, 1])


def test_dotted_keys_are_those_of_the_sections():
    dotted = {
        "data.target_scale": "log",
        "optimizer": "sgd",
        "optimizer.lr": 0.5,
        "data.columns.x0": "numeric",
    }
    nested = {
        "data": {"target_scale": "log", "columns": {"x0": "numeric"}},
        "optimizer": {"name": "sgd", "lr": 0.5},
    }
    assert recipe_of("regression", recipe=dotted) == recipe_of("regression", recipe=nested)
    assert recipe_of("regression", recipe=dotted, lr=0.1).get("optimizer.lr") == 0.1
    with pytest.raises(RecipeError, match="specified twice"):
        recipe_of(recipe={"data": {"scale": "none"}, "data.scale": "minmax"})
    X = np.linspace(0, 1, 60).reshape(-1, 1)
    y = np.exp(X[:, 0])
    models = [
        descend.Regressor(hidden=4, max_epochs=2, random_state=0, recipe=form).fit(X, y)
        for form in ({"data.target_scale": "log"}, {"data": {"target_scale": "log"}})
    ]
    assert models[0].recipe_.data["target_scale"] == "log"
    assert np.array_equal(models[0].predict(X), models[1].predict(X))
