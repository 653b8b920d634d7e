"""Packs in worker processes: the same bits as in this process, and every failure is reported."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.small_runs import FailingNetwork, RecordingWatcher, assert_same, data, recipe

import descend
from descend.errors import Interrupted
from descend.many import parallel_packs, train_many
from descend.many.parallel_packs import remaining_seconds
from descend.many.workers import workers_unavailable_because
from descend.runs import finish
from descend.runs.evaluate import details

pytestmark = pytest.mark.skipif(
    bool(workers_unavailable_because()), reason=workers_unavailable_because() or "workers"
)

ROOT = Path(__file__).parents[2]

LEARNING_RATES = [0.001 * 1.7**power for power in range(8)]
EIGHT = [recipe(lr) for lr in LEARNING_RATES]


def packed(recipes: list[descend.Recipe], workers: int, **arguments: Any) -> list[descend.Run]:
    return train_many(recipes, data(), seeds=5, engine="packed", workers=workers, **arguments)


def here(recipes: list[descend.Recipe], **arguments: Any) -> list[descend.Run]:
    """Train the two packs one after the other, in this process."""
    runs: list[Any] = [None] * len(recipes)
    for place in range(2):
        runs[place::2] = packed(recipes[place::2], 1, **arguments)
    return runs


def failing(failure: str) -> descend.Recipe:
    """Return the recipe of a network that fails in a worker."""
    return descend.Recipe(
        **{name: getattr(recipe(0.01), name) for name in ("data", "optimizer", "stop", "engine")},
        model={"name": lambda: FailingNetwork(failure, 6, 1)},
    )


class TestSameBits:
    @pytest.mark.slow
    def test_as_in_this_process(self) -> None:
        watch = RecordingWatcher()
        there = packed(EIGHT, 2, watchers=[watch])
        for one, other in zip(here(EIGHT), there, strict=True):
            assert_same(one, other)
        assert sorted(watch.epochs) == [(n, e) for n in range(8) for e in range(1, 5)]
        assert sorted(watch.ended) == list(range(8))
        engines = [run.environment["engine"] for run in there]
        assert [engine["pack"] for engine in engines] == [0, 1] * 4
        assert {engine["members"] for engine in engines} == {4}
        assert all("2 packs in parallel" in engine["why"] for engine in engines)
        assert {run.environment["threads"] for run in there} == {1}
        assert {run.environment["threads_reason"] for run in there} == {"one of 2 processes"}

    @pytest.mark.slow
    def test_members_stop_at_different_epochs(self) -> None:
        patient = [
            each.replace({"stop.max_epochs": 3 + 2 * place, "stop.patience": 1 + place % 3})
            for place, each in enumerate(EIGHT)
        ]
        there = packed(patient, 2)
        assert len({run.metrics["epochs"] for run in there}) > 2
        for one, other in zip(here(patient), there, strict=True):
            assert_same(one, other)

    @pytest.mark.slow
    def test_with_run_folders(self, tmp_path: Path) -> None:
        there = packed(EIGHT, 2, out=tmp_path)
        for number, (one, other) in enumerate(zip(here(EIGHT), there, strict=True)):
            loaded = descend.load(tmp_path / f"{number:04d}")
            assert_same(one, loaded)
            assert_same(one, other)
            assert len((tmp_path / f"{number:04d}" / "history.jsonl").read_text().splitlines()) == 4
        assert sorted(path.name for path in (tmp_path / "packs").iterdir()) == ["0000", "0001"]

    @pytest.mark.slow
    def test_worker_uses_tensors_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The library of the data table has threads: a fork that uses it would deadlock."""

        def recording(name: str, function: Any) -> Any:
            def recorded(*args: Any, **kwargs: Any) -> Any:
                with (tmp_path / name).open("a") as file:
                    file.write(f"{os.getpid()}\n")
                return function(*args, **kwargs)

            return recorded

        monkeypatch.setattr(finish, "details", recording("details", details))
        monkeypatch.setattr(descend.Run, "write_files", recording("write_files", descend.Run.write_files))
        for folder in (None, tmp_path / "runs"):
            for run in packed(EIGHT, 2, out=folder):
                assert dict(run.evaluation)
        for name in ("details", "write_files"):
            assert set((tmp_path / name).read_text().split()) == {str(os.getpid())}

    @pytest.mark.slow
    def test_after_reading_a_table_with_all_threads(self, tmp_path: Path) -> None:
        recipes = [each.replace({"stop.max_epochs": 1, "model.norm": "none"}) for each in EIGHT]
        runs = train_many(recipes, "digits", engine="packed", workers=2, out=tmp_path)
        assert [run.metrics["status"] for run in runs] == ["finished"] * 8

    @pytest.mark.slow
    def test_across_rungs(self) -> None:
        def survivors(epoch: int, runs: Any) -> list[int]:
            assert all(len(run.history) == epoch for run in runs.values())
            losses = {number: run.history[-1]["validation"]["loss"] for number, run in runs.items()}
            return sorted(losses, key=lambda number: losses[number])[: len(losses) // 2]

        there = packed(EIGHT, 2, rungs=[1, 3], survivors=survivors)
        assert sorted(run.metrics["epochs"] for run in there) == [1] * 4 + [3] * 2 + [4] * 2
        solo = train_many(EIGHT, data(), seeds=5, engine="loop", workers=1, rungs=[1, 3], survivors=survivors)
        for one, other in zip(solo, there, strict=True):
            assert one.metrics["epochs"] == other.metrics["epochs"]
            assert one.metrics["stopped"] == other.metrics["stopped"]
            torch.testing.assert_close(one.metrics["validation"], other.metrics["validation"])

    @pytest.mark.slow
    def test_more_packs_than_processes(self) -> None:
        wider = [each.replace({"model.hidden": [8, 8]}) for each in EIGHT]
        there = packed([*EIGHT, *wider], 2)
        assert {run.environment["engine"]["pack"] for run in there} == {0, 1, 8, 9}
        for one, other in zip([*here(EIGHT), *here(wider)], there, strict=True):
            assert_same(one, other)


class TestFailures:
    @pytest.mark.slow
    def test_killed_parent_resumes_to_the_same_bits(self, tmp_path: Path) -> None:
        def lines(folder: str, number: int) -> int:
            return (tmp_path / folder / f"{number:04d}" / "history.jsonl").read_text().count("\n")

        command = [sys.executable, "-m", "tests.many.kill_parallel_packs", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        statuses = json.loads(done.stdout.splitlines()[-1])
        assert statuses.pop("whole") == [0]
        assert len(statuses) == 2
        for killed, outcome in statuses.items():
            assert outcome == [-signal.SIGKILL, 0], done.stderr
            for number in range(8):
                name = f"{number:04d}/weights.safetensors"
                assert (tmp_path / killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
                assert lines(killed, number) == lines("whole", number)

    @pytest.mark.slow
    def test_diverged_member_does_not_affect_others(self, tmp_path: Path) -> None:
        plain = [each.replace({"optimizer.name": "sgd"}) for each in EIGHT]
        diverging = [*plain[:3], recipe(1e30).replace({"optimizer.name": "sgd"}), *plain[4:]]
        there = packed(diverging, 2, out=tmp_path)
        assert [run.failed for run in there] == [number == 3 for number in range(8)]
        assert there[3].metrics["stopped"] == "diverged"
        assert "{'optimizer.lr': " in there[3].metrics["message"]
        assert "diverged" in (tmp_path / "0003" / "metrics.json").read_text()
        for number, (one, other) in enumerate(zip(here(diverging), there, strict=True)):
            if number != 3:
                assert_same(one, other)

    @pytest.mark.slow
    def test_members_of_killed_worker_are_failed(self) -> None:
        watch = RecordingWatcher()
        there = packed([*[failing("SIGKILL")] * 8, *EIGHT], 2, watchers=[watch])
        for run in there[:8]:
            assert run.failed
            assert run.metrics["stopped"] == "lost"
            assert "epoch 3" in run.metrics["message"]  # 5 steps an epoch, killed in step 12
            assert "signal 9 (SIGKILL)" in run.metrics["message"]
            assert len(run.history) == 2
        assert sorted(watch.ended) == list(range(16))
        for one, other in zip(here(EIGHT), there[8:], strict=True):
            assert_same(one, other)

    @pytest.mark.slow
    def test_job_that_raises_in_worker_is_repeated_here(self) -> None:
        watch = RecordingWatcher()
        there = packed([failing("raise")] * 8, 2, watchers=[watch])
        assert not any(run.failed for run in there)
        assert [len(run.history) for run in there] == [4] * 8
        assert sorted(watch.epochs) == [(n, e) for n in range(8) for e in range(1, 5)]

    @pytest.mark.slow
    def test_system_cannot_start_processes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(self: multiprocessing.Process) -> None:
            raise BlockingIOError("Resource temporarily unavailable")

        expected = here(EIGHT)
        monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", never)
        for one, other in zip(expected, packed(EIGHT, 2), strict=True):
            assert_same(one, other)

    @pytest.mark.slow
    def test_request_to_one_worker_stops_all(self) -> None:
        with pytest.raises(Interrupted, match=r"networks unfinished$"):
            packed([*[failing("SIGTERM")] * 8, *EIGHT], 2)

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [1, 2])
    def test_interrupted_runs_resume_to_the_same_bits(self, tmp_path: Path, workers: int) -> None:
        class Interrupting(RecordingWatcher):
            def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
                if (number, record["epoch"]) == (1, 2):
                    os.kill(os.getpid(), signal.SIGTERM)

        long = [each.replace({"stop.max_epochs": 40, "stop.patience": "none"}) for each in EIGHT]
        with pytest.raises(Interrupted, match="continue with resume=True"):
            packed(long, 2, out=tmp_path, watchers=[Interrupting()])
        assert not multiprocessing.active_children()
        again = packed(long, workers, out=tmp_path, resume=True)
        for one, other in zip(here(long), again, strict=True):
            assert_same(one, other)


class TestNumberOfPacks:
    def test_little_work_is_not_shared(self) -> None:
        runs = train_many(EIGHT, data(), seeds=5)
        assert {run.environment["engine"]["pack"] for run in runs} == {0}

    def test_much_work_is_shared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parallel_packs, "cores", lambda: 2)
        monkeypatch.setattr(parallel_packs, "MIN_SECONDS_SAVED", 0.0)
        runs = train_many(EIGHT, data(), seeds=5)
        assert [run.environment["engine"]["pack"] for run in runs] == [0, 1] * 4

    def test_core_for_each_of_two_members(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parallel_packs, "cores", lambda: 2)
        assert {run.environment["engine"]["name"] for run in train_many(EIGHT[:2], data())} == {"packed"}
        monkeypatch.setattr(parallel_packs, "MIN_SECONDS_SAVED_BY_LOOPS", 0.0)
        for count, name in ((2, "loop"), (3, "packed")):
            runs = train_many(EIGHT[:count], data(), seeds=5)
            assert {run.environment["engine"]["name"] for run in runs} == {name}
        (why,) = {run.environment["engine"]["why"] for run in train_many(EIGHT[:2], data())}
        assert why == "there is a core for each member"
        runs = train_many(EIGHT[:2], data(), workers=1)
        assert {run.environment["engine"]["name"] for run in runs} == {"packed"}

    def test_few_members_stay_in_one_pack(self) -> None:
        runs = packed(EIGHT[:7], 2)
        assert {run.environment["engine"]["pack"] for run in runs} == {0}

    @pytest.mark.slow
    def test_requested_threads_are_kept(self) -> None:
        runs = packed([each.replace({"engine.threads": 2, "stop.max_epochs": 1}) for each in EIGHT], 2)
        assert {run.environment["threads"] for run in runs} == {2}
        assert {run.environment["engine"]["pack"] for run in runs} == {0}

    def test_remaining_seconds_are_those_of_the_remaining_epochs(self) -> None:
        from descend.many.building import build_members
        from descend.many.planned_member import PlannedMember
        from descend.runs.plan import Planner

        planner = Planner(data())
        members = [PlannedMember(number, planner.plan(each, 5)) for number, each in enumerate(EIGHT)]
        build_members(members)
        whole = remaining_seconds(members)
        assert remaining_seconds(members, 1) == pytest.approx(whole / 4)
        assert remaining_seconds(members, 9) == whole
        members[0].stopped = "patience"
        assert remaining_seconds(members) < whole
        for member in members:
            member.stopped = "patience"
        assert remaining_seconds(members) == 0.0
