"""Tests of targets that list the labels of each row: columns of 0 and 1 from Python, frames, files and strings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars as pl
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer

import descend
from descend.data import DataSettings, prepare, read
from descend.data.label_lists import are_label_lists, indicators, separator_hint
from descend.errors import DataError
from descend.interface import command_line

X = np.random.default_rng(0).normal(size=(60, 3))
LABELS = ["blue", "red", "round"]
LISTS = [[label for label, value in zip(LABELS, row, strict=True) if value > 0] for row in X]
COLUMNS = (X > 0).astype(int)
QUICK = {"stop": {"max_epochs": 2}, "model": {"hidden": [4]}, "engine": {"threads": 1}}
FRAME = {"x": X[:, 0], "tags": LISTS}


def objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@given(st.lists(st.lists(st.text("abc", min_size=1), unique=True), min_size=30, max_size=40))
def test_the_columns_are_those_of_scikit_learn(rows: list[list[str]]) -> None:
    if len({label for row in rows for label in row}) > len(rows):
        return
    reference = MultiLabelBinarizer()
    columns, names = indicators(rows, "tags")
    np.testing.assert_array_equal(columns, reference.fit_transform(rows))
    assert list(names) == reference.classes_.tolist()


@pytest.mark.parametrize(
    "targets",
    [
        LISTS,
        [tuple(row) for row in LISTS],
        tuple(LISTS),
        [set(row) for row in LISTS],
        [frozenset(row) for row in LISTS],
        objects(LISTS),
        objects([np.array(row) for row in LISTS]),
        pl.Series("y", LISTS),
        pandas.Series(LISTS, name="y"),
        pandas.Series([set(row) for row in LISTS], name="y"),
        pyarrow.array(LISTS),
        pl.DataFrame({"y": LISTS}),
        {"y": LISTS},
    ],
    ids=["lists", "tuples", "tuple", "sets", "frozensets", "objects", "arrays", "polars", "pandas", "pandas sets",
         "arrow", "frame", "columns"],
)  # fmt: skip
def test_targets_in_memory(targets: Any) -> None:
    source = read((X, targets))
    assert (source.target_names, source.label_column) == (tuple(LABELS), "y")
    np.testing.assert_array_equal(source.targets, COLUMNS)
    schema = prepare(source).schema
    assert (schema.task, schema.classes, schema.target_names) == ("multi_label", (0, 1), tuple(LABELS))


@pytest.mark.parametrize(
    "kind", ["dict", "records", "polars", "pandas", "arrow", "json", "lines", "parquet", "stream"]
)
def test_columns_of_tables(kind: str, tmp_path: Path) -> None:
    records = [{"x": x, "tags": row} for x, row in zip(X[:, 0].tolist(), LISTS, strict=True)]
    frame = pl.DataFrame(FRAME)
    path = tmp_path / {"json": "a.json", "lines": "a.jsonl"}.get(kind, "a.parquet")
    if kind == "json":
        path.write_text(json.dumps(records))
    elif kind == "lines":
        path.write_text("\n".join(map(json.dumps, records)))
    else:
        frame.write_parquet(path)
    data: Any = {
        "dict": FRAME, "records": records, "polars": frame, "pandas": pandas.DataFrame(FRAME),
        "arrow": frame.to_arrow(),
    }.get(kind, str(path))  # fmt: skip
    source = read(data, target="tags", settings=DataSettings(stream=kind == "stream"))
    assert (source.target_names, source.label_column) == (tuple(LABELS), "tags")
    np.testing.assert_array_equal(source.targets, COLUMNS)


def test_integers_are_labels_in_numerical_order() -> None:
    source = read((X, [[10, 9] if x > 0 else [9] for x in X[:, 0]]))
    assert source.target_names == ("9", "10")
    assert source.targets is not None
    assert source.targets[:, 1].tolist() == (X[:, 0] > 0).astype(int).tolist()


def test_several_targets_are_not_lists_of_labels() -> None:
    assert not are_label_lists([[0.5, 1.0], [2.0]])
    assert not are_label_lists([["a"], ["b"]])
    assert not are_label_lists(["ab", "c"])
    assert not are_label_lists(np.zeros((3, 2)))
    assert prepare(
        read((X, [["yes", "no"] if x > 0 else ["no", "yes"] for x in X[:, 0]]))
    ).schema.classes == (
        "no",
        "yes",
    )
    numbers = read(pl.DataFrame({"x": X[:, 0], "y": X[:, 1:].tolist()}), target="y")
    np.testing.assert_array_equal(numbers.targets, X[:, 1:])
    assert prepare(numbers).schema.task == "multi_regression"


def test_a_row_without_value() -> None:
    missing = [None, *LISTS[1:]]
    with pytest.raises(DataError, match="target 'y': row 0 has no value"):
        prepare(read((X, missing)))
    kept = read((X, missing), settings=DataSettings(drop_missing_targets=True))
    np.testing.assert_array_equal(kept.targets, COLUMNS[1:])
    with pytest.raises(DataError, match="target 'tags': no row has a label"):
        prepare(read(pl.DataFrame({"x": [1.0, 2.0], "tags": pl.Series([[], []], dtype=pl.List(pl.String))}),
                     target="tags"))  # fmt: skip
    with pytest.raises(DataError, match="26 distinct labels in 13 rows"):
        read((X[:13], [[chr(97 + 2 * at), chr(98 + 2 * at)] for at in range(13)]))


def test_features_that_are_lists_are_refused() -> None:
    with pytest.raises(DataError, match=r"column 'tags': expected one number.*List\(String\)"):
        prepare(read({**FRAME, "y": X[:, 1]}, target="y"))


class TestParts:
    def test_labels_of_any_part(self) -> None:
        source = read({"train": (X, LISTS), "test": (X[:2] + 1, [["square"], []])})
        assert source.target_names == (*LABELS, "square")
        assert source.targets is not None
        assert source.targets[-2:].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
        assert any("'square' is the same in every training row" in note for note in prepare(source).notes)

    def test_evaluation(self) -> None:
        run = descend.train(FRAME, QUICK, target="tags", seed=0)
        expected = run.evaluate({"x": X[:, 0], "tags": LISTS})
        reordered = [row[::-1] for row in LISTS]
        assert run.evaluate(pl.DataFrame({"x": X[:, 0], "tags": reordered})) == expected
        probabilities = run.predict_proba({"x": X[:2, 0]})
        for lists, targets in (
            ([["blue", "red"], ["red", "blue"]], np.array([[1, 1, 0], [1, 1, 0]])),
            ([[], []], np.zeros((2, 3))),
        ):
            loss = -np.log(np.where(targets == 1, probabilities, 1 - probabilities)).mean()
            assert run.evaluate({"x": X[:2, 0], "tags": lists})["loss"] == pytest.approx(loss, rel=1e-5)
        with pytest.raises(
            DataError, match="the target 'tags' contains 'square' in row 1, which is not among the labels"
        ):
            run.evaluate({"x": X[:2, 0], "tags": [["blue"], ["square", "red"]]})
        assert run.predict({"x": X[:, 0]}).shape == (60, 3)
        assert run.predictions({"x": X[:, 0]}).columns[:3] == [f"prediction_{label}" for label in LABELS]
        arrays = descend.train((X, LISTS), QUICK, seed=0)
        assert arrays.evaluate((X, LISTS)) == arrays.evaluate((X, COLUMNS))
        assert arrays.evaluate((X[:2], [["red"], ["blue"]])) == arrays.evaluate(
            (X[:2], [[0, 1, 0], [1, 0, 0]])
        )


class TestStrings:
    STRINGS = ("red;round", "blue; red", "", "blue", "red;", "round") * 10

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        rows = zip(X[:, 0], self.STRINGS, strict=True)
        path.write_text("x,tags\n" + "".join(f"{x},{tags}\n" for x, tags in rows))
        recipe = {**QUICK, "data": {"label_separator": ";"}}
        run = descend.train(str(path), recipe, target="tags", out=tmp_path / "run", seed=0)
        assert run.schema.target_names == tuple(LABELS)
        source = read(str(path), target="tags", settings=DataSettings(label_separator=";"))
        assert source.targets is not None
        assert source.targets[:6].tolist() == [
            [0, 1, 1],
            [1, 1, 0],
            [0, 0, 0],
            [1, 0, 0],
            [0, 1, 0],
            [0, 0, 1],
        ]
        lists = [[part.strip() for part in tags.split(";") if part] for tags in self.STRINGS]
        loaded = descend.load(tmp_path / "run")
        assert loaded.evaluate(str(path)) == loaded.evaluate({"x": X[:, 0], "tags": lists})

    def test_numbers_as_labels(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("x,tags\n" + "".join(f"{x},{'01' if x > 0 else '02'}\n" for x in X[:, 0]))
        source = read(str(path), target="tags", settings=DataSettings(label_separator="|"))
        assert source.target_names == ("01", "02")

    def test_strings_in_memory(self) -> None:
        source = read((X, list(self.STRINGS)), settings=DataSettings(label_separator=";"))
        assert source.target_names == tuple(LABELS)

    def test_a_string_for_a_missing_value_is_no_label(self) -> None:
        data = {"x": X[:, 0], "tags": ["NA", *self.STRINGS[1:]]}
        with pytest.raises(DataError, match="target 'tags': row 0 has no value"):
            prepare(read(data, target="tags", settings=DataSettings(label_separator=";")))

    @pytest.mark.parametrize("separator", [";", "|", ","])
    def test_a_note_on_strings_that_list_labels(self, separator: str) -> None:
        strings = [(separator if separator != "," else ", ").join(row) or "none" for row in LISTS]
        notes = prepare(read((X, strings))).notes
        assert any(f"{{'data.label_separator': '{separator}'}}" in note for note in notes)
        with command_line():
            notes = prepare(read((X, strings))).notes
        assert any("--set 'data.label_separator=" in note for note in notes)

    def test_names_with_separators_are_classes(self) -> None:
        assert separator_hint(["Paris, France", "Lyon, France", "Rome, Italy"]) == ""
        assert separator_hint(["a;b", "c;d"]) == ""
        assert separator_hint([1, 2, "a"]) == ""

    def test_too_many_classes(self) -> None:
        strings = [f"{one};{two}" for one in "abcdef" for two in "abcdef"]
        with pytest.raises(DataError, match=r"36 distinct labels in 36 rows .*'data.label_separator': ';'"):
            prepare(read((X[:36], strings)))
