"""Set up every test session."""

from __future__ import annotations

import gc

from hypothesis import settings
from tests.support.examples import examples

settings.register_profile("descend", max_examples=examples(100), deadline=None)
settings.load_profile("descend")


def pytest_collection_finish() -> None:
    """Exempt everything that exists by now from garbage collection.

    Imported modules and collected tests are a million objects that live until the end; each full collection would
    visit them all again.
    """
    gc.collect()
    gc.freeze()
