"""The report of a run: one HTML file that explains it, readable anywhere and without a network.

It shows what was learned and how well, the learning curves, the confusion matrix or the predictions against
the true values, the worst mistakes, the data, the recipe, the model, the environment, and the command that
reproduces the run. It is made from the files of the run folder alone, so a report can be written anew at any
time, by a machine that has neither the data nor a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path

from descend.errors import UserError
from descend.report.page import render
from descend.report.run_files import read

__all__ = ["write", "write_page"]


def write(folder: Path) -> Path:
    """Write ``report.html`` into a run folder, from the files that are there.

    The file is complete or absent, and an earlier report stays until the new one is complete.

    Args:
        folder: a run folder; a run that failed or still goes on is shown as far as it got.

    Returns:
        The report's path.

    Raises:
        RunError: the folder holds no run, or one of its files is damaged.
        UserError: the report cannot be written.

    >>> import json, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     metrics = {"status": "finished", "task": "binary", "test": {"accuracy": 0.96}}
    ...     _ = Path(folder, "metrics.json").write_text(json.dumps(metrics))
    ...     page = write(Path(folder))
    ...     page.name, "96.0" in page.read_text(encoding="utf-8")
    ('report.html', True)
    """
    folder = Path(folder)
    return write_page(folder / "report.html", render(read(folder)))


def write_page(path: Path, page: str) -> Path:
    """Write a page so that it is complete or absent, and an earlier one stays until then.

    Raises:
        UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", errors="xmlcharrefreplace", newline="\n") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as cause:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: the report cannot be written: {cause.strerror or cause}") from cause
    return path
