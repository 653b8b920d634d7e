"""The program: its commands, and how an error becomes words and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TextIO

import typer
from typer.main import get_command

from descend._version import __version__
from descend.cli import check, compare, gallery, methods, recipe, search, train, use
from descend.cli.output import Lasting, write_json
from descend.errors import DescendError

__all__ = ["app", "main"]

BUG, MISTAKE, FAILED, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    add_completion=True,
    rich_markup_mode=None,  # plain help costs no import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n"
    "  descend train digits                     a first network, on scans of handwritten digits\n"
    "  descend train houses.csv --target price  a network for your own table\n"
    "  descend recipe --explain houses.csv --target price\n"
    "                                           every choice that would be made, with its reason\n"
    "\nExit status: 0 done, 2 a mistake in what was asked, 3 training failed, "
    "130 interrupted with a checkpoint saved.",
)


def _version(wanted: bool) -> None:
    if wanted:
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
            help="Show the whole traceback of an error; may stand anywhere. The same: DESCEND_TRACEBACK=1.",
        ),
    ] = False,
) -> None:
    """Train neural networks on purpose: every choice explicit, swappable, fast, resumable to the bit."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_COMMANDS: list[tuple[Callable[..., None], str, str]] = [
    (train.train, train.EXAMPLES, "Train a network on data."),
    (compare.compare, compare.EXAMPLES, "Compare choices fairly."),
    (search.search, search.EXAMPLES, "Search for the best recipe over a space of them."),
    (use.predict, use.PREDICT_EXAMPLES, "Predict new rows with a trained network."),
    (use.evaluate, use.EVALUATE_EXAMPLES, "Measure a trained network on data."),
    (use.report, use.REPORT_EXAMPLES, "Write the report of a run anew."),
    (use.export, use.EXPORT_EXAMPLES, "Write a trained network for use elsewhere."),
    (recipe.recipe, recipe.EXAMPLES, "Print, check or explain a recipe."),
    (methods.methods, methods.EXAMPLES, "List the methods, or explain one."),
    (gallery.gallery, gallery.EXAMPLES, "Measure the lecture's figures anew."),
]
for _command, _examples, _short in _COMMANDS:
    app.command(epilog=_examples, short_help=_short)(_command)
app.add_typer(check.app, name="check", short_help="Check an objective by its derivatives.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: what stands behind ``descend`` on the command line; None takes it from the process.

    Returns:
        The exit status: 0 done, 1 an error of descend itself, 2 the user's mistake, 3 training failed,
        130 interrupted.

    >>> main(["--version"])
    descend ...
    0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    wordy = "--traceback" in given or os.environ.get("DESCEND_TRACEBACK", "") not in ("", "0")
    given = [word for word in given if word != "--traceback"]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = _run(given)
        if status == INTERRUPTED:
            failure = Failure("Interrupted", "stopped before anything was saved", INTERRUPTED)
        else:
            return status if isinstance(status, int) else 0
    except Exception as error:
        if wordy:
            traceback.print_exc()
        failure = _failure(error)
    _tell(failure)
    if "--json" in given:
        write_json({"error": {"kind": failure.kind, "message": failure.message}})
    return failure.status


def _run(given: list[str]) -> object:
    program, name = get_command(app), "descend"
    # A command is run by itself: reading the program's own options first would cost its help an import.
    commands = getattr(program, "commands", {})
    if given and given[0] in commands:
        program, name, given = commands[given[0]], f"descend {given[0]}", given[1:]
    return program.main(given, prog_name=name, standalone_mode=False)


@dataclass(frozen=True)
class Failure:
    """What went wrong: its kind (the exception's name), in words, and the exit status."""

    kind: str
    message: str
    status: int


def _failure(error: Exception) -> Failure:
    kind, message = type(error).__name__, str(error)
    if isinstance(error, DescendError):
        return Failure(kind, message, error.exit_status)
    if hasattr(error, "format_message"):  # a mistake in the options, found by typer
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "descend"
        found = error.format_message().replace("Value error, ", "").rstrip(".")
        stop = "" if found.endswith("?") else "."
        return Failure("UsageError", f"{found}{stop} See: {command} --help", MISTAKE)
    if kind == "OutOfMemoryError" or isinstance(error, MemoryError):
        first = message.partition("\n")[0]
        advice = (
            "The memory is full; smaller batches (--set data.batch_size=32) or a smaller network need less."
        )
        return Failure(kind, f"{advice} {first}".rstrip(), FAILED)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return Failure(kind, f"{where}{error.strerror}", MISTAKE)
    return Failure(
        kind,
        f"this is a fault of descend itself, not yours: {kind}: {message}\n"
        "Please report it, with what the same command prints when you add --traceback.",
        BUG,
    )


def _tell(failure: Failure) -> None:
    """The one message on standard error."""
    stopped = failure.status == INTERRUPTED
    label = "Stopped" if stopped else "Error"
    message = failure.message.removeprefix("stopped ") if stopped else failure.message
    stream = Lasting(sys.stderr)
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
    """A warning in one line for people, without the place in the code that gave it."""
    if issubclass(category, UserWarning):
        Lasting(sys.stderr).write(f"Note: {message}\n")
