"""Every entry of the catalogue, amid others drawn at random: trains, is loaded as it was, and resumes to the same bits.

For each entry hypothesis draws the rest of the recipe around it: network, activation, norm, loss, start, optimizer,
schedule, penalties, scaling, sampling, clipping, and settings of all of these near their defaults. What is drawn comes from
:func:`descend.recipe.catalogue.entries` and from constructors' signatures, so a new method is drawn without a word here.
A combination that makes no sense must be refused by a RecipeError; no other exception will do.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shutil
import typing
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from tests.support.stop_at import StopAt

import descend
from descend.errors import Interrupted, RecipeError
from descend.param_types import MISSING, Parameter, check, of_constructor
from descend.recipe import Recipe
from descend.recipe.catalogue import CATALOGUE, CHOICES, Entry, entries
from descend.recipe.sections import SECTIONS, section_parameters

ATTEMPTS = 12
"""Recipes drawn around an entry, a network and data, until one trains."""

NEVER = {
    "model.activation=sign": "derivative is zero almost everywhere",
    "optimizer.name=sparse_adam": "needs sparse gradients",
}
"""Entries that no network of the catalogue trains with, and what the refusal says."""

DRAWN = {
    "data": {"scale", "clip", "batch_size", "sampling", "class_weights"},
    "stop": {"average", "min_improvement", "patience"},
    "checkpoint": set(),
    "engine": set(),
}
"""The keys drawn of sections of which not all are; the others say what files there are, or how long to go on."""

SEVERAL = {("init", "restarts")} | {
    ("model", key)
    for key in (
        "ensemble",
        "ensemble_shrinkage",
        "preset",
        "minutes",
        "max_rounds",
        "searched_keys",
        "distill",
    )
}
"""Keys that train several networks, which no observer can stop; tests/many/test_restarts.py resumes them."""

BLOCKS = st.just(500)
"""The size of the blocks of coordinate descent, where it is given: each block has a line search, so small ones take minutes."""

TENTHS = st.sampled_from([each / 10 for each in range(10)])
"""Numbers in [0, 1). Hypothesis draws floats near constants of the modules that are loaded, so the recipes, and the time they
take, would depend on which tests ran before."""

TOO_SLOW = {("unitary_rnn", "coordinate_descent")}
"""Networks and optimizers that meet only around one of the two: a line search for each tensor of a network that reads pixels
one by one takes twenty seconds."""

LOSSES_OF_OUTPUTS: dict[str, dict[str, Any]] = {
    "exp": {"name": "poisson"},
    "gaussian_mean": {"name": "gaussian"},
    "negative_binomial_mean": {"name": "negative_binomial"},
    "middle_quantile": {"name": "quantile", "level": [0.1, 0.5, 0.9]},
}
"""Output activations that a loss chooses, with the loss."""

SAMPLES = 80


def some(loader: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = loader(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(x))[:SAMPLES]
    return x[rows], y[rows]


def digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, y = some(load_digits)
    return pixels.reshape(-1, 1, 8, 8).astype(np.float32), y


IMAGES, LABELS = digits()
DATA = {
    # Every fourth pixel: a recurrent network reads them one by one, and line searches call it hundreds of times.
    "digits": (IMAGES[:, 0, ::2, ::2].reshape(SAMPLES, 16).astype(float), LABELS),
    "images": (IMAGES, LABELS),
    "diabetes": some(load_diabetes),
    "cancer": some(load_breast_cancer),
}
TASKS = {"digits": "multiclass", "images": "multiclass", "diabetes": "regression", "cancer": "binary"}


def near(parameter: Parameter) -> st.SearchStrategy[Any] | None:
    """Values near the default that its domain allows; None where only its owner could think of one."""
    default = parameter.default
    found: list[Any] = []
    for part in typing.get_args(parameter.annotation) or (parameter.annotation,):
        inner = typing.get_args(part)
        if typing.get_origin(part) is Literal:
            found += inner
        elif part is bool:
            found += [False, True]
    if parameter.annotation is bool:
        found = [False, True]
    elif typing.get_origin(parameter.annotation) is Literal:
        found = list(typing.get_args(parameter.annotation))
    elif isinstance(default, (int, float)) and not isinstance(default, bool):
        found += (
            [2 * default, default // 2 if type(default) is int else default / 2]
            if default
            else [0.01, 0.1, 1]
        )
    elif isinstance(default, tuple) and default and all(type(each) is int for each in default):
        default, found = None, [(6,), (5, 4)]
    elif default is None:
        found += [0.5, 1.0, 3]
    values = [
        value for value in [default, *found] if check(parameter, value)[1] is None and value is not None
    ]
    return st.sampled_from(values) if values else None


@st.composite
def settings_of(draw: st.DrawFn, parameters: dict[str, Parameter], *, often: float = 0.3) -> dict[str, Any]:
    """Some of a constructor's settings. Widths are always said: the defaults are larger than a test needs."""
    said = {}
    for key, parameter in parameters.items():
        values = near(parameter) if parameter.default is not MISSING else None
        if key == "block_size" and parameter.default is None:
            values = BLOCKS
        wide = isinstance(parameter.default, tuple) and all(type(each) is int for each in parameter.default)
        if values is not None and ((wide and parameter.default) or draw(TENTHS) < often):
            said[key] = draw(values)
    return said


@st.composite
def choices(draw: st.DrawFn, section: str, key: str, name: str | None = None) -> Any:
    """A name of a family, with settings or without."""
    family = CHOICES[section, key]
    name = name or draw(st.sampled_from([each for each in family if f"{section}.{key}={each}" not in NEVER]))
    parameters = of_constructor(family[name], ()) or {}
    said = draw(settings_of(parameters, often=0.2))
    return {"name": name, **said} if said and section == "model" and key != "output" else name


