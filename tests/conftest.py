"""Set up every test session."""

from __future__ import annotations

import gc

from hypothesis import settings
from tests.support.examples import THOROUGH, examples

# The result of `make test` is a property of the code: the same examples in every run. `make test-thorough` samples new
# ones, so that a fault it finds becomes a test, and does not fail an unrelated change by chance.
settings.register_profile("descend", max_examples=examples(100), deadline=None, derandomize=not THOROUGH)
settings.load_profile("descend")


def pytest_collection_finish() -> None:
    """Exempt everything that exists by now from garbage collection.

    Imported modules and collected tests are a million objects that live until the end; each full collection would
    visit them all again.
    """
    gc.collect()
    gc.freeze()
