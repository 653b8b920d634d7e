"""The output folder of the gallery: NAME.png, NAME.html and NAME.json for each figure, and an index page."""

from __future__ import annotations

import base64
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.errors import UserError
from descend.files import json_bytes, make_folder, read_json, write_atomically
from descend.gallery import bundle, page, png
from descend.gallery.catalogue import FIGURES
from descend.gallery.picture import Picture

__all__ = ["FigureFiles", "prepare_folder", "summary", "write_figure", "write_index"]


@dataclass(frozen=True)
class FigureFiles:
    """Paths of the files of a figure."""

    image: Path
    page: Path
    numbers: Path


def summary(picture: Picture, seed: int) -> dict[str, Any]:
    """Return the result of a figure as JSON values."""
    estimate = picture.value

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
            "value": finite(estimate.value),
            "low": finite(estimate.low),
            "high": finite(estimate.high),
        },
        "seed": seed,
        "seconds": round(picture.seconds, 3),
    }


def prepare_folder(folder: Path) -> None:
    """Create the output folder, and check before measuring that pictures can be rendered and written.

    Raises:
        RunError: the folder cannot be created.
        UserError: the folder is not writable.
        MissingExtraError: Matplotlib or Plotly is not installed.
    """
    png.check()
    bundle.check()
    make_folder(folder, "gallery")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"the gallery folder {folder} is not writable; choose another folder")


def write_figure(picture: Picture, folder: Path, seed: int = 0) -> FigureFiles:
    """Write the three files of a figure; each is complete or absent.

    Args:
        picture: the result of :func:`descend.gallery.measure`.
        folder: an existing folder.
        seed: the seed of the measurement. Default 0.

    Raises:
        RunError: a file cannot be written.
        MissingExtraError: Matplotlib or Plotly is not installed.
    """
    files = FigureFiles(*(folder / f"{picture.name}.{ending}" for ending in ("png", "html", "json")))
    write_atomically(files.image, png.render_png(picture))
    write_atomically(files.page, page.render_page(picture, seed).encode("utf-8", "xmlcharrefreplace"))
    write_atomically(files.numbers, json_bytes(summary(picture, seed)))
    return files


def write_index(folder: Path) -> Path:
    """Write ``index.html``, an overview of the figures in the folder.

    Raises:
        RunError: a file of the folder cannot be read, or the index cannot be written.
    """
    entries = []
    for name in FIGURES:
        numbers, image = folder / f"{name}.json", folder / f"{name}.png"
        if numbers.is_file() and image.is_file():
            entries.append(read_json(numbers) | {"image": base64.b64encode(image.read_bytes()).decode()})
    path = folder / "index.html"
    write_atomically(path, page.render_index(entries).encode("utf-8", "xmlcharrefreplace"))
    return path
