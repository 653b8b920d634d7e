import importlib

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import descend
from descend.data.arrow_orders import stored_order
from descend.data.ordered import enum_of, order_of, ordered_strings
from descend.data.preparation import prepare
from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

SIZES = ["S", "M", "L"]
VALUES = [SIZES[at % 3] for at in range(60)]
TARGETS = [at % 3 + 0.1 * (at % 5) for at in range(60)]


def forms():
    pandas = importlib.import_module("pandas")
    arrow = importlib.import_module("pyarrow")
    codes = arrow.DictionaryArray.from_arrays([at % 3 for at in range(60)], SIZES, ordered=True)
    return {
        "pandas": pandas.DataFrame({"size": pandas.Categorical(VALUES, SIZES, ordered=True), "y": TARGETS}),
        "polars": pl.DataFrame({"size": pl.Series(VALUES, dtype=pl.Enum(SIZES)), "y": TARGETS}),
        "lazy": pl.LazyFrame({"size": pl.Series(VALUES, dtype=pl.Enum(SIZES)), "y": TARGETS}),
        "arrow": arrow.table({"size": codes, "y": TARGETS}),
    }


@pytest.mark.parametrize("form", ["pandas", "polars", "lazy", "arrow"])
def test_the_order_of_a_type_is_kept(form):
    prepared = prepare(read(forms()[form], target="y"))
    (column,) = prepared.schema.columns
    assert column.ordered
    assert column.categories == ("S", "M", "L")
    assert prepared.preprocess.names == ("size>=S", "size>=M", "size>=L")
    expected = torch.tensor(
        [[float(at <= row % 3) for at in range(3)] for row in prepared.train.rows.tolist()]
    )
    assert torch.equal(prepared.train.inputs, expected)
    assert Schema.from_json(prepared.schema.to_json()) == prepared.schema


def test_the_order_is_declared_for_other_data(tmp_path):
    frame = pl.DataFrame({"size": ["1", "10", None, "2"] * 10, "y": [0.5, 3.5, 1.0, 2.5] * 10})
    frame.write_csv(tmp_path / "a.csv")
    settings = DataSettings(columns={"size": ("1", "2", "10")})
    for data in (tmp_path / "a.csv", frame, frame.to_dicts()):
        prepared = prepare(read(data, target="y", settings=settings), settings)
        assert prepared.schema.columns[0].categories == ("1", "2", "10")
        of_integers = DataSettings(columns={"size": (1, 2, 10)})
        assert prepare(read(data, target="y", settings=of_integers), of_integers).schema == prepared.schema
        assert "ordered: 1 < 2 < 10" in prepared.schema.columns[0].note
        shown = prepared.schema.matrix({"size": ["10", 2, 1.0, None, "7"]})
        assert Preprocess(prepared.schema)(shown).tolist() == [
            [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0],
        ]  # fmt: skip


def test_other_columns_keep_their_inputs():
    frame = pl.DataFrame(
        {"a": ["u", "v", "w"] * 20, "size": pl.Series(VALUES, dtype=pl.Enum(SIZES)), "y": TARGETS}
    )
    both = prepare(read(frame, target="y"))
    alone = prepare(read(frame.drop("size"), target="y"))
    assert torch.equal(both.train.inputs[:, :3], alone.train.inputs)


def test_categories_without_training_rows_and_more_than_the_limit_are_kept():
    order = tuple(f"c{at:03d}" for at in range(100))
    values = [order[at % 90] for at in range(300)]
    settings = DataSettings(columns={"c": order})
    prepared = prepare(read({"c": values, "y": [at % 7 * 1.5 for at in range(300)]}, target="y"), settings)
    assert prepared.schema.columns[0].categories == order


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (("S", "M"), r"expected one of the ordered categories 'S', 'M', but rows 2, 5, .* hold 'L'"),
        (("S",), "an order needs at least two categories"),
        (("S", "M", "L", "M "), "'M' occurs twice"),
    ],
)
def test_orders_that_do_not_fit_are_refused(order, message):
    settings = DataSettings(columns={"size": order})
    with pytest.raises(DataError, match=message):
        prepare(read({"size": VALUES, "y": TARGETS}, target="y"), settings)


