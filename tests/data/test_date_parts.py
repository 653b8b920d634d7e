import calendar
import datetime as dt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descend.data import prepare, read
from descend.data.date_parts import civil, cyclic_inputs, phases, sine_and_cosine
from descend.data.date_reading import CYCLES, NUMBER
from descend.data.schema import Schema
from descend.data.settings import DataSettings

EPOCH = dt.datetime(1970, 1, 1)
FIRST, LAST = (dt.date(year, month, day).toordinal() for year, month, day in ((1, 1, 1), (9999, 12, 31)))


def expected_phase(when, part):
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0)
    lengths = {
        "hour": midnight,
        "minute": when.replace(minute=0, second=0, microsecond=0),
        "second": when.replace(second=0, microsecond=0),
    }
    if part in lengths:
        return (when - lengths[part]).total_seconds() / {"hour": 86400, "minute": 3600, "second": 60}[part]
    return {
        "weekday": when.weekday() / 7,
        "month": (when.month - 1) / 12,
        "day_of_month": (when.day - 1) / calendar.monthrange(when.year, when.month)[1],
        "day_of_year": (when.timetuple().tm_yday - 1) / (365 + calendar.isleap(when.year)),
    }[part]


def test_the_calendar_agrees_with_numpy_for_each_day_of_ten_thousand_years():
    days = np.arange(FIRST, LAST + 1) - EPOCH.toordinal()
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    year, month, day = (part.numpy() for part in civil(torch.from_numpy(days.astype(np.float64))))
    np.testing.assert_array_equal(year, dates.astype("datetime64[Y]").astype(int) + 1970)
    np.testing.assert_array_equal(month, months.astype(int) % 12 + 1)
    np.testing.assert_array_equal(day, (dates - months.astype("datetime64[D]")).astype(int) + 1)


@pytest.mark.parametrize("year", [1, 4, 100, 400, 1582, 1900, 1968, 1969, 1970, 2000, 2023, 2024, 2100, 9996])
def test_phases_agree_with_python_for_each_day_of_a_year(year):
    count = 365 + calendar.isleap(year)
    dates = [dt.datetime(year, 1, 1) + dt.timedelta(days=at, hours=at % 24) for at in range(count)]
    days = torch.tensor([(one - EPOCH) / dt.timedelta(days=1) for one in dates], dtype=torch.float64)
    wanted = [[expected_phase(one, part) for part in CYCLES] for one in dates]
    np.testing.assert_allclose(phases(days, CYCLES).numpy(), wanted, atol=1e-15)


