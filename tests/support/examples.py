"""How many examples hypothesis tries of each property."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def examples(thorough: int) -> int:
    """Return ``thorough`` under ``HYPOTHESIS_PROFILE=thorough``, else a fourth of it, and ten or more."""
    return thorough if THOROUGH else max(10, thorough // 4)
