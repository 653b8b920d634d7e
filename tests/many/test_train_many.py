"""train_many returns the runs of train, with any engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import descend
from descend import train_many
from descend.errors import Interrupted, RecipeError, RunError, UserError
from descend.many import engine_choice

ROOT = Path(__file__).parents[2]

SMALL: dict[str, Any] = {
    "model": {"hidden": [12, 12]},
    "stop": {"max_epochs": 4},
    "engine": {"threads": 1},
}


def recipe(**sections: dict[str, Any]) -> dict[str, Any]:
    return {**SMALL, **{name: {**SMALL.get(name, {}), **own} for name, own in sections.items()}}


def engines(runs: list[descend.Run]) -> list[tuple[str, int]]:
    return [(run.environment["engine"]["name"], run.environment["engine"]["members"]) for run in runs]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["iris", "diabetes", "breast_cancer"])
def test_runs_equal_those_of_train(data: str) -> None:
    recipes = [
        recipe(),
        recipe(optimizer={"lr": 1e-2}, model={"dropout": 0.3}),
        recipe(model={"hidden": [9, 12], "activation": "tanh"}),
        recipe(optimizer={"name": "sgd", "lr": 0.05}),
    ]
    seeds = [0, 1, 0, 2]
    runs = train_many(recipes, data, seeds=seeds)
    assert engines(runs) == [("packed", 3)] * 3 + [("loop", 1)]
    for own, seed, run in zip(recipes, seeds, runs, strict=True):
        solo = descend.train(data, own, seed=seed)
        assert run.metrics["epochs"] == solo.metrics["epochs"]
        assert run.metrics["best_epoch"] == solo.metrics["best_epoch"]
        assert run.recipe.to_toml() == solo.recipe.to_toml()
        for part in ("train", "validation", "test"):
            assert run.metrics[part] == pytest.approx(solo.metrics[part], rel=1e-4, abs=1e-6)
        for packed, expected in zip(run.history, solo.history, strict=True):
            assert packed["validation"] == pytest.approx(expected["validation"], rel=1e-4, abs=1e-6)
            assert packed["train"]["loss"] == pytest.approx(expected["train"]["loss"], rel=1e-4)
            assert set(packed) == set(expected)
        for name, tensor in solo.model.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_members_stop_independently() -> None:
    recipes = [recipe(stop={"max_epochs": epochs, "patience": "none"}) for epochs in (1, 2, 5, 5)]
    runs = train_many(recipes, "iris")
    assert [run.metrics["epochs"] for run in runs] == [1, 2, 5, 5]
    assert [len(run.history) for run in runs] == [1, 2, 5, 5]
    assert {run.metrics["stopped"] for run in runs} == {"max_epochs"}
    patient = train_many([recipe(stop={"max_epochs": 40, "patience": p}) for p in (1, 2, 3)], "iris")
    solo = [descend.train("iris", recipe(stop={"max_epochs": 40, "patience": p})) for p in (1, 2, 3)]
    assert [run.metrics["epochs"] for run in patient] == [run.metrics["epochs"] for run in solo]


def test_folds_as_members() -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
    rows = np.arange(60)
    folds = [{"train": rows[rows % 3 != fold], "test": rows[rows % 3 == fold]} for fold in range(3)]
    runs = train_many([SMALL] * 3, (X, y), parts=folds)
    assert engines(runs) == [("packed", 3)] * 3
    assert [run.schema.rows["test"] for run in runs] == [20, 20, 20]
    bootstrap = np.concatenate([rows[:40], rows[:10]])  # with repeated rows
    (sample,) = train_many([SMALL], (X, y), parts=[{"train": bootstrap, "test": rows[40:]}])
    assert sum(sample.schema.rows.values()) == 70


def test_diverged_member_is_a_failed_run(tmp_path: Path) -> None:
    recipes = [recipe(optimizer={"name": "sgd", "lr": lr}) for lr in (0.01, 1e30, 0.02)]
    others = train_many([recipes[0], recipes[2]], "iris")
    runs = train_many(recipes, "iris", out=tmp_path / "out")
    assert [run.failed for run in runs] == [False, True, False]
    assert "optimizer.lr" in runs[1].metrics["message"]
    assert runs[0].metrics["test"] == others[0].metrics["test"]
    with pytest.raises(RunError, match="diverged"):
        descend.load(tmp_path / "out" / "0001")


def test_survivors_of_rungs_continue() -> None:
    recipes = [recipe(optimizer={"lr": lr}, stop={"max_epochs": 6}) for lr in (1e-5, 1e-3, 1e-2)]
    recipes.append(recipe(optimizer={"name": "sgd", "lr": 0.1}, stop={"max_epochs": 6}))
    calls = []

    def survivors(epoch: int, running: Any) -> list[int]:
        calls.append((epoch, sorted(running)))
        return [2, 3] if epoch == 2 else [2]

    runs = train_many(recipes, "iris", rungs=[2, 4], survivors=survivors)
    assert calls == [(2, [0, 1, 2, 3]), (4, [2, 3])]
    assert [run.metrics["epochs"] for run in runs] == [2, 2, 6, 4]
    assert [run.metrics["stopped"] for run in runs] == ["dropped", "dropped", "max_epochs", "dropped"]
    solo = descend.train("iris", recipes[2])
    assert runs[2].metrics["validation"] == pytest.approx(solo.metrics["validation"], rel=1e-4)


@pytest.mark.slow
def test_reasons_why_members_cannot_be_packed() -> None:
    timed = recipe(stop={"max_seconds": 60.0})
    constrained = [recipe(constrain={"norm_ball": "*"}), recipe(regularize={"l1_prox": 0.1})]
    for run, key in zip(
        train_many(constrained, "iris"), ("constrain.norm_ball", "regularize.l1_prox"), strict=True
    ):
        assert key in run.environment["engine"]["why"]
    runs = train_many([SMALL, SMALL, timed, recipe(data={"batch_size": 16})], "iris", engine="auto")
    assert [name for name, _ in engines(runs)] == ["packed", "packed", "loop", "loop"]
    assert "max_seconds" in runs[2].environment["engine"]["why"]
    assert "no other member" in runs[3].environment["engine"]["why"]
    requested = train_many([SMALL, SMALL], "iris", engine="loop")
    assert engines(requested) == [("loop", 1)] * 2


def test_pack_that_exceeds_memory_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_many([recipe(optimizer={"lr": lr}) for lr in (1e-3, 2e-3, 3e-3, 4e-3)], "iris")
    monkeypatch.setattr(engine_choice, "member_bytes", lambda member: 2**20)
    monkeypatch.setattr(
        engine_choice, "free_memory", lambda device: int(2.5 * 2**20 / engine_choice.MAX_MEMORY_SHARE)
    )
    runs = train_many([recipe(optimizer={"lr": lr}) for lr in (1e-3, 2e-3, 3e-3, 4e-3)], "iris")
    assert engines(runs) == [("packed", 2)] * 4
    assert "2 packs of at most 2" in runs[0].environment["engine"]["why"]
    for run, same in zip(runs, whole, strict=True):
        assert run.metrics["test"] == pytest.approx(same.metrics["test"], rel=1e-5)


@pytest.mark.slow
def test_large_network_is_measured_packed_and_solo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "SMALL_NETWORK", 0)
    for seconds, chosen in [(1e9, "packed"), (0.0, "loop")]:
        monkeypatch.setattr(engine_choice, "solo_step_seconds", lambda member, members, s=seconds: s)
        runs = train_many([SMALL, SMALL], "iris")
        assert engines(runs)[0][0] == chosen
        assert "µs per step" in runs[0].environment["engine"]["why"]
    measured = train_many([recipe(), recipe(model={"dropout": 0.3})], "iris")
    monkeypatch.undo()
    unmeasured = train_many([recipe(), recipe(model={"dropout": 0.3})], "iris")
    assert measured[1].metrics["test"] == pytest.approx(unmeasured[1].metrics["test"], rel=1e-4)


def test_step_bound_by_arithmetic_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "SMALL_NETWORK", 0)
    monkeypatch.setattr(engine_choice, "solo_step_seconds", lambda member, members: 1e9)
    wide = recipe(model={"hidden": [24], "norm": "none"}, data={"batch_size": 10}, stop={"max_epochs": 1})
    weights = 4 * 24 + 24 * 3
    for limit, chosen in [(weights * 10, "loop"), (weights * 10 + 1, "packed")]:
        monkeypatch.setattr(engine_choice, "COMPUTE_BOUND", limit)
        runs = train_many([wide, wide], "iris", seeds=[0, 1])
        assert engines(runs)[0][0] == chosen
        assert ("bound by arithmetic" in runs[0].environment["engine"]["why"]) == (chosen == "loop")


def test_all_problems_are_reported_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        train_many(
            [{"optimizer": {"lr": -1}}, SMALL, {"model": {"hiden": [3]}}], "iris", out=tmp_path / "out"
        )
    assert "recipe 0: [optimizer] lr" in str(caught.value)
    assert "recipe 2: [model] hiden" in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="at least one recipe"):
        train_many([], "iris")
    with pytest.raises(UserError, match="expected one for each of the 2 recipes"):
        train_many([SMALL, SMALL], "iris", seeds=[1])
    with pytest.raises(UserError, match="'train' and optionally 'validation' and 'test'"):
        train_many([SMALL], "iris", parts=[{"fit": [1]}])


@pytest.mark.slow
def test_killed_pack_resumes_to_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.many.kill_many", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout.splitlines()[-1])
    assert statuses.pop("whole") == [0]
    assert len(statuses) == 3
    for folder, outcome in statuses.items():
        assert outcome == [-signal.SIGKILL, 0], done.stderr
        for number in range(4):
            name = f"{number:04d}/weights.safetensors"
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
            lines = [
                (tmp_path / where / f"{number:04d}" / "history.jsonl").read_text().count("\n")
                for where in (folder, "whole")
            ]
            assert lines[0] == lines[1]


def test_runs_of_other_recipes_are_not_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    train_many([SMALL, SMALL], "iris", out=out)
    with pytest.raises(RunError, match="is not empty"):
        train_many([SMALL, SMALL], "iris", out=out)
    with pytest.raises(RunError, match="lr"):
        train_many([recipe(optimizer={"lr": 0.5}), SMALL], "iris", out=out, resume=True)
    with pytest.raises(RunError, match="seed"):
        train_many([SMALL, SMALL], "iris", seeds=3, out=out, resume=True)
    again = train_many([SMALL, SMALL], "iris", out=out, resume=True)
    assert [run.metrics["stopped"] for run in again] == ["max_epochs"] * 2


class Interrupt:
    """Sends SIGTERM to this process when member 1 has finished an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        if record["epoch"] == self.epoch and number == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def finished(self, number: int, run: descend.Run) -> None: ...


