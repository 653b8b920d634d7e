import datetime as dt
import decimal
import uuid

import numpy as np
import polars as pl
import pyarrow
import pytest

from descend.data.messages import listed
from descend.data.parsing import parse_booleans, parse_numbers, series_of, tidy, to_strings
from descend.data.settings import MISSING
from descend.errors import DataError


@pytest.mark.parametrize(
    ("raw", "dtype"),
    [
        (pl.Series("a", [1, None], dtype=pl.Int8), pl.Float64),
        (pl.Series("a", [1.5, float("nan")]), pl.Float64),
        (pl.Series("a", [decimal.Decimal("1.50"), None]), pl.Float64),
        (pl.Series("a", [2**100, None], dtype=pl.Int128), pl.Int128),
        (pl.Series("a", [2**53, None], dtype=pl.Int64), pl.Float64),
        (pl.Series("a", [2**53 + 1, None], dtype=pl.Int64), pl.Int128),
        (pl.Series("a", [2**64 - 1, None], dtype=pl.UInt64), pl.Int128),
        (pl.Series("a", [decimal.Decimal("12345678901234567.5"), None]), pl.String),
        (pl.Series("a", [True, None]), pl.Boolean),
        (pl.Series("a", ["x", "NA"]), pl.String),
        (pl.Series("a", ["x", None], dtype=pl.Categorical), pl.String),
        (pl.Series("a", ["x", None], dtype=pl.Enum(["y", "x"])), pl.String),
        (pl.Series("a", [dt.date(2024, 1, 31), None]), pl.Datetime),
        (pl.Series("a", [dt.timedelta(days=2), None]), pl.Float64),
        (pl.Series("a", [dt.time(12), None]), pl.Float64),
        (pl.Series("a", [None, None]), pl.Null),
    ],
)
def test_every_scalar_column_becomes_one_of_four_types_with_nulls_for_missing_values(raw, dtype):
    result = tidy(raw, MISSING)
    assert result.dtype == dtype
    assert result.null_count() == raw.len() - (0 if dtype == pl.Null else 1)


def test_strings_are_stripped_and_those_for_missing_values_are_nulls():
    result = tidy(pl.Series("a", [" x ", "NA", "", "?", " null ", "nothing"]), MISSING)
    assert result.to_list() == ["x", None, None, None, None, "nothing"]


@pytest.mark.parametrize("raw", [pl.Series("a", [[1], [2]]), pl.Series("a", [{"b": 1}])])
def test_nested_columns_are_refused_by_name(raw):
    with pytest.raises(DataError, match="'a'"):
        tidy(raw, MISSING)


def test_durations_and_times_are_in_days():
    assert tidy(pl.Series("a", [dt.timedelta(hours=36)]), ())[0] == 1.5
    assert tidy(pl.Series("a", [dt.time(6)]), ())[0] == 0.25


def test_numbers_are_parsed_from_strings_and_others_marked():
    result, invalid = parse_numbers(pl.Series("a", ["1", "-2.5e3", "+4", "inf", "x", None]))
    assert result.to_list() == [1.0, -2500.0, 4.0, float("inf"), None, None]
    assert invalid.to_list() == [False] * 4 + [True, False]


def test_booleans_are_parsed_from_strings_and_numbers():
    result, invalid = parse_booleans(pl.Series("a", ["TRUE", "no", "Y", "0", "maybe", None]))
    assert result.to_list() == [True, False, True, False, None, None]
    assert invalid.to_list() == [False] * 4 + [True, False]
    assert parse_booleans(pl.Series("a", [1.0, 0.0]))[0].to_list() == [True, False]


def test_integers_have_the_same_string_in_every_type():
    assert to_strings(pl.Series([3.0, 2.5, None])).to_list() == ["3", "2.5", None]
    assert to_strings(tidy(pl.Series([3, 4]), ())).to_list() == ["3", "4"]
    assert to_strings(pl.Series([True])).to_list() == ["true"]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2.5, None], pl.Float64),
        ([np.int8(1), np.float32(2)], pl.Float64),
        ([True, np.bool_(False), None], pl.Boolean),
        ([True, 3], pl.Float64),
        (["a", 1, None], pl.String),
        ([dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], pl.String),
        ([dt.date(2024, 1, 1), dt.datetime(2024, 1, 1)], pl.Datetime),
        ([dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None], pl.Datetime),
        ([dt.time(14, 30), None], pl.Time),
        ([dt.timedelta(days=1), np.timedelta64(3, "h"), None], pl.Duration),
        ([uuid.UUID(int=5), None], pl.String),
        ([np.datetime64("2024-01-01"), None], pl.Datetime),
        ([decimal.Decimal(1), None, 2], pl.Int64),
        ([decimal.Decimal("1.0")], pl.Float64),
        ([decimal.Decimal("1E+2")], pl.Int64),
        ([None, float("nan")], pl.Null),
        ([2**60 + 1, None], pl.Int64),
        ([3, np.uint8(2)], pl.Int64),
        ([2**70, 3], pl.Int128),
        ([2**60 + 1, True], pl.Int128),
        ([2**60 + 1, 0.5], pl.String),
        ([2**130 + 1, 3], pl.String),
        ([decimal.Decimal("0.1"), 3], pl.Float64),
        ([decimal.Decimal("12345678901234567.5")], pl.String),
    ],
)
def test_python_values_become_a_column(values, dtype):
    assert series_of("a", values).dtype == dtype


def test_large_integers_have_the_same_string_in_every_type():
    first, second = 2**60, 2**60 + 1
    for column in (
        pl.Series("a", [first, second]),
        pl.Series("a", [first, second], dtype=pl.Decimal(38, 0)),
        pl.Series("a", [str(first), f" {second} "]),
        series_of("a", [first, np.int64(second)]),
        series_of("a", [decimal.Decimal(first), second]),
        series_of("a", [first, second, 0.5])[:2],
    ):
        assert to_strings(tidy(column, ())).to_list() == [str(first), str(second)]
    assert to_strings(pl.Series([1e18, None, float("inf"), 2.5])).to_list() == [
        str(10**18),
        None,
        "inf",
        "2.5",
    ]


def test_numbers_mixed_with_strings_become_strings():
    assert series_of("a", ["a", 1, 2.0, 2.5]).to_list() == ["a", "1", "2", "2.5"]


def test_huge_integers_are_refused_or_shortened():
    huge = 10**5000
    with pytest.raises(DataError, match="too large"):
        series_of("a", [1, huge])
    with pytest.raises(DataError, match="'a'"):
        series_of("a", ["x", huge])
    assert "very many digits" in listed([huge])


def test_a_list_in_a_cell_is_refused_with_its_row():
    with pytest.raises(DataError, match=r"row 1 holds a list"):
        series_of("a", [1, [2]])


def test_bytes_are_strings_and_hexadecimal_digits_where_they_are_not_text():
    assert tidy(pl.Series("a", [b" x", "é".encode(), None]), MISSING).to_list() == ["x", "é", None]
    assert tidy(pl.Series("a", [b"\xff\xfe"]), MISSING).to_list() == ["fffe"]


def test_scalars_of_arrow() -> None:
    scalars = pyarrow.array([1, None, 3])
    assert series_of("a", list(scalars)).to_list() == [1, None, 3]
    assert series_of("a", list(pyarrow.array(["x", "y"]))).to_list() == ["x", "y"]
