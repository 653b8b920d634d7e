"""The catalogue: every entry is explained, can be found, and trains."""

from __future__ import annotations

import inspect
import math
import re
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

import descend
from descend.constraints import CONDITIONS
from descend.errors import UserError
from descend.param_types import check, describe, of_constructor
from descend.recipe import Recipe
from descend.recipe.catalogue import (
    CATALOGUE,
    CHOICES,
    KEYS,
    Entry,
    entries,
    find,
    import_object,
    is_import_path,
)
from descend.recipe.sections import SECTIONS, section_parameters

QUICK = Recipe(
    model={"hidden": [8]},
    data={"batch_size": 32, "sampling": "epoch"},
    stop={"max_epochs": 1, "average": 0.0},
    schedule={"warmup": 0.0},
    engine={"threads": 1, "device": "cpu"},
)
EVERY = list(entries())


def named(entry: Entry) -> str:
    return f"{entry.section}.{entry.key}={entry.name}"


every_entry = pytest.mark.parametrize("entry", EVERY, ids=named)


def rows(loader, count=120):
    x, y = loader(return_X_y=True)
    some = np.random.default_rng(0).permutation(len(x))[:count]
    return x[some], y[some]


@pytest.fixture(scope="module")
def data():
    digits = rows(load_digits)
    return {
        "multiclass": digits,
        "images": (digits[0].reshape(-1, 1, 8, 8).astype(np.float32), digits[1]),
        "binary": rows(load_breast_cancer),
        "regression": rows(load_diabetes),
    }


def task_of(entry: Entry) -> str:
    """Data that the entry is for."""
    constructor: Any = entry.constructor
    if entry.section == "loss":
        tasks = constructor.tasks
        return next(task for task in ("multiclass", "binary", "regression") if task in tasks)
    if entry.key == "output":
        binary = entry.name in ("sigmoid", "sine")
        return "binary" if binary else "multiclass" if entry.name == "softmax" else "regression"
    if entry.key == "augment":
        return "multiclass" if "rows" in constructor.fits else "images"
    if entry.key == "target_scale":
        return "regression"
    if entry.key == "calibration":
        return "multiclass" if "multiclass" in getattr(constructor, "tasks", ("multiclass",)) else "binary"
    return "images" if (entry.name in ("convnet", "image_resnet", "instance")) else "multiclass"


def value_of(entry: Entry) -> object:
    """Return the value with which a recipe uses the entry."""
    if not entry.is_key:
        return entry.name
    if entry.key in CONDITIONS:
        return weights_are_few
    if entry.key == "ensemble_selection":
        return "greedy"
    if entry.key in ("text_dimension", "lookahead"):
        return 8 if entry.key == "text_dimension" else 2
    return "*" if entry.section == "constrain" else 0.01


def weights_are_few(model):
    return sum(weight.square().mean() for weight in model.parameters()) - 100.0


LOSS_OF_OUTPUT: dict[str, dict[str, object]] = {
    "exp": {"name": "poisson"},
    "gaussian_mean": {"name": "gaussian"},
    "negative_binomial_mean": {"name": "negative_binomial"},
    "middle_quantile": {"name": "quantile", "level": [0.1, 0.5, 0.9]},
}
"""The losses that choose an output activation."""


def recipe_of(entry: Entry) -> Recipe:
    sections = {section: dict(values) for section, values in QUICK.items()}
    if entry.name in ("linear", "polynomial"):
        sections["model"] = {}
    elif entry.name == "unitary_rnn":
        sections["model"] = {"units": 8}
    elif entry.name == "resnet":
        sections["model"] = {"width": 8, "inner_width": 8}
    elif entry.name == "image_resnet":
        sections["model"] = {"channels": [4, 8]}
    elif task_of(entry) == "images":
        sections["model"] = {"channels": [4], "dense": [8]}
    if entry.section == "schedule":
        sections["schedule"] = {}
    sections[entry.section] = sections[entry.section] | {entry.key: value_of(entry)}
    if entry.name in LOSS_OF_OUTPUT:
        sections["loss"] = LOSS_OF_OUTPUT[entry.name]
    if entry.name == "sparse_adam":
        sections["model"] = {"name": Sparse}
    return Recipe.of(sections)


