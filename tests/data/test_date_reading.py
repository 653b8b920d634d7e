"""How dates are read is decided from all cells of a column, and new rows are read in the same way."""

import datetime as dt
import zoneinfo

import numpy as np
import polars as pl
import pytest

from descend.data import prepare, read
from descend.data.columns import infer
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.errors import DataError
from descend.interface import command_line

N = 60
DATES = [dt.datetime(2021, 1, 1, 14, 30) + dt.timedelta(days=7 * at) for at in range(N)]
DAYS = [float((one.date() - dt.date(1970, 1, 1)).days) for one in DATES]
PARIS = zoneinfo.ZoneInfo("Europe/Paris")


def written(form):
    return [one.strftime(form) for one in DATES]


def column_of(values, **settings):
    frame = pl.DataFrame([pl.Series("a", values), pl.Series("z", np.arange(len(values)) ** 2)])
    columns, parsed = infer(frame, DataSettings(**settings))
    return columns[0], parsed["a"].to_list() if columns[0].used else []


def schema_of(values, **settings):
    data = {"a": values, "z": np.arange(len(values)) ** 2, "y": np.arange(len(values)) * 1.5}
    schema = prepare(read(data, target="y"), DataSettings(**settings)).schema
    return Schema.from_json(schema.to_json())


def days_of(schema, *cells):
    return schema.matrix({"a": list(cells), "z": [0] * len(cells)})[:, 0].tolist()


def refusal(values, **settings):
    with pytest.raises(DataError) as caught:
        column_of(values, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("form", "order"),
    [("%d.%m.%Y", "day-first"), ("%d/%m/%Y", "day-first"), ("%m/%d/%Y", "month-first"), ("%m-%d-%Y", "month-first"),
     ("%d/%m/%y", "day-first"), ("%m/%d/%y", "month-first"), ("%Y-%m-%d", ""), ("%d %b %Y", ""), ("%Y%m%d", "")],
)  # fmt: skip
def test_the_order_of_day_and_month_is_decided_by_all_cells_and_kept(form, order):
    column, days = column_of(written(form))
    assert (column.kind, column.form) == ("date", order)
    assert days == DAYS
    schema = schema_of(written(form))
    ambiguous = dt.date(2021, 3, 2)
    for one in (ambiguous, dt.date(1999, 12, 31)):
        assert days_of(schema, one.strftime(form)) == [(one - dt.date(1970, 1, 1)).days]


def test_an_order_that_no_cell_decides_must_be_declared():
    values = [f"{at % 12 + 1:02d}/{at % 11 + 1:02d}/2021" for at in range(N)]
    message = refusal(values)
    assert "may be the day or the month" in message
    assert "{'data.columns.a': {'kind': 'date', 'format': 'day-first'}}" in message
    with command_line():
        assert '--set \'data.columns.a={kind = "date", format = "month-first"}\'' in refusal(values)
    for form, day in (("day-first", dt.date(2021, 2, 3)), ("month-first", dt.date(2021, 3, 2))):
        schema = schema_of(values, columns={"a": {"kind": "date", "format": form}})
        assert days_of(schema, "03/02/2021") == [(day - dt.date(1970, 1, 1)).days]


def test_dots_without_a_sign_are_read_with_the_day_first():
    column, _ = column_of([f"{at % 12 + 1}.{at % 11 + 1}.2021" for at in range(N)])
    assert column.form == "day-first"
    assert "read with the day first" in column.note


def test_different_orders_are_refused_with_both_rows():
    message = refusal(["31/12/2021", "01/02/2021", "12/31/2021"] * 20)
    assert "row 0 holds '31/12/2021' (day-first); row 2 holds '12/31/2021' (month-first)" in message


def test_a_repeated_ambiguous_date_is_constant():
    assert column_of(["01/02/2021"] * N)[0].kind == "constant"


MIXED = {
    "strings": [f"{one:%Y-%m-%dT%H:%M:%S}{'' if at == 5 else 'Z'}" for at, one in enumerate(DATES)],
    "offsets": [f"{one:%d %b %Y %H:%M}{'' if at == 5 else ' +0100'}" for at, one in enumerate(DATES)],
    "a day": [f"{one:%Y-%m-%d}" if at == 5 else f"{one:%Y-%m-%dT%H:%M}Z" for at, one in enumerate(DATES)],
    "objects": [one if at == 5 else one.replace(tzinfo=dt.UTC) for at, one in enumerate(DATES)],
    "a date object": [one.date() if at == 5 else one.replace(tzinfo=PARIS) for at, one in enumerate(DATES)],
}


@pytest.mark.parametrize("name", MIXED)
def test_instants_with_and_without_a_time_zone_are_refused_unless_the_zone_is_declared(name):
    frame = read({"a": MIXED[name], "z": np.arange(N) ** 2, "y": np.arange(N)}, target="y").frame
    with pytest.raises(DataError, match=r"'a': 59 instants have a time zone .* row 5 holds .* without one"):
        infer(frame, DataSettings())
    settings = DataSettings(columns={"a": {"kind": "date", "zone": "UTC"}})
    columns, parsed = infer(frame, settings)
    assert columns[0].zone == "UTC"
    expected = dt.datetime(2021, 2, 5) if "a d" in name else DATES[5]
    assert parsed["a"][5] == pytest.approx((expected - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1))


