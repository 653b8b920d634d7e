"""Fixtures for the tests of reports: written reports and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import chromium, run_folders, sample_runs

from descend.report import write


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the path of a sample run's report, written once."""
    paths: dict[str, Path] = {}

    def report(name: str) -> Path:
        if name not in paths:
            folder = tmp_path_factory.mktemp(name) / name
            paths[name] = write(run_folders.save(sample_runs.RUNS[name](), folder))
        return paths[name]

    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[chromium.Browser]:
    """A running chromium; without one the test is skipped."""
    program = chromium.find()
    if program is None:
        pytest.skip("chromium is not installed")
    with chromium.running(program) as started:
        yield started
