"""Trainings in worker processes: the same bits as here, and no accident goes unnoticed."""

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
from tests.support.small_runs import Odd, Watch, assert_same, data, recipe, weights

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


def odd(happens: str) -> descend.Recipe:
    """A network of a class within this file, as a library's user has them."""
    return descend.Recipe(
        **{name: getattr(recipe(0.01), name) for name in ("data", "optimizer", "stop", "engine")},
        model={"name": lambda: Odd(happens, 6, 1)},
    )


class TestTheSameBits:
    @pytest.mark.parametrize("workers", [2, 3])
    def test_as_in_this_process(self, workers: int) -> None:
        watch = Watch()
        here, there = in_loops(RECIPES, 1), in_loops(RECIPES, workers, watchers=[watch])
        for one, other in zip(here, there, strict=True):
            assert_same(one, other)
            assert other.environment["engine"]["workers"] == workers
        assert sorted(watch.epochs) == [(n, e) for n in range(3) for e in range(1, 5)]
        assert sorted(watch.ended) == [0, 1, 2]

    def test_with_folders_and_what_is_in_them(self, tmp_path: Path) -> None:
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

    def test_a_failed_comparison_is_possible(self) -> None:
        one, other = in_loops([recipe(0.01), recipe(0.0101)], 2)
        assert not torch.equal(weights(one), weights(other))


class TestAccidents:
    def test_one_that_diverges_disturbs_nobody(self) -> None:
        wild = recipe(1e30).replace({"optimizer.name": "sgd"})
        here, there = (in_loops([RECIPES[0], wild, RECIPES[1]], count) for count in (1, 2))
        assert there[1].failed
        assert there[1].metrics["stopped"] == "diverged"
        assert "optimizer.lr" in there[1].metrics["message"]
        for one, other in zip(here, there, strict=True):
            assert_same(one, other)

    def test_a_worker_that_is_killed_is_a_failed_member(self) -> None:
        runs = in_loops([odd("SIGKILL"), *RECIPES], 2)
        assert runs[0].failed
        assert runs[0].metrics["stopped"] == "lost"
        assert "signal 9 (SIGKILL)" in runs[0].metrics["message"]
        assert "epoch 3" in runs[0].metrics["message"]  # 5 steps an epoch, killed in step 12
        assert len(runs[0].history) == 2
        for one, other in zip(in_loops(RECIPES, 1), runs[1:], strict=True):
            assert_same(one, other)

    def test_what_fails_in_a_worker_is_tried_here(self) -> None:
        watch = Watch()
        runs = in_loops([odd("raise"), *RECIPES], 2, watchers=[watch])
        assert not any(run.failed for run in runs)
        assert sorted(watch.epochs) == [(n, e) for n in range(4) for e in range(1, 5)]

    @pytest.mark.parametrize("started", [0, 1])
    def test_where_the_system_starts_no_more_processes(
        self, monkeypatch: pytest.MonkeyPatch, started: int
    ) -> None:
        process = multiprocessing.get_context("fork").Process
        left, start = [None] * started, process.start

        def sometimes(self: multiprocessing.Process) -> None:
            if not left:
                raise BlockingIOError("Resource temporarily unavailable")
            left.pop()
            start(self)

        monkeypatch.setattr(process, "start", sometimes)
        for one, other in zip(in_loops(RECIPES, 2), in_loops(RECIPES, 1), strict=True):
            assert_same(one, other)
        assert not left

    def test_a_worker_that_is_asked_to_stop_stops_all(self) -> None:
        with pytest.raises(Interrupted, match=r"networks not done$"):
            in_loops([odd("SIGTERM"), *RECIPES], 2)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_what_was_interrupted_goes_on_to_the_same_bits(self, tmp_path: Path, workers: int) -> None:
        class Impatient(Watch):
            def epoch_ended(self, number: int, record: dict) -> None:
                if (number, record["epoch"]) == (1, 2):
                    os.kill(os.getpid(), signal.SIGTERM)

        long = [each.replace({"stop.max_epochs": 40, "stop.patience": "none"}) for each in RECIPES]
        with pytest.raises(Interrupted, match="continue with resume=True"):
            in_loops(long, 2, out=tmp_path, watchers=[Impatient()])
        again = in_loops(long, workers, out=tmp_path, resume=True)
        for one, other in zip(in_loops(long, 1), again, strict=True):
            assert_same(one, other)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupted_parent_takes_its_workers_with_it(self, tmp_path: Path, number: int) -> None:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "two epochs of each of two\n"
            # As Ctrl-C does, to the whole group; a polite request goes to the parent alone.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            said = json.loads(process.stdout.readline())
            process.wait(timeout=60)
            with pytest.raises(ProcessLookupError):  # nobody of the group is left
                os.killpg(process.pid, 0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
        assert "networks not done; continue with resume=True" in said["interrupted"]
        assert not said["children"]
        for folder in ("0000", "0001"):
            state, meta = descend.training.state.read_state(
                tmp_path / folder / "checkpoints" / "last.safetensors"
            )
            assert state["stopped"] == "interrupted"
            assert meta["epoch"] >= 2


class TestWhereItHelps:
    def test_little_work_stays_here(self) -> None:
        runs = train_many(RECIPES, data(), engine="loop")
        assert {run.environment["engine"]["workers"] for run in runs} == {1}

    def test_much_work_is_shared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_engine, "cores", lambda: 2)
        monkeypatch.setattr(loop_engine, "_step_seconds", lambda member: 1.0)
        runs = train_many(RECIPES, data(), seeds=5, engine="loop")
        assert {run.environment["engine"]["workers"] for run in runs} == {2}

    def test_those_alone_of_their_kind_share_workers_too(self) -> None:
        apart = [recipe(0.01, **{"model.hidden": [6], "model.norm": "none"}), recipe(0.01)]
        runs = train_many(apart, data(), seeds=5, workers=2)
        assert [run.environment["engine"]["workers"] for run in runs] == [2, 2]
        assert [run.environment["engine"]["why"] for run in runs] == ["no other member can ride with it"] * 2

    def test_threads_that_are_asked_for_are_kept(self) -> None:
        runs = in_loops(
            [each.replace({"engine.threads": 2, "stop.max_epochs": 1}) for each in RECIPES[:2]], 2
        )
        assert [run.environment["threads"] for run in runs] == [2, 2]
        assert [run.environment["engine"]["workers"] for run in runs] == [1, 1]

    def test_threads_that_are_not_are_one(self) -> None:
        run, _ = in_loops([each.replace({"engine.threads": "auto"}) for each in RECIPES[:2]], 2)
        assert run.recipe.engine["threads"] == 1
        assert run.reasons["engine.threads"] == "one of 2 processes"

    def test_a_daemon_has_no_children(self) -> None:
        """As within somebody else's worker pool."""
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(
            target=lambda: theirs.send_bytes(workers_unavailable_because().encode()), daemon=True
        )
        child.start()
        assert ours.recv_bytes() == b"this process is a worker itself, and may have none"
        child.join()

    @pytest.mark.parametrize("workers", [0, "all", 1.5])
    def test_no_number(self, workers: object) -> None:
        with pytest.raises(UserError, match="workers: a number of processes from 1"):
            train_many(RECIPES, data(), workers=workers)
