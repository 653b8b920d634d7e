import datetime as dt
import decimal

import numpy as np
import pandas
import polars as pl
import pyarrow
import pytest
import torch

from descend.data.arrays import as_targets
from descend.data.columns import infer
from descend.data.frames import as_frame, frame_of_array, is_frame, take
from descend.data.settings import DataSettings
from descend.errors import DataError

DAYS = [dt.datetime(2024, 1, day) for day in (1, 2, 3)]


def pandas_frame():
    return pandas.DataFrame(
        {
            "float": [1.5, None, 2.5],
            "integer": [1, 2, 3],
            "nullable": pandas.array([1, None, 3], dtype="Int64"),
            "truth": [True, False, True],
            "nullable truth": pandas.array([True, None, False], dtype="boolean"),
            "category": pandas.Categorical(["b", None, "a"]),
            "number category": pandas.Categorical([1, 2, 1]),
            "text": ["x", None, "y"],
            "object": ["x", 3, None],
            "day": pandas.to_datetime(DAYS),
            "zoned": pandas.to_datetime(DAYS).tz_localize("Europe/Paris"),
            "gap day": pandas.to_datetime([DAYS[0], None, DAYS[2]]),
            "span": pandas.to_timedelta([1, 2, 3], unit="D"),
            "date": [day.date() for day in DAYS],
            "decimal": [decimal.Decimal("1.5"), None, decimal.Decimal(2)],
            7: [1, 2, 3],
        },
        index=[10, 20, 30],
    )


def test_pandas_columns_of_every_type():
    frame = as_frame(pandas_frame())
    assert frame.columns[-1] == "7"
    assert frame["float"].to_list()[::2] == [1.5, 2.5]
    assert frame["integer"].dtype == pl.Int64
    assert frame["nullable"].to_list()[::2] == [1, 3]
    assert frame["truth"].to_list() == [True, False, True]
    assert frame["nullable truth"].to_list() == [True, None, False]
    assert frame["category"].to_list() == ["b", None, "a"]
    assert frame["number category"].to_list() == [1, 2, 1]
    assert frame["text"].to_list() == ["x", None, "y"]
    assert frame["object"].to_list() == ["x", "3", None]
    assert frame["day"].to_list() == DAYS
    assert frame["zoned"].dt.convert_time_zone("UTC").dt.replace_time_zone(None)[0] == DAYS[0] - dt.timedelta(
        hours=1
    )
    assert frame["zoned"].dtype == pl.Datetime("us", "Europe/Paris")
    assert frame["gap day"].to_list() == [DAYS[0], None, DAYS[2]]
    assert frame["span"][1] == dt.timedelta(days=2)
    assert frame["date"].to_list() == DAYS
    assert frame["decimal"].to_list() == [1.5, None, 2.0]
    assert infer(frame, DataSettings())[0]


def test_pandas_needs_no_pyarrow(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert as_frame(pandas_frame()[["float", "integer", "truth", "category", "day"]]).shape == (3, 5)


def test_every_library_gives_the_same_frame():
    content = {"number": [1.5, 2.5, None], "text": ["a", None, "b"], "truth": [True, False, True]}
    expected = pl.DataFrame(content)
    for given in (
        expected,
        expected.lazy(),
        pandas.DataFrame(content),
        pyarrow.table(content),
        content,
        {name: np.array(values, dtype=object) for name, values in content.items()},
        [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)],
    ):
        assert as_frame(given).fill_nan(None).equals(expected), type(given)


def test_a_dictionary_may_hold_arrays_tensors_and_single_values():
    frame = as_frame({"a": np.arange(3), "b": torch.arange(3.0), "c": pl.Series([1, 2, 3]), "d": "x", "e": 2})
    assert frame.rows() == [(0, 0.0, 1, "x", 2.0), (1, 1.0, 2, "x", 2.0), (2, 2.0, 3, "x", 2.0)]
    assert as_frame({"a": 1, "b": "x"}).rows() == [(1.0, "x")]


def test_records_may_have_any_keys_and_tensors_are_tables():
    assert as_frame([{1: "a", "b": 2}, {1: "c"}]).rows() == [("a", 2.0), ("c", None)]
    assert as_frame(torch.ones(2, 2)).shape == (2, 2)
    with pytest.raises(DataError, match="rows have equal lengths"):
        as_frame([[1, 2], [3]])
    with pytest.raises(DataError, match="cannot be collected"):
        as_frame(pl.LazyFrame({"a": [1]}).select("b"))


