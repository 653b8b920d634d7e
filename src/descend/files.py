"""Files on disk: written so that they are complete or absent, read with an error that names the damage."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.interface import option
from descend.process import check_unlocked
from descend.process.locks import LOCK

__all__ = [
    "RUN_MARKERS",
    "check_unused",
    "json_bytes",
    "make_folder",
    "parse_object",
    "read_json",
    "read_json_lines",
    "read_text",
    "unwritten",
    "write_atomically",
]

RUN_MARKERS = ("recipe.toml", "schema.json")
"""The files by which a run folder is recognized."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is complete or absent, even if the machine stops in between.

    The content is written to a temporary file in the same folder, flushed to the disk, and renamed in one
    step; then the folder's entry is flushed too. If writing fails, the previous file is unchanged.

    Raises:
        RunError: the disk is full, or the system refuses.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> write_atomically(path, b"done")
    >>> path.read_bytes()
    b'done'
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as cause:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RunError(unwritten(path, cause)) from cause


def unwritten(path: Path, cause: OSError) -> str:
    """Return the message that a file could not be written, which names the folder if that has disappeared.

    >>> unwritten(Path("/nowhere/run/history.jsonl"), FileNotFoundError(2, "No such file or directory"))
    'cannot write /nowhere/run/history.jsonl: the folder /nowhere/run does not exist any more; it was moved or removed'
    """
    if not path.parent.is_dir():
        return (
            f"cannot write {path}: the folder {path.parent} does not exist any more; it was moved or removed"
        )
    kept = "; the previous content is unchanged" if path.exists() else ""
    return f"cannot write {path}: {cause.strerror or cause}{kept}"


def json_bytes(content: Any) -> bytes:
    r"""Return JSON in a readable layout: indented, with a final line break, in UTF-8.

    >>> json_bytes({"epochs": 3})
    b'{\n "epochs": 3\n}\n'
    """
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise RunError(f"cannot read {path}: {cause}") from cause


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        RunError: the file cannot be read, is not JSON, or is not an object.
    """
    return parse_object(read_text(path), f"{path} is damaged")


def read_json_lines(path: Path, *, growing: bool = False) -> list[dict[str, Any]]:
    """Return the JSON objects in a file with one object per line.

    Args:
        path: the file.
        growing: whether another process may be writing the file. A last line without its line break is then
            incomplete and left out. Default False.

    Raises:
        RunError: the file cannot be read, or a line is not a JSON object; the message names the line.
    """
    lines = read_text(path).split("\n")
    if growing:
        lines = lines[:-1]
    return [
        parse_object(line, f"{path} is damaged in line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def parse_object(text: str, fault: str) -> dict[str, Any]:
    """Return the JSON object that a text contains.

    Args:
        text: the JSON.
        fault: how the message of an error begins.

    Raises:
        RunError: the text is not JSON, or not an object.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as cause:  # an integer of thousands of digits is a ValueError too
        raise RunError(f"{fault}: {cause}") from cause
    if not isinstance(content, dict):
        raise RunError(f"{fault}: expected a JSON object, got {type(content).__name__}")
    return content


def make_folder(path: Path, what: str = "run") -> None:
    """Create a folder and its parents; a folder that exists is left as it is.

    Args:
        path: the folder.
        what: what the folder will hold, for the message of an error. Default "run".

    Raises:
        RunError: the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise RunError(f"cannot create the {what} folder {path}: {cause.strerror or cause}") from cause


def check_unused(folder: Path, *, what: str = "run", markers: Sequence[str] = RUN_MARKERS) -> None:
    """Refuse a folder that is in use.

    Args:
        folder: the folder to write into.
        what: what the folder will hold, for the message of an error. Default "run".
        markers: the files by which a folder that already holds one is recognized. Default: those of a run, so a
            recipe of the user's own is not taken for a run.

    Raises:
        RunError: the path is a file, holds another run (search, comparison, …), or holds anything else; or another
            process writes into it.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; a {what} needs a folder of its own")
    above = next((parent for parent in folder.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise RunError(
            f"the {what} folder {folder} cannot be created, since {above} is a file; choose another folder"
        )
    if folder.is_dir():
        check_unlocked(folder, what)
    if folder.is_dir() and all((folder / marker).exists() for marker in markers):
        raise RunError(
            f"{folder} holds another {what}; continue it with {option('--resume', 'resume=True')}, or choose another folder"
        )
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise RunError(f"the folder {folder} is not empty and holds no {what}; choose another folder")
