"""A run that continues under a changed recipe has the bits of a run that was started with it, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.stop_at import StopAt

import descend
from descend.errors import Interrupted, RunError

BASE: dict[str, Any] = {
    "data": {"batch_size": 8, "test": 0.2, "validation": 0.25},
    "model": {"name": "mlp", "hidden": [6], "dropout": 0.3, "norm": "batch"},
    "optimizer": {"name": "adamw", "lr": 0.02},
    "engine": {"threads": 1, "device": "cpu"},
}


def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    inputs = rng.normal(size=(60, 4))
    return inputs, (inputs[:, 0] * inputs[:, 1] + 0.3 * rng.normal(size=60) > 0).astype(int)


def recipe(changes: dict[str, Any] | None = None, **stop: Any) -> dict[str, Any]:
    merged = {"patience": None, "max_epochs": 4, **stop}
    return {**BASE, **(changes or {}), "stop": {**(changes or {}).get("stop", {}), **merged}}


def files(folder: Path) -> tuple[bytes, list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Weights, history, metrics and recipe of a run, without the times, which are not reproducible."""
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    metrics = json.loads((folder / "metrics.json").read_text())
    for record in (*history, metrics):
        record.pop("seconds")
    saved = descend.Recipe.load(folder / "recipe.toml").specified()
    return (folder / "weights.safetensors").read_bytes(), history, metrics, saved


def stopped(folder: Path, step: int, changes: dict[str, Any] | None = None, **stop: Any) -> Path:
    with pytest.raises(Interrupted):
        descend.train(rows(), recipe(changes, **stop), seed=3, out=folder, observers=[StopAt(step)])
    return folder