@pytest.mark.parametrize("suffix", ["Z", "+0100", "+01", "+01:00", " UTC"])
def test_new_rows_have_a_time_zone_exactly_if_the_training_rows_had_one(suffix):
    plain, zoned = schema_of(written("%Y-%m-%dT%H:%M")), schema_of(written(f"%Y-%m-%dT%H:%M{suffix}"))
    assert (plain.columns[0].zone, zoned.columns[0].zone) == ("none", "own")
    with pytest.raises(
        DataError, match="expected dates such as 2026-01-31 without a time zone, but row 0 holds"
    ):
        days_of(plain, f"2021-03-05T12:00{suffix}")
    with pytest.raises(DataError, match="with a time zone, such as Z or"):
        days_of(zoned, "2021-03-05T12:00")
    with pytest.raises(DataError, match="expected dates such as 2026-01-31, but row 0 holds 'soon'"):
        days_of(plain, "soon")
    hour = days_of(zoned, f"1970-01-02T12:00{suffix}")[0] * 24
    assert hour == pytest.approx(36 - ("1" in suffix))
    assert ("converted to UTC" in zoned.columns[0].note) == ("1" in suffix)


def test_a_declared_zone_gives_the_local_time_in_training_and_prediction():
    utc = [one.replace(tzinfo=PARIS).astimezone(dt.UTC) for one in DATES]
    settings = {"columns": {"a": {"kind": "date", "zone": "Europe/Paris"}}}
    forms = (
        [f"{one:%Y-%m-%dT%H:%MZ}" for one in utc],
        utc,
        DATES,
        pl.Series(utc).dt.convert_time_zone("Asia/Tokyo"),
    )
    for values in forms:
        schema = schema_of(values, **settings)
        expected = pytest.approx([day + 14.5 / 24 for day in DAYS], abs=1e-9)
        assert days_of(schema, *forms[0]) == days_of(schema, *DATES) == expected


@pytest.mark.parametrize(
    ("values", "days"),
    [
        ([int(one) for one in written("%Y%m%d")], DAYS),
        ([float(one) for one in written("%Y%m%d")], DAYS),
        ([int(one) for one in written("%Y%m%d%H%M%S")], [day + 14.5 / 24 for day in DAYS]),
        ([int(one) for one in written("%Y%m%d%H%M")], [day + 14.5 / 24 for day in DAYS]),
    ],
)
def test_numbers_that_are_all_dates_are_dates(values, days):
    column, found = column_of(values)
    assert column.kind == "date"
    assert found == pytest.approx(days)
    assert "are read as dates" in column.note
    assert column_of(values, columns={"a": "numeric"})[0].kind == "numeric"
    schema = schema_of(values)
    assert days_of(schema, values[3]) == days_of(schema, str(int(values[3]))) == pytest.approx([days[3]])


@pytest.mark.parametrize(
    "values",
    [[20210101 + at for at in range(0, 600, 10)], [20211231, 20211230] * 30, [200101 + 37 * at for at in range(N)],
     [1990 + at % 30 for at in range(N)], [20210101.5 + at for at in range(N)], list(range(18000, 18060)),
     [1.25e14 + at * at for at in range(N)]],
)  # fmt: skip
def test_other_numbers_are_no_dates(values):
    assert column_of(values)[0].kind != "date"


def test_months_as_numbers_need_twelve_of_them():
    months = [f"{2020 + at // 12}{at % 12 + 1:02d}" for at in range(N)]
    assert column_of([int(one) for one in months])[0].kind == "date"
    assert column_of([int(one) for one in months[:5]] * 12)[0].kind == "numeric"


@pytest.mark.parametrize(
    "values",
    [["1.2.3", "1.10.0", "2.0.12"] * 20, ["16:9", "4:3"] * 30, ["3-2", "1-0"] * 30, ["10-12-45", "soon", "late"] * 20,
     ["2021-13", "2021-01"] * 30, ["2021Q1", "2021Q2"] * 30, ["May", "June"] * 30, ["5:1 odds", "a"] * 30],
)  # fmt: skip
def test_other_strings_are_categories(values):
    assert column_of(values)[0].kind == "categorical"


def test_a_few_cells_that_are_no_dates_are_shown():
    for bad in ("soon", "2021-02-30", "0000-00-00"):
        message = refusal([*written("%Y-%m-%d"), bad])
        assert f"60 values are dates, but row 60 holds '{bad}'" in message
    assert "59 values are times of day, but row 59 holds 'late'" in refusal(
        [*["14:30", "9:05"] * 29, "14:30", "late"]
    )
    values = [*written("%Y-%m-%d"), "0000-00-00"]
    assert column_of(values, missing=("0000-00-00",))[0].missing == 1


