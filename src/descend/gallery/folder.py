"""The folder of the gallery: for each figure NAME.png, NAME.html and NAME.json, and an index of all that are there."""

from __future__ import annotations

import base64
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.errors import UserError
from descend.gallery import page, png
from descend.gallery.catalogue import FIGURES
from descend.gallery.picture import Picture

__all__ = ["Written", "facts", "prepare", "write", "write_index"]


@dataclass(frozen=True)
class Written:
    """The files of a figure."""

    image: Path
    page: Path
    numbers: Path


def facts(picture: Picture, seed: int) -> dict[str, Any]:
    """What a picture found, as JSON holds it."""
    found = picture.value

    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    return {
        "name": picture.name,
        "title": picture.title,
        "claim": picture.claim,
        "finding": picture.finding,
        "supported": picture.supported,
        "number": {
            "name": picture.number,
            "value": finite(found.value),
            "low": finite(found.low),
            "high": finite(found.high),
        },
        "seed": seed,
        "seconds": round(picture.seconds, 3),
    }


def prepare(folder: Path) -> None:
    """Make the folder, and find out before anything is measured whether pictures can be drawn into it.

    Raises:
        UserError: the folder cannot be written to.
        MissingExtraError: Matplotlib is not installed.
    """
    png.check()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise UserError(f"--out {folder} cannot be made: {cause.strerror or cause}") from cause
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--out {folder} cannot be written to; choose another folder")


def write(picture: Picture, folder: Path, seed: int = 0) -> Written:
    """Write the figure's three files; each is complete or absent.

    Args:
        picture: what :func:`descend.gallery.draw` gave.
        folder: an existing folder.
        seed: what it was measured with.

    Raises:
        UserError: a file cannot be written.
        MissingExtraError: Matplotlib is not installed.
    """
    files = Written(*(folder / f"{picture.name}.{ending}" for ending in ("png", "html", "json")))
    _save(files.image, png.png(picture))
    _save(files.page, page.page(picture, seed).encode("utf-8", "xmlcharrefreplace"))
    _save(files.numbers, (json.dumps(facts(picture, seed), indent=2, ensure_ascii=False) + "\n").encode())
    return files


def write_index(folder: Path) -> Path:
    """Write ``index.html`` over the figures that the folder holds, in the lecture's order.

    Raises:
        UserError: the file cannot be written.
    """
    entries = []
    for name in FIGURES:
        numbers, image = folder / f"{name}.json", folder / f"{name}.png"
        if numbers.is_file() and image.is_file():
            found = json.loads(numbers.read_text(encoding="utf-8"))
            entries.append(found | {"image": base64.b64encode(image.read_bytes()).decode()})
    path = folder / "index.html"
    _save(path, page.shelf(entries).encode("utf-8", "xmlcharrefreplace"))
    return path


def _save(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as cause:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
