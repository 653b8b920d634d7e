"""A refit is a training on all rows for the number of epochs that was kept, and the run says what its scores mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tests.support.stop_at import StopAt
from typer.testing import CliRunner

import descend
from descend.errors import Interrupted, RecipeError, RunError, UserError
from descend.export import load_exported
from descend.many.refit import REFIT
from descend.nn.ensemble import Ensemble
from descend.recipe.presets import default_preset
from descend.runs.folder import is_finished

SMALL: dict[str, Any] = {
    "model": {"hidden": [8]},
    "stop": {"max_epochs": 6, "patience": 2},
    "optimizer": {"lr": 0.03},
    "engine": {"threads": 1},
}
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 2.8, 4.2, 1.3]]


def states_equal(one: descend.Run, other: descend.Run) -> bool:
    left, right = one.model.state_dict(), other.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def on_all_rows(data: Any, recipe: dict[str, Any], epochs: int, **arguments: Any) -> descend.Run:
    """Train on all rows for a number of epochs, without a refit."""
    own = descend.Recipe.of(recipe).replace(
        {"data.validation": 0.0, "data.test": 0.0, "stop.max_epochs": epochs, "stop.patience": None}
    )
    return descend.train(data, own, **arguments)


def table(rows: int = 120) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(50, 10, (rows, 3))
    part = np.array(["train"] * 90 + ["test"] * 30)
    return pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": x @ [1, 2, 3], "part": part})


def test_it_is_the_training_on_all_rows_for_the_epochs_that_were_kept() -> None:
    plain = descend.train("iris", SMALL, seed=3)
    run = descend.train("iris", SMALL, seed=3, refit=True)
    kept = plain.metrics["best_epoch"]
    # The batch size, which is chosen from the number of rows, is that of the first training.
    recipe = SMALL | {
        "data": {"batch_size": plain.recipe.data["batch_size"]},
        "regularize": dict(plain.recipe.regularize),
    }
    expected = on_all_rows("iris", recipe, kept, seed=3)
    assert states_equal(run, expected)
    assert not states_equal(run, plain)
    assert run.schema.columns == expected.schema.columns  # scales are those of all rows
    assert run.metrics["refit"]["rows"] == 150
    assert run.metrics["refit"]["epochs"] == [kept]
    assert run.metrics["refit"]["train"]["accuracy"] == pytest.approx(expected.metrics["train"]["accuracy"])


def test_scores_and_history_are_those_of_the_first_training() -> None:
    plain = descend.train("iris", SMALL, seed=3)
    run = descend.train("iris", SMALL, seed=3, refit=True)
    for part in ("train", "validation", "test"):
        assert run.metrics[part] == plain.metrics[part]
    assert [each["train"]["loss"] for each in run.history] == [
        each["train"]["loss"] for each in plain.history
    ]
    assert run.schema.rows == plain.schema.rows
    assert plain.calibration is not None
    assert run.calibration is not None
    before, after = (dict(each.calibration.named_buffers()) for each in (plain, run) if each.calibration)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "on all 150 rows" in repr(run)


def test_a_schedule_over_the_whole_training_has_the_same_length() -> None:
    recipe = SMALL | {
        "schedule": {"name": "cosine", "warmup": 0.0},
        "stop": {"max_epochs": 8, "patience": None},
    }
    rates: list[float] = []

    def watch(training: Any, record: Any) -> None:
        rates.append(record["lr"])

    run = descend.train("iris", recipe, seed=1, refit=True, observers=[watch])
    kept = run.metrics["best_epoch"]
    assert len(rates) == 8 + kept
    # The last step of an epoch is at the same share of the cosine, up to one step.
    np.testing.assert_allclose(rates[8:], rates[:kept], atol=0.03 * 0.1)


def test_an_ensemble_trains_those_that_were_kept() -> None:
    recipe = SMALL | {"model": {"hidden": [8], "ensemble": 2}, "init": {"restarts": 3}}
    run = descend.train("iris", recipe, seed=2, refit=True)
    kept, epochs = run.metrics["members"]["kept"], run.metrics["members"]["epochs"]
    assert run.metrics["refit"]["epochs"] == epochs
    assert isinstance(run.model, Ensemble)
    assert len(kept) == 2
    for network, number, count in zip(run.model.members, kept, epochs, strict=True):
        own = SMALL | {
            "init": {"sample_index": number},
            "data": {"batch_size": run.recipe.data["batch_size"]},
            "regularize": dict(run.recipe.regularize),
        }
        expected = on_all_rows("iris", own, count, seed=2)
        for name, tensor in expected.model.state_dict().items():
            assert torch.equal(network.state_dict()[name], tensor)


def test_members_keep_their_weights_in_the_mean() -> None:
    members = ({"model.hidden": (8,)}, {"model.hidden": (6,)}, {"optimizer.lr": 0.01})
    recipe = {**SMALL, "model": {"hidden": [8], "members": members, "ensemble": 3}}
    plain, run = (descend.train("iris", recipe, seed=2, refit=each) for each in (False, True))
    assert run.metrics["members"] == plain.metrics["members"]
    if isinstance(run.model, Ensemble) and isinstance(plain.model, Ensemble):
        assert [tuple(each[0].weight.shape) for each in run.model.members] == [
            tuple(each[0].weight.shape) for each in plain.model.members
        ]
    assert run.predict_proba(ROWS).shape == (3, 3)


def test_given_test_rows_are_not_trained_on() -> None:
    recipe = SMALL | {"data": {"split": "part"}}
    run = descend.train(table(), recipe, target="y", refit=True)
    assert run.metrics["refit"]["rows"] == 90
    other = table().with_columns(a=pl.when(pl.col("part") == "test").then(pl.col("a") * 9).otherwise("a"))
    assert states_equal(run, descend.train(other, recipe, target="y", refit=True))
    frame = table().drop("part")
    run = descend.train(frame[:90], SMALL, target="y", test=frame[90:], refit=True)
    assert run.metrics["refit"]["rows"] == 90
    assert "test" in run.metrics


def test_nothing_to_train_again_on_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing to train again on"):
        descend.train("iris", SMALL | {"data": {"validation": 0.0, "test": 0.0}}, refit=True)
    with pytest.raises(UserError, match="a model of your own"):
        descend.train("iris", SMALL, model=torch.nn.Linear(4, 3), refit=True)
    with pytest.raises(RecipeError, match="validation rows"):
        descend.train("iris", SMALL | {"schedule": "plateau"}, refit=True)
    with pytest.raises(RecipeError, match="preset good or quick"):
        descend.train("iris", {"model": {"preset": "best", "max_rounds": 1}}, refit=True)
    with pytest.raises(RecipeError, match="use train"):
        descend.train_many([SMALL | {"stop": {"refit": True}}], "iris")


@pytest.mark.parametrize("step", [3, 40], ids=["first", "second"])
@pytest.mark.parametrize("ensemble", [1, 2])
def test_an_interrupted_run_continues_to_the_same_bits(step: int, ensemble: int, tmp_path: Path) -> None:
    recipe = SMALL | {
        "model": {"hidden": [8], "ensemble": ensemble},
        "data": {"batch_size": 16},
        "stop": {"max_epochs": 4, "patience": None},
    }
    whole = descend.train("iris", recipe, seed=2, refit=True, out=tmp_path / "whole")

    class Stop(StopAt):
        """Stops at a step, counted over all trainings."""

        taken = 0

        def stepped(self, training: Any) -> None:
            self.taken += 1
            if self.taken == self.step:
                training.stop_requested = True

    steps = whole.metrics["steps"]
    assert steps < 40 * ensemble
    out = tmp_path / "run"
    stop = Stop(step if step < 10 else ensemble * steps + 5)
    with pytest.raises(Interrupted):
        descend.train("iris", recipe, seed=2, refit=True, out=out, observers=[stop])
    assert not is_finished(out)
    with pytest.raises(RunError):
        descend.load(out)
    resumed = descend.train(out=out, resume=True)
    assert states_equal(resumed, whole)
    loaded = descend.load(out)
    assert states_equal(loaded, whole)
    assert not (out / REFIT).exists()
    assert states_equal(descend.train(out=out, resume=True), whole)


def test_an_interrupted_refit_can_be_finished_with_the_first_network(tmp_path: Path) -> None:
    plain = descend.train("iris", SMALL, seed=2)

    class Stop(StopAt):
        def epoch_ended(self, training: Any, record: Any) -> None:
            if len(training.stopping.state_dict()) and training.evaluate is None:
                training.stop_requested = True

    with pytest.raises(Interrupted) as caught:
        descend.train("iris", SMALL, seed=2, refit=True, out=tmp_path / "run", observers=[Stop(0)])
    assert "--resume" in str(caught.value) or "resume=True" in str(caught.value)
    run = descend.finish(tmp_path / "run")
    assert states_equal(run, plain)
    assert "refit" not in run.metrics
    again = descend.train(out=tmp_path / "run", resume=True)
    assert "refit" in again.metrics


def test_a_finished_run_is_refitted_later(tmp_path: Path) -> None:
    descend.train("iris", SMALL, seed=2, out=tmp_path / "run")
    run = descend.train(out=tmp_path / "run", resume=True, refit=True)
    assert states_equal(run, descend.train("iris", SMALL, seed=2, refit=True))
    with pytest.raises(RunError, match="cannot be continued"):
        descend.train(out=tmp_path / "run", recipe={"stop": {"max_epochs": 50}}, resume=True)


@pytest.mark.parametrize("form", ["pt2", "safetensors"])
def test_saved_and_exported_networks_are_the_refitted_ones(form: str, tmp_path: Path) -> None:
    run = descend.train("iris", SMALL, seed=2, refit=True, out=tmp_path / "run")
    expected = run.predict_proba(ROWS)
    assert np.array_equal(descend.load(tmp_path / "run").predict_proba(ROWS), expected)
    model = load_exported(run.export(form, tmp_path / f"model.{form}"))
    np.testing.assert_allclose(model.predict_proba(ROWS), expected, rtol=1e-5)
    assert "trained again on all 150 rows" in run.report().read_text()


def test_an_estimator_trains_on_all_rows() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(90, 3))
    y = X @ [1.0, -2.0, 0.5]
    settings: dict[str, Any] = {"hidden": 8, "max_epochs": 4, "lr": 0.02, "random_state": 0}
    plain, model = (descend.Regressor(**settings, refit=each).fit(X, y) for each in (None, True))
    assert model.run_.metrics["refit"]["rows"] == 90
    assert model.run_.metrics["validation"] == plain.run_.metrics["validation"]
    np.testing.assert_allclose(model.run_.schema.columns[0].mean, X[:, 0].mean(), rtol=1e-12)
    assert plain.run_.schema.columns[0].mean != model.run_.schema.columns[0].mean
    weights = np.ones(90)
    weights[:7] = 2.0
    repeated = np.r_[X, X[:7]], np.r_[y, y[:7]]
    one = descend.Regressor(**settings, refit=True).fit(X, y, sample_weight=weights).predict(X[:5])
    assert np.array_equal(one, descend.Regressor(**settings, refit=True).fit(*repeated).predict(X[:5]))
    small = descend.Regressor(**settings, refit=True).fit(X[:20], y[:20])  # all rows were training rows
    assert "refit" not in small.run_.metrics
    with pytest.raises(RecipeError, match="partial_fit"):
        descend.Regressor(**settings, refit=True).partial_fit(X, y)


def test_the_command_line_states_what_the_scores_mean(tmp_path: Path) -> None:
    from descend.cli.program import app

    arguments = ["train", "iris", "--refit", "--set", "stop.max_epochs=2", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["refit"]["rows"] == 150
    shown = " ".join(result.stderr.split())
    assert "trained again on all 150 rows" in shown
    assert "has no held-out score of its own" in shown
    again = CliRunner().invoke(app, ["train", "--resume", "--out", str(tmp_path / "run")])
    assert again.exit_code == 0
    assert "nothing left to train" in " ".join(again.output.split())


def test_a_refit_leaves_the_default_ensemble() -> None:
    own, reason = default_preset({"stop": {"refit": True}}, rows_are_vectors=True, validated=True)
    assert own == "good", reason
