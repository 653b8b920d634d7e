"""The comparison folder, which holds what is needed to resume a stopped comparison.

``comparison_settings.json`` holds the settings and is written before the first run. Tuning runs are in ``tuning`` until the
comparison is finished, final runs in ``runs``; each resumes from its own folder. ``comparison.json`` holds the results;
it is written at the end, when the tuning runs are deleted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.experiments.settings import describe_changes
from descend.files import check_unused, json_bytes, make_folder, read_json, write_atomically

__all__ = ["FINAL_RUNS", "TUNING_RUNS", "check_free", "check_resumable", "finish", "start"]

SETTINGS_FILE, RESULTS_FILE = "comparison_settings.json", "comparison.json"
OLD_FILE = "asked.json"
"""The name of the settings in comparisons of earlier versions."""

TUNING_RUNS, FINAL_RUNS = "tuning", "runs"


def check_free(folder: Path) -> None:
    """Refuse a folder that is in use.

    Raises:
        RunError: the folder contains another comparison or other files.
    """
    check_unused(folder, what="comparison", markers=(SETTINGS_FILE,))


def start(folder: Path, settings: Mapping[str, Any]) -> None:
    """Create the folder and write the settings of the comparison.

    Raises:
        RunError: the folder cannot be created or written.
    """
    make_folder(folder, "comparison")
    write_atomically(folder / SETTINGS_FILE, json_bytes(dict(settings)))


def check_resumable(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that the folder holds an unfinished comparison with the same settings.

    Raises:
        RunError: it contains no comparison, a finished one, or one with other settings; the message lists the
            differences.
    """
    settings_file = next(
        (folder / name for name in (SETTINGS_FILE, OLD_FILE) if (folder / name).exists()), None
    )
    if settings_file is None:
        raise RunError(f"nothing to resume in {folder}: it contains no comparison")
    if (folder / RESULTS_FILE).exists():
        raise RunError(f"nothing to resume in {folder}: the comparison is finished; see report.html")
    current = json.loads(json.dumps(settings))
    changes = describe_changes("", read_json(settings_file), current)
    if changes:
        raise RunError(
            f"the comparison in {folder} was started with other settings; resume it with the same settings, or start "
            "a new comparison in another folder:\n  " + "\n  ".join(changes)
        )


def finish(folder: Path, results: Mapping[str, Any]) -> None:
    """Write the results and delete the tuning runs."""
    write_atomically(folder / RESULTS_FILE, json_bytes(dict(results)))
    shutil.rmtree(folder / TUNING_RUNS, ignore_errors=True)
