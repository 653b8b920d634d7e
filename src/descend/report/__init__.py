"""The HTML report of a run, and the building blocks that all reports share.

A report is one file that needs no network. It shows the scores, the learning curves, the confusion matrix or the
predicted against the true values, the worst mistakes, the data, the recipe, the model, the environment, and the command
that reproduces the run. It is made from the files of the run folder alone, so it can be rewritten at any time, also on a
machine without the data or a GPU.

===================  ==========================================================================
:mod:`.run_files`    the files of a run folder, read tolerantly
:mod:`.page`         the report of a run: header and order of the sections
:mod:`.summary`      the run in a few sentences
:mod:`.results`      sections on learning curves, scores and mistakes
:mod:`.context`      sections on data, recipe, model, environment and command
:mod:`.curves`       learning curves
:mod:`.figures`      confusion matrix, predicted against true values, error histogram
:mod:`.svg`          figures as SVG, which needs no script
:mod:`.marks`        what a figure contains: axes, lines, points, bars, cells
:mod:`.scales`       positions on an axis
:mod:`.ticks`        round values on an axis
:mod:`.axis_labels`  the ticks whose labels fit, and the space that they occupy
:mod:`.document`     the HTML document of any report: style, script, security policy
:mod:`.parts`        sections, tables, figure boxes, code blocks
:mod:`.markup`       HTML elements with automatic escaping
:mod:`.highlight`    syntax highlighting of TOML
:mod:`.formatting`   numbers, durations and names as reports show them
===================  ==========================================================================
"""

from __future__ import annotations

from pathlib import Path

from descend.report.document import write_page
from descend.report.page import render
from descend.report.run_files import read

__all__ = ["write", "write_page"]


def write(folder: Path) -> Path:
    """Write ``report.html`` into a run folder, from the files in it.

    The file is complete or absent, and an earlier report is kept until the new one is complete.

    Args:
        folder: a run folder; a failed or unfinished run is shown as far as it got.

    Returns:
        The path of the report.

    Raises:
        RunError: the folder contains no run, one of its files is damaged, or the report cannot be written.

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