@pytest.mark.parametrize("form", ["%H:%M", "%H:%M:%S", "%I:%M %p"])
def test_times_of_day(form):
    times = [dt.time(at % 24, at % 60) for at in range(N)]
    column, parsed = column_of([one.strftime(form) for one in times])
    assert column.kind == "time"
    assert parsed == pytest.approx([(one.hour * 60 + one.minute) / 1440 for one in times])
    objects, same = column_of(times)
    assert objects.kind == "time"
    assert same == pytest.approx(parsed)
    schema = schema_of(times)
    assert days_of(schema, "18:00", None)[0] == days_of(schema, dt.time(18))[0] == 0.75
    assert np.isnan(days_of(schema, "18:00", None)[1])
    with pytest.raises(DataError, match="expected times of day such as 14:30, but row 0 holds 'late'"):
        days_of(schema, "late")


def test_durations():
    lengths = [dt.timedelta(hours=7 * at, minutes=15) for at in range(N)]
    days = [one / dt.timedelta(days=1) for one in lengths]
    strings = [f"{at * 7}:15" for at in range(N)]
    for values in (lengths, strings, list(map(str, lengths)), np.array(lengths, dtype="timedelta64[us]")):
        column, parsed = column_of(pl.Series(values) if isinstance(values, np.ndarray) else values)
        assert column.kind == "duration"
        assert parsed == pytest.approx(days)
        assert column.parts == ()
    schema = schema_of(strings)
    assert (
        days_of(schema, "36:00")
        == days_of(schema, "1 day, 12:00:00")
        == days_of(schema, dt.timedelta(hours=36))
        == [1.5]
    )


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kind": "date", "part": ("hour",)}, "no setting 'part' of the kind 'date'; did you mean 'parts'"),
        ({"kind": "date", "parts": ("hours",)}, "no part 'hours'; did you mean 'hour'"),
        ({"kind": "date", "parts": ()}, "at least one part"),
        ({"kind": "time", "parts": ("weekday",)}, "no part 'weekday'"),
        ({"kind": "date", "format": "dayfirst"}, "unknown format 'dayfirst'; did you mean 'day-first'"),
        ({"kind": "date", "zone": "Paris"}, "no time zone 'Paris'"),
        ({"kind": "dates"}, "did you mean 'date'"),
        ({"parts": ("hour",)}, "the kind of the column"),
        ({"kind": "numeric", "parts": ("hour",)}, "the kind 'numeric' has no settings"),
    ],
)
def test_settings_that_do_not_exist_are_refused(choice, message):
    assert message in refusal(written("%Y-%m-%d"), columns={"a": choice})


def test_formats():
    pattern = {"kind": "date", "format": "%d|%m|%Y"}
    schema = schema_of(written("%d|%m|%Y"), columns={"a": pattern})
    assert days_of(schema, "02|01|1970") == [1.0]
    seconds = [(one - dt.datetime(1970, 1, 1)).total_seconds() for one in DATES]
    schema = schema_of(seconds, columns={"a": {"kind": "date", "format": "seconds"}})
    assert days_of(schema, 86400 * 1.5) == [1.5]
    assert "dates of the form %d|%m|%Y" in refusal(written("%Y-%m-%d"), columns={"a": pattern})


def test_a_declared_date_of_one_form_is_decided_by_its_cells():
    assert column_of(written("%m/%d/%Y"), columns={"a": "date"})[0].form == "month-first"
    assert "may be the day or the month" in refusal(["01/02/2021", "02/03/2021"] * 30, columns={"a": "date"})


def test_digits_of_a_text_file_keep_their_zeros_for_a_pattern(tmp_path):
    path = tmp_path / "a.csv"
    lines = [f"{one:%d%m%Y},{at}" for at, one in enumerate(DATES)]
    path.write_text("a,y\n" + "\n".join(lines), encoding="utf-8")
    settings = DataSettings(target="y", columns={"a": {"kind": "date", "format": "%d%m%Y"}})
    schema = prepare(read(path, settings=settings), settings).schema
    path.write_text("a\n02011970\n", encoding="utf-8")
    new = read(path, schema=schema, predicting=True)
    assert schema.matrix(new)[:, 0].tolist() == [1.0]


def test_zones_of_data_frames_are_kept():
    import pandas

    for zone in ("Europe/Paris", "UTC"):
        series = pandas.Series(pandas.to_datetime(DATES)).dt.tz_localize(zone)
        frame = read((pandas.DataFrame({"a": series}), np.arange(N))).frame
        columns, parsed = infer(frame, DataSettings())
        assert columns[0].zone == "own"
        assert ("Europe/Paris" in columns[0].note) == (zone != "UTC")
        utc = DATES[0].replace(tzinfo=zoneinfo.ZoneInfo(zone)).astimezone(dt.UTC).replace(tzinfo=None)
        assert parsed["a"][0] == pytest.approx((utc - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1))