VARIANTS: dict[str, dict[str, Any]] = {
    "constant+average": {},
    "no average": {"stop": {"average": 0.0}},
    "warmup": {"schedule": {"name": "warmup", "length": 3.0}},
    "inverse": {"schedule": {"name": "inverse"}},
    "staircase": {"schedule": {"name": "staircase", "every": 2}},
    "exponential": {"schedule": {"name": "exponential"}},
    "plateau": {"schedule": {"name": "plateau", "patience": 0, "factor": 0.5}},
    "momentum": {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
    "lbfgs": {"optimizer": {"name": "lbfgs"}, "data": {**BASE["data"], "sampling": "full"}},
    "with replacement": {"data": {**BASE["data"], "sampling": "with_replacement"}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_more_epochs_are_as_if_requested_at_the_start(tmp_path: Path, changes: dict[str, Any]) -> None:
    descend.train(rows(), recipe(changes, max_epochs=7), seed=3, out=tmp_path / "whole")
    whole = files(tmp_path / "whole")
    descend.train(rows(), recipe(changes), seed=3, out=tmp_path / "finished")
    assert files(tmp_path / "finished") != whole
    per_epoch = 1 if changes.get("data", {}).get("sampling") == "full" else 4
    stopped(tmp_path / "within", 2 * per_epoch + per_epoch // 2, changes)
    for name in ("finished", "within"):
        descend.train(rows(), {"stop": {"max_epochs": 7}}, out=tmp_path / name, resume=True)
        assert files(tmp_path / name) == whole, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_extended_repeatedly_and_with_other_seeds(tmp_path: Path, seed: int) -> None:
    descend.train(rows(), recipe(max_epochs=9), seed=seed, out=tmp_path / "whole")
    descend.train(rows(), recipe(max_epochs=1), seed=seed, out=tmp_path / "part")
    for epochs in (2, 5, 9):
        run = descend.train(rows(), {"stop": {"max_epochs": epochs}}, out=tmp_path / "part", resume=True)
        assert run.metrics["epochs"] == epochs
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def test_patience_counts_from_the_start(tmp_path: Path) -> None:
    """The run without patience passes the point where patience ends it; the weights kept are the same."""
    longer = {"optimizer": {"name": "sgd", "lr": 1e-6}, "stop": {"min_improvement": 0.5}}
    descend.train(rows(), recipe(longer, max_epochs=30, patience=6), seed=3, out=tmp_path / "whole")
    whole = files(tmp_path / "whole")
    assert (whole[2]["stopped"], whole[2]["epochs"]) == ("patience", 7)
    for epochs in (4, 7, 10):  # before, at and after the end
        folder = tmp_path / str(epochs)
        descend.train(rows(), recipe(longer, max_epochs=epochs), seed=3, out=folder)
        changed = {"stop": {"max_epochs": 30, "patience": 6}}
        descend.train(rows(), changed, out=folder, resume=True)
        assert files(folder) == whole, epochs
        descend.train(rows(), changed, out=folder, resume=True)
        assert files(folder) == whole, epochs


def test_a_longer_patience_continues_a_run_that_patience_ended(tmp_path: Path) -> None:
    slow = {"optimizer": {"name": "sgd", "lr": 1e-6}, "stop": {"min_improvement": 0.5}}
    descend.train(rows(), recipe(slow, max_epochs=9, patience=6), seed=3, out=tmp_path / "whole")
    descend.train(rows(), recipe(slow, max_epochs=9, patience=2), seed=3, out=tmp_path / "part")
    assert files(tmp_path / "part")[2]["epochs"] == 3
    descend.train(rows(), {"stop": {"patience": 6}}, out=tmp_path / "part", resume=True)
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def test_fewer_epochs_than_done_end_at_the_best_weights_so_far(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "run", 22, max_epochs=100)
    with pytest.warns(
        UserWarning, match="5 epochs are already done, and the best weights so far are those of epoch"
    ):
        run = descend.train(rows(), {"stop": {"max_epochs": 2}}, out=folder, resume=True)
    assert (run.metrics["status"], run.metrics["stopped"]) == ("finished", "max_epochs")
    assert (run.metrics["epochs"], run.metrics["steps"]) == (5, 20)
    descend.train(rows(), recipe(max_epochs=5), seed=3, out=tmp_path / "whole")
    assert files(folder) == files(tmp_path / "whole")


def test_fewer_epochs_are_exact_where_the_best_weights_are_among_them(tmp_path: Path) -> None:
    still = {"optimizer": {"name": "sgd", "lr": 1e-6}, "stop": {"min_improvement": 0.5}}
    folder = stopped(tmp_path / "run", 22, still, max_epochs=100)
    descend.train(rows(), {"stop": {"max_epochs": 2}}, out=folder, resume=True)
    descend.train(rows(), recipe(still, max_epochs=2), seed=3, out=tmp_path / "two")
    assert files(folder) == files(tmp_path / "two")
    descend.train(rows(), {"stop": {"max_epochs": 8}}, out=folder, resume=True)
    descend.train(rows(), recipe(still, max_epochs=8), seed=3, out=tmp_path / "eight")
    assert files(folder) == files(tmp_path / "eight")


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_schedules_that_depend_on_the_number_of_epochs_say_so(tmp_path: Path, name: str) -> None:
    changes = {"schedule": {"name": name}}
    descend.train(rows(), recipe(changes), seed=3, out=tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    with pytest.raises(RunError, match=rf"the schedule {name} computes .* from the number of epochs"):
        descend.train(rows(), {"stop": {"max_epochs": 9}}, out=tmp_path / "run", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before
    folder = stopped(tmp_path / "part", 7, changes)
    with pytest.raises(RunError, match=r"descend.finish"):
        descend.train(rows(), {"stop": {"max_epochs": 9}}, out=folder, resume=True)
    descend.train(rows(), {"stop": {"patience": 50}}, out=folder, resume=True)  # which does not matter to it
    assert files(folder)[0] == files(tmp_path / "run")[0]


def test_before_the_first_checkpoint_every_number_of_epochs_is_exact(tmp_path: Path) -> None:
    changes = {"schedule": {"name": "cosine"}}
    descend.train(rows(), recipe(changes, max_epochs=6), seed=3, out=tmp_path / "whole")
    folder = stopped(tmp_path / "run", 1, changes)
    (folder / "checkpoints" / "last.safetensors").unlink()
    descend.train(rows(), {"stop": {"max_epochs": 6}}, out=folder, resume=True)
    assert files(folder) == files(tmp_path / "whole")


@pytest.mark.parametrize(
    "stop",
    [
        {"monitor": "accuracy"},
        {"min_improvement": 0.9},
        {"patience": 1, "min_improvement": 0.9},
        {"target": 10.0},
    ],
    ids=str,
)
def test_a_rule_that_would_have_kept_other_weights_is_refused(tmp_path: Path, stop: dict[str, Any]) -> None:
    easy = {
        "model": {"hidden": [6], "dropout": 0.0},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "stop": {"min_improvement": 0.0, "average": 0.0, "max_epochs": 100, "patience": None},
        "engine": BASE["engine"],
    }
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        descend.train("iris", easy, seed=3, out=folder, observers=[StopAt(32)])
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [record["best"] for record in records] == [True] * 10
    with pytest.raises(RunError, match=r"cannot continue as if .* were kept.*descend.finish"):
        descend.train("iris", {"stop": stop}, out=folder, resume=True)


def test_a_limit_of_time_counts_what_was_used(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "run", 10, max_epochs=100)
    run = descend.train(rows(), {"stop": {"max_seconds": 1e-9}}, out=folder, resume=True)
    assert (run.metrics["stopped"], run.metrics["epochs"]) == ("max_seconds", 2)
    run = descend.train(rows(), {"stop": {"max_seconds": 1e9, "max_epochs": 3}}, out=folder, resume=True)
    assert (run.metrics["stopped"], run.metrics["epochs"]) == ("max_epochs", 3)


def test_an_extension_that_is_stopped_is_an_unfinished_run(tmp_path: Path) -> None:
    descend.train(rows(), recipe(max_epochs=7), seed=3, out=tmp_path / "whole")
    folder = tmp_path / "run"
    descend.train(rows(), recipe(), seed=3, out=folder)
    with pytest.raises(Interrupted):
        descend.train(rows(), {"stop": {"max_epochs": 7}}, out=folder, resume=True, observers=[StopAt(22)])
    with pytest.raises(RunError, match="was stopped after 5 epochs"):
        descend.load(folder)
    descend.train(rows(), out=folder, resume=True)
    assert files(folder) == files(tmp_path / "whole")


def test_all_changes_of_the_past_are_listed(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "run", 7)
    changed = {
        "optimizer": {"lr": 0.5},
        "data": {"batch_size": 16},
        "stop": {"max_epochs": 9, "average": 1.0},
    }
    with pytest.raises(RunError) as caught:
        descend.train(rows(), changed, out=folder, resume=True)
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "  data.batch_size: was 8, now 16",
        "  optimizer.lr: was 0.02, now 0.5",
        "  stop.average: was 3.0, now 1.0",
    ]
