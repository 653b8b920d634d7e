"""Arguments of the public functions: every wrong kind is one sentence that names the argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import descend
from descend.arguments import as_path, device_name, integer, kind_of, target_names
from descend.errors import UserError

X = np.random.default_rng(0).normal(size=(30, 2))
PAIR = (X, X[:, 0])
QUICK = {"model": {"hidden": [4]}, "stop": {"max_epochs": 1}}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        (X, "an ndarray"),
        (3, "an int"),
        (2.5, "a float"),
        (True, "a bool"),
        ([], "a list"),
        (dict, "the class dict"),
        ("mlp", "the string 'mlp'"),
        (print, "a builtin_function_or_method"),
    ],
)
def test_kinds_have_an_article(value: object, words: str) -> None:
    assert kind_of(value) == words


def test_long_strings_are_cut() -> None:
    assert len(kind_of("x" * 5000)) < 80


class TestInteger:
    def test_integers_of_numpy_are_python_integers(self) -> None:
        assert type(integer("seed", np.int64(3))) is int
        assert integer("seed", -(10**30)) == -(10**30)

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (1.0, "1.0"),
            (True, "True"),
            ("3", "the string '3'"),
            (None, "None"),
            (X, "an ndarray"),
        ],
    )
    def test_others_are_refused(self, value: object, found: str) -> None:
        with pytest.raises(UserError) as caught:
            integer("seed", value)
        assert str(caught.value) == f"seed: expected an integer, got {found}"

    def test_bounds(self) -> None:
        assert integer("folds", 2, 2) == 2
        with pytest.raises(UserError, match="folds: expected an integer >= 2, got 1"):
            integer("folds", 1, 2)


def test_paths() -> None:
    assert as_path("out", Path("a")) == as_path("out", "a") == Path("a")
    for value, found in (("", "an empty string"), (3, "an int"), (None, "None"), (b"a", "a bytes")):
        with pytest.raises(UserError, match=f"out: expected a path, got {found}"):
            as_path("out", value)


def test_devices() -> None:
    assert device_name("device", torch.device("cuda", 1)) == "cuda:1"
    with pytest.raises(
        UserError, match="device: expected the name of a device, such as 'cpu' or 'cuda:1', got an int"
    ):
        device_name("device", 0)


def test_targets() -> None:
    assert target_names("target", pl.Series(["a", "b"])) == ["a", "b"]
    for value in (3, {"a": 1}, [], ["a", 3]):
        with pytest.raises(UserError, match="target: expected the name of a column or a list of names"):
            target_names("target", value)
    with pytest.raises(
        UserError, match=r"got a Series; values of targets are passed with the inputs: \(X, y\)"
    ):
        target_names("target", pl.Series([1.5, 2.0]))


FUNCTIONS: dict[str, Any] = {
    "train": lambda **given: descend.train(PAIR, QUICK, **given),
    "compare": lambda **given: descend.compare(PAIR, {"model.hidden": [[2], [3]]}, recipe=QUICK, **given),
    "search": lambda **given: descend.search(PAIR, trials=1, recipe=QUICK, **given),
    "cross_validate": lambda **given: descend.cross_validate(PAIR, QUICK, **given),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": "a"}, "seed: expected an integer"),
        ({"seed": None}, "seed: expected an integer"),
        ({"device": 0}, "device: expected the name of a device"),
        ({"target": 0}, "target: expected the name of a column"),
        ({"device": "tpu"}, "the device 'tpu' is not available"),
    ],
)
def test_every_function_checks_them(name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        FUNCTIONS[name](**given)


@pytest.mark.parametrize("name", ["train", "compare", "search"])
def test_folders(name: str) -> None:
    with pytest.raises(UserError, match="out: expected a path, got an int"):
        FUNCTIONS[name](out=3)


def test_loading() -> None:
    for call in (descend.load, descend.finish):
        with pytest.raises(UserError, match="folder: expected a path, got None"):
            call(None)


def test_devices_of_torch_train() -> None:
    run = descend.train(PAIR, QUICK, device=torch.device("cpu"))
    assert run.recipe.engine["device"] == "cpu"


def test_settings_as_keywords() -> None:
    with pytest.raises(
        TypeError, match=r"keyword argument 'lr'; settings of training belong in the recipe, such as "
    ):
        descend.train(PAIR, lr=0.1)  # type: ignore[call-arg]  # the mistake
    with pytest.raises(TypeError, match="keyword argument 'sed'; did you mean 'seed'"):
        descend.train(PAIR, sed=1)  # type: ignore[call-arg]  # the mistake


def test_comparisons() -> None:
    for given, words in (
        ({"seeds": "3"}, "seeds: expected an integer >= 1, got the string '3'"),
        ({"rates": 1}, "rates: expected two numbers"),
        ({"tune": -1}, "tune: expected an integer >= 0, got -1"),
    ):
        with pytest.raises(UserError, match=words):
            FUNCTIONS["compare"](**given)
    with pytest.raises(
        UserError, match=r"vary: expected a mapping of keys to their values, such as .*, got a list"
    ):
        descend.compare(PAIR, ["sgd", "adam"])
    with pytest.raises(UserError, match=r"vary: \[optimizer\] name: no such optimizer 'adm'"):
        descend.compare(PAIR, {"optimizer.name": ["sgd", "adm"]})
