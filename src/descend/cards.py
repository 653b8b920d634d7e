"""The card of a method: what ``descend methods`` shows about it, kept beside its code.

A function or class becomes a documented method by one decorator, in its own file; the catalogue then
names it in one line. Summary and arguments are read from the docstring and the signature, so that
nothing is said twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["LECTURE", "Card", "card", "method", "place_in_lecture"]

T = TypeVar("T", bound=Callable[..., object])

LECTURE: Mapping[str, str] = {
    "A1": "Supervised learning as data-fitting",
    "A2": "Computing derivatives: A simple example",
    "A3": "Computing derivatives: A simple example",
    "A4": "Build an MLP",
    "A5": "Computing derivatives",
    "A6": "Basics of numerical optimization",
    "B1": "Three design choices: Which activation at the hidden nodes?",
    "B2": "Three design choices: Sigmoid and hypertangent",
    "B3": "Three design choices: Sigmoid and hypertangent",
    "B4": "Three design choices: ReLU and friends",
    "B5": "Three design choices: ReLU and friends",
    "B6": "Three design choices: Set up the problem",
    "B7": "Three design choices: Exponential Linear Units (ELU)",
    "B8": "Three design choices: Which activation at the hidden nodes?",
    "B9": "Three design choices: Which activation at output node?",
    "B10": "Three design choices: Which activation at output node?",
    "C": "Three design choices: Which loss?",
    "D1": "Training algorithms, which method: Step size (learning rate) for SGD",
    "D2": "Basics of numerical optimization",
    "D3": "Training algorithms, which method: Stochastic gradient descent (SGD); What's an epoch?",
    "D4": "Training algorithms, which method: Heavy ball method",
    "D5": "Training algorithms, which method: Nesterov's accelerated gradient methods",
    "D6": "Training algorithms, which method: Adagrad, RMSprop, Adam",
    "D15": "Regularization: Why Dropout?",
    "D16": "Training algorithms, which method: Step size (learning rate, or LR) for SGD",
    "D17": "Training algorithms, which method: Diagnosis of LR",
    "D": "Training algorithms, which method: Stochastic 2nd order methods",
    "E5": "Training algorithms, where to start: Where to initialize? the general picture",
    "E6": "Training algorithms, where to start",
    "E7": "Training algorithms, when to stop: When to stop in training DNNs?; Regularization: Early stopping",
    "E": "Training algorithms, where to start: Where to initialize for DNNs?",
    "F1": "Data normalization: Fix the scaling: first idea",
    "F2": "Data normalization: Fix the scaling: second idea",
    "F3": "Data normalization: Batch normalization",
    "F4": "Data normalization: Zoo of normalization",
    "F": "Data normalization: Why scaling matters?",
    "G9": "Regularization: Dropout",
    "G10": "Regularization: Implicit regularization",
    "G": "Regularization to avoid overfitting",
    "H1": "Hyperparameter search, data augmentation: Hyperparameter search",
    "H2": "Hyperparameter search, data augmentation: Data augmentation",
    "I": "Training algorithms, which method: Diagnosis of LR",
    "J": "Its figures",
}
"""Where the rows of the list of methods stand in the lecture: part of the outline and title of the slide.

A letter alone stands for the rows of that letter that are not named.
"""


def place_in_lecture(row: str) -> str:
    """Where the method of a row, or of several separated by commas, stands in the lecture.

    >>> place_in_lecture("D4"), place_in_lecture("C3, C4")
    ('Training algorithms, which method: Heavy ball method', 'Three design choices: Which loss?')
    """
    rows = [each.strip() for each in row.split(",") if each.strip()]
    places = [LECTURE.get(each) or LECTURE.get(each[0], "") for each in rows]
    return "; ".join(dict.fromkeys(place for place in places if place))


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

    @property
    def lecture(self) -> str:
        """Where it stands in the lecture."""
        return place_in_lecture(self.row)


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
        subject.__card__ = Card(row, reference, formula, note, summary)  # type: ignore[attr-defined]  # a card on anything
        return subject

    return give


def card(subject: object) -> Card | None:
    """The card of a method, or None where it has none (a class found by its import path, say)."""
    found = getattr(subject, "__card__", None)
    return found if isinstance(found, Card) else None
