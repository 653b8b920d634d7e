"""Trainings in worker processes: the same bits as in this process, and every failure is reported."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.support.small_runs import FailingNetwork, RecordingWatcher, assert_same, data, recipe, weights

import descend
from descend.errors import Interrupted, UserError
from descend.many import loop_engine, train_many
from descend.many.workers import workers_unavailable_because

pytestmark = pytest.mark.skipif(
    bool(workers_unavailable_because()), reason=workers_unavailable_because() or "workers"
)

PROGRAM = Path(__file__).with_name("interrupted_in_workers.py")


RECIPES = [recipe(lr) for lr in (0.003, 0.01, 0.03)]


def in_loops(recipes: list[descend.Recipe], workers: int, **arguments: object) -> list[descend.Run]:
    return train_many(recipes, data(), seeds=5, engine="loop", workers=workers, **arguments)


def failing(failure: str) -> descend.Recipe:
    """Return the recipe of a network that fails in a worker."""
    return descend.Recipe(
        **{name: getattr(recipe(0.01), name) for name in ("data", "optimizer", "stop", "engine")},
        model={"name": lambda: FailingNetwork(failure, 6, 1)},
    )


class TestSameBits:
    @pytest.mark.parametrize("workers", [2, 3])
    def test_as_in_this_process(self, workers: int) -> None:
        watch = RecordingWatcher()
        here, there = in_loops(RECIPES, 1), in_loops(RECIPES, workers, watchers=[watch])
        for one, other in zip(here, there, strict=True):
            assert_same(one, other)
            assert other.environment["engine"]["workers"] == workers
        assert sorted(watch.epochs) == [(n, e) for n in range(3) for e in range(1, 5)]
        assert sorted(watch.ended) == [0, 1, 2]

    def test_with_run_folders(self, tmp_path: Path) -> None:
        here = in_loops(RECIPES, 1, out=tmp_path / "here")
        in_loops(RECIPES, 2, out=tmp_path / "there")
        for number, run in enumerate(here):
            loaded = descend.load(tmp_path / "there" / f"{number:04d}")
            assert_same(run, loaded)
            assert (loaded.path / "checkpoints" / "last.safetensors").exists()

    def test_across_rungs(self) -> None:
        def survivors(epoch: int, runs: dict) -> list[int]:
            assert all(len(run.history) == epoch for run in runs.values())
            losses = {number: run.history[-1]["validation"]["loss"] for number, run in runs.items()}
            return sorted(losses, key=lambda number: losses[number])[:-1]

        here, there = (in_loops(RECIPES, count, rungs=[1, 3], survivors=survivors) for count in (1, 2))
        assert sorted(run.metrics["epochs"] for run in there) == [1, 3, 4]
        for one, other in zip(here, there, strict=True):
            assert_same(one, other)

    def test_comparison_can_fail(self) -> None:
        one, other = in_loops([recipe(0.01), recipe(0.0101)], 2)
        assert not torch.equal(weights(one), weights(other))


class TestFailures:
    def test_diverged_member_does_not_affect_others(self) -> None:
        diverging = recipe(1e30).replace({"optimizer.name": "sgd"})
        here, there = (in_loops([RECIPES[0], diverging, RECIPES[1]], count) for count in (1, 2))
        assert there[1].failed
        assert there[1].metrics["stopped"] == "diverged"
        assert "optimizer.lr" in there[1].metrics["message"]
        for one, other in zip(here, there, strict=True):
            assert_same(one, other)

    def test_member_of_killed_worker_is_failed(self) -> None:
        runs = in_loops([failing("SIGKILL"), *RECIPES], 2)
        assert runs[0].failed
        assert runs[0].metrics["stopped"] == "lost"
        assert "signal 9 (SIGKILL)" in runs[0].metrics["message"]
        assert "epoch 3" in runs[0].metrics["message"]  # 5 steps an epoch, killed in step 12
        assert len(runs[0].history) == 2
        for one, other in zip(in_loops(RECIPES, 1), runs[1:], strict=True):
            assert_same(one, other)

    def test_job_that_raises_in_worker_is_repeated_here(self) -> None:
        watch = RecordingWatcher()
        runs = in_loops([failing("raise"), *RECIPES], 2, watchers=[watch])
        assert not any(run.failed for run in runs)
        assert sorted(watch.epochs) == [(n, e) for n in range(4) for e in range(1, 5)]

    @pytest.mark.parametrize("started", [0, 1])
    def test_system_cannot_start_processes(self, monkeypatch: pytest.MonkeyPatch, started: int) -> None:
        process = multiprocessing.get_context("fork").Process
        remaining, start = [None] * started, process.start

        def sometimes(self: multiprocessing.Process) -> None:
            if not remaining:
                raise BlockingIOError("Resource temporarily unavailable")
            remaining.pop()
            start(self)

        monkeypatch.setattr(process, "start", sometimes)
        for one, other in zip(in_loops(RECIPES, 2), in_loops(RECIPES, 1), strict=True):
            assert_same(one, other)
        assert not remaining

    def test_request_to_one_worker_stops_all(self) -> None:
        with pytest.raises(Interrupted, match=r"networks unfinished$"):
            in_loops([failing("SIGTERM"), *RECIPES], 2)

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [1, 2])
    def test_interrupted_runs_resume_to_the_same_bits(self, tmp_path: Path, workers: int) -> None:
        class Interrupting(RecordingWatcher):
            def epoch_ended(self, number: int, record: dict) -> None:
                if (number, record["epoch"]) == (1, 2):
                    os.kill(os.getpid(), signal.SIGTERM)

        long = [each.replace({"stop.max_epochs": 40, "stop.patience": "none"}) for each in RECIPES]
        with pytest.raises(Interrupted, match="continue with resume=True"):
            in_loops(long, 2, out=tmp_path, watchers=[Interrupting()])
        again = in_loops(long, workers, out=tmp_path, resume=True)
        for one, other in zip(in_loops(long, 1), again, strict=True):
            assert_same(one, other)

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_parent_stops_its_workers(self, tmp_path: Path, number: int) -> None:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "two epochs of two members\n"
            # Ctrl-C reaches the whole process group; SIGTERM is sent to the parent only.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            result = json.loads(process.stdout.readline())
            process.wait(timeout=60)
            with pytest.raises(ProcessLookupError):  # no process of the group is left
                os.killpg(process.pid, 0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
        assert "networks unfinished; continue with resume=True" in result["interrupted"]
        assert not result["children"]
        for folder in ("0000", "0001"):
            state, meta = descend.training.state.read_state(
                tmp_path / folder / "checkpoints" / "last.safetensors"
            )
            assert state["stopped"] == "interrupted"
            assert meta["epoch"] >= 2


class TestNumberOfWorkers:
    def test_little_work_is_not_shared(self) -> None:
        runs = train_many(RECIPES, data(), engine="loop")
        assert {run.environment["engine"]["workers"] for run in runs} == {1}

    def test_much_work_is_shared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_engine, "cores", lambda: 2)
        monkeypatch.setattr(loop_engine, "_step_seconds", lambda member: 1.0)
        runs = train_many(RECIPES, data(), seeds=5, engine="loop")
        assert {run.environment["engine"]["workers"] for run in runs} == {2}

    def test_members_of_different_groups_share_workers(self) -> None:
        different = [recipe(0.01, **{"model.hidden": [6], "model.norm": "none"}), recipe(0.01)]
        runs = train_many(different, data(), seeds=5, workers=2)
        assert [run.environment["engine"]["workers"] for run in runs] == [2, 2]
        assert [run.environment["engine"]["why"] for run in runs] == [
            "no other member can be packed with it"
        ] * 2

    def test_requested_threads_are_kept(self) -> None:
        runs = in_loops(
            [each.replace({"engine.threads": 2, "stop.max_epochs": 1}) for each in RECIPES[:2]], 2
        )
        assert [run.environment["threads"] for run in runs] == [2, 2]
        assert [run.environment["engine"]["workers"] for run in runs] == [1, 1]

    def test_automatic_threads_become_one(self) -> None:
        run, _ = in_loops([each.replace({"engine.threads": "auto"}) for each in RECIPES[:2]], 2)
        assert run.recipe.engine["threads"] == 1
        assert run.reasons["engine.threads"] == "one of 2 processes"

    def test_daemon_starts_no_workers(self) -> None:
        """As within the worker pool of another library."""
        context = multiprocessing.get_context("fork")
        parent_end, child_end = context.Pipe()
        child = context.Process(
            target=lambda: child_end.send_bytes(workers_unavailable_because().encode()), daemon=True
        )
        child.start()
        assert (
            parent_end.recv_bytes()
            == b"this process is itself a worker (a daemon), which cannot have children"
        )
        child.join()

    @pytest.mark.parametrize("workers", [0, "all", 1.5])
    def test_invalid_number(self, workers: object) -> None:
        with pytest.raises(UserError, match="workers: expected an integer of at least 1"):
            train_many(RECIPES, data(), workers=workers)
