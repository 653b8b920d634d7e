"""The default folders of results."""

from __future__ import annotations

import datetime
import re
from contextlib import suppress
from pathlib import Path

from descend.errors import UserError

__all__ = ["FOLDER", "new_folder", "remove_if_empty"]

FOLDER = Path("runs")


def new_folder(name: str, prefix: str = "") -> Path:
    """Create a new folder in ``runs`` and return it.

    Args:
        name: the name of the data.
        prefix: what the folder contains, if it is not a run.
    """
    stem = re.sub(r"\.(gz|bz2|xz|zst|zip)$", "", Path(name).name)
    stem = re.sub(r"\.\w{2,7}$", "", stem)
    stem = prefix + (re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "data")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    FOLDER.mkdir(exist_ok=True)
    for count in range(1, 1000):
        folder = FOLDER / (f"{stem}-{stamp}" + (f"-{count}" if count > 1 else ""))
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise UserError(f"no unused folder name was found in {FOLDER}; specify one: --out FOLDER")


def remove_if_empty(folder: Path) -> None:
    """Remove the folder of a result if nothing was written, and then ``runs`` if that is empty too."""
    with suppress(OSError):
        folder.rmdir()
        if folder.parent == FOLDER:
            FOLDER.rmdir()
