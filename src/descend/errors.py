"""Exceptions, with the same messages in Python and on the command line.

Invalid input raises a :class:`UserError`: the command line prints its message without a
traceback and exits with status 2. A failed training (for example one that diverged) raises a
:class:`TrainingError`, status 3. A message tells where the problem is, what was expected, what was found, and how to
fix it.
"""

from __future__ import annotations

import difflib
import importlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from descend.installation import install_command

__all__ = [
    "CheckpointError",
    "DataError",
    "DescendError",
    "DivergedError",
    "Interrupted",
    "InvalidRowsError",
    "MissingExtraError",
    "ObserverError",
    "Problem",
    "RecipeError",
    "RunError",
    "TrainingError",
    "UserError",
    "abridged",
    "closest",
    "closest_file",
    "did_you_mean",
    "message_of",
    "require",
    "together",
    "unparsed_option",
]


class DescendError(Exception):
    """Base class of all exceptions that descend raises; ``exit_status`` is the exit status of the command line.

    A message has at most one screen, see :func:`abridged`.
    """

    exit_status = 1

    def __init__(self, *arguments: object) -> None:
        if arguments and isinstance(arguments[0], str):
            arguments = (abridged(arguments[0]), *arguments[1:])
        super().__init__(*arguments)


class UserError(DescendError, ValueError):
    """Input that cannot be used. Nothing was written or lost."""

    exit_status = 2


class DataError(UserError):
    """The data cannot be read, or cannot be used for training as they are."""


class InvalidRowsError(DataError):
    """Some rows contain values that cannot be used, in columns that otherwise can.

    Args:
        message: the columns, rows and values.
        rows: the numbers of these rows, from 0.
    """

    def __init__(self, message: str, rows: Iterable[int]) -> None:
        super().__init__(message)
        self.rows = frozenset(rows)

    def __reduce__(self) -> tuple[type[InvalidRowsError], tuple[str, frozenset[int]]]:
        return InvalidRowsError, (str(self), self.rows)


class RunError(UserError):
    """A run folder is missing or damaged, is not a run folder, or does not fit the request."""


class CheckpointError(UserError):
    """A checkpoint could not be written or read. Earlier checkpoints are untouched."""


class MissingExtraError(UserError, ImportError):
    """An optional dependency is not installed."""


class TrainingError(DescendError, RuntimeError):
    """Training failed. The message ends with a remedy."""

    exit_status = 3


class DivergedError(TrainingError):
    """A NaN or an infinity occurred in training. The message names the first affected module, step and rows."""


class Interrupted(DescendError):
    """Training was stopped (Ctrl-C, SIGTERM) after saving a checkpoint.

    Args:
        message: what was stopped, and how to continue.
        run: the run with its best weights so far, which predicts, exports and can be saved; None before the end of the
            first epoch, and for several networks.
        folder: the run folder, from which training continues; None if nothing was written.
    """

    exit_status = 130

    def __init__(self, message: str = "", *, run: Any = None, folder: Path | None = None) -> None:
        super().__init__(message)
        self.run, self.folder = run, folder


class ObserverError(TrainingError):
    """An observer raised an exception, which is the ``__cause__``. Training was stopped, and can be resumed."""


@dataclass(frozen=True)
class Problem:
    """One problem of a recipe: where it is, what was expected and found, and how to fix it.

    Args:
        section: the section of the recipe; empty if the problem is that none is named.
        key: the key in the section, or None.
        message: what is wrong.
        hint: how to fix it.
        source: where the recipe comes from, such as a file.

    >>> print(Problem("optimizer", "lrr", "unknown key", hint="did you mean 'lr'?"))
    [optimizer] lrr: unknown key; did you mean 'lr'?
    """

    section: str
    key: str | None
    message: str
    hint: str = ""
    source: str = ""

    def of(self, source: str) -> Problem:
        """Return the problem with a source prepended."""
        return replace(self, source=f"{source}: {self.source}" if self.source else source)

    def __str__(self) -> str:
        where = " ".join(part for part in (f"[{self.section}]" if self.section else "", self.key) if part)
        where = ": ".join(part for part in (self.source, where) if part)
        return f"{where}: {self.message}" + (f"; {self.hint}" if self.hint else "")


