import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.category_forms import aliases, key


@pytest.mark.parametrize(
    ("forms", "same"),
    [
        (("True", "TRUE", "true"), True),
        (("1", "1.0"), True),
        (("-3", "-3.0"), True),
        (("01", "1"), False),
        (("1.10", "1.1"), False),
        (("yes", "Yes"), False),
        (("0.5", "0.50"), False),
    ],
)
def test_forms_of_a_value_have_one_key(forms, same):
    assert (len({key(form) for form in forms}) == 1) == same


@given(st.lists(st.sampled_from(["true", "TRUE", "1", "0", "1.0", "False", "x", "01", "-2"]), unique_by=key))
def test_no_alias_is_a_category_and_each_means_one(categories):
    found = aliases(categories)
    assert not set(found) & set(categories)
    assert set(found.values()) <= set(categories)


def test_a_boolean_is_one_or_zero_unless_there_are_categories_for_both():
    assert aliases(["True", "x"])["1"] == "True"
    assert aliases(["1", "0"])["true"] == "1"
    assert "1" not in aliases(["True", "1"])
    assert aliases(["True", "1"])["true"] == "True"


def test_zero_has_no_sign():
    assert key("-0") == key("-0.0") == key("0.0") == "0"
    assert aliases(["0", "2"])["-0.0"] == "0"
