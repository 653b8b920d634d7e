"""A run that is interrupted at any step and resumed has the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from tests.support.stop_at import StopAt
from tests.training import kill_every_step as program

import descend
from descend.errors import CheckpointError, Interrupted, RunError
from descend.nn.masks import Masks
from descend.training.loop import Training
from descend.training.observers import Quiet

ROOT = Path(__file__).parents[2]

PLATEAU = {
    "schedule": {"name": "plateau", "patience": 0, "factor": 0.5},
    "optimizer": {"name": "sgd", "momentum": 0.9},
}


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def history(folder: Path) -> list[dict]:
    """The history without the times, which are not reproducible."""
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


@pytest.mark.slow
def test_killed_at_every_step_and_resumed_has_the_same_bits(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-m", program.__name__, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["steps"] >= 12
    whole, expected = weights(tmp_path / "whole"), history(tmp_path / "whole")
    for name, outcome in result["outcome"].items():
        assert outcome["killed"] == -signal.SIGKILL, name
        assert outcome["resumed"] == 0, process.stderr
        assert weights(tmp_path / name) == whole, name
        assert history(tmp_path / name) == expected, name
    # Steps take less time than a write, so a run that is killed immediately may leave no checkpoint, and starts again.
    # Those that were killed after a write left one.
    written = {name: outcome["saved"] for name, outcome in result["outcome"].items() if "written" in name}
    assert len(written) == result["steps"]
    assert all(saved for name, saved in written.items() if name != "written-1"), written


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, PLATEAU], ids=["one_cycle+adamw", "plateau+momentum"])
def test_stopped_at_every_step_and_resumed_has_the_same_bits(tmp_path: Path, changes: dict) -> None:
    recipe = {**program.RECIPE, **changes}
    whole = descend.train(program.data(), recipe, seed=3, out=tmp_path / "whole")
    for step in range(1, whole.metrics["steps"]):
        folder = tmp_path / str(step)
        with pytest.raises(Interrupted, match="resume=True"):
            descend.train(program.data(), recipe, seed=3, out=folder, observers=[StopAt(step)])
        again = descend.train(program.data(), out=folder, resume=True)
        assert weights(folder) == weights(tmp_path / "whole"), step
        assert history(folder) == history(tmp_path / "whole"), step
        assert again.metrics["stopped"] == whole.metrics["stopped"]


@pytest.mark.slow
def test_repeated_resumes(tmp_path: Path) -> None:
    """The run is stopped after every single step."""
    whole = descend.train(program.data(), program.RECIPE, seed=3, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        descend.train(program.data(), program.RECIPE, seed=3, out=tmp_path / "part", observers=[StopAt(1)])
    for step in range(2, whole.metrics["steps"]):
        with pytest.raises(Interrupted):
            descend.train(program.data(), out=tmp_path / "part", resume=True, observers=[StopAt(step)])
    descend.train(program.data(), out=tmp_path / "part", resume=True)
    assert weights(tmp_path / "part") == weights(tmp_path / "whole")


@pytest.mark.parametrize("omitted", ["optimizer", "position", "randomness"])
def test_negative_control_a_resume_with_an_incomplete_state_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, omitted: str
) -> None:
    """The comparison of bits detects the omission of any part of the state."""
    descend.train(program.data(), program.RECIPE, seed=3, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        descend.train(program.data(), program.RECIPE, seed=3, out=tmp_path / "part", observers=[StopAt(6)])
    load = Training.load_state_dict

    def incomplete(self: Training, state: dict) -> None:
        if omitted == "randomness":
            self.objective.seed += 1
            self.objective._masks = Masks(self.objective.seed)
            load(self, state)
        elif omitted == "position":
            load(self, {**state, "step_in_epoch": 0, "losses": []})
        else:
            load(self, {**state, "optimizer": self.optimizer.state_dict()})

    monkeypatch.setattr(Training, "load_state_dict", incomplete)
    descend.train(program.data(), out=tmp_path / "part", resume=True)
    assert weights(tmp_path / "part") != weights(tmp_path / "whole")


def stopped_run(folder: Path) -> Path:
    with pytest.raises(Interrupted):
        descend.train(program.data(), program.RECIPE, seed=3, out=folder, observers=[StopAt(5)])
    return folder


def test_another_recipe_is_rejected(tmp_path: Path) -> None:
    folder = stopped_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"optimizer\.lr: was 0\.02, now 0\.5"):
        descend.train(program.data(), {"optimizer": {"lr": 0.5}}, out=folder, resume=True)
    descend.train(program.data(), {"optimizer": {"lr": 0.02}}, out=folder, resume=True)


def test_other_data_are_rejected(tmp_path: Path) -> None:
    folder = stopped_run(tmp_path / "run")
    rows, labels = program.data()
    rows[17, 2] += 1e-9
    with pytest.raises(RunError, match="fingerprint"):
        descend.train((rows, labels), out=folder, resume=True)


TABLE = pl.DataFrame(
    {"a": [k % 7 for k in range(40)], "b": ["u", "v"] * 20, "y": [0.5 * (k % 9) for k in range(40)]}
)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (TABLE.vstack(TABLE[:1]), {}, "41 rows, the run has 40"),
        (TABLE.rename({"a": "c"}), {}, "no column a; the additional column c"),
        (TABLE.with_columns(pl.col("b") == "u"), {}, "column b as boolean, the run as categorical"),
        (TABLE.with_columns(pl.col("b").replace("u", "w")), {}, "other values in the column b"),
        (TABLE.with_columns(pl.col("y") * 2), {}, r"other targets \(y\)"),
        (TABLE, {"sample_weight": [1.0] * 40}, "sample_weight, the run has none"),
        (TABLE.reverse(), {}, "its rows are in another order"),
        (TABLE, {"seed": 4}, "was started with seed=3, not 4"),
    ],
)
def test_the_message_names_what_differs(
    stopped_table: Path, data: pl.DataFrame, settings: dict, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        descend.train(data, out=stopped_table, resume=True, **{"target": "y"} | settings)


@pytest.fixture(scope="module")
def stopped_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(Interrupted):
        recipe = {"model": {"hidden": [4]}, "stop": {"max_epochs": 3}, "data": {"task": "auto"}}
        descend.train(TABLE, recipe, target="y", seed=3, out=folder, observers=[StopAt(1)])
    return folder


def test_a_damaged_checkpoint_is_rejected(tmp_path: Path) -> None:
    folder = stopped_run(tmp_path / "run")
    path = folder / "checkpoints" / "last.safetensors"
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        descend.train(program.data(), out=folder, resume=True)
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="altered"):
        descend.train(program.data(), out=folder, resume=True)


def test_a_folder_without_a_run_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to resume"):
        descend.train(program.data(), out=tmp_path, resume=True)


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    first = descend.train(program.data(), program.RECIPE, seed=3, out=tmp_path / "run")
    before = weights(tmp_path / "run")
    again = descend.train(program.data(), out=tmp_path / "run", resume=True)
    assert again.metrics["steps"] == first.metrics["steps"]
    assert weights(tmp_path / "run") == before


@pytest.mark.slow
def test_the_number_of_threads_is_recorded_and_used_again(tmp_path: Path) -> None:
    recipe = {**program.RECIPE, "engine": {"device": "cpu"}}
    with pytest.raises(Interrupted):
        descend.train(program.data(), recipe, out=tmp_path / "run", observers=[StopAt(5)])
    recorded = descend.Recipe.load(tmp_path / "run" / "recipe.toml").get("engine.threads")
    counts = []

    class ThreadCounter(Quiet):
        def started(self, training: Training) -> None:
            counts.append(torch.get_num_threads())

    before = torch.get_num_threads()
    descend.train(program.data(), out=tmp_path / "run", resume=True, observers=[ThreadCounter()])
    assert counts == [recorded]
    assert torch.get_num_threads() == before