def test_interrupted_pack_resumes(tmp_path: Path) -> None:
    recipes = [recipe(optimizer={"lr": lr}) for lr in (1e-3, 1e-2)]
    with pytest.raises(Interrupted, match="resume=True"):
        train_many(recipes, "iris", out=tmp_path / "out", watchers=[Interrupt(2)])
    resumed = train_many(recipes, "iris", out=tmp_path / "out", resume=True)
    whole = train_many(recipes, "iris")
    for run, same in zip(resumed, whole, strict=True):
        for name, tensor in same.model.state_dict().items():
            assert torch.equal(run.model.state_dict()[name], tensor)


def test_resumed_pack_is_not_split_although_less_memory_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = [recipe(optimizer={"lr": lr}) for lr in (1e-3, 2e-3, 3e-3)]
    whole = train_many(recipes, "iris")
    with pytest.raises(Interrupted):
        train_many(recipes, "iris", out=tmp_path / "out", watchers=[Interrupt(2)])
    monkeypatch.setattr(engine_choice, "member_bytes", lambda member: 2**20)
    monkeypatch.setattr(
        engine_choice, "free_memory", lambda device: int(2**20 / engine_choice.MAX_MEMORY_SHARE)
    )
    resumed = train_many(recipes, "iris", out=tmp_path / "out", resume=True)
    assert engines(resumed) == [("packed", 3)] * 3
    for run, same in zip(resumed, whole, strict=True):
        for name, tensor in same.model.state_dict().items():
            assert torch.equal(run.model.state_dict()[name], tensor)


