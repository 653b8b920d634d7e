from decimal import Decimal

import numpy as np
import onnxruntime
import polars as pl
import pytest

import descend
from descend.data.missing_numbers import missing_numbers, without_missing_numbers
from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

WORDS = ("", "-999")
DATA = {"missing": WORDS}
RECIPE = {"stop": {"max_epochs": 1}, "data": DATA}
SIZES = [-999.0 if at % 5 == 0 else at * 0.25 for at in range(60)]
KNOWN = [size for size in SIZES if size != -999]
TARGETS = [at * 0.5 for at in range(60)]
FRAME = pl.DataFrame({"size": SIZES, "age": [at % 7 for at in range(60)], "price": TARGETS})


def forms(folder):
    FRAME.write_csv(folder / "a.csv")
    FRAME.write_parquet(folder / "a.parquet")
    strings = FRAME.with_columns(pl.col("size").cast(pl.String))
    short = FRAME.with_columns(size=pl.col("size").cast(pl.String).str.replace(r"\.0$", ""))
    decimals = FRAME.with_columns(pl.col("size").cast(pl.Decimal(10, 2)))
    return [folder / "a.csv", folder / "a.parquet", FRAME, FRAME.to_dicts(), strings, short, decimals]


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        (["", "NA", "nan", "inf", "-", "1_0", "0x1"], ()),
        (["-999", "-999.0", " 1e3 ", ".5", "9" * 20], (-999, -999, 1000, 0.5, int("9" * 20))),
        ({"size": ["-1"]}, (-1,)),
        ({"age": ["-1"]}, ()),
    ],
)
def test_words_that_are_numbers(missing, found):
    assert missing_numbers(missing, "size") == found


@pytest.mark.parametrize(
    ("values", "words", "rest"),
    [
        (pl.Series("a", [1, -999, None]), ["-999"], [1, None, None]),
        (pl.Series("a", [1.5, -999.0]), ["-999"], [1.5, None]),
        (pl.Series("a", [1, 2**53, 2**53 + 1]), [str(2**53 + 1)], [1, 2**53, None]),
        (pl.Series("a", [0, 2**64 - 1], dtype=pl.UInt64), [str(2**64 - 1), "-1"], [0, None]),
        (pl.Series("a", [Decimal("1.10"), Decimal("9.90")]), ["9.9"], [Decimal("1.10"), None]),
        (pl.Series("a", [None, None], dtype=pl.Float64), ["-999"], [None, None]),
    ],
)
def test_columns_without_these_numbers(values, words, rest):
    found = without_missing_numbers(values, words)
    assert found.to_list() == rest
    assert found.dtype == values.dtype


@pytest.mark.parametrize("at", range(7))
def test_a_number_is_missing_in_every_form_of_the_data(tmp_path, at):
    source = read(forms(tmp_path)[at], target="price", settings=DataSettings(missing=WORDS))
    size = prepare(source, DataSettings(missing=WORDS)).schema.columns[0]
    assert (size.missing, size.low, size.high) == (12, min(KNOWN), max(KNOWN))


def test_predictions_agree_in_every_form_and_in_onnx(tmp_path):
    run = descend.train(FRAME, RECIPE, target="price", seed=0)
    expected = run.predict(FRAME.with_columns(size=pl.when(pl.col("size") != -999).then("size")))
    for data in forms(tmp_path):
        np.testing.assert_array_equal(run.predict(data), expected)
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "a.onnx"))
    feed = {name: FRAME[name].cast(pl.Float64).to_numpy() for name in ("size", "age")}
    np.testing.assert_allclose(session.run(None, feed)[0], expected, rtol=1e-5)


def test_predictions_of_an_array_agree_in_onnx(tmp_path):
    inputs = FRAME.select("size", "age").to_numpy()
    run = descend.train((inputs, np.array(TARGETS)), RECIPE, seed=0)
    absent = np.where(inputs == -999, np.nan, inputs)
    expected = run.predict(absent)
    np.testing.assert_array_equal(run.predict(inputs), expected)
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "a.onnx"))
    np.testing.assert_allclose(session.run(None, {"rows": inputs})[0], expected, rtol=1e-5)


def test_a_target_of_numbers_may_be_missing(tmp_path):
    frame = FRAME.with_columns(price=pl.when(pl.col("age") == 3).then(-999.0).otherwise("price"))
    frame.write_csv(tmp_path / "a.csv")
    for data in (frame, tmp_path / "a.csv"):
        with pytest.raises(DataError, match=r"target 'price': rows 3, 10, .* have no value"):
            descend.train(data, RECIPE, target="price")


def test_a_column_with_this_number_in_every_row_is_empty():
    frame = FRAME.with_columns(size=pl.lit(-999))
    columns = prepare(read(frame, target="price"), DataSettings(missing=WORDS)).schema.columns
    assert (columns[0].kind, columns[0].missing) == ("empty", 60)
