"""The program before anything heavy is imported: standard streams and signals.

Imports only small modules of the standard library, so that Ctrl-C is answered in one line from the start.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from descend.cli.signals import Stopped, report_stop, stopped_early, stopping
from descend.cli.streams import standard_streams

__all__ = ["run_program"]


def run_program(arguments: Sequence[str] | None = None) -> int:
    """Run the program, and return its exit status; see :func:`descend.cli.main`."""
    with stopping(), standard_streams():
        try:
            os.getcwd()  # noqa: PTH109  # pathlib is not imported yet
        except FileNotFoundError:  # the libraries of PyTorch end the process without a reason
            report_stop("Error: the current directory does not exist any more; change to another one")
            return 2
        try:
            from descend.cli.program import run

            return run(arguments)
        except Stopped as request:
            report_stop(stopped_early(request.number))
            return 128 + request.number