@given(st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)))
def test_phases_agree_with_python_at_each_millisecond(when):
    when = when.replace(microsecond=when.microsecond // 1000 * 1000)
    days = torch.tensor([(when - EPOCH) / dt.timedelta(days=1)], dtype=torch.float64)
    wanted = [expected_phase(when, part) for part in CYCLES]
    np.testing.assert_allclose(phases(days, CYCLES)[0].numpy(), wanted, atol=1e-12)


@given(st.floats(0, 1, exclude_max=True))
def test_sine_and_cosine(position):
    sine, cosine = sine_and_cosine(torch.tensor(position, dtype=torch.float64))
    assert float(sine) == pytest.approx(np.sin(2 * np.pi * position), abs=1e-12)
    assert float(cosine) == pytest.approx(np.cos(2 * np.pi * position), abs=1e-12)


def test_a_missing_date_is_the_center_of_each_circle():
    days = torch.tensor([float("nan"), 0.25], dtype=torch.float64)
    result = cyclic_inputs(days, ["hour", "weekday"])
    assert result[0].tolist() == [0.0] * 4
    np.testing.assert_allclose(result[1], [1, 0, np.sin(6 * np.pi / 7), np.cos(6 * np.pi / 7)], atol=1e-7)
    assert result.dtype == torch.float32


def instants(count, seed=0, minutes=1):
    minutes = np.random.default_rng(seed).integers(0, 3 * 365 * 1440 // minutes, count) * minutes
    return [dt.datetime(1968, 7, 1) + dt.timedelta(minutes=int(one)) for one in minutes]


@pytest.mark.parametrize(
    ("dates", "parts"),
    [
        (instants(300), (NUMBER, "minute", "hour", "weekday", "day_of_month", "month", "day_of_year")),
        (instants(300, minutes=60), (NUMBER, "hour", "weekday", "day_of_month", "month", "day_of_year")),
        ([one.date() for one in instants(300)], (NUMBER, "weekday", "day_of_month", "month", "day_of_year")),
        ([dt.date(2000 + i, 3, 1) for i in range(0, 100, 28)] * 9, (NUMBER,)),
        ([dt.datetime(2024, 3, 5, 12, 0, i % 60) for i in range(300)], (NUMBER, "second", "minute", "hour")),
        ([one.time() for one in instants(300)], (NUMBER, "minute", "hour")),
        ([dt.timedelta(minutes=i) for i in range(300)], ()),
    ],
)
def test_the_parts_that_vary_in_the_training_rows_are_inputs(dates, parts):
    y = np.random.default_rng(0).normal(size=len(dates))
    prepared = prepare(read({"when": dates, "y": y}, target="y"))
    column = prepared.schema.columns[0]
    assert column.parts == parts
    assert prepared.train.inputs.shape[1] == 1 + 2 * len(column.cycles) == len(prepared.preprocess.names)
    assert prepared.preprocess.names == ("when", *column.cyclic_inputs)
    assert prepared.preprocess.columns == (0,) * len(prepared.preprocess.names)
    assert prepared.preprocess.numbers == (True, *[False] * (2 * len(column.cycles)))
    assert all(part.replace("_", " ") in prepared.schema.table()[0]["values"] for part in parts)


def test_declared_parts_are_the_inputs():
    data = {"when": instants(90), "z": np.arange(90) ** 2, "y": np.arange(90) * 1.5}
    for parts, names in (
        (
            ["hour", "weekday"],
            (
                "z",
                "when: hour (sine)",
                "when: hour (cosine)",
                "when: weekday (sine)",
                "when: weekday (cosine)",
            ),
        ),
        ([NUMBER], ("when", "z")),
        (["weekday", NUMBER], ("when", "z", "when: weekday (sine)", "when: weekday (cosine)")),
    ):
        for scale in ("standard", "pca"):
            settings = DataSettings(columns={"when": {"kind": "date", "parts": tuple(parts)}}, scale=scale)
            prepared = prepare(read(data, target="y"), settings)
            if scale == "standard":
                assert prepared.preprocess.names == names
            assert prepared.train.inputs.shape[1] == len(names)
            assert Schema.from_json(prepared.schema.to_json()) == prepared.schema


def test_each_input_by_hand():
    dates = instants(200)
    data = {"when": [None if at % 9 == 0 else one for at, one in enumerate(dates)], "y": np.arange(200) * 1.5}
    prepared = prepare(read(data, target="y"))
    names = prepared.preprocess.names
    for row, inputs in zip(prepared.train.rows, prepared.train.inputs.numpy(), strict=True):
        own = dict(zip(names, inputs.tolist(), strict=True))
        absent = data["when"][row] is None
        assert own["when is missing"] == absent
        for part in prepared.schema.columns[0].cycles:
            angle = 2 * np.pi * expected_phase(dates[row], part)
            title = f"when: {part.replace('_', ' ')}"
            assert own[f"{title} (sine)"] == pytest.approx(0 if absent else np.sin(angle), abs=1e-6)
            assert own[f"{title} (cosine)"] == pytest.approx(0 if absent else np.cos(angle), abs=1e-6)


def test_a_schema_without_parts_has_the_number_as_its_only_input():
    data = {"when": instants(90), "y": np.arange(90) * 1.5}
    prepared = prepare(
        read(data, target="y"), DataSettings(columns={"when": {"kind": "date", "parts": (NUMBER,)}})
    )
    old = prepared.schema.to_json()
    for line in ('\n   "form": "",', '\n   "zone": "none",'):
        assert line in old
        old = old.replace(line, "")
    start = old.index('"parts": [')
    old = old[: old.rindex(",", 0, start)] + old[old.index("]", start) + 1 :]
    schema = Schema.from_json(old)
    assert schema.columns[0].parts == ()
    source = read(data, target="y")
    encoded = type(prepared.preprocess)(schema)(schema.matrix(source))
    assert torch.equal(encoded[prepared.train.rows], prepared.train.inputs)
    zoned = {"when": [one.replace(tzinfo=dt.UTC) for one in data["when"]]}
    assert torch.equal(schema.matrix(zoned), schema.matrix(source))  # as older versions read them


@pytest.mark.parametrize("question", ["weekend", "afternoon", "winter"])
def test_a_network_learns_what_one_number_does_not_tell(question):
    import descend

    dates = instants(1500, minutes=30)
    answer = {
        "weekend": [one.weekday() >= 5 for one in dates],
        "afternoon": [12 <= one.hour < 18 for one in dates],
        "winter": [one.month in (12, 1, 2) for one in dates],
    }[question]
    data = {"when": [one.strftime("%d.%m.%Y %H:%M") for one in dates], "y": answer}
    recipe = descend.Recipe(
        model={"name": "mlp", "hidden": (32,)}, optimizer={"name": "adam", "lr": 0.02}, data={"batch_size": 64},
        stop={"max_epochs": 40},
    )  # fmt: skip
    run = descend.train(data, recipe, target="y", seed=0)
    assert run.metrics["test"]["accuracy"] >= 0.98
    if question != "winter":
        number = recipe.replace({"data.columns.when": {"kind": "date", "parts": (NUMBER,)}})
        assert descend.train(data, number, target="y", seed=0).metrics["test"]["accuracy"] < 0.85
