import polars as pl
import pytest

from descend.data.columns import infer
from descend.data.settings import DataSettings
from descend.data.unknown_units import unread_numbers_note


@pytest.mark.parametrize(
    ("cells", "example", "remedy"),
    [
        ([f"{at} kg" for at in range(1, 9)], "1 kg", "without 'kg'"),
        ([f"{at}.5m²" for at in range(1, 9)], "1.5m²", "without 'm²'"),
        ([f"{at}{'kM'[at % 2]}" for at in range(1, 9)], "1M", "without 'M', 'k'"),
        ([hex(at) for at in range(1, 9)], "0x1", "in decimal digits"),
        ([f"{at:_}" for at in range(1000, 9000, 1000)], "1_000", "in decimal digits"),
    ],
)
def test_numbers_that_are_not_read_are_noted(cells, example, remedy):
    note = unread_numbers_note(pl.Series(cells))
    assert note == f"{example!r} is not read as a number; if these are numbers, write them {remedy}"
    for rows in (
        cells * 10,
        [f"{at}{cell}" for at in range(1, 10) for cell in cells if cell[0] != "0"] or cells * 10,
    ):
        columns, _ = infer(pl.DataFrame({"a": rows, "b": [*range(len(rows))][::-1]}), DataSettings())
        assert "is not read as a number" in columns[0].note


@pytest.mark.parametrize(
    "cells",
    [
        ["a", "b", "c", "d", "e", "f"],
        ["1A", "2B", "3C", "4D", "5E", "6F"],
        ["1 kg", "2 kg", "3 kg"],
        ["A1", "A2", "A3", "A4", "A5"],
        [None, None],
        [],
    ],
)
def test_other_strings_have_no_note(cells):
    assert unread_numbers_note(pl.Series(cells, dtype=pl.String)) == ""
