"""One process, and one thread of it, writes into a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import descend
from descend.errors import RunError, UserError
from descend.process import check_unlocked, locked
from descend.process.locks import LOCK
from descend.training.observers import Quiet

posix = pytest.mark.skipif(sys.platform == "win32", reason="the system has no such locks")

HOLDER = """
import sys
from pathlib import Path
from descend.process import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a folder until the end of the context."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.stdin.close()


@posix
def test_a_folder_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as process:
        with pytest.raises(RunError, match=rf"is in use: another process \({process.pid}\) is writing a run"):
            descend.train("iris", {"stop": {"max_epochs": 1}}, out=folder)
        with pytest.raises(RunError, match="is in use"):
            check_unlocked(folder)
    assert not folder.exists()
    assert descend.train("iris", {"stop": {"max_epochs": 1}}, out=folder).path == folder


@posix
def test_the_lock_of_a_killed_process_does_not_block(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / LOCK).exists()
        with locked(tmp_path):
            assert int((tmp_path / LOCK).read_text()) == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_progress_cannot_be_resumed_by_another_thread(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def resume() -> None:
        try:
            descend.train("iris", out=tmp_path, resume=True)
        except RunError as failure:
            failures.append(failure)

    class Resumes(Quiet):
        def started(self, training: object) -> None:
            thread = threading.Thread(target=resume)
            thread.start()
            thread.join()

    run = descend.train("iris", {"stop": {"max_epochs": 1}}, out=tmp_path, observers=[Resumes()])
    assert "another thread of this process" in str(failures[0])
    assert run.metrics["status"] == "finished"
    assert not (tmp_path / LOCK).exists()


def test_a_thread_may_lock_a_folder_again(tmp_path: Path) -> None:
    with locked(tmp_path):
        with locked(tmp_path):
            check_unlocked(tmp_path)
        assert (tmp_path / LOCK).exists()


@pytest.mark.parametrize("refused", ["flock", "open"])
def test_a_file_system_without_locks_is_used_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr({"flock": "fcntl.flock", "open": "os.open"}[refused], fail)
    with locked(tmp_path):
        monkeypatch.undo()
        (tmp_path / "written").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["written"]


def test_a_file_system_that_creates_no_folder_and_calls_it_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: Path, *arguments: object, **settings: object) -> None:  # as in /proc
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "mkdir", missing)
    with pytest.raises(RunError, match=r"^cannot create the run folder .*/a: No such file or directory$"):
        descend.train("iris", {"stop": {"max_epochs": 1}}, out=tmp_path / "a")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_new_folders_are_removed_if_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown key"):
        descend.train("iris", {"stop": {"nonsense": 1}}, out=tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_does_not_hold_the_lock_of_its_parent(tmp_path: Path) -> None:
    leave, wait = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(wait)
            os.read(leave, 1)
            os._exit(0)
    with holder(tmp_path):  # although the child lives
        pass
    os.close(wait)
    os.close(leave)
    os.waitpid(child, 0)


def test_an_empty_string_is_not_a_folder() -> None:
    with pytest.raises(UserError, match="got an empty string"):
        descend.train("iris", out="")


def test_a_recipe_of_ones_own_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[model]\n")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        descend.train("iris", out=tmp_path)
    with pytest.raises(RunError, match="is not a run folder"):
        descend.train("iris", out=tmp_path, resume=True)