def test_columns_of_different_length_are_refused():
    with pytest.raises(DataError, match=r"'b' has 2 rows and another has 3"):
        as_frame({"a": [1, 2, 3], "b": [1, 2]})


def test_duplicate_names_are_refused():
    for given in (
        pandas.DataFrame([[1, 2]], columns=["a", "a"]),
        pyarrow.table([[1], [2]], names=["a", "a"]),
        {"1": [1], 1: [2]},
    ):
        with pytest.raises(DataError, match=r"'(a|1)' occurs more than once"):
            as_frame(given)


def test_multi_level_names_are_joined():
    frame = pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    assert as_frame(frame).columns == ["a x", "a y"]


def test_structured_arrays_are_tables():
    array = np.array([(1, "x"), (2, "y")], dtype=[("a", "i4"), ("b", "U1")])
    assert as_frame(array).rows() == [(1, "x"), (2, "y")]


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "longdouble", "int8", "uint16", "int64", ">f8", "bool"]
)
def test_arrays_of_every_numeric_type(dtype):
    array = np.array([[1, 0], [0, 1]]).astype(dtype)
    frame = frame_of_array(array)
    assert frame.columns == ["x0", "x1"]
    assert frame.cast(pl.Float64).rows() == [(1.0, 0.0), (0.0, 1.0)]


def test_arrays_in_every_memory_layout():
    array = np.arange(12.0).reshape(3, 4)
    for given in (
        array,
        np.asfortranarray(array),
        array[::-1][::-1],
        torch.from_numpy(array),
        array.tolist(),
    ):
        assert frame_of_array(given).to_numpy().tolist() == array.tolist()


def test_object_arrays_keep_the_types_of_columns():
    frame = frame_of_array(np.array([[1, "a"], [2.5, None]], dtype=object))
    assert frame.dtypes == [pl.Float64, pl.String]


def test_tensors_that_need_a_gradient_and_bfloat16():
    assert frame_of_array(torch.ones(2, 1, requires_grad=True)).rows() == [(1.0,), (1.0,)]
    assert frame_of_array(torch.ones(2, 1, dtype=torch.bfloat16)).rows() == [(1.0,), (1.0,)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros(3), "reshape"),
        (np.float64(3.0), "reshape"),
        (np.zeros((2, 2, 2)), "shape"),
        ([[1, 2], [3]], "rows have equal lengths"),
        (np.zeros((2, 2), dtype=complex), "Complex data not supported"),
        (np.zeros((2, 2), dtype="V3"), "column"),
    ],
)
def test_arrays_that_are_not_tables_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        frame_of_array(data)


def test_sparse_matrices_are_refused_with_advice():
    from scipy import sparse

    with pytest.raises(DataError, match="toarray"):
        frame_of_array(sparse.eye(3).tocsr())


def test_an_array_of_another_width_is_refused_with_both_widths():
    with pytest.raises(DataError, match=r"expected 3 columns.*'a', 'b', 'c'.*got an array with 2"):
        frame_of_array(np.zeros((4, 2)), ["a", "b", "c"])


def test_the_nearest_name_is_suggested_for_a_wrong_column():
    with pytest.raises(DataError, match=r"target: no column 'prise'; did you mean 'price'\?"):
        take(pl.DataFrame({"price": [1], "size": [2]}), ["prise"], "target")


def test_frames_are_recognized():
    assert is_frame(pandas.DataFrame({"a": [1]}))
    assert is_frame(pl.DataFrame({"a": [1]}))
    assert is_frame(pyarrow.table({"a": [1]}))
    for other in ([1], {"a": 1}, np.zeros(3), torch.zeros(3), "a", None, (1, 2)):
        assert not is_frame(other)


def test_large_integers_with_missing_values_stay_integers():
    column = pandas.array([2**60 + 1, None, 2**60 + 2], dtype="Int64")
    for frame in (
        pandas.DataFrame({"a": column}),
        {"a": [2**60 + 1, None, 2**60 + 2]},
        [{"a": 2**60 + 1}, {"b": 0}, {"a": 2**60 + 2}],
        pandas.DataFrame({"a": [2**60 + 1, None, 2**60 + 2]}, dtype=object),
    ):
        assert as_frame(frame)["a"].to_list() == [2**60 + 1, None, 2**60 + 2]
    nothing = pandas.DataFrame({"a": pandas.array([None, None], dtype="Int64")})
    assert (
        infer(as_frame({"x": [1.0, 2.0]}).with_columns(as_frame(nothing)), DataSettings())[0][1].kind
        == "empty"
    )


