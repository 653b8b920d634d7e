"""Runs with one fault each: the cause is named, and its remedy improves the score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import descend
from descend import doctor
from descend.cli import main
from descend.errors import DivergedError, UserError

X, Y = load_digits(return_X_y=True)
DIGITS = (X[:700], Y[:700])

SHORT = {"stop": {"max_epochs": 15}, "engine": {"threads": 1}, "model": {"hidden": [32]}}


def trained(data: Any, recipe: dict[str, Any], **options: Any) -> descend.Run:
    return descend.train(data, {**SHORT, **recipe}, seed=0, progress=False, **options)


@pytest.mark.parametrize(
    ("recipe", "cause", "key"),
    [
        ({"optimizer": {"name": "sgd", "lr": 1e-5}}, "learning_rate_too_low", "optimizer.lr"),
        ({"optimizer": {"name": "adam", "lr": 2.0}}, "learning_rate_too_high", "optimizer.lr"),
        ({"model": {"hidden": [1]}, "stop": {"max_epochs": 60}}, "network_too_small", "model.hidden"),
        ({"regularize": {"weight_decay": 1000.0}}, "too_much_regularization", "regularize.weight_decay"),
        ({"model": {"hidden": [32] * 8, "activation": "sigmoid"}}, "vanishing_gradients", "model.activation"),
        ({"gradient": {"clip_norm": 1e-5}, "optimizer": {"name": "sgd"}}, "clipping_always", "gradient.clip_norm"),
    ],
)  # fmt: skip
def test_the_cause_is_found_and_its_remedy_helps(recipe: dict[str, Any], cause: str, key: str) -> None:
    run = trained(DIGITS, recipe)
    findings = doctor.examine_run(run, DIGITS, progress=False)
    assert findings
    assert findings[0].cause == cause, [str(each) for each in findings]
    assert key in findings[0].remedy
    if cause == "learning_rate_too_low":  # one of them, for time
        (verified,) = doctor.verify_remedies(run, findings[:1], DIGITS, seeds=2)
        assert verified.difference > 0


def test_a_healthy_run_has_no_findings() -> None:
    assert doctor.examine_run(descend.train("wine", seed=0, progress=False), "wine", progress=False) == []


def test_a_run_that_diverged_and_its_repair(tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        trained(
            "diabetes",
            {"optimizer": {"name": "sgd", "lr": 1e4}, "stop": {"max_epochs": 5}},
            out=tmp_path / "run",
        )
    findings = doctor.examine_run(tmp_path / "run", progress=False)
    assert findings[0].cause == "learning_rate_too_high"
    repaired = doctor.train_repaired(tmp_path / "run", findings[0], tmp_path / "repaired")
    assert repaired.metrics["status"] == "finished"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("digits", {"optimizer": {"name": "sgd", "lr": 1e-5}}, out=tmp_path / "run")
    assert main(["doctor", str(tmp_path / "run"), "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"][:1]
    assert set(finding) == {"cause", "title", "certainty", "evidence", "advice", "remedy"}
    assert finding["cause"] == "learning_rate_too_low"
    assert main(["doctor", "wine", "--set", "optimizer.lr=10", "--set", "model.hidden=[16]"]) == 0
    assert "1. The learning rate is too high." in capsys.readouterr().out
    assert main(["doctor", "wine", "--apply"]) == 2
    assert "need a run folder" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "run"), "--target", "x"]) == 2


def test_a_run_without_validation_rows_is_refused() -> None:
    run = trained("iris", {"data": {"validation": 0.0}})
    with pytest.raises(UserError, match="no validation rows"):
        doctor.examine_run(run, "iris")


def test_faults_of_the_data() -> None:
    rows = {"x": [float(each % 7) for each in range(140)], "y": ["a", "b", "c", "d", "e", "f", "g"] * 20}
    assert doctor.examine_data(rows, target="y")[0].cause == "target_in_inputs"
    far = {
        "x": [float(each % 31) for each in range(300)],
        "y": [float(each % 31) for each in range(299)] + [1e6],
    }
    all_rows = {"data": {"validation": 0.0, "test": 0.0}, "model": {"hidden": [8]}}
    assert "outliers_in_targets" in [each.cause for each in doctor.examine_data(far, all_rows, target="y")]
    usual = {**far, "y": [*far["y"][:-1], 5.0]}
    assert "outliers_in_targets" not in [
        each.cause for each in doctor.examine_data(usual, all_rows, target="y")
    ]


def test_shuffled_labels_are_found_and_others_are_not() -> None:
    shuffled = np.random.default_rng(0).permutation(DIGITS[1])
    recipe = {"model": {"hidden": [8]}}
    assert doctor.examine_data(DIGITS, recipe) == []
    assert [each.cause for each in doctor.examine_data((DIGITS[0], shuffled), recipe)] == ["noisy_labels"]
