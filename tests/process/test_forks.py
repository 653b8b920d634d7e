"""A forked process answers, or reports why it cannot; it never waits for threads that do not exist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from descend.process import in_fork, is_fork

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are the default of Linux")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """The outcome of each piece of work in a fork of a process with thread pools."""
    program = Path(__file__).with_name("forked_work.py")
    environment = os.environ | {"OMP_NUM_THREADS": "2", "POLARS_MAX_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        ("predict", "returned True"),
        ("load", "returned True"),
        ("estimator", "returned 300"),
        ("train", "returned True"),
        ("bundled", "returned finished"),
        ("many", "returned 2"),
        ("parent", "returned 300"),
    ],
)
def test_a_fork_computes_with_arrays(outcomes: dict[str, str], work: str, expected: str) -> None:
    assert outcomes[work] == expected


@pytest.mark.parametrize("work", ["strings", "file"])
def test_a_table_that_needs_threads_is_refused_with_the_remedy(outcomes: dict[str, str], work: str) -> None:
    assert outcomes[work].startswith("UserError: this process is a fork")
    assert "'spawn' or 'forkserver'" in outcomes[work]


def test_a_specified_number_of_threads_is_refused_in_a_fork(outcomes: dict[str, str]) -> None:
    assert "2 threads were specified" in outcomes["threads"]


def test_other_processes_call_directly() -> None:
    def fail() -> None:
        raise KeyError("cause")

    assert not is_fork()
    assert in_fork(lambda: 3)() == 3
    with pytest.raises(KeyError):
        in_fork(fail)()


@pytest.mark.parametrize("imported", ["parent", "child"])
def test_a_fork_is_noticed_before_anything_of_descend_was_used(imported: str) -> None:
    """The names of descend are imported when they are first used, and its child may be the first to import it."""
    program = f"""
import os, polars
if {imported!r} == "parent":
    import descend
polars.DataFrame({{"a": ["x", "y"] * 2000}}).group_by("a").len()
child = os.fork()
if child == 0:
    import descend, numpy
    status = 1
    try:
        recipe = {{"stop": {{"max_epochs": 1}}}}
        descend.train((numpy.eye(40, 3), numpy.arange(40) % 2), recipe)
        descend.train(polars.DataFrame({{"a": ["x", "y"] * 200, "y": [0, 1] * 200}}), recipe, target="y")
    except descend.errors.UserError as error:
        status = 7 if "this process is a fork" in str(error) else 2
    finally:
        os._exit(status)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "POLARS_MAX_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False, timeout=100)
    assert done.returncode == 7
