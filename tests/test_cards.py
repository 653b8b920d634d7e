"""Cards of methods."""

from __future__ import annotations

import pytest

from descend.cards import Card, card, method


@method(row="D6", reference="a paper", formula="x - g", note="take care")
def step(x):
    """Goes down a little. And then
    further.

    More words.
    """
    return x - 1


def test_the_decorated_function_is_itself():
    assert step(3) == 2
    assert step.__name__ == "step"


def test_its_card():
    assert card(step) == Card("D6", "a paper", "x - g", "take care", "Goes down a little.")


def test_a_class_has_one_too():
    @method(row="C1", reference="")
    class Loss:
        """Counts errors"""

    assert card(Loss) == Card("C1", "", "", "", "Counts errors.")
    assert Loss.__name__ == "Loss"


def test_a_summary_of_two_lines_is_one():
    @method(row="A1", reference="")
    def walk():
        """Walks on, over
        the hill.
        """

    assert card(walk).summary == "Walks on, over the hill."


def test_without_a_docstring_there_is_no_summary():
    @method(row="A1", reference="")
    def quiet(): ...

    assert card(quiet).summary == ""


@pytest.mark.parametrize("subject", [len, 3, dict, lambda: None, None])
def test_what_has_no_card(subject):
    assert card(subject) is None


def test_what_only_looks_like_a_card_is_none():
    class Foreign:
        __card__ = "ace of spades"

    assert card(Foreign) is None
