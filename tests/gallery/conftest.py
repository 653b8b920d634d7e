"""Small pictures of every figure, and a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support import chromium
from tests.support import small_figures as small

from descend.gallery.catalogue import FIGURES
from descend.training.threads import using_threads


class Measurements(dict):
    """The result of each figure's ``measure`` at its small sizes, measured on first access."""

    def __missing__(self, name):
        with using_threads(1):
            self[name] = FIGURES[name].measure(0, **small.SIZES[name])
        return self[name]


@pytest.fixture(scope="session")
def measurements():
    return Measurements()


@pytest.fixture(scope="session")
def pictures(measurements):
    """A function that returns a picture by name."""

    def picture(name):
        return FIGURES[name].picture(measurements[name])

    return picture


@pytest.fixture(scope="session")
def browser() -> Iterator[chromium.Browser]:
    """A running chromium; without one the test is skipped."""
    program = chromium.find()
    if program is None:
        pytest.skip("no chromium on this machine, so the gallery was not tested in a browser")
    with chromium.running(program) as started:
        yield started
