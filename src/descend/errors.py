"""Typed exceptions whose words are the same in Python and on the command line.

A mistake of the user is a :class:`UserError`: the command line prints its message, without a
traceback, and exits with status 2. A training that failed (it diverged, say) is a
:class:`TrainingError`, status 3. Both carry advice in their message: where the problem is, what was
expected, what was found, and what to do about it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

__all__ = [
    "CheckpointError",
    "DataError",
    "DescendError",
    "DivergedError",
    "Interrupted",
    "MissingExtraError",
    "Problem",
    "RecipeError",
    "RunError",
    "TrainingError",
    "UserError",
    "did_you_mean",
    "message_of",
    "require",
]


class DescendError(Exception):
    """Base of every exception that descend raises on purpose; ``exit_status`` is the command line's."""

    exit_status = 1


class UserError(DescendError, ValueError):
    """Something the user gave cannot be used. Nothing was written or lost."""

    exit_status = 2


class DataError(UserError):
    """The data cannot be read, or cannot be learned from as it is."""


class RunError(UserError):
    """A run folder is missing, damaged, foreign or does not fit the request."""


class CheckpointError(UserError):
    """A checkpoint could not be written or read. Earlier checkpoints are untouched."""


class MissingExtraError(UserError, ImportError):
    """An optional part is not installed."""


class TrainingError(DescendError, RuntimeError):
    """Training itself failed. The message ends with advice."""

    exit_status = 3


class DivergedError(TrainingError):
    """A NaN or an infinity appeared. Names the first bad module, step and rows."""


class Interrupted(DescendError):
    """Training was asked to stop (Ctrl-C, SIGTERM) and saved a checkpoint first."""

    exit_status = 130


@dataclass(frozen=True)
class Problem:
    """One fault of a recipe: where it is, what was expected and found, and what to do.

    >>> print(Problem("optimizer", "lrr", "unknown key", hint="did you mean 'lr'?"))
    [optimizer] lrr: unknown key; did you mean 'lr'?
    """

    section: str
    key: str | None
    message: str
    hint: str = ""
    source: str = ""

    def of(self, source: str) -> Problem:
        """The same, with where the recipe came from in front."""
        return replace(self, source=f"{source}: {self.source}" if self.source else source)

    def __str__(self) -> str:
        where = f"[{self.section}]" + (f" {self.key}" if self.key else "")
        if self.source:
            where = f"{self.source}: {where}"
        return f"{where}: {self.message}" + (f"; {self.hint}" if self.hint else "")


class RecipeError(UserError):
    """Every problem of a recipe at once, in ``problems``; or of what else can be wrong in its sections and keys, by name."""

    def __init__(self, problems: Sequence[Problem], of_what: str = "recipe") -> None:
        self.problems, self.of_what = tuple(problems), of_what
        count = len(self.problems)
        head = f"The {self.of_what} has {'a problem' if count == 1 else f'{count} problems'}:"
        super().__init__("\n  ".join([head, *map(str, self.problems)]))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[tuple[Problem, ...], str]]:
        return RecipeError, (self.problems, self.of_what)


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """The nearest valid name as a question, or the list of names when none is near.

    >>> did_you_mean("adm", ["sgd", "adam", "rmsprop"])
    "did you mean 'adam'?"
    >>> did_you_mean("zzz", ["sgd", "adam"])
    'one of: adam, sgd'
    """
    known = sorted(set(names))
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.6)
    if near:
        return f"did you mean '{folded[near[0]]}'?"
    return "one of: " + ", ".join(known) if known else ""


def message_of(cause: Exception) -> str:
    """What an exception of anyone's code says; its type too where the message alone says little.

    >>> message_of(ValueError("too small")), message_of(KeyError("width"))
    ('too small', "KeyError: 'width'")
    """
    text = str(cause)
    telling = bool(text) and isinstance(cause, (ValueError, TypeError, RuntimeError))
    return text if telling else f"{type(cause).__name__}: {text}".removesuffix(": ")


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    >>> require("json", "none", "reading JSON").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise MissingExtraError(
            f"{purpose} needs the package '{module.split('.')[0]}', which is not installed; "
            f"install it with: pip install 'descend[{extra}]'"
        ) from cause
