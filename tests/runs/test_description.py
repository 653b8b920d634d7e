"""The text of a run: about ten lines that say what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.stop_at import StopAt

import descend
from descend.errors import Interrupted
from descend.runs.description import described_scores

RECIPE: dict[str, Any] = {"model": {"hidden": [6]}, "stop": {"max_epochs": 3, "patience": None}}


def facts(run: Any) -> dict[str, str]:
    lines = repr(run).splitlines()
    assert len(lines) <= 11
    assert all(len(line) <= 200 for line in lines)
    return {line.split(":")[0].strip(): line.partition(":")[2].strip() for line in lines[1:]}


def test_a_finished_run(tmp_path: Path) -> None:
    run = descend.train("iris", RECIPE, out=tmp_path / "run")
    assert repr(run).splitlines()[0] == "Run on iris: multiclass classification of class, finished"
    shown = facts(run)
    assert set(shown) == {"test", "validation", "train", "epochs", "rows", "network", "training", "folder"}
    assert shown["test"].startswith(f"accuracy {100 * run.metrics['test']['accuracy']:.1f} %, ")
    assert shown["epochs"].startswith("3 in ")
    assert "the maximum number of epochs was reached; best: epoch " in shown["epochs"]
    assert shown["rows"] == "90 train, 22 validation, 38 test; 4 columns"
    assert shown["network"] == "mlp, hidden layers 6, silu, 51 parameters"
    assert shown["training"].startswith("adamw with learning rate 0.001, constant schedule")
    assert shown["folder"] == str(tmp_path / "run")
    assert facts(descend.load(tmp_path / "run")) == shown


def test_runs_that_did_not_finish(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as caught:
        descend.train("iris", RECIPE, out=tmp_path / "run", observers=[StopAt(4)])
    assert repr(caught.value.run).splitlines()[0].endswith(", interrupted")
    assert repr(descend.finish(tmp_path / "run")).splitlines()[0].endswith(", stopped before its end")
    (failed,) = descend.train_many([{**RECIPE, "optimizer": {"name": "sgd", "lr": 1e30}}], "iris")
    assert "Training diverged" in facts(failed)["message"]


def test_several_networks_and_images() -> None:
    run = descend.train("iris", {**RECIPE, "init": {"restarts": 3}, "model": {"hidden": [6], "ensemble": 2}})
    assert facts(run)["network"].endswith("2 of 3 trained networks")
    assert facts(run)["folder"] == "not saved; run.save(folder) writes it"


def test_undefined_scores_are_dashes() -> None:
    shown = described_scores({"loss": 0.5, "r2": None})
    assert shown == "R\N{SUPERSCRIPT TWO} \N{EN DASH}, loss 0.5"


def test_results_of_several_runs_are_short(tmp_path: Path) -> None:
    comparison = descend.compare(
        "iris",
        {"model.activation": ["relu", "tanh"]},
        recipe=RECIPE,
        seeds=2,
        tune=0,
        out=tmp_path / "comparison",
    )
    lines = repr(comparison).splitlines()
    assert lines[0] == "Comparison of 2 variants on iris, by the test part"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["relu", "tanh", "folder"]
    result = descend.search("iris", RECIPE, space={"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}, trials=3)
    lines = repr(result).splitlines()
    assert lines[0] == "Search of 3 trials (random) by the validation accuracy"
    assert f"optimizer.lr = {result.winner.values['optimizer.lr']!r}" in lines[2]
    folds = repr(descend.cross_validate("iris", RECIPE, folds=3))
    assert folds.startswith("Cross-validation of 3 folds: accuracy ")
    assert "\n" not in folds


def test_a_module_of_the_users_own_is_named(tmp_path: Path) -> None:
    run = descend.train("iris", RECIPE, model=torch.nn.Linear(4, 3), out=tmp_path / "run")
    assert facts(run)["network"] == "Linear, 15 parameters"
    again = descend.load(tmp_path / "run", model=torch.nn.Linear(4, 3))
    assert facts(again)["network"] == "Linear, 15 parameters"
