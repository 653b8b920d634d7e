import pytest

from descend.data.titles import unique_names
from descend.errors import DataError


def test_spaces_around_names_do_not_count():
    assert unique_names([" a", "b\u00a0", "c d"], "f") == ["a", "b", "c d"]
    with pytest.raises(DataError, match=r"f: column names must be unique, but 'a' occurs"):
        unique_names(["a", "a "], "f")