def test_rung_is_decided_once(tmp_path: Path) -> None:
    def half(epoch: int, running: Any) -> list[int]:
        return sorted(running)[: len(running) // 2 + len(running) % 2]

    recipes = [recipe(optimizer={"lr": lr}, stop={"max_epochs": 6}) for lr in (1e-3, 2e-3, 3e-3, 4e-3)]
    with pytest.raises(Interrupted):
        train_many(recipes, "iris", out=tmp_path / "out", rungs=[2], survivors=half, watchers=[Interrupt(4)])
    runs = train_many(recipes, "iris", out=tmp_path / "out", rungs=[2], survivors=half, resume=True)
    assert [run.metrics["epochs"] for run in runs] == [6, 6, 2, 2]


def test_all_members_diverge_within_an_epoch(tmp_path: Path) -> None:
    recipes = [
        recipe(
            data={"batch_size": 8},
            optimizer={"name": "sgd", "lr": lr},
            checkpoint={"every_seconds": 1e-6},
        )
        for lr in (1e8, 2e8)
    ]
    runs = train_many(recipes, "iris", engine="packed", out=tmp_path / "out")
    assert [run.failed for run in runs] == [True, True]
    assert all(run.metrics["steps"] < 12 for run in runs)


def test_invalid_arguments() -> None:
    with pytest.raises(UserError, match='engine: expected one of "auto", "packed"'):
        train_many([SMALL], "iris", engine="paked")
    with pytest.raises(UserError, match="rungs: expected epochs"):
        train_many([SMALL], "iris", rungs=[0])


def test_equal_schedules_are_evaluated_once_and_those_with_a_state_for_each_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    factor = descend.schedules.ClosedForm.factor

    def counted(self: Any, step: int) -> float:
        calls.append(step)
        return factor(self, step)

    monkeypatch.setattr(descend.schedules.ClosedForm, "factor", counted)
    closed = [recipe(schedule={"name": "cosine"}, optimizer={"lr": lr}) for lr in (1e-3, 1e-2, 2e-2)]
    runs = train_many(closed, "iris")
    assert engines(runs) == [("packed", 3)] * 3
    steps = runs[0].metrics["steps"]
    assert len(calls) <= steps + 3 * 4 + 9  # each step once, each record of each member, a short measurement
    plateaus = [
        recipe(schedule={"name": "plateau", "patience": 0, "threshold": t}, optimizer={"lr": 0.1})
        for t in (0.0, 0.9)
    ]
    for own, run in zip(plateaus, train_many(plateaus, "iris"), strict=True):
        solo = descend.train("iris", own)
        assert [record["lr"] for record in run.history] == [record["lr"] for record in solo.history]


class TestSeeds:
    def test_of_one_recipe_give_a_run_each(self, tmp_path):
        recipe = {"model": {"hidden": [8]}, "stop": {"max_epochs": 2}}
        runs = descend.train_many([recipe] * 2, "iris", seeds=[4, 5], out=tmp_path / "runs")
        assert [run.environment["seed"] for run in runs] == [4, 5]
        solo = descend.train("iris", recipe, seed=5)
        for name, weight in runs[1].model.state_dict().items():
            assert torch.allclose(weight, solo.model.state_dict()[name], atol=1e-5)
        assert descend.load(tmp_path / "runs" / "0001").metrics == runs[1].metrics

    def test_are_not_an_argument_of_train(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'seeds'"):
            descend.train("iris", seeds=2)  # type: ignore[call-arg]  # wrong on purpose
