"""A browser for the report of a comparison."""

import sys
from pathlib import Path

import pytest

# The browser's driver stands with the tests of the run's report.
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

import chromium


@pytest.fixture(scope="session")
def browser():
    program = chromium.find()
    if program is None:
        pytest.skip("no chromium on this machine, so the report was not tested in a browser")
    with chromium.running(program) as started:
        yield started
