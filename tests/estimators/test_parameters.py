from __future__ import annotations

import numpy as np
import pytest

import descend
from descend.errors import RecipeError
from descend.estimators.parameters import PLACES, as_recipe, asked


def recipe_of(task="classification", **parameters):
    return as_recipe(asked(parameters, task))


def test_each_parameter_has_its_place():
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
        "device": "cpu",
    }
    assert set(values) == set(PLACES)
    said = recipe_of(**values).specified()
    assert {name: said.pop(place) for name, place in PLACES.items()} == values
    assert said == {"data.test": 0.0, "data.task": "classification"}
    estimator = descend.Classifier(**values)
    assert as_recipe(estimator._asked()) == recipe_of(**values)


def test_none_says_nothing_and_parameters_win():
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


def test_another_method_takes_the_whole_place():
    base = descend.Recipe(optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.5}, schedule="cosine")
    found = recipe_of(recipe=base, optimizer="adam", schedule={"name": "staircase", "every": 3})
    assert dict(found.optimizer) == {"name": "adam"}
    assert dict(found.schedule) == {"name": "staircase", "every": 3}
    assert base.get("optimizer.momentum") == 0.5


def test_numbers_of_numpy_and_a_single_width():
    found = recipe_of(hidden=np.int64(5), lr=np.float64(0.5), max_epochs=np.int32(2))
    assert (found.get("model.hidden"), found.get("optimizer.lr"), found.get("stop.max_epochs")) == (
        (5,),
        0.5,
        2,
    )
    assert recipe_of(hidden=[3, np.int64(2)]).get("model.hidden") == (3, 2)


def test_recipe_files_and_bare_names(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('[optimizer]\nname = "sgd"\n[data]\ntarget = "y"\ntest = 0.2\n')
    found = recipe_of(recipe=path)
    assert found.get("optimizer.name") == "sgd"
    assert found.get("data.target") is None
    assert found.get("data.test") == 0.0
    assert recipe_of(recipe={"optimizer": "sgd"}).get("optimizer.name") == "sgd"


def test_faults():
    with pytest.raises(RecipeError) as caught:
        recipe_of(lr=-1, dropout=1.5, activation="rleu", recipe={"stop": {"max_epoch": 3}, "modle": {}})
    text = str(caught.value)
    for part in ("[optimizer] lr", "[model] dropout", "'relu'", "'max_epochs'", "'model'"):
        assert part in text, part
    with pytest.raises(RecipeError, match=r"\[data\] groups.*\n.*\[data\] task: 'regression' does not fit"):
        recipe_of(recipe={"data": {"groups": "patient", "task": "regression"}})
    with pytest.raises(RecipeError, match="does not fit an estimator for regression"):
        recipe_of("regression", recipe={"data": {"task": "binary"}})
    assert recipe_of("regression").get("data.task") == "regression"
    assert recipe_of(recipe={"data": {"task": "multiclass"}}).get("data.task") == "multiclass"
    with pytest.raises(ValueError, match="modle"):
        descend.Classifier(recipe={"modle": {}}).fit([[0.0], [1.0]], [0, 1])
