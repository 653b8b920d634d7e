"""A browser for the report of a comparison."""

import pytest
from tests.support import chromium


@pytest.fixture(scope="session")
def browser():
    program = chromium.find()
    if program is None:
        pytest.skip("chromium is not installed")
    with chromium.running(program) as started:
        yield started
