"""Text columns: inference, fitting, encoding, and what stands in the schema."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tests.support.texts import messages, ngrams_of

from descend.data import DataSettings, Prepared, Preprocess, Schema, prepare, read
from descend.data.ngrams import NGrams, ngram_indices
from descend.errors import DataError, RecipeError, RunError

TEXTS, LABELS = messages(120)
DATA = {"message": TEXTS, "n": list(range(1, 241, 2))[::-1], "label": LABELS}


def prepared(data: dict[str, Any], **settings: Any) -> Prepared:
    chosen = DataSettings(target="label", **settings)
    return prepare(read(data, settings=chosen), chosen)


def kinds(result: Prepared) -> dict[str, str]:
    return {column.name: column.kind for column in result.schema.columns}


def test_sentences_are_text_and_names_are_not() -> None:
    data = {"message": TEXTS, "name": [f"user{i}" for i in range(120)], "n": DATA["n"], "label": LABELS}
    assert kinds(prepared(data))["message"] == "text"
    assert kinds(prepared(data))["name"] != "text"
    declared = prepared(data, columns={"message": "ignore", "name": "text"})
    assert kinds(declared) == {"message": "ignored", "name": "text", "n": "numeric"}


def test_few_long_categories_stay_categories() -> None:
    answers = ["I agree with this", "I do not agree with this", "I have no opinion on this"] * 40
    assert kinds(prepared({**DATA, "message": answers}))["message"] == "categorical"
    assert kinds(prepared({**DATA, "message": answers}, columns={"message": "text"}))["message"] == "text"


def test_telephone_numbers_are_not_text() -> None:
    numbers = [f"+49 170 {i:03} {i * 7 % 1000:03}" for i in range(120)]
    assert kinds(prepared({**DATA, "message": numbers}))["message"] != "text"


def test_sentences_without_spaces_are_text_and_names_are_not() -> None:
    sentences = [f"我们今天{'去' if i % 2 else '不去'}学校{i}号楼上课" for i in range(120)]
    names = [f"王{chr(0x4E00 + i)}明" for i in range(120)]
    found = kinds(prepared({**DATA, "message": sentences, "name": names}))
    assert found["message"] == "text"
    assert found["name"] == "identifier"


def test_the_note_on_an_identifier_says_how_to_learn_from_its_words() -> None:
    result = prepared({**DATA, "message": [f"user{i}" for i in range(120)]})
    assert re.search("data.columns.message.{1,5}text.{1,2} learns from their words", " ".join(result.notes))


def test_rows_are_numbers_then_the_indices_of_the_texts() -> None:
    data = {**DATA, "other": [text[::-1] if i % 5 else None for i, text in enumerate(TEXTS)]}
    result = prepared(data)
    schema = result.schema
    message, other = schema.texts
    matrix = schema.matrix(data)
    assert matrix.shape == (120, schema.width) == (120, 1 + message.length + other.length)
    assert matrix[:, 0].tolist() == DATA["n"]
    own = ngram_indices(pl.Series(TEXTS), message)
    assert np.array_equal(matrix[:, 1 : 1 + message.length].numpy(), own)
    last = matrix[:, 1 + message.length :]
    assert last[::5, 0].isnan().all()
    assert not last[::5, 1:].any()
    encoded = result.preprocess(matrix)
    assert encoded.shape == (120, *schema.input_shape)
    assert encoded.dtype == torch.float32
    assert np.array_equal(encoded[:, 2 : 2 + message.length].numpy(), own)
    assert encoded[:, 1].tolist() == [float(i % 5 == 0) for i in range(120)], "the indicator"
    assert not encoded[::5, 2 + message.length :].any(), "a missing text"
    names = result.preprocess.names
    assert names[:3] == ("n", "other is missing", "message: n-gram 1")
    assert (
        len(names)
        == len(result.preprocess.columns)
        == len(result.preprocess.numbers)
        == schema.input_shape[0]
    )
    assert [schema.used[column].name for column in result.preprocess.columns[:3]] == ["n", "other", "message"]
    assert result.preprocess.columns[-1] == 2
    assert result.preprocess.numbers == (True, *[False] * (schema.input_shape[0] - 1))


def test_the_length_is_the_largest_in_the_training_rows_up_to_a_bound() -> None:
    result = prepared(DATA)
    (fitted,) = result.schema.texts
    different = [len(set(ngram_indices(pl.Series([text]), dataclasses.replace(fitted, length=5000))[0]) - {0})
                 for text in np.array(TEXTS, dtype=object)[result.train.rows]]  # fmt: skip
    assert fitted.length == max(different)
    assert fitted == NGrams(8192, fitted.length, (1, 2), (3, 4))
    bounded = prepared(DATA, text_length=20, text_buckets=50, text_words=(1, 1), text_characters=(0, 0))
    assert bounded.schema.texts == (NGrams(50, 14, (1, 1), (0, 0)),) or bounded.schema.texts[0].length <= 20
    short = prepared(DATA, text_length=5)
    assert short.schema.texts[0].length == 5
    assert "training rows have more than 5 n-grams (data.text_length)" in " ".join(short.notes)


def test_buckets_follow_the_training_rows() -> None:
    texts, labels = messages(6000)
    unique = [f"{text} {i}" for i, text in enumerate(texts)]
    fitted = prepared({"message": unique, "label": labels}, validation=0.0, test=0.0).schema.texts[0]
    assert fitted.buckets == 2**15  # 4 × 6000 = 24,000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"text_words": (2, 1)},
            r"text_words: expected the smallest and the largest size of n-grams.*got \[2, 1\]",
        ),
        ({"text_characters": (0, 3)}, r"text_characters: expected .*got \[0, 3\]"),
        ({"text_words": (0, 0), "text_characters": (0, 0)}, "leaves no n-grams"),
    ],
)
def test_ranges_that_are_not_valid(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        prepared(DATA, **settings)


def test_a_text_that_does_not_vary_is_not_used() -> None:
    same = prepared({**DATA, "message": ["always the same words"] * 120}, columns={"message": "text"})
    assert kinds(same)["message"] == "constant"
    empty = prepared({**DATA, "message": [None] * 120}, columns={"message": "text"})
    assert kinds(empty)["message"] == "empty"


def test_numbers_in_a_text_column_are_their_digits() -> None:
    schema = prepared({**DATA, "message": [*TEXTS[:-2], 12, 3.5]}, columns={"message": "text"}).schema
    expected = schema.matrix({"n": [1, 1], "message": ["12", "3.5"]})
    assert torch.equal(schema.matrix({"n": [1, 1], "message": [12, 3.5]}), expected)
    assert torch.equal(schema.matrix(pl.DataFrame({"n": [1], "message": [12]})), expected[:1])


def test_empty_strings_are_missing_texts() -> None:
    schema = prepared(DATA).schema
    matrix = schema.matrix({"n": [1, 1, 1], "message": ["", "   ", None]})
    assert matrix[:, 1].isnan().all()


def test_a_text_without_known_words_is_not_an_error() -> None:
    schema = prepared(DATA).schema
    matrix = schema.matrix({"n": [1, 1], "message": ["😀 Здравствуй мир", "x" * 2**20]})
    assert ngrams_of("😀 Здравствуй мир", schema.texts[0])
    assert matrix.isfinite().all()


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="the column 'message' is missing"):
        prepared(DATA).schema.matrix({"n": [1]})


def test_the_schema_is_json() -> None:
    schema = prepared(DATA).schema
    assert Schema.from_json(schema.to_json()) == schema
    assert {"name": "message", "kind": "text"}.items() <= schema.table()[0].items()
    assert torch.equal(
        Preprocess(schema)(schema.matrix(DATA)),
        Preprocess(Schema.from_json(schema.to_json()))(schema.matrix(DATA)),
    )


def test_a_schema_without_text_lacks_nothing() -> None:
    """Schemas written before text columns existed have no key ``text``."""
    schema = prepared({"n": DATA["n"], "label": LABELS}).schema
    content = json.loads(schema.to_json())
    for column in content["columns"]:
        assert column.pop("text") is None
    assert Schema.from_json(json.dumps(content)) == schema


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "text and kind do not match"),
        ({"kind": "numeric"}, "text and kind do not match"),
        ({"text": {"buckets": 0, "length": 3, "words": [1, 1], "characters": [0, 0]}}, "input_shape|buckets"),
    ],
)
def test_a_damaged_schema_is_refused(change: dict[str, Any], message: str) -> None:
    content = json.loads(prepared(DATA).schema.to_json())
    content["columns"][0] |= change
    with pytest.raises(RunError, match=f"damaged: .*({message}|match input_shape)"):
        Schema.from_json(json.dumps(content))
