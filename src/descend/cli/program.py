"""The program: its commands, and the translation of errors to messages and exit statuses."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import IO, Annotated, TextIO, cast

import typer
from typer.main import get_command

from descend._version import __version__
from descend.cli import (
    check,
    compare,
    doctor,
    evaluate,
    export,
    finish,
    gallery,
    methods,
    predict,
    recipe,
    report,
    search,
    train,
)
from descend.cli.output import LastingStream, write_json
from descend.cli.signals import last_signal, stopped_early
from descend.cli.usage import usage_message
from descend.errors import DescendError, abridged
from descend.interface import command_line
from descend.process.memory import memory_shortage

__all__ = ["app", "run"]

BUG, MISTAKE, FAILED, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    add_completion=True,
    rich_markup_mode=None,  # plain help costs no import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  descend train digits                     train a network on scans of handwritten digits\n"
    "  descend train houses.csv --target price  train a network on your own table\n"
    "  descend recipe --explain houses.csv --target price\n"
    "                                           print every automatic choice with its reason\n"
    "\n\b\nExit status:\n"
    "  0    success\n"
    "  1    internal error of descend\n"
    "  2    invalid input\n"
    "  3    training failed\n"
    "  129  stopped by SIGHUP\n"
    "  130  stopped by Ctrl-C, or after a checkpoint was saved\n"
    "  143  stopped by SIGTERM",
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"descend {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _descend(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback",
            help="Show the full traceback of an error. Accepted anywhere on the command line; same as DESCEND_TRACEBACK=1.",
        ),
    ] = False,
) -> None:
    """Train neural networks with explicit, swappable design choices and bit-exact resume."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_COMMANDS: list[tuple[Callable[..., None], str, str]] = [
    (train.train, train.EXAMPLES, "Train a network on data."),
    (finish.finish, finish.EXAMPLES, "Turn a stopped run into a result with its best weights."),
    (doctor.doctor, doctor.EXAMPLES, "Find what is wrong with a run, or with data and a recipe."),
    (compare.compare, compare.EXAMPLES, "Compare design choices under equal conditions."),
    (search.search, search.EXAMPLES, "Search for the best recipe in a space of configurations."),
    (predict.predict, predict.EXAMPLES, "Predict new rows with a trained network."),
    (evaluate.evaluate, evaluate.EXAMPLES, "Evaluate a trained network on data."),
    (report.report, report.EXAMPLES, "Rewrite the report of a run."),
    (export.export, export.EXAMPLES, "Export a trained network for use without descend."),
    (recipe.recipe, recipe.EXAMPLES, "Print, check or explain a recipe."),
    (methods.methods, methods.EXAMPLES, "List the methods, or explain one."),
    (gallery.gallery, gallery.EXAMPLES, "Compute and plot the figures of the gallery."),
]
for _command, _examples, _short in _COMMANDS:
    app.command(epilog=_examples, short_help=_short)(_command)
app.add_typer(check.app, name="check", short_help="Check gradients or optimality.")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status; see :func:`descend.cli.main`."""
    out, err = LastingStream(sys.stdout), LastingStream(sys.stderr)
    with redirect_stdout(cast(IO[str], out)), redirect_stderr(cast(IO[str], err)):
        status = _status(arguments)
        out.flush()
        if out.lost and status == 0:
            status = MISTAKE
            _print_failure(Failure("OSError", f"standard output cannot be written: {out.lost}", status))
        err.flush()
    return status


def _status(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--traceback" in given or os.environ.get("DESCEND_TRACEBACK", "") not in ("", "0")
    given = [each for each in given if each != "--traceback"]
    try:
        with command_line(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = _called(given)
        if status == INTERRUPTED:
            number = last_signal()
            failure = Failure("Interrupted", stopped_early(number), 128 + number)
        else:
            return status if isinstance(status, int) else 0
    except Exception as error:
        if verbose:
            traceback.print_exc()
        failure = _failure(error)
    _print_failure(failure)
    if "--json" in given:
        write_json({"error": {"kind": failure.kind, "message": failure.message}})
    return failure.status


def _called(given: list[str]) -> object:
    program, name = get_command(app), "descend"
    # A command is run directly: parsing the program's own options first would import more for its help.
    commands = getattr(program, "commands", {})
    if given and given[0] in commands:
        program, name, given = commands[given[0]], f"descend {given[0]}", given[1:]
    return program.main(given, prog_name=name, standalone_mode=False)


@dataclass(frozen=True)
class Failure:
    """An error: its kind (the exception's name), its message, and the exit status."""

    kind: str
    message: str
    status: int


def _failure(error: Exception) -> Failure:
    kind, message = type(error).__name__, str(error)
    if isinstance(error, DescendError):
        return Failure(kind, message, error.exit_status)
    if hasattr(error, "format_message"):  # invalid options, reported by typer
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "descend"
        found = usage_message(error)
        stop = "" if found.endswith("?") else "."
        return Failure("UsageError", f"{found}{stop} See: {command} --help", MISTAKE)
    if shortage := memory_shortage(error):
        advice = "use smaller batches (--set data.batch_size=32) or a smaller network"
        return Failure(kind, f"{shortage}; {advice}", FAILED)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return Failure(kind, f"{where}{error.strerror}", MISTAKE)
    return Failure(
        kind,
        f"internal error of descend: {kind}: {message}\n"
        "Please report it with the output of the same command with --traceback.",
        BUG,
    )


def _print_failure(failure: Failure) -> None:
    """Print the message on standard error."""
    stopped = failure.kind == "Interrupted"
    label = "Stopped" if stopped else "Error"
    message = abridged(failure.message.removeprefix("stopped ") if stopped else failure.message)
    stream = LastingStream(sys.stderr)
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        label = typer.style(label, fg="yellow" if stopped else "red", bold=True)
    stream.write(f"{label}{' ' if stopped else ': '}{message}\n")
    stream.flush()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning on one line, without the location in the code."""
    if issubclass(category, UserWarning):
        LastingStream(sys.stderr).write(f"Note: {abridged(str(message))}\n")
