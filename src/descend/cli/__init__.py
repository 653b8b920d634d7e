"""The command line: ``descend train DATA`` and its companions.

Each command is a thin shell around the function of the same name in Python. The heavy parts (PyTorch, readers
of data, the catalogue) are imported inside the commands that need them, so that ``descend --help`` is
immediate.

===================  =====================================================================
:mod:`.startup`      what precedes the import of the commands
:mod:`.signals`      signals that stop a command
:mod:`.streams`      standard streams that are closed, or not UTF-8
:mod:`.program`      the commands together; errors become messages and exit statuses
:mod:`.options`      options that several commands share
:mod:`.output`       output for people, and the JSON object of ``--json``
:mod:`.folders`      the default folders of results
:mod:`.train`        ``train``; :mod:`.preview` and :mod:`.summary` print before and after
:mod:`.predict`      ``predict``
:mod:`.evaluate`     ``evaluate``
:mod:`.report`       ``report``
:mod:`.export`       ``export``
:mod:`.compare`      ``compare``
:mod:`.search`       ``search``
:mod:`.check`        ``check gradients``, ``check optimality``
:mod:`.recipe`       ``recipe``; :mod:`.default` writes the default recipe
:mod:`.methods`      ``methods``
:mod:`.gallery`      ``gallery``
===================  =====================================================================
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing is not imported, so that signals are answered from the first moment
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

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
    import signal

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {}
    try:
        for number in numbers:
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _end)
    except ValueError:  # not in the main thread
        before = {}
    try:
        from descend.cli.startup import run_program

        return run_program(arguments)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _end(number: int, frame: FrameType | None) -> None:
    """End the process, which has only begun to import its modules."""
    names = {15: " by SIGTERM", 1: " by SIGHUP"}
    try:
        os.write(2, f"Stopped{names.get(number, '')} before anything was saved\n".encode())
    finally:
        os._exit(128 + number)
