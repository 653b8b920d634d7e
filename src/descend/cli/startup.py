"""The program before anything heavy is imported: standard streams and signals.

Imports only small modules of the standard library, so that Ctrl-C is answered in one line from the start.
"""

from __future__ import annotations

from collections.abc import Sequence

from descend.cli.signals import Stopped, report_stop, stopped_early, stopping
from descend.cli.streams import standard_streams

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: the arguments after ``descend`` on the command line; None takes them from the process.

    Returns:
        The exit status: 0 success, 1 an internal error of descend, 2 invalid input, 3 training failed,
        130 interrupted (by Ctrl-C, or with a checkpoint saved), 143 and 129 ended by SIGTERM and SIGHUP.

    >>> main(["--version"])
    descend ...
    0
    """
    with stopping(), standard_streams():
        try:
            from descend.cli.program import run

            return run(arguments)
        except Stopped as request:
            report_stop(stopped_early(request.number))
            return 128 + request.number
