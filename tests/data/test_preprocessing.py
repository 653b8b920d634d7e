import datetime as dt
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from descend.data.columns import Column
from descend.data.preparation import prepare
from descend.data.preprocessing import Postprocess, Preprocess
from descend.data.scaling import standard
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read

RANDOM = np.random.default_rng(0)
N = 60


def table_schema(columns, clip=None):
    width = sum(len(column.inputs) for column in columns)
    return Schema(
        "table",
        "regression",
        "",
        (width,),
        1,
        ("y",),
        tuple(columns),
        target_mean=(0.0,),
        target_scale=(1.0,),
        clip=clip,
    )


def test_a_large_offset_costs_no_precision():
    offset = 1e9
    small = RANDOM.normal(size=(10_000, 1))
    rows = small + offset
    exact = (rows - offset).astype(np.longdouble)
    shift, spread = standard(rows)
    assert abs((shift[0] - offset) - float(exact.mean())) < 1e-7
    assert abs(spread[0] - float(exact.std())) < 1e-9
    column = Column("x", "numeric", mean=float(shift[0]), scale=float(spread[0]))
    encoded = Preprocess(table_schema([column]))(torch.from_numpy(rows))
    expected = (exact - exact.mean()) / exact.std()
    np.testing.assert_allclose(encoded.numpy(), expected.astype(np.float64), atol=3e-7)
    naive = (torch.from_numpy(rows).float() - float(shift[0])) / float(spread[0])
    assert float((naive - encoded).abs().max()) > 1  # centering in float32 would lose all precision


def test_imputation_indicators_one_hot_and_booleans_by_hand():
    columns = [
        Column("n", "numeric", indicator=True, fill=4.0, mean=2.0, scale=2.0),
        Column("c", "categorical", categories=("a", "b"), indicator=True),
        Column("t", "boolean", fill=0.5, mean=0.5, scale=0.5),
        Column("d", "date", mean=10.0, scale=5.0, fill=10.0),
        Column("gone", "constant"),
    ]
    module = Preprocess(table_schema(columns))
    assert module.names == ("n", "t", "d", "c=a", "c=b", "n is missing", "c is missing")
    gap = float("nan")
    rows = torch.tensor([[6.0, 1, 1, 15], [gap, gap, gap, gap], [0.0, -1, 0, 10]], dtype=torch.float64)
    assert module(rows).tolist() == [
        [2.0, 1, 1, 0, 1, 0, 0],
        [1.0, 0, 0, 0, 0, 1, 1],
        [-1.0, -1, 0, 0, 0, 0, 0],
    ]
    assert module(rows).dtype == torch.float32


def test_the_smooth_bound():
    columns = [Column("n", "numeric"), Column("t", "boolean", fill=0.5, mean=0.5, scale=0.5)]
    module = Preprocess(table_schema(columns, clip=3.0))
    values = torch.tensor([-1e150, -3.0, -0.01, 0.0, 0.01, 3.0, 1e6, 1e150], dtype=torch.float64)
    result = module(torch.stack([values, torch.ones(8, dtype=torch.float64)], 1))
    assert (result[:, 1] == 1).all()  # booleans are not compressed
    bounded = result[:, 0].double()
    assert bounded.abs().max() <= 3
    assert (bounded.diff() >= 0).all()
    torch.testing.assert_close(bounded[2:5], values[2:5], rtol=1e-5, atol=0)
    assert bounded[5] == pytest.approx(3 / 2**0.5, rel=1e-6)