class Sparse(torch.nn.Module):
    """Looks pixels' brightness up in a table, whose gradient is sparse."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.table = torch.nn.EmbeddingBag(8, outputs, mode="sum", sparse=True)

    def forward(self, x):
        return self.table(x.clamp(-3, 4).add(3).long().clamp(0, 7))


@pytest.mark.slow
@every_entry
def test_every_entry_trains_for_an_epoch(entry, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some entries warn that they are a bad choice
        if entry.name == "sign":
            with pytest.raises(UserError, match="derivative is zero"):
                descend.train(data["multiclass"], recipe_of(entry))
            return
        run = descend.train(data[task_of(entry)], recipe_of(entry), seed=1)
    assert run.metrics["status"] == "finished"
    assert run.recipe.get(f"{entry.section}.{entry.key}") == value_of(entry)
    # The strength 0.01 exceeds the gradient of every weight of the first layer, so l1_prox removes them.
    if entry.name not in ("zeros", "sparse_adam", "l1_prox"):
        assert all(parameter.abs().sum() > 0 for parameter in run.model.parameters())
    assert run.metrics["steps"] == math.ceil(run.schema.rows["train"] / 32)
    assert all(
        value is None or math.isfinite(value)  # some metrics are undefined for few rows
        for part in ("train", "validation", "test")
        for value in run.metrics[part].values()
    )
    predicted = run.predict(data[task_of(entry)][0])
    assert predicted.shape == (120,)
    assert set(predicted) <= set(data[task_of(entry)][1]) or run.schema.task == "regression"


@pytest.mark.parametrize("gradient", [{"clip_norm": 0.1}, {"clip_value": 0.01}, {"accumulate": 2}], ids=str)
def test_sparse_gradients_are_clipped_and_accumulated(data, gradient):
    recipe = Recipe.of({**dict(QUICK.items()), "model": {"name": Sparse}, "optimizer": "sparse_adam"})
    run = descend.train(data["multiclass"], recipe.replace({"gradient": gradient}))
    assert math.isfinite(run.history[-1]["gradient_norm"])


class TestCards:
    @every_entry
    def test_every_entry_is_described(self, entry):
        card = entry.card
        assert re.fullmatch(r"[A-K]\d+(, [A-K]\d+)*", card.row), card.row
        assert card.formula
        assert card.summary.endswith(".")
        assert "\n" not in card.summary
        assert inspect.getdoc(entry.constructor)

    @every_entry
    def test_every_key_is_described_and_its_default_is_in_its_domain(self, entry):
        context = SECTIONS[entry.section].context if entry.key == "name" else ()
        parameters = of_constructor(entry.constructor, context)
        assert parameters is not None
        doc = inspect.getdoc(entry.constructor) or ""
        for parameter in parameters.values():
            if parameter.default is inspect.Parameter.empty:
                assert entry.key != "name", "what the builder does not give needs a default"
                continue
            assert describe(parameter.annotation)
            assert check(parameter, parameter.default)[1] is None, parameter
            assert f"{parameter.name}:" in doc or entry.name == "linear", parameter.name


class TestEntries:
    def test_each_occurs_once(self):
        assert len({(e.section, e.key, e.name) for e in EVERY}) == len(EVERY)
        expected = sum(len(family) for families in (CATALOGUE, CHOICES, KEYS) for family in families.values())
        assert len(EVERY) == expected

    @every_entry
    def test_find_by_name_and_by_constructor(self, entry):
        assert find(entry.section, entry.name, entry.key) is entry.constructor
        assert find(entry.section, entry.constructor, entry.key) is entry.constructor

    def test_common_choices_exist(self):
        names = {(entry.section, entry.key, entry.name) for entry in EVERY}
        for section, key, expected in [
            ("model", "name", "linear polynomial mlp convnet"),
            (
                "model",
                "activation",
                "sigmoid tanh relu leaky_relu maxout elu gelu silu selu softplus identity sign",
            ),
            ("model", "output", "identity sigmoid sine softmax"),
            ("model", "norm", "none batch layer group instance weight decorrelated iterative"),
            ("regularize", "orthogonality", "none so dso mc srip"),
            ("loss", "name", "mse l1 huber bce squared cross_entropy kl wasserstein"),
            (
                "init",
                "name",
                "xavier_normal xavier_uniform kaiming_normal kaiming_uniform geometric orthogonal zeros constant",
            ),
            ("optimizer", "name", "gd sgd heavy_ball nesterov adagrad rmsprop adam adamw sparse_adam adamax"),
            ("schedule", "name", "constant inverse exponential staircase plateau cosine warmup one_cycle"),
            ("data", "scale", "center standard minmax pca whiten zca none"),
        ]:
            assert {(section, key, name) for name in expected.split()} <= names

    def test_choices_are_keys(self):
        for section, key in CHOICES:
            methods = [None, *CATALOGUE.get(section, {})]
            assert any(key in (section_parameters(SECTIONS[section], method) or {}) for method in methods)


class TestImportPaths:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("torch.optim.NAdam", True),
            ("mine:Net", True),
            ("mine.nets:Net.Inner", True),
            ("adam", False),
            ("", False),
            (":Net", False),
            ("mine:", False),
            ("mine..Net", False),
            (".mine", False),
            ("a:b:c", False),
            ("mine/net.Net", False),
            ("f.<locals>.Net", False),
        ],
    )
    def test_is_import_path(self, name, expected):
        assert is_import_path(name) is expected

    def test_import_object(self):
        assert import_object("torch.nn:Linear") is import_object("torch.nn.Linear") is torch.nn.Linear
        assert import_object("torch:nn.Linear") is torch.nn.Linear

    def test_modules_in_the_current_directory_are_found(self, tmp_path, monkeypatch):
        (tmp_path / "my_nets_module.py").write_text("class Net: pass")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
        assert import_object("my_nets_module:Net").__name__ == "Net"
