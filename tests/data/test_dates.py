import datetime as dt
import zoneinfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.dates import OWN, PLAIN, parse_dates, parse_instants, parse_times
from descend.data.parsing import tidy

HALF_PAST_TWO = dt.datetime(2021, 12, 31, 14, 30)
OFFSETS = {
    "": None,
    "Z": 0,
    " UTC": 0,
    "+01": 60,
    "+0100": 60,
    "+01:00": 60,
    " -05:30": -330,
    "z": 0,
    " GMT": 0,
}


def instants(*cells, form="", zone=""):
    result, invalid = parse_instants(pl.Series("a", cells), form, zone)
    assert invalid.to_list() == [
        cell is not None and one is None for cell, one in zip(cells, result, strict=True)
    ]
    return result.to_list()


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
        ("1970-01-01T00:00:00,5Z", 0.5 / 86400),
        ("1969-12-31", -1.0),
        ("1970-01-02T24:00", 2.0),
        ("0001-01-01", -719162.0),
    ],
)
def test_iso_dates_are_days_since_1970(text, day):
    days, invalid = parse_dates(pl.Series("a", [text, None]))
    assert days.to_list() == [day, None]
    assert not invalid.any()


@pytest.mark.parametrize(
    "text",
    ["31/01/2024", "2024", "yesterday", "2024-13-01", "2024-02-30", "0000-00-00", "2024-01-31T25:00", "12:30:05",
     "2024-01-31T12:61", "2024-01-31T13:00 pm", "1.2.2021 3", "31 Foo 2024", "10.0.0.1", "٢٠٢٤-٠١-٣١", "2024-01-31 XYZ"],
)  # fmt: skip
def test_other_strings_are_not_dates(text):
    assert parse_dates(pl.Series("a", [text]))[1].to_list() == [True]


FORMS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d %b %Y", "%d-%b-%Y", "%d%b%Y", "%b %d, %Y", "%B %d %Y",
         "%d. %B %Y", "%Y-%b-%d", "%A, %d %B %Y", "%d-%b-%y", "%a %d %b %Y")  # fmt: skip
CLOCKS = ("T%H:%M", " %H:%M:%S", ", %I:%M %p", " at %I:%M%p", " %H:%M:%S.%f")


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_dates_with_a_time_and_a_zone(form):
    assert instants(dt.datetime(2021, 12, 31).strftime(form)) == [dt.datetime(2021, 12, 31)]
    pairs = [(HALF_PAST_TWO.strftime(form + clock) + zone, zone) for clock in CLOCKS for zone in OFFSETS]
    pairs = [(cell, zone) for own, zone in pairs for cell in (own, own.upper(), own.lower())]
    utc = [HALF_PAST_TWO - dt.timedelta(minutes=OFFSETS[zone] or 0) for _, zone in pairs]
    cells = [cell for cell, _ in pairs]
    assert instants(*cells) == utc
    assert instants(*cells, zone=PLAIN) == [None if zone else HALF_PAST_TWO for _, zone in pairs]
    assert instants(*cells, zone=OWN) == [
        one if zone else None for one, (_, zone) in zip(utc, pairs, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20211231T143000Z", HALF_PAST_TWO),
        ("20211231143000", HALF_PAST_TWO),
        ("202112311430", HALF_PAST_TWO),
        ("2021-12-31T14:30+01:00[Europe/Paris]", HALF_PAST_TWO - dt.timedelta(hours=1)),
        ("Fri Dec 31 2021 14:30:00 GMT+0100 (Central European Time)", HALF_PAST_TWO - dt.timedelta(hours=1)),
        ("Fri Dec 31 14:30:00 UTC 2021", HALF_PAST_TWO),
        ("Fri Dec 31 14:30:00 2021", HALF_PAST_TWO),
        ("31/Dec/2021:14:30:00 -0100", HALF_PAST_TWO + dt.timedelta(hours=1)),
        ("Dec 31st, 2021 2:30 p.m.", HALF_PAST_TWO),
        ("2021-12", dt.datetime(2021, 12, 1)),
        ("December 2021", dt.datetime(2021, 12, 1)),
        ("Dec-2021", dt.datetime(2021, 12, 1)),
        ("Sept. 2021", dt.datetime(2021, 9, 1)),
        ("12 am", None),
    ],
)
def test_other_forms(text, expected):
    assert instants(text) == [expected]


@pytest.mark.parametrize(("year", "full"), [("00", 2000), ("68", 2068), ("69", 1969), ("99", 1999)])
def test_two_digit_years(year, full):
    expected = [dt.datetime(full, 2, 1)]
    assert instants(f"1.2.{year}", form="day-first") == expected
    assert instants(f"2/1/{year}", form="month-first") == expected
    assert instants(f"{year}/02/01", form="year-first") == expected
    assert instants(f"1-Feb-{year}") == expected


