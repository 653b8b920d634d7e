"""What the scores mean of a run that was trained again on all rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from descend.report.formatting import count, duration

__all__ = ["refit_note"]


def refit_note(found: Mapping[str, Any]) -> str:
    """Return how a run was trained again on all rows, and what its scores mean; empty for others.

    Args:
        found: the metrics of the run.
    """
    refit = found.get("refit")
    if refit is None:
        return ""
    epochs = refit["epochs"]
    each = count(epochs[0]) if len(set(epochs)) == 1 else f"{count(min(epochs))} to {count(max(epochs))}"
    plural = "" if epochs == [1] else "s"
    return (
        f"The model was then trained again on all {count(refit['rows'])} rows, for {each} epoch{plural}, in "
        f"{duration(refit['seconds'])}. The scores above are those of the first training, on rows that it had not seen; the "
        "model that was saved has seen them and has no held-out score of its own."
    )