def sources():
    mixed = {
        "number": [None if i % 9 == 0 else i / 7 for i in range(N)],
        "color": [("red", "blue", None)[i % 3] for i in range(N)],
        "truth": [None if i % 11 == 0 else i % 2 == 0 for i in range(N)],
        "day": [f"2024-01-{i % 28 + 1:02d}" for i in range(N)],
        "y": [i * 0.1 for i in range(N)],
    }
    classes = np.arange(N) % 3
    minutes = RANDOM.integers(-(10**8), 10**8, N)
    dates = {
        "when": [
            None if i % 8 == 0 else dt.datetime(1970, 1, 1) + dt.timedelta(minutes=int(minutes[i]))
            for i in range(N)
        ],
        "at": [dt.time(i % 24, i % 60, i % 7) for i in range(N)],
        "z": RANDOM.normal(size=N),
    }
    return {
        "dates": (read((dates, classes)), DataSettings()),
        "mixed": (read(mixed, target="y"), DataSettings(clip=2.5)),
        "numbers": (read((RANDOM.normal(size=(N, 5)), classes)), DataSettings()),
        "texts": (read(({"a": ["x", "y", "z"] * 20, "b": ["u", None] * 30}, classes)), DataSettings()),
        "digits": (read("digits"), DataSettings()),
        "images": (read((RANDOM.integers(0, 256, (N, 3, 6, 5), dtype=np.uint8), classes)), DataSettings()),
        "entries": (read((RANDOM.normal(size=(N, 3, 2)) * 9 + 4, classes)), DataSettings()),
        "channels": (read((RANDOM.normal(size=(N, 3, 4, 4)), classes)), DataSettings(scale="none")),
    }


@pytest.mark.parametrize("name", sources())
def test_the_module_gives_the_bits_used_in_training(name):
    source, settings = sources()[name]
    prepared = prepare(source, settings)
    rebuilt = Preprocess(Schema.from_json(prepared.schema.to_json()))
    matrix = prepared.schema.matrix(source)
    encoded = rebuilt(matrix)
    for part in (prepared.train, prepared.validation, prepared.test):
        assert torch.equal(encoded[part.rows], part.inputs)
    assert torch.equal(torch.cat([rebuilt(row[None]) for row in matrix[:50]]), encoded[:50])
    assert encoded.shape[1:] == prepared.schema.input_shape
    assert len(rebuilt.state_dict()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sources())
def test_export_is_bit_exact_with_any_number_of_rows(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    source, settings = sources()[name]
    prepared = prepare(source, settings)
    matrix = prepared.schema.matrix(source)
    expected = prepared.preprocess(matrix)
    shapes = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(prepared.preprocess, (matrix[:3],), dynamic_shapes=shapes)
    for size in (1, 2, N):
        assert torch.equal(program.module()(matrix[:size]), expected[:size])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the ONNX exporter warns about its own deprecation
        path = tmp_path / "model.onnx"
        torch.onnx.export(
            prepared.preprocess, (matrix[:3],), path, dynamo=True, dynamic_shapes=shapes, verbose=False
        )
    session = onnxruntime.InferenceSession(path)
    for size in (1, 2, N):
        (result,) = session.run(None, {session.get_inputs()[0].name: matrix[:size].numpy()})
        np.testing.assert_array_equal(result, expected[:size].numpy())


def test_the_bound_applies_to_standardized_numbers_only():
    source = read((RANDOM.normal(size=(40, 3)), np.arange(40) % 2))
    assert prepare(source).schema.clip == DataSettings().clip == 10.0
    assert prepare(source, DataSettings(clip="none")).schema.clip is None
    assert prepare(source, DataSettings(scale="none", clip=3.0)).schema.clip is None


@pytest.mark.parametrize("form", ["logits", "probabilities"])
@pytest.mark.parametrize("classes", [2, 4])
def test_postprocess_agrees_with_the_schema(form, classes):
    schema = prepare(read((RANDOM.normal(size=(60, 2)), np.arange(60) % classes))).schema
    outputs = torch.rand(7, schema.outputs)
    assert isinstance(Postprocess(schema, form), nn.Module)
    assert torch.equal(Postprocess(schema, form)(outputs), schema.probabilities(outputs, form))


def test_postprocess_of_a_regression_agrees_with_the_schema():
    schema = prepare(read((RANDOM.normal(size=(60, 2)), RANDOM.normal(size=(60, 3)) * 9 + 4))).schema
    outputs = torch.randn(7, 3)
    np.testing.assert_array_equal(Postprocess(schema)(outputs).numpy(), schema.decode(outputs))
