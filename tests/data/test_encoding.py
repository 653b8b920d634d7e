import numpy as np
import polars as pl
import pytest

from descend.data.columns import Column, infer
from descend.data.encoding import OTHER, conform, encode, fit_categories
from descend.data.settings import MISSING, DataSettings
from descend.errors import DataError


def fit(frame, rows=None, **options):
    frame, settings = pl.DataFrame(frame), DataSettings(**options)
    columns, parsed = infer(frame, settings)
    rows = np.arange(len(frame)) if rows is None else np.asarray(rows)
    return fit_categories(columns, parsed, rows, settings), parsed


def test_codes_of_missing_and_unseen_categories():
    columns, parsed = fit({"c": ["b", "a", None, "b"]})
    assert columns[0].categories == ("a", "b")
    assert columns[0].indicator
    np.testing.assert_array_equal(encode(parsed, columns)[:, 0], [1, 0, np.nan, 1])
    new = conform(pl.DataFrame({"c": ["z", "a", "?", " b "]}), columns, MISSING)
    np.testing.assert_array_equal(encode(new, columns)[:, 0], [-1, 0, np.nan, 1])


def test_categories_come_from_the_training_rows_only():
    columns, parsed = fit({"c": ["a", "b", "c", "a"]}, rows=[0, 1])
    assert columns[0].coded == ("a", "b")
    assert columns[0].inputs == ("c=a", "c=b")
    assert columns[0].categories == ("a", "b", "c")
    assert columns[0].unseen == 1
    assert encode(parsed, columns)[2, 0] == -1


def test_a_column_that_is_constant_in_the_training_rows_is_not_used():
    columns, _ = fit({"c": ["a", "a", "b"], "d": [None, None, "x"], "x": [1.0, 2.0, 3.0]}, rows=[0, 1])
    assert [column.kind for column in columns] == ["constant", "empty", "numeric"]
    assert "in the training rows" in columns[0].note


def test_rare_categories_are_pooled():
    values = [f"c{i}" for i in range(100) for _ in range(100 - i)]
    columns, parsed = fit({"c": values})
    (column,) = columns
    assert len(column.categories) == 64
    assert column.categories[-1] == OTHER
    assert set(column.categories[:-1]) == {f"c{i}" for i in range(63)}
    assert "100 categories" in column.note
    assert "pooled" in column.note
    codes = encode(parsed, columns)[:, 0]
    np.testing.assert_array_equal(codes == 63, [int(value[1:]) >= 63 for value in values])
    new = conform(pl.DataFrame({"c": ["never seen", "c99", "c0"]}), columns, MISSING)
    assert encode(new, columns)[:, 0].tolist() == [63, 63, column.categories.index("c0")]


def test_a_category_named_other_is_distinct_from_the_pool():
    values = [name for i in range(100) for name in [f"c{i}"] * (100 - i)] + [OTHER] * 500
    (column,), _ = fit({"c": values})
    assert OTHER in column.categories[:-1]
    assert len(set(column.categories)) == 64


def test_columns_are_found_by_name_and_additional_ones_ignored():
    columns, parsed = fit({"a": [1.0, 2.0], "b": ["x", "y"]})
    shuffled = pl.DataFrame({"extra": [0, 0], "b": ["x", "y"], "a": [1, 2]})
    np.testing.assert_array_equal(
        encode(conform(shuffled, columns, MISSING), columns), encode(parsed, columns)
    )


def test_unused_columns_are_optional():
    columns, _ = fit({"a": [1.0, 2.0], "same": [1, 1], "id": ["x", "y"]}, columns={"id": "ignore"})
    assert encode(conform(pl.DataFrame({"a": [5]}), columns, MISSING), columns).tolist() == [[5.0]]


def test_numbers_as_strings_and_strings_as_numbers():
    columns, _ = fit({"a": [1.5, 2.0], "c": ["1", "2"], "t": [True, False]}, columns={"c": "categorical"})
    new = pl.DataFrame({"a": ["1.5", " 2e1 "], "c": [2, 1], "t": ["false", "1"]})
    assert encode(conform(new, columns, MISSING), columns).tolist() == [[1.5, 1, 0], [20, 0, 1]]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"b": [1.0]}, ["'a'", "missing", "'b'"]),
        ({"prize": [1.0], "a": [1.0]}, ["did you mean 'prize'?"]),
        ({"a": ["tall"], "price": [1]}, ["'a'", "expected numbers", "'tall'", "row 0"]),
        ({"a": [float("inf")], "price": [1]}, ["'a'", "infinite"]),
        ({"a": [[1]], "price": [1]}, ["'a'"]),
    ],
)
def test_new_rows_that_do_not_fit_are_refused(new, message):
    columns, _ = fit({"a": [1.0, 2.0], "price": [3.0, 4.0]})
    with pytest.raises(DataError) as caught:
        conform(pl.DataFrame(new), columns, MISSING)
    for word in message:
        assert word in str(caught.value)


def test_the_matrix_is_row_major_and_writeable():
    columns, parsed = fit({"a": [1.0, 2.0], "b": [3.0, 4.5]})
    matrix = encode(parsed, columns)
    assert matrix.flags.c_contiguous
    assert matrix.flags.writeable
    assert matrix.dtype == np.float64


def test_large_integers_match_the_categories_of_older_schemas():
    column = Column("id", "categorical", ("1.152921504606847e+18", "3"))
    for values in (pl.Series("id", [2**60, 2**60 + 1, 3, 4]), pl.Series("id", [2.0**60, 2.0**60, 3.0, 4.0])):
        assert conform(pl.DataFrame([values]), [column], ())["id"].to_list() == [
            *["1.152921504606847e+18"] * 2, "3", "4",
        ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_categories_of_single_precision_have_its_digits(dtype):
    values = np.array([0.1, 0.25, 0.7, 3.0, 0.1], dtype=dtype)
    columns, _ = fit({"c": values}, columns={"c": "categorical"})
    strings = ["0.1", "0.25", "0.7", "3", "0.1"]
    if dtype == np.float16:
        strings = [
            str(float(np.float32(value))) if value != 3 else "3" for value in values.astype(np.float32)
        ]
        strings = [
            one if one in ("3", "0.25") else str(np.float32(value))
            for one, value in zip(strings, values, strict=True)
        ]
    assert set(columns[0].categories) == set(strings)
    of_strings, of_numbers = (
        encode(conform(pl.DataFrame({"c": one}), columns, MISSING), columns) for one in (strings, values)
    )
    assert of_strings.tolist() == of_numbers.tolist()
    assert of_numbers.min() >= 0


def test_older_categories_of_single_precision_are_found():
    older = [Column("c", "categorical", ("0.10000000149011612", "0.25"))]
    values = pl.DataFrame({"c": np.array([0.1, 0.25], dtype=np.float32)})
    assert encode(conform(values, older, MISSING), older).tolist() == [[0.0], [1.0]]


def test_zero_with_a_sign_is_zero():
    columns, _ = fit({"c": [-0.0, 0.0, 1.0]}, columns={"c": "categorical"})
    assert columns[0].categories == ("0", "1")
    found = encode(conform(pl.DataFrame({"c": ["-0.0", "-0", "0", "1"]}), columns, MISSING), columns)
    assert found.tolist() == [[0.0], [0.0], [0.0], [1.0]]
