"""The search folder: the settings of the search, and one line for each completed trial.

``search.json`` holds the settings; it is written once, atomically. ``trials.jsonl`` gets one line per completed trial,
flushed to disk before the search continues. An incomplete last line, left by a killed process, is removed: its trial
does not count as completed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend._version import __version__
from descend.errors import RunError, UserError
from descend.experiments.search.trial import Trial
from descend.experiments.settings import describe_changes
from descend.files import check_unused, json_bytes, make_folder, parse_object, read_json, write_atomically

__all__ = ["Journal", "create_journal", "read_header", "resume_journal"]

FORMAT = 1
HEADER_FILE, TRIALS_FILE = "search.json", "trials.jsonl"


class Journal:
    """The records of a search; in memory only if there is no folder.

    Args:
        folder: the search folder, or None.
        known: the trials recorded so far.
    """

    def __init__(self, folder: Path | None = None, known: Mapping[int, Trial] | None = None) -> None:
        self.folder = folder
        self.trials: dict[int, Trial] = dict(known or {})

    def add(self, trial: Trial) -> None:
        """Record a trial; its line is on disk when this returns.

        Raises:
            UserError: the file cannot be written.
        """
        self.trials[trial.number] = trial
        if self.folder is None:
            return
        path = self.folder / TRIALS_FILE
        try:
            with path.open("ab") as file:
                file.write(json.dumps(trial.to_json(), allow_nan=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def create_journal(folder: Path | None, header: Mapping[str, Any]) -> Journal:
    """Create the folder of a new search and write its header.

    Raises:
        RunError: the folder is in use or cannot be created.
    """
    if folder is None:
        return Journal()
    check_unused(folder, what="search", markers=(HEADER_FILE,))
    make_folder(folder, "search")
    write_atomically(folder / HEADER_FILE, json_bytes({"format": FORMAT, "descend": __version__, **header}))
    return Journal(folder)


def resume_journal(folder: Path | None, header: Mapping[str, Any]) -> Journal:
    """Open the journal of an earlier search to continue it.

    Raises:
        RunError: the folder contains no search, or one with other settings; the message lists the differences.
        UserError: there is no folder.
    """
    if folder is None:
        raise UserError("resume=True requires out=<search folder>")
    recorded = read_header(folder)
    current = json.loads(json.dumps(header))
    changes = describe_changes("", {key: recorded.get(key) for key in current}, current)
    if changes:
        raise RunError(
            f"the search in {folder} was started with other settings; resume it with the same settings, or start a "
            "new search in another folder:\n  " + "\n  ".join(changes)
        )
    return Journal(folder, _read_trials(folder / TRIALS_FILE))


def read_header(folder: Path) -> dict[str, Any]:
    """Read the settings that the search in a folder was started with.

    Raises:
        RunError: the folder contains no search, or one of a newer version.
    """
    path = folder / HEADER_FILE
    if not path.exists():
        raise RunError(f"nothing to resume in {folder}: it contains no search")
    header = read_json(path)
    if not isinstance(header.get("format"), int) or header["format"] > FORMAT:
        raise RunError(
            f"{path} is damaged, or was written by a newer version of descend than this one ({__version__})"
        )
    missing = [key for key in ("data", "recipe", "space", "trials") if key not in header]
    if missing or not isinstance(header["data"], dict):
        raise RunError(f"{path} is damaged: it has no {', '.join(missing) or 'data'}")
    return header


def _read_trials(path: Path) -> dict[int, Trial]:
    """Read the records of a file, and truncate an incomplete last line."""
    if not path.exists():
        return {}
    try:
        content = path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            with path.open("rb+") as file:
                file.truncate(len(complete))
                os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    trials: dict[int, Trial] = {}
    for line, text in enumerate(complete.splitlines(), start=1):
        fault = f"{path} is damaged in line {line}"
        try:
            trial = Trial.from_json(parse_object(text.decode("utf-8"), fault))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise error if isinstance(error, RunError) else RunError(f"{fault}: {error}") from error
        trials[trial.number] = trial
    return trials
