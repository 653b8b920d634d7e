import datetime as dt

import polars as pl
import pytest

from descend.data.dates import parse_dates
from descend.data.parsing import tidy


def test_instants_are_in_utc_whatever_their_zone():
    zoned = pl.Series("a", [dt.datetime(2024, 7, 1, 2)]).dt.replace_time_zone("Europe/Paris")
    days, invalid = parse_dates(tidy(zoned, ()))
    assert days[0] == (dt.date(2024, 7, 1) - dt.date(1970, 1, 1)).days
    assert not invalid.any()


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("1970-01-02", 1.0),
        ("1970-01-01T12:00:00", 0.5),
        ("1970-01-01 06:00", 0.25),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1970-01-01T00:00:00.5Z", 0.5 / 86400),
        ("1969-12-31", -1.0),
    ],
)
def test_iso_dates_are_days_since_1970(text, day):
    days, invalid = parse_dates(pl.Series("a", [text, None]))
    assert days.to_list() == [day, None]
    assert not invalid.any()


@pytest.mark.parametrize("text", ["31/01/2024", "2024", "yesterday", "2024-13-01", "2024-02-30"])
def test_other_strings_are_not_iso_dates(text):
    assert parse_dates(pl.Series("a", [text]))[1].to_list() == [True]
