"""The folder of a comparison: what was asked, so that one that was stopped goes on as it was begun.

``asked.json`` is written before the first run. The runs that tune lie in ``tuning`` while the comparison lasts, the final
ones in ``runs``; each goes on from what is in its own folder. ``comparison.json`` is written when all is done, and the
runs that tuned are gone then.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.experiments.search.journal import differences
from descend.files import json_bytes, make_folder, read_json, write_atomically

__all__ = ["FINAL", "TUNING", "begin", "finish", "take_up"]

ASKED, FOUND = "asked.json", "comparison.json"
TUNING, FINAL = "tuning", "runs"


def begin(folder: Path, asked: Mapping[str, Any]) -> None:
    """Make the folder, and say in it what is compared.

    Raises:
        RunError: the system refuses.
    """
    make_folder(folder)
    write_atomically(folder / ASKED, json_bytes(dict(asked)))


def take_up(folder: Path, asked: Mapping[str, Any]) -> None:
    """Check that the folder holds this comparison, unfinished.

    Raises:
        RunError: it holds none, a finished one, or one of something else; the message says what differs.
    """
    if not (folder / ASKED).exists():
        raise RunError(f"nothing to resume in {folder}: it holds no comparison")
    if (folder / FOUND).exists():
        raise RunError(f"nothing to resume in {folder}: the comparison is done, and report.html shows it")
    now = json.loads(json.dumps(asked))
    changed = differences("", read_json(folder / ASKED), now)
    if changed:
        raise RunError(
            f"this is not the comparison that {folder} was begun with; resume without changes, or compare anew in "
            "another folder:\n  " + "\n  ".join(changed)
        )


def finish(folder: Path, found: Mapping[str, Any]) -> None:
    """Write the numbers, and let the runs that tuned go."""
    write_atomically(folder / FOUND, json_bytes(dict(found)))
    shutil.rmtree(folder / TUNING, ignore_errors=True)