def unparsed_option(name: str, text: str, message: str) -> Problem:
    """Return the problem of an option of the command line that cannot be parsed."""
    return Problem("", None, message, source=f"{name} {text if len(text) <= 60 else text[:57] + '...'}")


class RecipeError(UserError):
    """All problems of a recipe at once.

    Args:
        problems: the problems.
        of_what: what has the problems, if it is not a recipe.
    """

    def __init__(self, problems: Sequence[Problem], of_what: str = "recipe") -> None:
        self.problems, self.of_what = tuple(problems), of_what
        count = len(self.problems)
        head = f"The {self.of_what} has {'a problem' if count == 1 else f'{count} problems'}:"
        seen: set[str] = set()
        lines = []
        for problem in self.problems:
            repeated = len(problem.hint) > _COLUMNS and problem.hint in seen
            seen.add(problem.hint)
            lines.append(str(replace(problem, hint="") if repeated else problem))
        super().__init__(together(head, lines))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[tuple[Problem, ...], str]]:
        return RecipeError, (self.problems, self.of_what)


_LINES, _COLUMNS = 36, 80  # of a message on a screen of 40 lines
_LONG_WORD, _LONG_LINE = 100, 400


def together(head: str, problems: Sequence[str], limit: int | None = None) -> str:
    """Return several problems as one message, with as many of them as fit on a screen and the number of the others.

    Args:
        head: the first line.
        problems: the problems.
        limit: the largest number of problems. Default None: as many as fit.

    >>> print(together("The data have 3 problems:", ["a", "b", "c"], limit=2))
    The data have 3 problems:
      a
      b
      and 1 more
    """
    lines, height = [head], _height(head) + 1
    for count, problem in enumerate(problems):
        text = _short_lines(problem) if _height(problem) > _LINES // 2 else problem
        height += _height(f"  {text}")
        if lines[1:] and (height > _LINES or count == limit):
            return "\n  ".join([*lines, f"and {len(problems) - count} more"])
        lines.append(text)
    return "\n  ".join(lines)


def abridged(message: str) -> str:
    """Return a message that fits on a screen of 40 lines of 80 characters; a shorter one is unchanged.

    The middle of long words and lines is left out first, and then the last lines.

    >>> abridged("column '" + "b" * 5000 + "' is empty")
    "column 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb...bbbbbbbbbbbbbbbbbbb' is empty"
    >>> len(abridged("line\\n" * 100).splitlines())
    36
    """
    if _height(message) <= _LINES:
        return message
    lines = _short_lines(message).splitlines()
    if sum(map(_height, lines)) <= _LINES:
        return "\n".join(lines)
    shown: list[str] = []
    left = _LINES - 1
    for line in lines:
        left -= _height(line)
        if left < 0:
            break
        shown.append(line)
    return "\n".join([*shown, f"... and {len(lines) - len(shown)} more lines"])


