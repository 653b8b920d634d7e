import datetime as dt

import numpy as np
import polars as pl
import pytest

from descend.data.columns import Column, infer
from descend.data.settings import DataSettings
from descend.errors import DataError

N = 60


def kinds(frame, **settings):
    columns, parsed = infer(pl.DataFrame(frame), DataSettings(**settings))
    assert [column.name for column in columns] == list(pl.DataFrame(frame).columns)
    assert parsed.columns == [column.name for column in columns if column.used]
    return {column.name: column.kind for column in columns}


def test_kinds_are_inferred_from_values_and_from_text():
    result = kinds(
        {
            "number": np.arange(N) * 1.5,
            "number_text": [str(i / 4) for i in range(N)],
            "truth": [i % 2 == 0 for i in range(N)],
            "truth_text": ["True", "FALSE"] * (N // 2),
            "day": [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(N)],
            "day_text": [f"2024-01-{i % 28 + 1:02d}" for i in range(N)],
            "color": ["red", "green", None] * (N // 3),
            "always": [7] * N,
            "always_text": ["same"] * N,
            "always_true": [True] * N,
            "nothing": [None] * N,
            "nothing_text": ["NA"] * N,
        }
    )
    assert result == {
        "number": "numeric", "number_text": "numeric", "truth": "boolean", "truth_text": "boolean",
        "day": "date", "day_text": "date", "color": "categorical", "always": "constant",
        "always_text": "constant", "always_true": "constant", "nothing": "empty", "nothing_text": "empty",
    }  # fmt: skip


def test_the_kind_is_inferred_from_the_whole_column():
    late = ["1"] * 10_000 + ["north", "south"] * 1500
    assert kinds({"a": late}) == {"a": "categorical"}


def test_a_constant_with_missing_values_is_kept_for_its_indicator():
    assert kinds({"a": [7, None] * 20, "b": ["x", None] * 20}) == {"a": "numeric", "b": "categorical"}


def test_declared_kinds_override_inference():
    frame = {"code": list(range(N)), "flag": [0, 1] * (N // 2), "when": ["2024-01-05"] * N, "junk": ["a"] * N}
    declared = {"code": "categorical", "flag": "boolean", "when": "date", "junk": "ignore"}
    assert kinds(frame, columns=declared) == {
        "code": "categorical", "flag": "boolean", "when": "date", "junk": "ignored"
    }  # fmt: skip


def refusal(frame, **settings):
    with pytest.raises(DataError) as caught:
        infer(pl.DataFrame(frame), DataSettings(**settings))
    return str(caught.value)


def test_strings_that_identify_the_rows_are_not_used():
    frame = {"name": [f"Mr. {i}" for i in range(N)], "x": np.arange(N) ** 2}
    columns, parsed = infer(pl.DataFrame(frame), DataSettings())
    assert [column.kind for column in columns] == ["identifier", "numeric"]
    assert parsed.columns == ["x"]
    assert "60 distinct strings in 60 rows only identify the rows; not used" in columns[0].note
    assert "{'data.columns.name': 'categorical'} keeps" in columns[0].note
    assert kinds(frame, columns={"name": "categorical"})["name"] == "categorical"
    assert "60 distinct strings in 60 rows only identify the rows" in refusal({"name": frame["name"]})


def test_300_categories_are_not_used_in_few_rows_and_pooled_in_many():
    few = {"city": [f"c{i % 300}" for i in range(600)], "x": np.arange(600) ** 2}
    columns, _ = infer(pl.DataFrame(few), DataSettings())
    assert columns[0].kind == "identifier"
    assert "300 categories in 600 rows" in columns[0].note
    assert "{'data.columns.city': 'categorical'}" in columns[0].note
    assert kinds({"city": [f"c{i % 300}" for i in range(1500)]}) == {"city": "categorical"}


def test_mixed_types_name_rows_and_values():
    values = [str(i) for i in range(N)]
    values[7], values[31] = "12 mm", "broken"
    message = refusal({"width": values})
    assert "58 values are numbers, but rows 7, 31 hold '12 mm', 'broken'" in message
    assert "data.missing" in message
    assert "{'data.columns.width': 'categorical'}" in message
    assert kinds({"width": values}, missing=("12 mm", "broken")) == {"width": "numeric"}
    assert kinds({"width": values}, columns={"width": "categorical"}) == {"width": "categorical"}


def test_mixed_dates_name_rows_and_values():
    values = [f"2024-01-{i % 28 + 1:02d}" for i in range(N)]
    values[3] = "soon"
    assert "59 values are dates, but row 3 holds 'soon'" in refusal({"when": values})


def test_infinities_name_their_rows():
    values = np.arange(N, dtype=float)
    values[[4, 9]] = np.inf, -np.inf
    assert "rows 4, 9 hold infinite values" in refusal({"x": values})
    assert "row 0 holds infinite values" in refusal({"x": ["inf", *map(str, range(N))]})
    assert "numbers beyond 1e+150" in refusal({"x": [1e200, 1.0, 2.0]})


def test_all_problems_are_reported_at_once():
    message = refusal(
        {"x": [1.0, np.inf] * 20, "soon": ["2024-01-31"] * 39 + ["soon"], "tags": [[1]] * 40},
        columns={"color": "ignore"},
    )
    assert "4 problems" in message
    for word in ("'x'", "'soon'", "'tags'", "'color'"):
        assert word in message


def test_the_nearest_name_is_suggested_for_an_unknown_column():
    assert "did you mean 'price'?" in refusal({"price": [1.0, 2.0]}, columns={"prise": "ignore"})


@pytest.mark.parametrize("kind", ["numeric", "boolean", "date"])
def test_a_declared_kind_that_does_not_fit_names_the_values(kind):
    message = refusal({"a": ["1", "apple", "0"]}, columns={"a": kind})
    assert "'apple'" in message
    assert "row" in message


def test_the_reasons_are_given_if_no_column_is_left():
    message = refusal({"a": [1] * 5, "b": [None] * 5})
    assert "no column is left" in message
    assert "always 1" in message
    assert "every value is missing" in message


@pytest.mark.parametrize("start", [0, 1, -7, 5000, 2**60])
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize(
    "as_column", [list, lambda values: list(map(str, values)), lambda values: pl.Series(values)]
)
def test_a_column_that_counts_the_rows_is_not_used(start, order, as_column):
    numbers = [start + i for i in range(30)]
    if order != "ascending":
        numbers = (
            numbers[::-1] if order == "descending" else np.random.default_rng(0).permutation(numbers).tolist()
        )
    frame = pl.DataFrame({"n": as_column(numbers), "x": np.arange(30) ** 2})
    columns, parsed = infer(frame, DataSettings())
    assert [column.kind for column in columns] == ["identifier", "numeric"]
    assert parsed.columns == ["x"]
    assert f"{start} to {start + 29}" in columns[0].note
    assert "{'data.columns.n': 'numeric'} keeps it" in columns[0].note


def test_a_counter_that_is_declared_a_number_is_used():
    frame = {"n": range(1, 31), "x": np.arange(30) ** 2}
    assert kinds(frame, columns={"n": "numeric"}) == {"n": "numeric", "x": "numeric"}


@pytest.mark.parametrize("name", ["day", "t", "x", "hour of the trial", "time_s", "Age"])
def test_a_counter_with_the_name_of_a_quantity_is_used(name):
    columns, _ = infer(pl.DataFrame({name: range(30), "z": np.arange(30) ** 2}), DataSettings())
    assert columns[0].kind == "numeric"
    assert "looks like a row number" in columns[0].note


def test_years_are_no_counter():
    assert kinds({"season": range(1990, 2021), "z": np.arange(31) ** 2})["season"] == "numeric"
    assert kinds({"row_id": range(1990, 2021), "z": np.arange(31) ** 2})["row_id"] == "identifier"


def test_a_counter_is_used_if_nothing_else_is_left():
    columns, parsed = infer(pl.DataFrame({"n": range(30), "always": [1] * 30}), DataSettings())
    assert [column.kind for column in columns] == ["numeric", "constant"]
    assert "looks like a row number" in columns[0].note
    assert parsed["n"].to_list() == list(range(30))


def test_ranks_are_no_counters():
    rng = np.random.default_rng(0)
    frame = {"a": rng.permutation(50), "b": rng.permutation(50), "id": rng.permutation(50)}
    assert kinds(frame) == {"a": "numeric", "b": "numeric", "id": "identifier"}
    assert kinds({"a": frame["a"], "z": np.arange(50) ** 2})["a"] == "identifier"


def test_pixels_are_never_left_out():
    frame = pl.DataFrame({"id": range(30), "x": np.arange(30) ** 2})
    columns, _ = infer(frame, DataSettings(), keep_constant=True)
    assert [column.kind for column in columns] == ["numeric", "numeric"]


def test_names_of_the_inputs_of_a_column():
    assert Column("a", "numeric", indicator=True).inputs == ("a", "a is missing")
    assert Column("a", "categorical", ("x", "y")).inputs == ("a=x", "a=y")
    assert Column("a", "constant").inputs == ()


@pytest.mark.parametrize("as_column", [pl.Series, lambda values: pl.Series(list(map(str, values)))])
def test_different_integers_beyond_double_precision_are_neither_constant_nor_merged(as_column):
    codes = [2**60 + at % 20 for at in range(N)]
    message = refusal({"id": as_column(codes)})
    assert "'id'" in message
    assert f"from {2**60} to {2**60 + 19}" in message
    assert "{'data.columns.id': 'categorical'}" in message
    assert "different integers" in refusal({"id": as_column(codes)}, columns={"id": "numeric"})
    _, parsed = infer(pl.DataFrame({"id": as_column(codes)}), DataSettings(columns={"id": "categorical"}))
    assert parsed["id"].to_list() == list(map(str, codes))


def test_large_integers_with_a_wide_range_are_numbers():
    nanoseconds = [1_700_000_000_000_000_000 + 10**9 * at for at in range(N)]
    assert kinds({"t": nanoseconds, "same": [2**60 + 1] * N}) == {"t": "numeric", "same": "constant"}
