import polars as pl
import pytest

from descend.data.large_integers import refuse_too_close, too_close
from descend.errors import DataError


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(2**60, 2**60 + 40, True), (0, 2**60, False), (5, 5000, False), (2**2000, 2**2000 + 1, False)],
)
def test_integers_are_too_close_if_doubles_merge_them(low, high, expected):
    assert too_close(low, high) == expected


@pytest.mark.parametrize(
    "values",
    [
        pl.Series("a", [2**60, 2**60 + 1], dtype=pl.Int128),
        pl.Series("a", [str(2**60), str(2**60 + 1)]),
        pl.Series("a", [str(2**130), str(2**130 + 1)]),
        pl.Series("a", [f"{2**60:,}", f"{2**60 + 1:,}"]),
    ],
)
def test_integers_that_would_become_equal_are_refused(values):
    with pytest.raises(DataError, match=r"column 'a': .* would be equal.*'categorical'"):
        refuse_too_close(values)


def test_other_numbers_are_accepted():
    refuse_too_close(pl.Series("a", [1.0, 2.0]))
    refuse_too_close(pl.Series("a", ["1", "x"]))
