"""Run folders and a browser for the report's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import chromium, run_folders, sample_runs

from descend.report import write


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a named run's report, written once."""
    made: dict[str, Path] = {}

    def report(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / name
            made[name] = write(run_folders.save(sample_runs.RUNS[name](), folder))
        return made[name]

    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[chromium.Browser]:
    """A running chromium; without one the test is skipped."""
    program = chromium.find()
    if program is None:
        pytest.skip("no chromium on this machine, so the report was not tested in a browser")
    with chromium.running(program) as started:
        yield started
