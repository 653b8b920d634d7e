import pytest

from descend.errors import UserError
from descend.nn.choice import choose, settings_of


def first(*, size: int = 1) -> tuple[str, int]:
    return "first", size


TABLE = {"first": first, "second": lambda: "second"}


def test_the_three_forms():
    assert choose(TABLE, "first", "thing") == (first, {})
    assert choose(TABLE, {"name": "first", "size": 3}, "thing") == (first, {"size": 3})
    assert choose(TABLE, first, "thing") == (first, {})


def test_a_choice_is_not_changed():
    choice = {"name": "first", "size": 3}
    choose(TABLE, choice, "thing")
    assert choice == {"name": "first", "size": 3}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("frist", "unknown thing 'frist'; did you mean 'first'"),
        ({"name": "first", "sise": 3}, "has no setting 'sise'; did you mean 'size'"),
        ({"name": "second", "size": 3}, "has no setting 'size'; it has no settings"),
        ({"size": 3}, "the key 'name'"),
        (7, "got 7"),
    ],
)
def test_a_wrong_choice_is_rejected_with_the_expectation(choice, message):
    with pytest.raises(UserError, match=message):
        choose(TABLE, choice, "thing")


def test_settings_are_the_parameters_with_a_default():
    assert settings_of(lambda features, *, dims, eps=1.0, momentum=0.1: None) == ("eps", "momentum")