def _height(message: str) -> int:
    """Return the number of lines on a screen."""
    return sum(max(1, -(-len(line) // _COLUMNS)) for line in message.splitlines() or [""])


def _short_lines(message: str) -> str:
    """Leave out the middle of long words and lines."""
    words = re.sub(rf"\S{{{_LONG_WORD},}}", lambda word: f"{word[0][:40]}...{word[0][-20:]}", message)
    return "\n".join(
        line if len(line) <= _LONG_LINE else f"{line[: _LONG_LINE - 100]} ... {line[-95:]}"
        for line in words.splitlines()
    )


def closest(word: str, names: Iterable[str]) -> str | None:
    """Return the most similar of some names, or None if none is similar; see :func:`did_you_mean`.

    >>> closest("adm", ["sgd", "adam"]), closest("zzz", ["sgd", "adam"])
    ('adam', None)
    """
    ranked = sorted((*_difference(word.lower(), name.lower()), name) for name in set(names))
    return ranked[0][-1] if ranked and ranked[0][0] <= max(1, len(word) // 3) else None


def closest_file(name: str, files: Iterable[str]) -> str | None:
    """Return the file or folder with the most similar name, or None; suffixes count only if the names are equal.

    >>> closest_file("house.csv", ["houses.csv", "data"]), closest_file("mine.toml", ["bare.toml"])
    ('houses.csv', None)
    """
    by_stem: dict[str, str] = {}
    for each in sorted(files, key=lambda each: Path(each).suffix != Path(name).suffix):
        by_stem.setdefault(Path(each).stem, each)
    close = closest(Path(name).stem, by_stem)
    return None if close is None else by_stem[close]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return the most similar valid name as a question, or the names if none is similar, at most forty of them.

    A name is similar if it starts with the word, has it as one of its parts (``epochs`` in ``max_epochs``), or differs
    in one of three letters: letters that are inserted, deleted, replaced or exchanged with their neighbor count.

    >>> did_you_mean("adm", ["sgd", "adam", "rmsprop"]), did_you_mean("epochs", ["max_epochs", "patience"])
    ("did you mean 'adam'?", "did you mean 'max_epochs'?")
    >>> did_you_mean("zzz", ["sgd", "adam"])
    'one of: adam, sgd'
    """
    known = sorted(set(names))
    close = closest(word, known)
    if close is not None:
        return f"did you mean '{close}'?"
    shown = [name if len(name) <= 60 else name[:57] + "..." for name in known[:_NAMES_SHOWN]]
    more = f" and {len(known) - _NAMES_SHOWN} more" if len(known) > _NAMES_SHOWN else ""
    return "one of: " + ", ".join(shown) + more if known else ""


_NAMES_SHOWN = 40


def _difference(word: str, name: str) -> tuple[float, float]:
    """Return the number of edits, and for equal numbers the share of letters that do not match in order."""
    distance = _distance(word, name)
    return distance, 1.0 - difflib.SequenceMatcher(None, word, name).ratio() if distance < math.inf else 1.0


def _distance(word: str, name: str) -> float:
    """Return the number of edits between two words, and 0.5 if one is a part of the other."""
    if word == name:
        return 0.0
    if len(word) >= 3 and (name.startswith(word) or word in re.split(r"[^a-z0-9]+", name)):
        return 0.5
    if len(word) < 3 or abs(len(word) - len(name)) > len(word) // 3 + 1:
        return math.inf
    # The optimal string alignment distance, one row of the table per letter of the word.
    previous: list[int] = []
    row = list(range(len(name) + 1))
    for i, letter in enumerate(word, start=1):
        before, previous, row = previous, row, [i]
        for j, other in enumerate(name, start=1):
            cost = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == name[j - 2] and word[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
    return float(row[-1])


def message_of(cause: Exception) -> str:
    """Return the message of any exception, preceded by its type if the message alone is not informative.

    The calls in C++ that PyTorch appends to some messages are left out.

    >>> message_of(ValueError("too small")), message_of(KeyError("width"))
    ('too small', "KeyError: 'width'")
    """
    message = str(cause).partition("\nException raised from ")[0]  # PyTorch appends the calls in C++
    informative = bool(message) and isinstance(cause, (ValueError, TypeError, RuntimeError))
    return message if informative else f"{type(cause).__name__}: {message}".removesuffix(": ")


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: name of the module.
        extra: the extra of descend that installs it.
        purpose: what it is needed for, as the subject of the message.

    Raises:
        MissingExtraError: it is not installed; the message names the command that installs it.

    >>> require("json", "none", "reading JSON").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise MissingExtraError(
            f"{purpose} needs the package '{module.split('.')[0]}', which is not installed; "
            f"install it with: {install_command(extra)}"
        ) from cause
