"""Set up every test session."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Exempt everything that exists by now from garbage collection.

    Imported modules and collected tests are a million objects that live until the end; each full collection would
    visit them all again.
    """
    gc.collect()
    gc.freeze()
