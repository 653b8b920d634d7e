"""Runs that learn a transform of their target: everything they report is in the units of the target."""

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.stats import lognorm
from sklearn.metrics import mean_absolute_error, r2_score

import descend
from descend.errors import RecipeError
from descend.export import load_exported

QUICK = {"stop.max_epochs": 3, "model.hidden": [8], "engine.threads": 1}


def skewed(rows=240, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3))
    return x, np.exp(2 + x[:, 0] + 0.3 * random.normal(size=rows))


X, Y = skewed()
NEW, NEW_Y = skewed(60, 1)


def trained(name, data=(X, Y), **settings):
    return descend.train(data, {**QUICK, "data.target_scale": name, **settings})


@pytest.fixture(scope="module", params=["log", "quantile"])
def run(request):
    return trained(request.param)


def learned(run, rows):
    """Return the raw outputs of the network in the learned units, before the inverse."""
    (scale,), (mean,) = run.schema.target_scale, run.schema.target_mean
    return run.predictor.outputs(rows).double().numpy()[:, 0] * scale + mean


def test_predictions_are_the_inverse_of_what_the_network_learns(run):
    found = run.predict(NEW)
    (transform,) = run.schema.target_transforms
    assert (found > 0).all() or transform.name == "quantile"
    assert transform(found) == pytest.approx(learned(run, NEW), abs=1e-9)
    if transform.name == "log":
        assert found == pytest.approx(np.exp(learned(run, NEW)))


def test_metrics_are_in_the_units_of_the_target(run):
    found = run.evaluate((NEW, NEW_Y))
    assert found["r2"] == pytest.approx(r2_score(NEW_Y, run.predict(NEW)), abs=1e-5)
    assert found["mae"] == pytest.approx(mean_absolute_error(NEW_Y, run.predict(NEW)), rel=1e-5)


@pytest.mark.slow
def test_files_predict_as_the_run(run, tmp_path):
    wanted = run.predict(NEW)
    for format in ("pt2", "safetensors"):
        assert load_exported(run.export(format, tmp_path)).predict(NEW) == pytest.approx(wanted, rel=1e-5)
    (value,) = onnxruntime.InferenceSession(run.export("onnx", tmp_path)).run(None, {"rows": NEW})
    assert value == pytest.approx(wanted, rel=1e-5)
    run.save(tmp_path / "run")
    assert descend.load(tmp_path / "run").predict(NEW).tolist() == wanted.tolist()


def test_the_report_shows_targets_in_their_units(run):
    (shown,) = run.evaluation["scatter"].values()
    rows = sorted(Y)
    for value in shown["true"]:
        nearest = min(rows, key=lambda each: abs(each - value))
        assert nearest == pytest.approx(value, rel=1e-5)
    assert len(shown["true"]) > 30


def test_a_pack_measures_as_solo_runs():
    """Members with different seeds have different training rows, and transforms of their own."""
    recipe = {**QUICK, "data.target_scale": "quantile"}
    many = descend.train_many([recipe, recipe], (X, Y), seeds=[0, 1])
    solo = [descend.train((X, Y), recipe, seed=seed) for seed in (0, 1)]
    assert solo[0].schema.target_transforms != solo[1].schema.target_transforms
    for own, alone in zip(many, solo, strict=True):
        assert own.schema.target_transforms == alone.schema.target_transforms
        for epoch, wanted in zip(own.history, alone.history, strict=True):
            for name, value in wanted["validation"].items():
                assert epoch["validation"][name] == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_an_ensemble_averages_what_its_members_learn():
    run = trained("log", **{"model.ensemble": 3})
    members = [member(run.preprocess(run.schema.matrix(NEW))) for member in run.model.members]
    mean = torch.stack(members).mean(0)
    assert run.predict(NEW) == pytest.approx(run.schema.in_units(mean)[:, 0].detach().numpy(), rel=1e-5)


def test_quantiles_keep_their_level():
    run = trained("log", loss={"name": "quantile", "level": [0.1, 0.5, 0.9]})
    found = run.predict_distribution(NEW)
    raw = np.sort(run.predictor.outputs(NEW).double().numpy(), axis=1)
    (scale,), (mean,) = run.schema.target_scale, run.schema.target_mean
    for at, level in enumerate((0.1, 0.5, 0.9)):
        assert found[f"quantile_{level}"] == pytest.approx(np.exp(raw[:, at] * scale + mean), rel=1e-5)
    assert found["quantile_0.5"] == pytest.approx(run.predict(NEW), rel=1e-6)


def test_a_normal_distribution_of_the_logarithm_is_lognormal():
    run = trained("log", loss="gaussian")
    (scale,), (mean,) = run.schema.target_scale, run.schema.target_mean
    described = run.loss.distribution(run.predictor.outputs(NEW).double())
    mu = described["mean"].values[:, 0].numpy() * scale + mean
    sigma = described["standard_deviation"].values[:, 0].numpy() * scale
    found = run.predict_distribution(NEW)
    reference = lognorm(s=sigma, scale=np.exp(mu))
    assert found["mean"] == pytest.approx(reference.mean(), rel=1e-6)
    assert found["standard_deviation"] == pytest.approx(reference.std(), rel=1e-6)
    assert found["median"] == pytest.approx(reference.median(), rel=1e-6)
    assert found["median"] == pytest.approx(run.predict(NEW), rel=1e-6)


def test_the_table_of_predictions_contains_the_mean_where_the_prediction_is_the_median():
    run = trained("log", loss="gaussian")
    table = run.predictions(NEW)
    assert table.columns == ["prediction", "mean", "standard_deviation"]
    assert (table["mean"] > table["prediction"]).all()
    assert table["prediction"].to_numpy() == pytest.approx(run.predict(NEW), rel=1e-6)


@pytest.mark.parametrize("name", ["log", "quantile"])
def test_losses_of_counts_are_refused(name):
    with pytest.raises(RecipeError, match=f"'{name}' does not fit the loss poisson"):
        trained(name, (X, np.round(Y)), loss="poisson")


def test_the_estimator_predicts_in_the_units_of_the_target():
    model = descend.Regressor(
        lr=0.01, max_epochs=40, random_state=0, recipe={"data": {"target_scale": "log"}}
    ).fit(X, Y)
    assert model.score(NEW, NEW_Y) == pytest.approx(r2_score(NEW_Y, model.predict(NEW)))
    assert r2_score(np.log(NEW_Y), np.log(model.predict(NEW))) > 0.7
