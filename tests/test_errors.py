"""Types and messages of exceptions."""

from __future__ import annotations

import copy
import pickle

import pytest

from descend import errors
from descend.errors import (
    DataError,
    DescendError,
    DivergedError,
    Interrupted,
    MissingExtraError,
    Problem,
    RecipeError,
    RunError,
    TrainingError,
    UserError,
    did_you_mean,
    message_of,
    require,
)
from descend.installation import install_command

EVERY = [
    error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, DescendError)
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_every_error_is_public_explained_and_has_a_status(error):
    assert error.__name__ in errors.__all__
    assert error.__doc__
    mistake, failure = issubclass(error, UserError), issubclass(error, TrainingError)
    expected = 2 if mistake else 3 if failure else 130 if error is Interrupted else 1
    assert error.exit_status == expected


def test_they_derive_from_builtin_exceptions():
    assert issubclass(UserError, ValueError)
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(TrainingError, RuntimeError)
    assert issubclass(DivergedError, TrainingError)
    assert {DataError, RunError, RecipeError} < set(EVERY)
    assert not issubclass(Interrupted, UserError)


class TestProblem:
    def test_all_of_it(self):
        problem = Problem("stop", "patience", "expected a number", "try 3", "r.toml")
        assert str(problem) == "r.toml: [stop] patience: expected a number; try 3"

    def test_missing_fields_are_omitted(self):
        assert str(Problem("stop", None, "no such section")) == "[stop]: no such section"


class TestRecipeError:
    def test_one(self):
        assert str(RecipeError([Problem("a", "b", "c")])) == "The recipe has a problem:\n  [a] b: c"

    def test_several(self):
        problems = [Problem("a", "b", "c"), Problem("d", None, "e")]
        error = RecipeError(problems)
        assert str(error) == "The recipe has 2 problems:\n  [a] b: c\n  [d]: e"
        assert error.problems == tuple(problems)

    @pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
    def test_it_can_be_copied_and_pickled(self, copied):
        error = RecipeError([Problem("a", "b", "c", "d", "e")])
        assert (str(copied(error)), copied(error).problems) == (str(error), error.problems)


class TestDidYouMean:
    @pytest.mark.parametrize(
        ("word", "names", "expected"),
        [
            ("adm", ["adam", "sgd"], "did you mean 'adam'?"),
            ("ADAM", ["adam", "sgd"], "did you mean 'adam'?"),
            ("relu6", ["ReLU"], "did you mean 'ReLU'?"),
            ("zzz", ["sgd", "adam", "sgd"], "one of: adam, sgd"),
            ("", ["b", "a"], "one of: a, b"),
            ("x", [], ""),
        ],
    )
    def test_nearest_or_all(self, word, names, expected):
        assert did_you_mean(word, names) == expected


class TestRequire:
    def test_installed_module(self):
        assert require("math", "none", "counting") is __import__("math")

    def test_a_missing_module_names_package_and_extra(self):
        with pytest.raises(MissingExtraError) as caught:
            require("no_such_package.inner", "images", "showing images")
        message = str(caught.value)
        assert message.startswith("showing images needs the package 'no_such_package'")
        assert message.endswith(f"install it with: {install_command('images')}")


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ValueError("too small"), "too small"),
        (KeyError("width"), "KeyError: 'width'"),
        (AssertionError(), "AssertionError"),
        (RuntimeError(), "RuntimeError"),
        (AttributeError("no 'x'"), "AttributeError: no 'x'"),
    ],
)
def test_messages_of_any_exception(cause, expected):
    assert message_of(cause) == expected
