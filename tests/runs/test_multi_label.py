"""Several labels from end to end: inference, training, predictions, folders, exports, packs, comparison, estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

import descend
from descend.data.preparation import prepare
from descend.data.sources import read
from descend.data.task import infer_task
from descend.errors import DataError, RecipeError
from descend.export import load_exported

X = np.random.default_rng(0).normal(size=(240, 4))
Y = np.column_stack([X[:, 0] > 0, X[:, 1] > 0.2, X[:, 2] - X[:, 3] > 1]).astype(int)
QUICK = {
    "stop": {"max_epochs": 6},
    "model": {"hidden": [8]},
    "optimizer": {"lr": 0.02},
    "engine": {"threads": 1},
}


@pytest.fixture(scope="module")
def run() -> descend.Run:
    return descend.train((X, Y), QUICK)


class TestTask:
    @pytest.mark.parametrize(
        "targets",
        [
            Y,
            Y.astype(bool),
            Y.astype(float),
            Y.astype("int8"),
            Y.astype(object),
            Y.astype(bool).astype(object),
            np.where(Y == 1, "yes", "no"),
        ],
        ids=lambda y: str(y.dtype),
    )
    def test_two_values_in_several_columns(self, targets: Any) -> None:
        task, why = infer_task(targets)
        assert task == "multi_label"
        assert why.startswith("3 target columns with the values")

    @pytest.mark.parametrize("task", ["regression", "multi_regression"])
    def test_as_numbers_on_request(self, task: Any) -> None:
        assert infer_task(Y, task)[0] == "multi_regression"

    @pytest.mark.parametrize(
        "targets", [Y * 2, Y + 0.5, np.column_stack([Y, np.arange(240)])], ids=["2", "half", "id"]
    )
    def test_other_numbers_are_regression(self, targets: Any) -> None:
        assert infer_task(targets)[0] == "multi_regression"

    def test_declared(self) -> None:
        assert infer_task(2 * Y - 1, "multi_label")[0] == "multi_label"
        with pytest.raises(DataError, match=r"the values are 3: 0, 1 and 2|the values are 3"):
            infer_task(np.array([[0, 1], [2, 1]]), "multi_label")
        with pytest.raises(DataError, match="needs two or more target columns, got one"):
            infer_task(Y[:, 0], "multi_label")
        with pytest.raises(DataError, match=r"the values are 0\.0 in every row"):
            infer_task(np.zeros((5, 2)), "multi_label")

    def test_strings_with_more_values(self) -> None:
        with pytest.raises(DataError, match="2 columns with other values; specify one target"):
            infer_task(np.array([["a", "b"], ["c", "a"]]))

    def test_notes(self) -> None:
        prepared = prepare(read((X, Y)))
        assert any("{'data.task': 'multi_regression'}" in note for note in prepared.notes)
        one = np.eye(3, dtype=int)[np.arange(240) % 3]
        assert any("exactly one label holds in each row" in note for note in prepare(read((X, one))).notes)
        never = np.column_stack([Y, np.zeros(240, dtype=int)])
        assert any("the same in every training row" in note for note in prepare(read((X, never))).notes)

    def test_class_weights_are_refused(self) -> None:
        with pytest.raises(DataError, match="class_weights is for classes"):
            descend.train((X, Y), {"data": {"class_weights": "balanced"}})


class TestPredictions:
    def test_they_are_learned(self, run: descend.Run) -> None:
        assert run.schema.task == run.metrics["task"] == "multi_label"
        assert run.recipe.loss["name"] == "bce"
        assert run.metrics["test"]["f1_micro"] > 0.7
        assert set(run.metrics["test"]) >= {
            "f1_macro",
            "label_accuracy",
            "subset_accuracy",
            "roc_auc",
            "log_loss",
        }

    def test_forms(self, run: descend.Run) -> None:
        predicted, probabilities = run.predict(X), run.predict_proba(X)
        assert predicted.shape == probabilities.shape == (240, 3)
        assert predicted.dtype == Y.dtype
        np.testing.assert_array_equal(predicted, (probabilities > 0.5).astype(int))

    @pytest.mark.parametrize("kind", [bool, float, "int8", "words"])
    def test_the_kind_of_the_labels(self, kind: Any) -> None:
        targets = np.where(Y == 1, "yes", "no") if kind == "words" else Y.astype(kind)
        own = descend.train((X, targets), QUICK | {"stop": {"max_epochs": 2}})
        predicted = own.predict(X)
        assert predicted.dtype == targets.dtype
        assert set(np.unique(predicted)) <= set(np.unique(targets))

    def test_a_linear_model_is_a_logistic_regression_for_each_label(self) -> None:
        recipe = {
            "model": "linear",
            "optimizer": {"name": "lbfgs"},
            "data": {"validation": 0.0, "test": 0.0, "clip": "none", "sampling": "full"},
            "stop": {"max_epochs": 200},
            "regularize": {"weight_decay": 0.0, "l2": 1e-2},
        }
        run = descend.train((X, Y), recipe)
        scaled = (X - X.mean(0)) / X.std(0)
        # The loss is a mean over rows and labels: C |l|² / n corresponds to 1/(2 C n) = 3 · 0.01.
        reference = MultiOutputClassifier(LogisticRegression(C=1 / (2 * 0.03 * 240), tol=1e-8)).fit(scaled, Y)
        expected = np.column_stack([each[:, 1] for each in reference.predict_proba(scaled)])
        np.testing.assert_allclose(run.predict_proba(X), expected, atol=5e-3)

    def test_names_of_labels(self) -> None:
        frame = pl.DataFrame({"x": X[:, 0], "z": X[:, 1], "warm": Y[:, 0], "loud": Y[:, 1]})
        run = descend.train(frame, QUICK | {"stop": {"max_epochs": 2}}, target="warm,loud")
        assert run.schema.target_names == ("warm", "loud")
        assert run.predictions(frame).columns == [
            "prediction_warm", "prediction_loud", "probability_warm", "probability_loud",
        ]  # fmt: skip
        assert set(run.evaluate(frame)) >= {"loss", "f1_micro"}

    def test_evaluation_data_with_other_columns_or_values(self, run: descend.Run) -> None:
        with pytest.raises(DataError, match="expected 3 labels per row"):
            run.evaluate((X, Y[:, :2]))
        with pytest.raises(DataError, match="the target contains 2 in row 7"):
            changed = Y.copy()
            changed[7, 1] = 2
            run.evaluate((X, changed))

    @pytest.mark.parametrize("loss", ["squared", "focal", {"name": "bce", "label_smoothing": 0.1}], ids=str)
    @pytest.mark.parametrize("output", ["sigmoid", "sine"])
    def test_other_losses_and_outputs(self, loss: Any, output: str) -> None:
        run = descend.train((X, Y), QUICK | {"loss": loss, "model": {"hidden": [8], "output": output}})
        assert run.metrics["test"]["label_accuracy"] > 0.7
        assert ((run.predict_proba(X) > 0.5) == run.predict(X)).all()

    def test_losses_of_classes_are_refused(self) -> None:
        with pytest.raises(RecipeError, match="'cross_entropy' does not fit the task multi_label"):
            descend.train((X, Y), {"loss": "cross_entropy"})


class TestFiles:
    def test_a_run_folder_and_its_report(self, tmp_path: Path) -> None:
        run = descend.train((X, Y), QUICK, out=tmp_path / "run")
        loaded = descend.load(tmp_path / "run")
        np.testing.assert_array_equal(loaded.predict_proba(X), run.predict_proba(X))
        page = loaded.report().read_text()
        assert "Scores by label" in page
        assert "multi-label classification" in page
        rows = run.evaluation["labels"]
        held = Y[np.asarray(prepare(read((X, Y))).test.rows)].sum(axis=0)
        assert [each["hits"] + each["missed"] for each in rows] == held.tolist()

    @pytest.mark.parametrize("format", ["pt2", "safetensors"])
    @pytest.mark.parametrize("rows", [1, 240])
    def test_exports(self, run: descend.Run, format: str, rows: int, tmp_path: Path) -> None:
        exported = load_exported(run.export(format, tmp_path / f"model.{format}"))
        np.testing.assert_array_equal(exported.predict(X[:rows]), run.predict(X[:rows]))
        np.testing.assert_allclose(exported.predict_proba(X[:rows]), run.predict_proba(X[:rows]), atol=1e-6)

    def test_onnx(self, run: descend.Run, tmp_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
        label, probabilities = session.run(None, {session.get_inputs()[0].name: X})
        np.testing.assert_array_equal(label, run.predict(X))
        np.testing.assert_allclose(probabilities, run.predict_proba(X), atol=1e-6)


class TestMany:
    def test_a_pack_gives_the_runs_of_the_loop(self) -> None:
        recipes = [QUICK | {"stop": {"max_epochs": 2}}] * 2
        packed = descend.train_many(recipes, (X, Y), seeds=[0, 1], engine="packed")
        single = descend.train_many(recipes, (X, Y), seeds=[0, 1], engine="loop")
        for one, other in zip(packed, single, strict=True):
            np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-4)
            assert one.history[-1]["validation"] == pytest.approx(other.history[-1]["validation"], rel=1e-3)

    def test_an_ensemble_averages_probabilities(self) -> None:
        section = {"model": {"hidden": [8], "ensemble": 2, "calibration": "none"}, "stop": {"max_epochs": 2}}
        run = descend.train((X, Y), QUICK | section)
        inputs = run.preprocess(run.schema.matrix(X))
        with torch.inference_mode():
            each = torch.stack([torch.sigmoid(member(inputs)) for member in run.model.members]).mean(0)
        np.testing.assert_allclose(run.predict_proba(X), each.numpy(), atol=1e-6)

    def test_cross_validation(self) -> None:
        result = descend.cross_validate((X, Y), QUICK | {"stop": {"max_epochs": 2}}, folds=3)
        assert result.predictions.shape == (1, 240, 3)


class TestClassifier:
    def test_conventions_of_scikit_learn(self) -> None:
        model = descend.Classifier(hidden=8, lr=0.02, max_epochs=8, random_state=0).fit(X, Y)
        assert model.classes_.tolist() == [0, 1, 2]
        predicted, probabilities = model.predict(X), model.predict_proba(X)
        assert predicted.shape == probabilities.shape == (240, 3)
        np.testing.assert_array_equal(predicted, (probabilities > 0.5).astype(int))
        assert model.score(X, Y) == pytest.approx((predicted == Y).all(axis=1).mean())

    def test_weights_are_copies(self) -> None:
        weights = np.random.default_rng(1).integers(0, 3, 240)
        repeated = np.repeat(np.arange(240), weights)
        fitted = [
            descend.Classifier(hidden=8, max_epochs=3, random_state=0).fit(*data).predict_proba(X)
            for data in ((X, Y, weights), (X[repeated], Y[repeated]))
        ]
        np.testing.assert_array_equal(*fitted)

    def test_in_pieces(self) -> None:
        model = descend.Classifier(hidden=8, lr=0.02, random_state=0)
        for _ in range(8):
            model.partial_fit(X, Y)
        assert (model.predict(X) == Y).mean() > 0.8
        assert model.classes_.tolist() == [0, 1, 2]

    def test_other_columns(self) -> None:
        with pytest.raises(
            ValueError, match="y has 3 columns; expected one column of classes, or several columns"
        ):
            descend.Classifier().fit(X, Y * 3)
