"""Losses of distributions and quantiles from end to end: units, folders, exports, packs, ensembles, estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_pinball_loss
from tests.support.stop_at import StopAt

import descend
from descend.errors import Interrupted, RecipeError, UserError
from descend.export import load_exported

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(400, 3))
RATE = np.exp(5 + 0.6 * X[:, 0] - 0.3 * X[:, 1])
COUNTS = RANDOM.poisson(RATE).astype(float)
NOISE = np.exp(0.7 * X[:, 1])
VALUES = 3000 + 200 * X[:, 0] + 100 * NOISE * RANDOM.normal(size=400)
QUICK = {
    "stop": {"max_epochs": 15},
    "model": {"hidden": [16]},
    "optimizer": {"lr": 0.01},
    "engine": {"threads": 1},
}
LOSSES: dict[str, Any] = {
    "poisson": {"name": "poisson"},
    "negative_binomial": {"name": "negative_binomial"},
    "set": {"name": "negative_binomial", "dispersion": 0.2},
    "gaussian": {"name": "gaussian"},
    "quantile": {"name": "quantile", "level": 0.9},
    "several": {"name": "quantile", "level": [0.1, 0.5, 0.9]},
}


def targets_of(name: str) -> Any:
    return COUNTS if name in ("poisson", "negative_binomial", "set") else VALUES


def train(name: str, **sections: Any) -> descend.Run:
    data = {"data": {"task": "regression"}}
    return descend.train((X, targets_of(name)), QUICK | data | {"loss": LOSSES[name]} | sections)


@pytest.fixture(scope="module")
def runs() -> dict[str, descend.Run]:
    return {name: train(name) for name in LOSSES}


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_predictions_are_in_the_units_of_the_target(
        self, name: str, runs: dict[str, descend.Run]
    ) -> None:
        """Without training, predictions of counts start at the mean; of other targets they are near it as well."""
        predicted, targets = runs[name].predict(X), targets_of(name)
        assert predicted.shape == (400,)
        assert abs(predicted.mean() - targets.mean()) < 1.5 * targets.std()
        if name != "quantile":
            assert runs[name].metrics["test"]["r2"] > 0.3
            residuals = targets - predicted
            assert runs[name].evaluate((X, targets))["rmse"] == pytest.approx(
                np.sqrt((residuals**2).mean()), rel=1e-5
            )

    def test_the_start_is_the_mean(self, name: str) -> None:
        run = train(
            name, stop={"max_epochs": 1}, optimizer={"lr": 1e-9}, schedule={"name": "constant", "warmup": 0.0}
        )
        predicted = run.predict(X)
        assert predicted.std() < 1e-3 * targets_of(name).std()
        assert predicted.mean() == pytest.approx(targets_of(name).mean(), rel=0.05)

    def test_a_loaded_run_is_the_same(self, name: str, tmp_path: Path) -> None:
        run = train(name, stop={"max_epochs": 2})
        loaded = descend.load(run.save(tmp_path / "run"))
        np.testing.assert_array_equal(loaded.predict(X), run.predict(X))
        for key, values in run.predict_distribution(X).items():
            np.testing.assert_array_equal(loaded.predict_distribution(X)[key], values)

    @pytest.mark.parametrize("format", ["pt2", "safetensors"])
    def test_exports(self, name: str, format: str, runs: dict[str, descend.Run], tmp_path: Path) -> None:
        exported = load_exported(runs[name].export(format, tmp_path / f"model.{format}"))
        for rows in (1, 400):
            np.testing.assert_allclose(exported.predict(X[:rows]), runs[name].predict(X[:rows]), rtol=1e-5)

    def test_onnx(self, name: str, runs: dict[str, descend.Run], tmp_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(runs[name].export("onnx", tmp_path / "model.onnx"))
        (values,) = session.run(None, {session.get_inputs()[0].name: X})
        np.testing.assert_allclose(values.reshape(-1), runs[name].predict(X), rtol=1e-5)

    def test_a_pack_gives_the_runs_of_the_loop(self, name: str) -> None:
        recipe = QUICK | {"data": {"task": "regression"}, "loss": LOSSES[name], "stop": {"max_epochs": 2}}
        packed, single = (
            descend.train_many([recipe] * 2, (X, targets_of(name)), seeds=[0, 1], engine=engine)
            for engine in ("packed", "loop")
        )
        for one, other in zip(packed, single, strict=True):
            np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-3)
            for key, value in other.history[-1]["validation"].items():
                assert one.history[-1]["validation"][key] == pytest.approx(value, rel=1e-2, abs=1e-3), key

    def test_several_targets(self, name: str) -> None:
        targets = np.column_stack([targets_of(name), 2 * targets_of(name)[::-1]])
        data = {"data": {"task": "multi_regression"}}
        run = descend.train((X, targets), QUICK | data | {"loss": LOSSES[name], "stop": {"max_epochs": 2}})
        assert run.predict(X).shape == (400, 2)
        assert all(values.shape == (400, 2) for values in run.predict_distribution(X).values())

    def test_an_ensemble(self, name: str) -> None:
        run = train(name, model={"hidden": [8], "ensemble": 2}, stop={"max_epochs": 2})
        inputs = run.preprocess(run.schema.matrix(X))
        outputs = [member(inputs).detach() for member in run.model.members]
        if name == "several":  # the mean of the quantiles, of which those that cross are then sorted
            expected = run.predictor.decode(sum(outputs) / 2)
        else:
            expected = np.mean([run.predictor.decode(each) for each in outputs], axis=0)
        np.testing.assert_allclose(run.predict(X), expected, rtol=1e-4)


class TestDistributions:
    def test_the_standard_deviation_follows_the_noise(self, runs: dict[str, descend.Run]) -> None:
        found = runs["gaussian"].predict_distribution(X)
        np.testing.assert_allclose(found["mean"], runs["gaussian"].predict(X), rtol=1e-6)
        assert np.corrcoef(np.log(found["standard_deviation"]), np.log(NOISE))[0, 1] > 0.6
        assert 0.5 < found["standard_deviation"].mean() / (100 * NOISE).mean() < 2.0

    def test_of_counts(self, runs: dict[str, descend.Run]) -> None:
        found = runs["poisson"].predict_distribution(X)
        np.testing.assert_allclose(found["standard_deviation"] ** 2, found["mean"], rtol=1e-6)
        found = runs["negative_binomial"].predict_distribution(X)
        variance = found["mean"] + found["dispersion"] * found["mean"] ** 2
        np.testing.assert_allclose(found["standard_deviation"] ** 2, variance, rtol=1e-6)

    def test_quantiles(self, runs: dict[str, descend.Run]) -> None:
        found = runs["several"].predict_distribution(X)
        assert list(found) == ["quantile_0.1", "quantile_0.5", "quantile_0.9"]
        np.testing.assert_allclose(runs["several"].predict(X), found["quantile_0.5"], rtol=1e-6)
        assert 0.8 < (found["quantile_0.9"] > VALUES).mean() < 0.97
        assert 0.03 < (found["quantile_0.1"] > VALUES).mean() < 0.2
        loss = np.mean([mean_pinball_loss(VALUES, found[f"quantile_{t}"], alpha=t) for t in (0.1, 0.5, 0.9)])
        scale = runs["several"].schema.target_scale[0]
        assert runs["several"].evaluate((X, VALUES))["loss"] * scale == pytest.approx(loss, rel=1e-5)

    def test_in_the_table_of_predictions(self, runs: dict[str, descend.Run]) -> None:
        frame = pl.DataFrame(X)
        assert runs["gaussian"].predictions(frame).columns == ["prediction", "standard_deviation"]
        assert runs["several"].predictions(frame).columns[1:] == [
            "quantile_0.1",
            "quantile_0.5",
            "quantile_0.9",
        ]
        assert runs["quantile"].predictions(frame).columns == ["prediction"]

    def test_other_runs_have_none(self) -> None:
        run = descend.train("iris", {"stop": {"max_epochs": 1}})
        with pytest.raises(UserError, match="is for regression; predict_proba returns"):
            run.predict_distribution("iris")
        run = descend.train("diabetes", {"stop": {"max_epochs": 1}})
        with pytest.raises(UserError, match="MeanSquaredError predicts no distribution"):
            run.predict_distribution("diabetes")

    def test_a_regressor_returns_the_standard_deviation(self) -> None:
        model = descend.Regressor(hidden=8, max_epochs=3, random_state=0, recipe={"loss": "gaussian"}).fit(
            X, VALUES
        )
        predicted, deviation = model.predict(X, return_std=True)
        np.testing.assert_array_equal(predicted, model.predict(X))
        found = model.run_.predict_distribution(X)["standard_deviation"]
        np.testing.assert_allclose(deviation, found, rtol=1e-4)


class TestModels:
    def test_a_linear_model_is_poisson_regression(self) -> None:
        recipe = {
            "model": "linear",
            "loss": "poisson",
            "optimizer": {"name": "lbfgs"},
            "data": {
                "task": "regression",
                "validation": 0.0,
                "test": 0.0,
                "clip": "none",
                "sampling": "full",
            },
            "stop": {"max_epochs": 100},
            "regularize": {"weight_decay": 0.0},
        }
        predicted = descend.train((X, COUNTS), recipe).predict(X)
        reference = PoissonRegressor(alpha=0.0, tol=1e-9, max_iter=1000).fit(X, COUNTS)
        np.testing.assert_allclose(predicted, reference.predict(X), rtol=1e-3)

    @pytest.mark.parametrize("optimizer", ["newton", "trust_region", "kfac"])
    def test_curvature_methods(self, optimizer: str) -> None:
        section = {"optimizer": {"name": optimizer}, "stop": {"max_epochs": 10}}
        assert train("poisson", **section).metrics["test"]["r2"] > 0.5

    def test_what_has_no_likelihood_is_refused_by_kfac(self) -> None:
        with pytest.raises(RecipeError, match="needs a likelihood"):
            train("gaussian", optimizer={"name": "kfac"})

    @pytest.mark.parametrize("loss", ["quantile", "l1"])
    def test_losses_without_curvature_are_refused_by_curvature_methods(self, loss: str) -> None:
        with pytest.raises(RecipeError, match="uses the second derivative of the loss, which for"):
            descend.train((X, VALUES), QUICK | {"loss": loss, "optimizer": {"name": "newton"}})


class TestTargets:
    def test_few_different_counts_are_numbers(self) -> None:
        counts = RANDOM.poisson(1.0, 400)
        run = descend.train((X, counts), QUICK | {"loss": "poisson", "stop": {"max_epochs": 1}})
        assert run.schema.task == "regression"
        assert run.schema.why == "the loss poisson is for numbers"
        with pytest.raises(RecipeError, match=r"if the targets are numbers: \{'data.task': 'regression'\}"):
            descend.train((X, counts), {"loss": "quantile"})
        with pytest.raises(
            RecipeError, match=r"if the targets are classes: \{'data.task': 'classification'\}"
        ):
            descend.train((X, COUNTS), {"loss": "cross_entropy"})

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_negative_counts_in_any_part(self, part: str, tmp_path: Path) -> None:
        other = (X[:20], COUNTS[:20] - 1000)
        with pytest.raises(UserError, match="poisson takes counts, targets of at least 0, got -"):
            descend.train((X, COUNTS), {"loss": "poisson"}, out=tmp_path / "run", **{part: other})
        assert not (tmp_path / "run").exists()

    def test_interrupted_training_continues_to_the_same_weights(self, tmp_path: Path) -> None:
        recipe = QUICK | {
            "loss": "negative_binomial",
            "data": {"task": "regression"},
            "stop": {"max_epochs": 2},
        }
        whole = descend.train((X, COUNTS), recipe)
        with pytest.raises(Interrupted):
            descend.train((X, COUNTS), recipe, out=tmp_path / "run", observers=[StopAt(5)])
        resumed = descend.train((X, COUNTS), out=tmp_path / "run", resume=True)
        np.testing.assert_array_equal(resumed.predict(X), whole.predict(X))