def places(entry: Entry) -> list[tuple[str, str]]:
    """Data and networks around an entry, in an order of its own: where it could be, as far as names and tasks tell."""
    tasks = getattr(entry.constructor, "tasks", None)
    found = []
    for data, model in itertools.product(DATA, CATALOGUE["model"]):
        keys = {"name", *(section_parameters(SECTIONS["model"], model) or {})}
        possible = entry.section != "model" or (
            entry.name == model if entry.key == "name" else entry.key in keys
        )
        if possible and (tasks is None or TASKS[data] in tasks):
            found.append((data, model))
    random.Random(entry.name).shuffle(found)
    return found


@st.composite
def recipes(draw: st.DrawFn, entry: Entry, task: str, model: str) -> dict[str, dict[str, Any]]:
    """The sections of a recipe around an entry and a network. Most make sense together, and some do not."""
    said: dict[str, dict[str, Any]] = {}
    for name, section in SECTIONS.items():
        chosen = None
        if name == "model":
            chosen = model
        elif (entry.section, entry.key) == (name, "name"):
            chosen = entry.name
        elif section.named:
            fitting = [
                each
                for each, constructor in CATALOGUE[name].items()
                if f"{name}.name={each}" not in NEVER
                and task in getattr(constructor, "tasks", {task})
                and (model, each) not in TOO_SLOW
            ]
            chosen = draw(st.sampled_from(fitting))
        keys = section_parameters(section, chosen) or {}
        keys = {key: value for key, value in keys.items() if key in DRAWN.get(name, keys)}
        if task == "regression" or (entry.key == "output" and entry.name in LOSSES_OF_OUTPUTS):
            keys.pop("class_weights", None)
        plain = {key: value for key, value in keys.items() if (name, key) not in SEVERAL.union(CHOICES)}
        said[name] = ({"name": chosen} if chosen else {}) | draw(settings_of(plain))
        for key in keys:
            ours = (entry.section, entry.key) == (name, key)
            if (name, key) in CHOICES and (
                ours or (key not in ("output", "calibration", "number_embedding") and draw(st.booleans()))
            ):
                said[name][key] = draw(choices(name, key, entry.name if ours else None))
    if entry.key == "output" and entry.name in LOSSES_OF_OUTPUTS:
        said["loss"] = LOSSES_OF_OUTPUTS[entry.name]
    said["data"]["batch_size"] = draw(st.sampled_from([16, 33]))
    said["gradient"].setdefault("clip_norm", 1.0)  # two epochs of any rate stay finite
    said["stop"] |= {"max_epochs": 2}
    said["engine"] = {"threads": 1, "device": "cpu"}
    return said


def history(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def assert_trains_saves_and_resumes(
    data: tuple[np.ndarray, np.ndarray], recipe: Recipe, stop: float, folder: Path
) -> None:
    """Two epochs; the run from its folder is the same; stopped anywhere and resumed it is the same."""
    run = descend.train(data, recipe, seed=3, out=folder / "whole")
    assert run.metrics["status"] == "finished"
    assert run.metrics["epochs"] == 2
    assert all(math.isfinite(value) for record in run.history for value in record["train"].values())

    loaded = descend.load(folder / "whole")
    assert loaded.recipe == run.recipe
    assert torch.equal(
        loaded.predictor.outputs(loaded._rows(data[0])), run.predictor.outputs(run._rows(data[0]))
    )
    predicted = loaded.predict(data[0])
    assert np.array_equal(predicted, run.predict(data[0]))
    assert len(predicted) == SAMPLES

    step = 1 + int(stop * (run.metrics["steps"] - 1))
    with pytest.raises(Interrupted):
        descend.train(data, recipe, seed=3, out=folder / "part", observers=[StopAt(step)])
    descend.train(data, out=folder / "part", resume=True)
    weights = [(folder / name / "weights.safetensors").read_bytes() for name in ("whole", "part")]
    assert weights[0] == weights[1], f"stopped after step {step}"
    assert history(folder / "whole") == history(folder / "part")


def trains_somehow(entry: Entry, data: str, model: str, folder: Path, refusals: list[str]) -> bool:
    """Draw recipes around an entry until one trains; whether one did. Reasons of those that were refused are added."""
    drawn = trained = 0

    @settings(
        max_examples=ATTEMPTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(recipes(entry, TASKS[data], model), TENTHS)
    def draw_until_one_trains(sections: dict[str, dict[str, Any]], stop: float) -> None:
        nonlocal drawn, trained
        drawn += 1
        if drawn == 1 or trained:  # the first draw is the simplest recipe, the same around every entry
            return
        note(f"{data} {sections}")
        shutil.rmtree(folder, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # drawn recipes earn any
            try:
                assert_trains_saves_and_resumes(DATA[data], Recipe.of(sections), stop, folder)
            except RecipeError as refused:
                assert refused.problems
                assert all(len(problem.message) > 10 for problem in refused.problems)
                assert not (folder / "whole").exists(), "refused only after something was written"
                refusals.append(str(refused))
                return
        trained += 1

    draw_until_one_trains()
    return bool(trained)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written need not survive a loss of power here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.slow
@pytest.mark.parametrize("entry", list(entries()), ids=lambda e: f"{e.section}.{e.key}={e.name}")
def test_every_entry_trains_amid_others(entry: Entry, tmp_path: Path, quick_disk: None) -> None:
    label = f"{entry.section}.{entry.key}={entry.name}"
    refusals: list[str] = []
    for data, model in places(entry):
        if trains_somehow(entry, data, model, tmp_path, refusals):
            assert label not in NEVER
            return
    assert label in NEVER, "\n".join(refusals)
    assert any(NEVER[label] in refusal for refusal in refusals)
