"""Columns that may contain dates get a note that names the setting to read them."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from descend.data.columns import infer
from descend.data.settings import DataSettings

DATES = [dt.datetime(2021, 1, 1) + dt.timedelta(days=3 * at) for at in range(40)]


def column_of(name, values, **settings):
    frame = pl.DataFrame([pl.Series(name, values), pl.Series("z", np.arange(len(values)) ** 2)])
    return infer(frame, DataSettings(**settings))[0][0]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", None])
@pytest.mark.parametrize(
    "other", [dt.datetime(9999, 12, 31), dt.datetime(1900, 1, 1), dt.datetime(1970, 1, 1)]
)
def test_a_date_for_no_date_is_shown_and_can_be_declared(form, other):
    dates = [*DATES, other, other]
    cells = [one.strftime(form) for one in dates] if form else dates
    column = column_of("end", cells)
    cell = other.strftime(form or "%Y-%m-%d")
    assert f"2 rows hold '{cell}', far from the other dates" in column.note
    assert f"'{cell}'" in column.note.split("data.missing.end")[1]
    declared = column_of("end", cells, missing={"end": ("", cell)})
    assert (declared.missing, declared.note.count("far from")) == (2, 0)


def test_dates_over_a_long_time_get_no_note():
    assert column_of("end", [dt.date(1500 + 9 * at, 1, 1 + at % 9) for at in range(40)]).note == ""
    assert "far" not in column_of("end", [*DATES, dt.datetime(1900, 1, 1)]).note  # one row may be right


@pytest.mark.parametrize(
    ("name", "scale", "unit"), [("timestamp", 1, "seconds"), ("created_at", 1000, "milliseconds")]
)
def test_numbers_that_count_the_time_are_named(name, scale, unit):
    numbers = [int((one - dt.datetime(1970, 1, 1)).total_seconds()) * scale for one in DATES]
    column = column_of(name, numbers)
    assert column.kind == "numeric"
    assert f"times in {unit} since 1970" in column.note
    assert f"{{'data.columns.{name}': {{'kind': 'date', 'format': '{unit}'}}}}" in column.note
    assert column_of("price", numbers).note == ""
    assert column_of(name, numbers, columns={name: {"kind": "date", "format": unit}}).kind == "date"


def test_dates_of_excel_are_named():
    assert "'format': 'excel'" in column_of("Order Date", [44197 + 1.5 * at for at in range(40)]).note
    assert column_of("date", [1990 + at % 30 for at in range(40)]).note == ""


def test_strings_of_digits_with_a_year_are_named():
    assert "if these are dates" in column_of("day", [one.strftime("%Y-%j") for one in DATES]).note
    assert "if these are dates" not in column_of("code", [f"A{at}-7" for at in range(40)]).note
