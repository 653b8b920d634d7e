import dataclasses
import json
from typing import Any

import numpy as np
import pandas
import polars as pl
import pytest
import torch

from descend.data.columns import Column
from descend.data.preparation import prepare
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError, RunError

N = 60
MIXED: dict[str, list[Any]] = {
    "number": [None if i % 9 == 0 else i / 7 for i in range(N)],
    "color": [("red", "blue", "grün", None)[i % 4] for i in range(N)],
    "truth": [i % 2 == 0 for i in range(N)],
    "day": [f"2024-01-{i % 28 + 1:02d}" for i in range(N)],
    "same": [3] * N,
    "y": [i * 0.1 for i in range(N)],
}


def schema_of(data, seed=0, **settings):
    return prepare(read(data, settings=DataSettings(**settings)), DataSettings(**settings), seed).schema


SCHEMAS = {
    "mixed": schema_of(MIXED, target="y", clip=3.0),
    "digits": schema_of("digits"),
    "binary": schema_of((np.random.default_rng(0).normal(size=(40, 2)), np.array([True, False] * 20))),
    "images": schema_of(
        (np.random.default_rng(0).integers(0, 9, (40, 6, 5), dtype=np.uint8), ["a", "b"] * 20)
    ),
    "tensor": schema_of(
        (np.random.default_rng(0).normal(size=(40, 3, 2)), np.random.default_rng(0).normal(size=(40, 2)))
    ),
    "floats": schema_of(
        (np.zeros((40, 1)) + np.arange(40)[:, None], np.array([0.1, 0.7] * 20, "f4")), task="classification"
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_round_trip_is_exact(name):
    schema = SCHEMAS[name]
    text = schema.to_json()
    restored = Schema.from_json(text)
    assert restored == schema
    assert restored.to_json() == text
    assert json.loads(text)["version"] == 1
    assert [type(one) for one in restored.classes] == [type(one) for one in schema.classes]
    if schema.classes:
        assert restored.labels.dtype == schema.labels.dtype


def test_labels_have_their_original_dtype():
    assert SCHEMAS["digits"].labels.dtype == np.int64
    assert SCHEMAS["binary"].labels.tolist() == [False, True]
    assert SCHEMAS["images"].labels.dtype == "<U1"
    assert SCHEMAS["floats"].labels.dtype == np.float32
    assert SCHEMAS["floats"].labels.tolist() == np.array([0.1, 0.7], "f4").tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2, but this descend reads versions up to 1"),
        ({"version": 0}, "damaged"),
        ({"version": "1"}, "it has no version"),
        ({"kind": "video"}, "kind"),
        ({"extra": 1}, "extra"),
        ({"input_shape": [0]}, "positive"),
        ({"input_shape": [3]}, "do not match input_shape"),
        ({"outputs": "1"}, "outputs"),
        ({"target_scale": [0.0]}, "target_scale must be positive"),
        ({"target_scale": [1.0, 2.0]}, "per output"),
        ({"target_mean": [float("inf")]}, "target_mean"),
        ({"columns": 3}, "columns"),
        ({"task": "binary"}, "classes and outputs"),
        ({"rows": {"train": "many"}}, "rows"),
    ],
)
def test_changed_files_are_refused(change, message):
    content = json.loads(SCHEMAS["mixed"].to_json()) | change
    with pytest.raises(RunError, match=message) as caught:
        Schema.from_json(json.dumps(content))
    assert str(caught.value).startswith("schema.json")


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.0},
        {"kind": "text"},
        {"categories": ["a", "a"]},
        {"categories": "a"},
        {"kind": "numeric"},
        {"x": 1},
    ],
)
def test_changed_columns_are_refused(change):
    content = json.loads(SCHEMAS["mixed"].to_json())
    content["columns"][1] |= change
    with pytest.raises(RunError, match="damaged"):
        Schema.from_json(json.dumps(content))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        "{}",
        '{"version": 1}',
        "\x00",
        "[" * 100_000,
        '{"version": 1' + "0" * 5000 + "}",
    ],
)
def test_text_that_is_not_a_schema_is_refused(text):
    with pytest.raises(RunError, match="damaged"):
        Schema.from_json(text)


def test_every_truncation_is_refused():
    text = SCHEMAS["images"].to_json()
    for length in range(len(text) - 2):
        with pytest.raises(RunError):
            Schema.from_json(text[:length])


def test_label_dtype_must_fit():
    content = json.loads(SCHEMAS["images"].to_json())
    for dtype in ("int64", "nonsense", ""):
        with pytest.raises(RunError, match="label_dtype"):
            Schema.from_json(json.dumps(content | {"label_dtype": dtype}))