@given(
    st.datetimes(dt.datetime(1000, 1, 1)),
    st.sampled_from(["day-first", "month-first"]),
    st.sampled_from("./-"),
)
def test_three_numbers_are_read_in_the_given_order(when, order, separator):
    parts = ("%d", "%m", "%Y") if order == "day-first" else ("%m", "%d", "%Y")
    text = when.strftime(separator.join(parts) + " %H:%M:%S.%f")
    assert instants(text, form=order) == [when]
    assert instants(text) == [None]


@given(st.datetimes(dt.datetime(1000, 1, 2), dt.datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_offsets_are_subtracted(when, minutes):
    zone = dt.timezone(dt.timedelta(minutes=minutes))
    text = when.replace(tzinfo=zone).isoformat()
    assert instants(text) == [when - dt.timedelta(minutes=minutes)]
    assert instants(text.replace("T", " ")[:-3] + text[-2:]) == [when - dt.timedelta(minutes=minutes)]


@pytest.mark.parametrize("month", [1, 7])
def test_a_named_zone_gives_its_local_time(month):
    paris = zoneinfo.ZoneInfo("Europe/Paris")
    local = dt.datetime(2021, month, 5, 23, 30)
    utc = local.replace(tzinfo=paris).astimezone(dt.UTC)
    cells = (f"{utc:%Y-%m-%dT%H:%M}Z", f"{local:%Y-%m-%d %H:%M}")
    assert instants(*cells, zone="Europe/Paris") == [local, local]
    series = pl.Series("a", [local]).dt.replace_time_zone("Europe/Paris")
    assert parse_instants(tidy(series, ()), "", "Europe/Paris")[0].to_list() == [local]


def test_numbers_are_dates_by_their_digits_or_in_a_unit():
    assert instants(20211231.0, 20211231.5, 20210231.0, 44561.0, None)[0] == dt.datetime(2021, 12, 31)
    assert instants(20211231.0, 20211231.5, 20210231.0, 44561.0, None)[1:] == [None] * 4
    for unit, size in (
        ("seconds", 1.0),
        ("milliseconds", 1e3),
        ("microseconds", 1e6),
        ("nanoseconds", 1e9),
        ("days", 1 / 86400),
    ):
        assert instants(86400 * 1.5 * size, -3600 * size, form=unit) == [
            dt.datetime(1970, 1, 2, 12),
            dt.datetime(1969, 12, 31, 23),
        ]


def test_a_pattern():
    assert instants("31|12|2021 14h30", "31.12.2021", form="%d|%m|%Y %Hh%M") == [HALF_PAST_TWO, None]
    assert instants("31|12|2021 +0100", form="%d|%m|%Y %z", zone=PLAIN) == [None]


def test_values_of_other_kinds_are_no_dates():
    for values in ([True], [5.0]):
        assert parse_instants(pl.Series("a", values))[1].to_list() == [True]
        assert parse_instants(pl.Series("a", [None, None]))[1].to_list() == [False, False]
    assert parse_times(pl.Series("a", [True, False]))[1].to_list() == [True, True]


@given(st.times())
def test_times_of_day_are_fractions_of_a_day(time):
    expected = (dt.datetime.combine(dt.date.min, time) - dt.datetime.min) / dt.timedelta(days=1)
    days, invalid = parse_times(pl.Series("a", [time.isoformat("microseconds")]))
    assert days[0] == pytest.approx(expected, abs=1e-14)
    assert not invalid.any()
    assert parse_times(pl.Series("a", [time.strftime("%I:%M %p")]))[0][0] == pytest.approx(
        (time.hour * 60 + time.minute) / 1440, abs=1e-14
    )


def test_other_times():
    cells = ["24:00", "13 pm", "0 am", "12 am", "12 pm", "noon", "14:60", "14", "14:30Z"]
    days, invalid = parse_times(pl.Series("a", cells))
    assert days.to_list() == [None, None, None, 0.0, 0.5, None, None, None, None]
    assert invalid.to_list() == [day is None for day in days]
    assert parse_times(pl.Series("a", [0.25, 1.0, -0.1]))[0].to_list() == [0.25, None, None]
    assert parse_times(pl.Series("a", ["14h30", "14:30"]), "%Hh%M")[0].to_list() == [14.5 / 24, None]
    assert parse_times(pl.Series("a", [HALF_PAST_TWO]))[0].to_list() == [pytest.approx(14.5 / 24)]