def test_integers_among_fractions_in_nested_lists_are_not_rounded():
    frame = frame_of_array([[2**60 + 1, 0.5], [2**60 + 2, 1.5]])
    assert frame.rows() == [(2**60 + 1, 0.5), (2**60 + 2, 1.5)]


def test_a_lazy_frame_is_recognized_without_a_warning():
    lazy = pl.LazyFrame({"a": [1, 2], "b": ["x", "y"]})
    assert is_frame(lazy)
    assert as_frame(lazy).rows() == [(1, "x"), (2, "y")]


def test_masked_values_are_missing_values():
    mask = [False, True, False]
    columns = {
        "f": np.ma.array([1.0, 99.0, 3.0], mask=mask),
        "i": np.ma.array([1, 99, 2**60 + 1], mask=mask),
        "b": np.ma.array([True, True, False], mask=mask),
        "s": np.ma.array(["a", "b", "c"], mask=mask),
        "d": np.ma.array(np.array(["2024-01-01"] * 3, dtype="datetime64[D]"), mask=mask),
        "none": np.ma.array([1, 2, 3]),
        "constant": [1.0, np.ma.masked, 2.0],
    }
    frame = as_frame(columns)
    for name in ("i", "b", "s", "d", "constant"):
        assert frame[name].is_null().to_list() == mask, name
    assert np.isnan(frame["f"].to_numpy()).tolist() == mask
    assert frame["i"].to_list() == [1, None, 2**60 + 1]
    assert frame["none"].to_list() == [1, 2, 3]
    table = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    assert np.isnan(as_frame(table).to_numpy()).tolist() == [[False, True], [False, False]]


def test_names_of_columns_have_no_surrounding_spaces():
    named = {" a ": [1.0], "b\u00a0": ["x"]}
    for data in (named, pl.DataFrame(named), pandas.DataFrame(named), [{" a ": 1.0, "b\u00a0": "x"}]):
        assert as_frame(data).columns == ["a", "b"]
    with pytest.raises(DataError, match="'a' occurs more than once"):
        as_frame(pl.DataFrame({"a": [1], "a ": [2]}))


def test_integers_in_records_stay_integers():
    assert as_frame([{"n": 1}, {"n": 2}])["n"].dtype == pl.Int64
    assert as_frame([{"n": 1}, {"n": None}])["n"].to_list() == [1, None]
    assert as_frame([{"n": 1}, {"n": 0.5}])["n"].dtype == pl.Float64


LARGE = 2**60
NULLABLE = [LARGE + 1, None, LARGE + 3]


@pytest.mark.parametrize(
    "values",
    [
        pandas.array(NULLABLE, dtype="Int64"),
        pandas.Series(NULLABLE, dtype="Int64"),
        pandas.array(NULLABLE, dtype="int64[pyarrow]"),
        pyarrow.array(NULLABLE),
        pyarrow.chunked_array([NULLABLE[:2], NULLABLE[2:]]),
        pl.Series(NULLABLE),
    ],
)
def test_integers_with_missing_values_in_arrays_of_other_libraries_are_not_merged(values):
    assert as_frame({"id": values})["id"].to_list() == NULLABLE
    targets, _ = as_targets(values)
    assert targets.tolist() == NULLABLE


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        (pandas.array([True, None], dtype="boolean"), [True, None]),
        (pyarrow.array([True, None]), [True, None]),
        (pandas.array(["a", None], dtype="string"), ["a", None]),
        (pandas.array([1.5, None], dtype="Float64"), [1.5, None]),
        (pandas.Categorical(["b", None]), ["b", None]),
    ],
)
def test_arrays_of_other_libraries_keep_missing_values(values, plain):
    assert as_frame({"a": values})["a"].to_list() == plain
    assert as_targets(values)[0].tolist() == plain


@pytest.mark.parametrize("wrap", [pandas.Series, lambda values: values])
def test_an_ordered_categorical_in_a_dictionary_keeps_its_order(wrap):
    values = wrap(pandas.Categorical(["S", "L", None], categories=["S", "M", "L"], ordered=True))
    series = as_frame({"size": values})["size"]
    assert series.dtype == pl.Enum(["S", "M", "L"])
    assert series.to_list() == ["S", "L", None]