def test_rows_of_every_form_give_the_same_matrix():
    schema = SCHEMAS["mixed"]
    frame = pl.DataFrame(MIXED)
    expected = schema.matrix(frame)
    assert expected.dtype == torch.float64
    assert expected.shape == (N, 4)
    forms = [
        MIXED,
        frame.select(reversed(frame.columns)),
        frame.with_columns(extra=1).drop("y", "same"),
        frame.with_columns(pl.col("number").cast(pl.String), pl.col("truth").cast(pl.Int8)),
        frame.with_columns(pl.col("day").str.to_date()),
        pandas.DataFrame(MIXED),
        frame.to_dicts(),
        read(frame, predicting=True),
    ]
    for form in forms:
        assert torch.equal(schema.matrix(form).nan_to_num(-9), expected.nan_to_num(-9)), type(form)
    one = {name: values[5] for name, values in MIXED.items()}
    assert torch.equal(schema.matrix(one), expected[5:6])
    objects = np.array([[MIXED[name][i] for name in MIXED if name != "y"] for i in range(N)], dtype=object)
    assert torch.equal(schema.matrix(objects).nan_to_num(-9), expected.nan_to_num(-9))


def test_an_array_needs_the_width_of_the_training_data():
    schema = SCHEMAS["digits"]
    assert schema.matrix(np.zeros((2, 64))).shape == (2, 64)
    assert schema.matrix(np.zeros((2, 64), dtype=np.int8)).dtype == torch.float64
    with pytest.raises(DataError, match=r"expected 64 columns.*63"):
        schema.matrix(np.zeros((2, 63)))
    with pytest.raises(DataError, match="reshape"):
        schema.matrix(np.zeros(64))
    with pytest.raises(DataError, match="infinite"):
        schema.matrix(np.full((2, 64), np.inf))


def test_a_frame_is_matched_by_position_if_the_training_data_were_an_array():
    schema = SCHEMAS["binary"]
    expected = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert torch.equal(schema.matrix(pl.DataFrame({"p": [1.0], "q": [2.0]})), expected)
    assert torch.equal(schema.matrix(pl.DataFrame({"x1": [2.0], "x0": [1.0]})), expected)
    with pytest.raises(DataError, match="expected 2 columns"):
        schema.matrix(pl.DataFrame({"p": [1.0]}))


def test_the_matrix_does_not_share_memory_with_the_data():
    given = np.zeros((2, 64))
    SCHEMAS["digits"].matrix(given)[0, 0] = 5
    assert given[0, 0] == 0


def test_another_kind_of_data_is_refused():
    for name, data in (
        ("images", pl.DataFrame({"a": [1]})),
        ("tensor", np.zeros((3, 2))),
        ("images", np.zeros((2, 3))),
    ):
        with pytest.raises(DataError, match="expected"):
            SCHEMAS[name].matrix(data)


def test_targets_are_encoded_for_the_loss():
    assert SCHEMAS["digits"].encode_targets(np.array([3, 9])).dtype == torch.int64
    assert SCHEMAS["binary"].encode_targets(np.array([True, False])).tolist() == [1.0, 0.0]
    schema = SCHEMAS["mixed"]
    encoded = schema.encode_targets(np.array([0.0, 1.0]))
    assert encoded.shape == (2, 1)
    np.testing.assert_allclose(schema.decode(encoded), [0.0, 1.0], atol=1e-6)
    with pytest.raises(DataError, match="2 targets per row"):
        SCHEMAS["tensor"].encode_targets(np.zeros((3, 3)))
    with pytest.raises(DataError, match="must be numeric"):
        schema.encode_targets(np.array(["a"]))


def test_outputs_are_decoded():
    binary, digits, floats = SCHEMAS["binary"], SCHEMAS["digits"], SCHEMAS["floats"]
    assert binary.decode(torch.tensor([[2.0], [-1.0]])).tolist() == [True, False]
    assert binary.decode(torch.tensor([[0.4], [0.6]]), form="probabilities").tolist() == [False, True]
    assert digits.decode(torch.eye(10)).tolist() == list(range(10))
    assert digits.decode(torch.eye(10)).dtype == np.int64
    assert floats.decode(torch.tensor([[1.0]])).dtype == np.float32
    assert SCHEMAS["tensor"].decode(torch.zeros(4, 2)).shape == (4, 2)


def test_probabilities_sum_to_one_and_agree_with_decode():
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)) * 5
    result = SCHEMAS["digits"].probabilities(logits)
    torch.testing.assert_close(result, torch.softmax(logits, 1))
    assert (SCHEMAS["digits"].decode(logits) == result.argmax(1).numpy()).all()
    binary = SCHEMAS["binary"].probabilities(logits[:, :1])
    torch.testing.assert_close(binary.sum(1), torch.ones(50))
    torch.testing.assert_close(binary[:, 1], torch.sigmoid(logits[:, 0]))
    assert SCHEMAS["binary"].probabilities(torch.tensor([[50.0]]))[0, 0] > 0  # no cancellation
    assert SCHEMAS["binary"].probabilities(torch.tensor([[0.3]]), "probabilities")[
        0
    ].tolist() == pytest.approx([0.7, 0.3])
    with pytest.raises(DataError):
        SCHEMAS["mixed"].probabilities(logits)


def test_the_table_describes_the_columns():
    rows = {row["name"]: row for row in SCHEMAS["mixed"].table()}
    assert rows["number"]["missing"] == "7"
    assert rows["day"]["values"] == "2024-01-01 to 2024-01-28 (number, weekday, day of month, day of year)"
    assert rows["color"]["values"] == "3 categories"
    assert "always 3" in rows["same"]["note"]


def test_a_schema_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCHEMAS["mixed"].task = "binary"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Column("a", "numeric").mean = 2.0