def test_a_declared_kind_overrides_the_order_of_a_type():
    series = pl.Series("size", VALUES, dtype=pl.Enum(SIZES))
    assert order_of(series, None) == order_of(series, "categorical") == ("S", "M", "L")
    assert order_of(series, "ignore") is None
    assert order_of(series.cast(pl.String), "categorical") is None


def test_a_category_may_look_like_a_missing_value():
    strings = ordered_strings(
        pl.Series("pain", ["None", " mild", "NA", None]), ("None", "mild"), ("None", "NA")
    )
    assert strings.to_list() == ["None", "mild", None, None]
    frame = pl.DataFrame(
        {"pain": pl.Series(["None", "mild"] * 20, dtype=pl.Enum(["None", "mild"])), "y": [0, 1] * 20}
    )
    schema = prepare(read(frame, target="y")).schema
    assert schema.matrix({"pain": ["None", "mild"]}).tolist() == [[0.0], [1.0]]


def test_categories_of_other_types():
    assert enum_of("n", [3, None, 1], [3, 1]).to_list() == ["3", None, "1"]
    assert enum_of("n", [1.5, 2.0], [1.5, 2.0]).to_list() == ["1.5", "2"]
    import pandas

    cut = pandas.DataFrame({"size": pandas.cut(np.arange(60), 3), "y": TARGETS})
    (column,) = prepare(read(cut, target="y")).schema.columns
    assert column.ordered
    assert len(column.categories) == 3


@pytest.mark.slow
def test_exports_use_the_order(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    run = descend.train(forms()["polars"], {"stop": {"max_epochs": 3}}, target="y")
    sizes = np.array(["S", "M", "L", "", "XL"], dtype=object)
    expected = run.predict({"size": sizes})
    run.export("onnx", tmp_path / "a.onnx")
    (found,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"size": sizes})
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert len(set(expected[:3].tolist())) == 3


@pytest.mark.parametrize(
    ("series", "order"),
    [
        (pl.Series("a", [True, False]), ("False", "True")),
        (pl.Series("a", ["true", "FALSE"]), ("False", "True")),
        (pl.Series("a", ["2.0", "1.0"]), ("1", "2")),
        (pl.Series("a", [2.0, 1.0]), ("1", "2")),
    ],
)
def test_ordered_categories_in_another_form(series, order):
    assert ordered_strings(series, order, ()).to_list() == [order[1], order[0]]


def test_a_string_for_missing_values_in_the_order_is_a_category_in_a_file(tmp_path):
    frame = pl.DataFrame({"size": [["NA", "S", "M"][at % 3] for at in range(60)], "y": TARGETS})
    frame.write_csv(tmp_path / "a.csv")
    settings = DataSettings(columns={"size": ("NA", "S", "M")})
    for data in (frame, tmp_path / "a.csv"):
        column = prepare(read(data, target="y", settings=settings), settings).schema.columns[0]
        assert (column.categories, column.missing) == (("NA", "S", "M"), 0)


@pytest.mark.parametrize("files", [1, 2])
def test_a_streamed_file_has_the_order_of_its_type(files, tmp_path):
    sizes = ["S", "M", "L"] * 20
    path = tmp_path / "rows" if files > 1 else tmp_path / "rows.parquet"
    if files > 1:
        path.mkdir()
    for number in range(files):
        frame = pd.DataFrame({"size": pd.Categorical(sizes, ["S", "M", "L"], ordered=True), "y": range(60)})
        frame.to_parquet(path / f"{number}.parquet" if files > 1 else path)
    schemas = [
        descend.train(path, {"data.stream": each, "stop.max_epochs": 1}, target="y").schema
        for each in (False, True)
    ]
    assert [each.columns[0].ordered for each in schemas] == [True, True]
    assert [each.columns[0].categories for each in schemas] == [("S", "M", "L"), ("S", "M", "L")]


def test_streamed_files_with_different_orders_have_none(tmp_path):
    for number, order in enumerate((["S", "M", "L"], ["L", "M", "S"])):
        column = pd.Categorical(["S", "M", "L"] * 10, order, ordered=True)
        pd.DataFrame({"size": column, "y": range(30)}).to_parquet(tmp_path / f"{number}.parquet")
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    assert stored_order(files[:1], "size") == ("S", "M", "L")
    assert stored_order(files, "size") is None
    assert stored_order(files, "y") is None
