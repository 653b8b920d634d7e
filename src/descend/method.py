"""The card of a method: what ``descend methods`` shows about it, kept beside its code.

A function or class becomes a documented method by one decorator, in its own file; the catalogue then
names it in one line. Summary and arguments are read from the docstring and the signature, so that
nothing is said twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Card", "card", "method"]

T = TypeVar("T", bound=Callable[..., object])


@dataclass(frozen=True)
class Card:
    """What is known of a method beside its signature.

    Args:
        row: its id in the lecture's list of methods, such as ``"D6"``.
        reference: where it comes from: paper and year, or the documentation of PyTorch.
        formula: its mathematics on one line, in plain text.
        note: where the lecture's form and ours differ, or another caution.
        summary: the first sentence of the docstring.
    """

    row: str
    reference: str
    formula: str = ""
    note: str = ""
    summary: str = ""


def method(*, row: str, reference: str, formula: str = "", note: str = "") -> Callable[[T], T]:
    """Give a function or class its :class:`Card`.

    >>> @method(row="B2", reference="folklore", formula="max(0, x)")
    ... def relu(x):
    ...     "Rectifier. More words."
    ...     return max(0, x)
    >>> card(relu).summary, card(relu).row
    ('Rectifier.', 'B2')
    """

    def give(subject: T) -> T:
        doc = inspect.getdoc(subject) or ""
        first = " ".join(doc.split("\n\n", 1)[0].split())
        summary = first.split(". ", 1)[0].rstrip(".") + "." if first else ""
        subject.__card__ = Card(row, reference, formula, note, summary)  # type: ignore[attr-defined]
        return subject

    return give


def card(subject: object) -> Card | None:
    """The card of a method, or None where it has none (a class found by its import path, say)."""
    found = getattr(subject, "__card__", None)
    return found if isinstance(found, Card) else None
