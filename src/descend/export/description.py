"""The description of inputs and outputs in exported files: JSON that a program reads without descend.

A file has one description, under the name ``description.json`` (pt2) or ``description`` (onnx). It states what each
input contains, what each output means, and gives one row with its outputs, so that readers of the file can test their
code against it. Its form is documented in docs/exported-files.md.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from descend._version import __version__
from descend.data.columns import Column
from descend.data.dates import OWN, PLAIN
from descend.data.encoding import text_cells
from descend.data.settings import missing_in
from descend.export.portable import make_portable

if TYPE_CHECKING:
    from descend.data.schema import Schema
    from descend.training.predictor import Predictor

__all__ = [
    "Example",
    "as_json",
    "column_entry",
    "entries_of",
    "example_of",
    "matrix_description",
    "meaning",
    "rows_entry",
]

_VERSION = 1
_TEXT = "a short example"
"""The text of a text column in the example."""
_MODULI = {"images": (251, 0), "tensor": (3, 1)}
"""Numbers m and s by which an entry of the example is (i mod m) - s, for its index i in row-major order."""
_NGRAMS = (
    "The cells hold the indices of the n-grams of the text, padded with 0. "
    "1. The first 10,000 characters in Unicode form NFKC, in lower case. "
    "2. Words: each maximal run of letters, marks, digits and _, and each maximal run of other characters that are not white "
    "space; each Chinese character and each kana is a word; a word counts by its first 64 characters. "
    "3. A word n-gram is n consecutive words, each preceded by a space; a character n-gram is n consecutive characters of "
    "<word>, or <word> if it is shorter than the smallest n. "
    "4. Hash of the code points c: h = 2166136261; h = ((h xor c) * 16777619) mod 2^32 for each; then, mod 2^32, "
    "h = (h xor h >> 16) * 0x85EBCA6B; h = (h xor h >> 13) * 0xC2B2AE35; h = h xor h >> 16; index = 1 + h mod buckets. "
    "5. Order: single words, pairs of words, and so on, then the character n-grams of each word, shorter ones first; each "
    "index once; the first 'length' indices."
)

Json = dict[str, Any]


class Example:
    """One raw row and the outputs of the network for it.

    Args:
        values: the values of the used columns of a table by their names, as the reader of a file sees them: numbers, and
            strings for categories and texts; empty for images and tensors.
        matrix: the raw row, (1, width) for a table, (1, ...) otherwise.
        outputs: the codes (1,) and probabilities (1, K), or the values (1, T); see
            :class:`~descend.export.portable.Portable`.
    """

    def __init__(self, values: Mapping[str, float | str], matrix: Tensor, outputs: Sequence[Tensor]) -> None:
        self.values, self.matrix, self.outputs = values, matrix, outputs


def example_of(predictor: Predictor) -> Example:
    """Return a row of typical values with its outputs.

    Numbers have the value that replaces missing ones, booleans are true, and a category is the first. An entry of images
    and tensors depends on its position only.
    """
    schema = predictor.schema
    values: dict[str, float | str] = {}
    if schema.kind == "table":
        matrix = _table_row(schema, values)
    else:
        modulus, shift = _MODULI["images" if schema.kind == "images" else "tensor"]
        index = torch.arange(int(np.prod(schema.input_shape))).reshape(1, *schema.input_shape)
        matrix = (index % modulus - shift).to(torch.uint8 if schema.kind == "images" else torch.float32)
    with torch.inference_mode():
        outputs = make_portable(predictor)(matrix)
    return Example(values, matrix, outputs)


def _table_row(schema: Schema, values: dict[str, float | str]) -> Tensor:
    """Return the raw row of a table, and store the values of its columns by their names."""
    import polars as pl

    numbers: list[float] = []
    texts: list[float] = []
    for column in schema.used:
        if column.text is not None:
            values[column.name] = _TEXT
            texts += text_cells(pl.Series([_TEXT]), column.text)[0].tolist()
            continue
        if column.kind == "categorical":
            values[column.name], number = column.coded[0], 0.0
        else:
            number = values[column.name] = 1.0 if column.kind == "boolean" else column.fill
        numbers.append(number)
    return torch.tensor([[*numbers, *texts]], dtype=torch.float64)


def meaning(column: Column) -> str:
    """Return what the number or string of a column means.

    >>> meaning(Column("t", "time"))
    'the time of day as a fraction of a day: 0.75 is 18:00'
    """
    zones = {"": "", PLAIN: "", OWN: " in UTC"}
    day = (datetime.date(2000, 1, 1) - datetime.date(1970, 1, 1)).days
    kinds = {
        "numeric": f"a number{f', in {column.unit}' if column.unit else ''}",
        "boolean": "1 for true, 0 for false",
        "date": f"days since 1970-01-01{zones.get(column.zone, f' in the local time of {column.zone}')}, with the "
        f"time of day as a fraction: {day}.75 is 2000-01-01 18:00",
        "time": "the time of day as a fraction of a day: 0.75 is 18:00",
        "duration": "a duration in days: 1.5 is 36 hours",
        "categorical": "one of the ordered categories, the lowest first" if column.ordered else "a category",
        "text": "a text, as the indices of its n-grams",
    }
    return kinds[column.kind]


def column_entry(column: Column, schema: Schema, *, strings: bool) -> Json:
    """Return the entry of a used column.

    Args:
        column: the column.
        schema: the schema.
        strings: whether a category is a string in the file (onnx), or a code (pt2).
    """
    entry: Json = {"name": column.name, "kind": column.kind, "meaning": meaning(column), "missing": "NaN"}
    if column.kind == "categorical":
        entry |= {"ordered": column.ordered, "categories": list(column.coded)}
        entry["other_strings"] = (
            "the last category" if column.pooled else "not missing, and none of the categories"
        )
        if strings:
            absent = dict.fromkeys(("", *missing_in(schema.missing, column.name)))
            entry["missing"] = [one for one in absent if one not in column.coded]
        else:
            entry["meaning"] += ", as its index among the categories"
            entry["other_code"] = len(column.coded) - 1 if column.pooled else -1
    if column.text is not None:
        ngrams = column.text
        entry["missing"] = "NaN in the first cell, 0 in the others"
        entry["ngrams"] = {
            "buckets": ngrams.buckets, "length": ngrams.length, "words": list(ngrams.words),
            "characters": list(ngrams.characters), "definition": _NGRAMS,
        }  # fmt: skip
    return entry


def _columns_entry(schema: Schema) -> list[Json]:
    """Return the entries of the used columns, in the order of the cells of a raw row, with the positions of these."""
    used, at, found = schema.used, 0, []
    for column in [
        *(one for one in used if one.text is None),
        *(one for one in used if one.text is not None),
    ]:
        cells = 1 if column.text is None else column.text.length
        found.append({**column_entry(column, schema, strings=False), "cells": [at, at + cells]})
        at += cells
    return found


def rows_entry(schema: Schema) -> Json:
    """Return the entry of the single input ``rows`` of images, tensors and rows of numbers without the columns."""
    if schema.kind == "table":
        return {"name": "rows", "dtype": "float64", "shape": ["rows", schema.width]}
    shape = ["rows", *schema.input_shape]
    if schema.kind != "images":
        return {"name": "rows", "dtype": "float32", "shape": shape, "meaning": "numbers as in training"}
    text = "pixels from 0 to 255, as (channels, height, width)"
    entry: Json = {"name": "rows", "dtype": "uint8", "shape": shape, "meaning": text}
    if schema.white is not None:
        entry["white"] = schema.white
        entry["meaning"] += "; a gray level of more than 8 bits is multiplied by 255 / white and rounded"
    return entry


def _labels_entry(schema: Schema) -> Json:
    """Return the task, the targets and the classes in the order of the outputs."""
    entry: Json = {"task": schema.task, "targets": list(schema.target_names)}
    if schema.classes:
        entry["classes"] = list(schema.classes)
    return entry


def _matrix_outputs(schema: Schema, example: Example) -> list[Json]:
    several = schema.task == "multi_label"
    if not schema.classes:
        return [_output("values", example.outputs[0], "one number for each of 'targets', in its units")]
    code = (
        "1 where a label of 'targets' holds, else 0: the index into 'classes'"
        if several
        else "index of the predicted class in 'classes'"
    )
    each = "that each label of 'targets' holds" if several else "of each of 'classes'"
    return [
        _output("codes", example.outputs[0], code),
        _output("probabilities", example.outputs[1], f"the probability {each}"),
    ]


def _output(name: str, value: Tensor, text: str) -> Json:
    dtype = str(value.dtype).removeprefix("torch.")
    return {"name": name, "dtype": dtype, "shape": ["rows", *value.shape[1:]], "meaning": text}


def matrix_description(predictor: Predictor) -> str:
    """Return the description of a program from a matrix of raw rows to codes and probabilities, or to values."""
    schema, example = predictor.schema, example_of(predictor)
    rows = rows_entry(schema)
    if schema.kind == "table":
        rows["columns"] = _columns_entry(schema)
    outputs = _matrix_outputs(schema, example)
    results = {entry["name"]: value.tolist() for entry, value in zip(outputs, example.outputs, strict=True)}
    return as_json(schema, [rows], outputs, {"rows": entries_of(example, schema)}, results, example.values)


def entries_of(example: Example, schema: Schema) -> Any:
    """Return the raw row of the example as JSON: its numbers, or the rule for the entries of images and tensors."""
    if schema.kind == "table":
        return example.matrix.tolist()
    modulus, shift = _MODULI["images" if schema.kind == "images" else "tensor"]
    rule = "the entry with the index i in row-major order is i mod 'modulus' - 'minus'"
    return {"shape": list(example.matrix.shape), "rule": rule, "modulus": modulus, "minus": shift}


def as_json(
    schema: Schema,
    inputs: Sequence[Json],
    outputs: Sequence[Json],
    fed: Mapping[str, Any],
    results: Mapping[str, Any],
    values: Mapping[str, Any],
) -> str:
    """Return the description as JSON.

    Args:
        schema: the schema.
        inputs: the entries of the inputs.
        outputs: the entries of the outputs.
        fed: the inputs of the example by their names.
        results: its outputs by their names.
        values: the values of the columns that the inputs stand for; empty if there are none.
    """
    example: Json = {"inputs": dict(fed), "outputs": dict(results)}
    if values:
        example["values"] = dict(values)
    content = {
        "version": _VERSION,
        "written_by": f"descend {__version__}",
        **_labels_entry(schema),
        "inputs": list(inputs),
        "outputs": list(outputs),
        "example": example,
    }
    return json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Replace infinite numbers and NaN by null: strict JSON has neither."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
