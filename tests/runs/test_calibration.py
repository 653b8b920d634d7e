"""Calibration of a run: where it applies, what is measured with it, and that every form of the model includes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

import descend
from descend.errors import RecipeError, RunError
from descend.estimators import Classifier
from descend.export import load_exported
from descend.nn.calibration import TemperatureScaling

QUICK = {"stop": {"max_epochs": 30}, "optimizer": {"lr": 0.01}}
X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def run() -> descend.Run:
    return descend.train("iris", QUICK)


def test_probabilities_are_those_of_the_scaled_logits(run):
    assert isinstance(run.calibration, TemperatureScaling)
    assert run.calibration.factor.item() > 1.0  # trained with label smoothing
    with torch.inference_mode():
        logits = run.model(run.preprocess(run.schema.matrix(X)))
    expected = torch.softmax(run.calibration.factor * logits, 1)
    np.testing.assert_allclose(run.predict_proba(X), expected.numpy(), atol=1e-6)
    assert np.array_equal(run.predict(X), run.schema.labels[logits.argmax(1).numpy()])


def test_the_test_part_is_measured_with_it_and_the_others_as_in_the_history(run):
    best = run.history[run.metrics["best_epoch"] - 1]
    assert run.metrics["validation"]["loss"] == pytest.approx(best["validation"]["loss"], rel=1e-5)
    parts = descend.train("iris", QUICK | {"data": {"test": 0.4}})
    plain = descend.train("iris", QUICK | {"data": {"test": 0.4}, "model": {"calibration": "none"}})
    assert plain.calibration is None
    assert parts.metrics["train"] == plain.metrics["train"]
    assert parts.metrics["test"]["accuracy"] == plain.metrics["test"]["accuracy"]
    assert parts.metrics["test"]["loss"] != plain.metrics["test"]["loss"]
    scores = parts.evaluate("iris")
    chosen = parts.predict_proba(X)[np.arange(len(Y)), Y]
    assert scores["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)


@pytest.mark.parametrize("name", ["temperature", "platt", "isotonic"])
def test_saved_and_exported_models_include_it(name, tmp_path):
    recipe = QUICK | {"model": {"calibration": name}, "stop": {"max_epochs": 5}}
    run = descend.train("breast_cancer", recipe, out=tmp_path / "run")
    rows = np.random.default_rng(0).normal(15, 10, (50, 30)).astype(np.float32)
    expected = run.predict_proba(rows)
    assert not np.allclose(
        expected,
        descend.train("breast_cancer", recipe | {"model": {"calibration": "none"}}).predict_proba(rows),
    )
    assert np.array_equal(descend.load(tmp_path / "run").predict_proba(rows), expected)
    for form in ("pt2", "safetensors"):
        file = run.export(form, tmp_path / f"model.{form}")
        np.testing.assert_allclose(load_exported(file).predict_proba(rows), expected, atol=1e-6)
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    session = runtime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    columns = {each.name: rows[:, at].astype(float) for at, each in enumerate(session.get_inputs())}
    found = session.run(None, columns)
    assert any(np.shape(each) == expected.shape and np.allclose(each, expected, atol=1e-5) for each in found)


def test_estimators_predict_with_it():
    model = Classifier(max_epochs=30).fit(X, Y)
    assert model.run_.calibration is not None
    np.testing.assert_allclose(model.predict_proba(X), model.run_.predict_proba(X), atol=1e-5)


def test_pretrained_weights_are_taken_without_it(tmp_path, run):
    run.save(tmp_path / "first")
    second = descend.train(
        "iris", QUICK | {"model": {"pretrained": str(tmp_path / "first")}, "stop": {"max_epochs": 1}}
    )
    assert "unused" not in second.environment["pretrained"] or not second.environment["pretrained"]["unused"]


@pytest.mark.parametrize(
    ("data", "recipe", "message"),
    [
        (
            "diabetes",
            {"model": {"calibration": "temperature"}},
            "calibrates probabilities, and the task is regression",
        ),
        (
            "iris",
            {"model": {"calibration": "platt"}},
            "is for the tasks binary, multi_label, and the task is multiclass",
        ),
        (
            "iris",
            {"model": {"calibration": "isotonic"}},
            "is for the tasks binary, and the task is multiclass",
        ),
        ("breast_cancer", {"model": {"calibration": "platt", "output": "sine"}}, "requires logits"),
        ("iris", {"model": {"calibration": "temperature"}, "data": {"validation": 0}}, "there are none"),
        ("iris", {"model": {"calibration": "temprature"}}, "temperature"),
    ],
)
def test_unsuitable_calibrations_are_refused_before_training(data, recipe, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        descend.train(data, recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_validation_rows_there_is_none():
    run = descend.train(
        "iris", QUICK | {"data": {"validation": 0}, "stop": {"max_epochs": 1, "patience": "none"}}
    )
    assert run.calibration is None
    assert run.recipe.model["calibration"] == "none"


def test_tensors_of_another_calibration_are_refused(run, tmp_path):
    from descend.recipe.calibration import restored_calibration
    from descend.recipe.facts import facts_of

    facts = facts_of(run.schema)
    with pytest.raises(RunError, match="do not fit the recipe"):
        restored_calibration(run.recipe, facts, {"shift": torch.zeros(1)}, "here")
    with pytest.raises(RunError, match="its recipe has none"):
        none = run.recipe.replace({"model.calibration": "none"})
        restored_calibration(none, facts, {"factor": torch.ones(1)}, "here")
