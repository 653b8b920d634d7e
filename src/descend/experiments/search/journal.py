"""The folder of a search: what was asked, and a line for each trial that is done.

``search.json`` says what is searched; it is written once, atomically. ``trials.jsonl`` gets a line when a trial
ends, and the line is on the disk before the search goes on. A line that a kill cut short is dropped: its trial
is not done.
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
from descend.files import check_unused, json_bytes, make_folder, read_json, write_atomically

__all__ = ["Journal", "begun", "begun_with", "differences", "resumed"]

FORMAT = 1
HEADER, TRIALS = "search.json", "trials.jsonl"


class Journal:
    """Records of trials; in memory alone where there is no folder.

    Args:
        folder: of the search, or None.
        known: what is recorded already.
    """

    def __init__(self, folder: Path | None = None, known: Mapping[int, Trial] | None = None) -> None:
        self.folder = folder
        self.trials: dict[int, Trial] = dict(known or {})

    def add(self, trial: Trial) -> None:
        """Record a trial; it is on the disk when this returns."""
        self.trials[trial.number] = trial
        if self.folder is None:
            return
        path = self.folder / TRIALS
        try:
            with path.open("ab") as file:
                file.write(json.dumps(trial.to_json(), allow_nan=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as cause:
            raise UserError(f"{path}: cannot be written: {cause.strerror or cause}") from cause


def begun(folder: Path | None, header: Mapping[str, Any]) -> Journal:
    """The journal of a new search.

    Raises:
        RunError: the folder is in use.
    """
    if folder is None:
        return Journal()
    check_unused(folder, what="search", marker=HEADER)
    make_folder(folder, "search")
    write_atomically(folder / HEADER, json_bytes({"format": FORMAT, "descend": __version__, **header}))
    return Journal(folder)


def resumed(folder: Path | None, header: Mapping[str, Any]) -> Journal:
    """The journal of a search that goes on.

    Raises:
        RunError: the folder holds no search, or a search for something else; the message says what differs.
    """
    if folder is None:
        raise UserError("resume needs the folder of the search: give out")
    before = begun_with(folder)
    now = json.loads(json.dumps(header))
    changed = differences("", {key: before.get(key) for key in now}, now)
    if changed:
        raise RunError(
            f"this is not the search that {folder} was begun with; resume without changes, or search anew in "
            "another folder:\n  " + "\n  ".join(changed)
        )
    return Journal(folder, _read(folder / TRIALS))


def begun_with(folder: Path) -> dict[str, Any]:
    """What the search in a folder was begun with.

    Raises:
        RunError: it holds no search, or one of a newer version.
    """
    path = folder / HEADER
    if not path.exists():
        raise RunError(f"nothing to resume in {folder}: it holds no search")
    before = read_json(path)
    if not isinstance(before.get("format"), int) or before["format"] > FORMAT:
        raise RunError(f"{path} is damaged, or of a newer version of descend than this one ({__version__})")
    lacking = [key for key in ("data", "recipe", "space", "trials") if key not in before]
    if lacking or not isinstance(before["data"], dict):
        raise RunError(f"{path} is damaged: it lacks {', '.join(lacking) or 'the data'}")
    return before


def differences(where: str, before: Any, now: Any) -> list[str]:
    """What differs between two things that JSON can hold, a line each.

    >>> differences("", {"trials": 8, "seed": 0}, {"trials": 9, "seed": 0})
    ['trials: was 8, now 9']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            line
            for key in keys
            for line in differences(f"{where}.{key}".lstrip("."), before.get(key), now.get(key))
        ]
    if before == now:
        return []
    was = "not there" if before is None else json.dumps(before)
    return [f"{where}: was {was}, now {'not there' if now is None else json.dumps(now)}"]


def _read(path: Path) -> dict[int, Trial]:
    """The records of a file, from which a last line that was cut short is removed."""
    if not path.exists():
        return {}
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with path.open("rb+") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
    except OSError as cause:
        raise RunError(f"cannot read {path}: {cause.strerror or cause}") from cause
    found: dict[int, Trial] = {}
    for line, text in enumerate(whole.splitlines(), start=1):
        try:
            trial = Trial.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise RunError(f"{path} is damaged in line {line}: {cause}") from cause
        found[trial.number] = trial
    return found
