"""Tests that names which settings specify are found in data with a target of their own, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris, load_wine
from torch.utils.data import TensorDataset

import descend
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
NAMED = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "g": list("uuvvww"), "w": [1.0, 2, 3, 4, 5, 6]})
UNNAMED: dict[str, Any] = {
    "pair": (X, Y),
    "lists": (X.tolist(), Y.tolist()),
    "images": (np.zeros((6, 8, 8), dtype=np.uint8), Y),
    "tensor": (np.zeros((6, 2, 3, 4)), Y),
    "X and y": {"X": X, "y": Y},
    "parts": {"train": (X, Y), "test": (X, Y)},
    "dataset": TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
}


@pytest.mark.parametrize("name", [*UNNAMED, "npz", "digits", "iris", "bunch", "frame and series", "function"])
def test_a_target_that_does_not_exist_is_refused(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=X, y=Y)
    named: dict[str, Any] = {
        "npz": tmp_path / "d.npz",
        "bunch": load_wine(),
        "frame and series": (NAMED, pl.Series("y", Y)),
        "function": "sklearn.datasets:load_wine",
    }
    data = UNNAMED.get(name, named.get(name, name))
    with pytest.raises(DataError, match="'nope'"):
        read(data, target="nope")
    with pytest.raises(DataError, match="'nope'"):
        read(data, target=["nope", "neither"])
    with pytest.raises(DataError, match="'nope'"):
        descend.train(data, {"data": {"target": "nope"}})


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (name, key)
        for name in (*UNNAMED, "digits")
        for key in ("weights", "groups", "split")
        if (name, key) != ("parts", "split")  # data in parts are split already
    ],
)
def test_a_special_column_that_does_not_exist_is_refused(name: str, key: str) -> None:
    with pytest.raises(DataError, match=f"data.{key}: no column 'nope'"):
        read(UNNAMED.get(name, name), settings=DataSettings(**{key: "nope"}))


def test_kinds_of_columns_are_refused_where_there_are_none() -> None:
    with pytest.raises(DataError, match=r"data\.columns"):
        read(UNNAMED["images"], settings=DataSettings(columns={"nope": "numeric"}))


def test_the_own_target_can_be_named() -> None:
    assert read("iris", target="class").target_names == ("class",)
    assert read((X, pl.Series("y", Y)), target="y").targets is not None
    assert read(UNNAMED["pair"], target="y").target_names == ("y",)


def test_another_column_can_be_predicted_and_the_own_target_becomes_a_feature() -> None:
    iris = load_iris()
    source = read("iris", target="petal width (cm)")
    assert source.targets is not None
    assert source.frame is not None
    assert source.targets.tolist() == iris.data[:, 3].tolist()
    assert source.frame.columns == [*iris.feature_names[:3], "class"]
    assert source.frame["class"].to_list() == iris.target_names[iris.target].tolist()
    both = read("iris", target=["petal width (cm)", "petal length (cm)"])
    assert both.targets is not None
    assert np.array_equal(both.targets, iris.data[:, [3, 2]])


def test_a_network_of_another_column_predicts_evaluates_and_resumes(tmp_path: Path) -> None:
    recipe = {"stop": {"max_epochs": 30}}
    run = descend.train("iris", recipe, target="petal width (cm)", out=tmp_path / "run")
    assert run.schema.task == "regression"
    assert {column.name: column.kind for column in run.schema.columns}["class"] == "categorical"
    assert np.corrcoef(run.predict("iris"), load_iris().data[:, 3])[0, 1] > 0.9
    assert run.evaluate("iris")["r2"] > 0.8


def test_special_columns_of_a_pair_are_taken_from_its_named_features() -> None:
    source = read((NAMED, Y), settings=DataSettings(groups="g", weights="w"))
    assert source.frame is not None
    assert source.groups is not None
    assert source.weights is not None
    assert source.frame.columns == ["a", "b"]
    assert source.groups.tolist() == list("uuvvww")
    assert source.weights.tolist() == [1, 2, 3, 4, 5, 6]


def test_validation_rows_as_a_pair_share_the_specified_target() -> None:
    frame = NAMED.select("a", "b").with_columns(price=pl.Series(Y * 1.5))
    held_out = (NAMED.select("a", "b"), Y * 1.5)
    run = descend.train(
        frame, {"stop": {"max_epochs": 1}}, target="price", validation=held_out, test=held_out
    )
    assert run.schema.target_names == ("price",)


def test_rows_to_predict_need_none_of_the_names() -> None:
    assert read((X, Y), settings=DataSettings(target="price", weights="w"), predicting=True).target_names == (
        "y",
    )
