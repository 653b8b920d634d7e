"""The card of a method: what ``descend methods`` shows about it, declared next to its code.

A decorator makes a function or class a documented method, in its own file; the catalogue then names it in one line. The
summary and the arguments are read from the docstring and the signature, so that nothing is written twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["TOPICS", "Card", "card", "method", "topic_of"]

T = TypeVar("T", bound=Callable[..., object])

TOPICS: Mapping[str, str] = {
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
    "K1": "Optimizers: orthogonalized momentum",
    "K2": "Optimizers: variants of Adam",
    "K3": "Optimizers without a schedule or a learning rate",
    "K4": "Optimizers that wrap another one",
    "K5": "Embeddings of numbers",
    "K6": "Robust scaling",
    "K7": "Encodings of categories and scales of targets",
    "K8": "Schedules, activations and layers of networks for tables",
    "K10": "Calibration of probabilities",
    "K11": "Selection of ensembles",
    "K12": "Losses of counts, quantiles and distributions; several labels",
    "K13": "Columns of text",
    "K14": "Dates and times",
}
"""The topics of the list of methods by row id: part of the outline and title.

A single letter stands for the rows of that letter that are not listed.
"""


def topic_of(row: str) -> str:
    """Return the topic of a row id, or of several separated by commas.

    >>> topic_of("D4"), topic_of("C3, C4")
    ('Training algorithms, which method: Heavy ball method', 'Three design choices: Which loss?')
    """
    rows = [each.strip() for each in row.split(",") if each.strip()]
    topics = [TOPICS.get(each) or TOPICS.get(each[0], "") for each in rows]
    return "; ".join(dict.fromkeys(topic for topic in topics if topic))


@dataclass(frozen=True)
class Card:
    """What is known about a method in addition to its signature.

    Args:
        row: its id in the list of methods, such as ``"D6"``.
        reference: its source: paper and year, or the documentation of PyTorch.
        formula: its mathematics on one line, in plain text.
        note: where the implementation differs from common forms, or another caution.
        summary: the first sentence of the docstring.
    """

    row: str
    reference: str
    formula: str = ""
    note: str = ""
    summary: str = ""

    @property
    def topic(self) -> str:
        """The topic of its row."""
        return topic_of(self.row)


def method(*, row: str, reference: str, formula: str = "", note: str = "") -> Callable[[T], T]:
    """Attach a :class:`Card` to a function or class.

    >>> @method(row="B2", reference="folklore", formula="max(0, x)")
    ... def relu(x):
    ...     "Rectifier. More text."
    ...     return max(0, x)
    >>> card(relu).summary, card(relu).row
    ('Rectifier.', 'B2')
    """

    def attach(subject: T) -> T:
        doc = inspect.getdoc(subject) or ""
        first = " ".join(doc.split("\n\n", 1)[0].split())
        summary = first.split(". ", 1)[0].rstrip(".") + "." if first else ""
        subject.__card__ = Card(row, reference, formula, note, summary)  # type: ignore[attr-defined]  # a card on anything
        return subject

    return attach


def card(subject: object) -> Card | None:
    """Return the card of a method, or None where it has none, such as a class named by its import path."""
    attached = getattr(subject, "__card__", None)
    return attached if isinstance(attached, Card) else None
