"""The description in an exported file: a process without descend reads it, feeds the example and gets its outputs."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest

import descend
from descend.data.columns import Column
from descend.data.schema import Schema
from descend.export.description import meaning, rows_entry
from descend.export.onnx import content as onnx_content

PAGE = Path(__file__).parents[2] / "docs" / "exported-files.md"
WRITE, READ_ONNX, READ_PT2 = re.findall(
    r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL
)
QUICK: dict[str, Any] = {"stop": {"max_epochs": 2}, "engine": {"threads": 1}}
WITHOUT_DESCEND = "import sys\nsys.modules['descend'] = None\n"
RNG = np.random.default_rng(0)
ROWS = 60


def every_kind() -> Any:
    """A table with every kind of column that both formats support."""
    at = np.arange(ROWS)
    days = pl.Series(np.datetime64("2020-01-01T06:00:00", "ms") + at * np.timedelta64(31, "h"))
    table = pl.DataFrame(
        {
            "age": RNG.normal(40, 10, ROWS).tolist(),
            "share": [f"{v % 9 + 0.5} %" for v in range(ROWS)],
            "member": [None if v % 7 == 0 else v % 2 == 0 for v in at.tolist()],
            "city": ["Ulm", "Bonn", "New York", None, "Köln"] * 12,
            "size": pl.Series(["S", "M", "L", None, "M", "S"] * 10, dtype=pl.Enum(["S", "M", "L"])),
            "seen": days.cast(pl.Datetime("us")),
            "zoned": days.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "opens": days.cast(pl.Datetime("us")).dt.time(),
            "lasts": pl.Series(at * 90).cast(pl.Duration("ms")),
            "y": np.where(at % 3 == 0, "no", "yes"),
        }
    )
    return descend.train(table, QUICK, target="y")


def text() -> Any:
    table = {
        "note": ["win a free phone now", "see you at eight then", None, "claim your free prize"] * 15,
        "length": [20, 21, 3, 22] * 15,
        "y": [1.5, 2.5, 3.5, 4.5] * 15,
    }
    return descend.train(table, {**QUICK, "data": {"columns": {"note": "text"}}}, target="y")


def pooled() -> Any:
    table = {"plan": ["a"] * 24 + ["b"] * 16 + ["c"] * 12 + ["d"] * 8, "y": RNG.integers(0, 2, ROWS)}
    return descend.train(table, {**QUICK, "data": {"max_categories": 3}}, target="y")


def images() -> Any:
    pixels = RNG.integers(0, 256, (ROWS, 3, 9, 8), dtype=np.uint8)
    return descend.train((pixels, RNG.integers(0, 3, ROWS)), QUICK)


def tensors() -> Any:
    return descend.train((RNG.normal(size=(ROWS, 5, 4)).astype(np.float32), RNG.normal(size=ROWS)), QUICK)


def several_targets() -> Any:
    x = RNG.normal(size=(ROWS, 4))
    x[:, 1] = 7.0  # constant: not used
    return descend.train((x, np.stack([x[:, 0] * 1e4, x[:, 2], x[:, 3]], axis=1)), QUICK)


def several_labels() -> Any:
    x = RNG.normal(size=(ROWS, 4))
    return descend.train((x, (x[:, :3] > 0).astype(int)), {**QUICK, "data": {"task": "multi_label"}})


def quantiles() -> Any:
    x = RNG.normal(size=(ROWS, 3))
    return descend.train((x, x[:, 0]), {**QUICK, "loss": {"name": "quantile"}})


CASES = {
    "every kind": every_kind,
    "text": text,
    "pooled": pooled,
    "digits": lambda: descend.train("digits", QUICK),
    "images": images,
    "tensors": tensors,
    "several targets": several_targets,
    "several labels": several_labels,
    "quantiles": quantiles,
}


def in_fresh_process(code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCEND + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def of_pt2(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:
        (name,) = [name for name in file.namelist() if name.endswith("/extra/description.json")]
        description: dict[str, Any] = json.loads(file.read(name))
    return description


def of_onnx(path: Path) -> dict[str, Any]:
    properties = {each.key: each.value for each in onnx.load(path).metadata_props}
    description: dict[str, Any] = json.loads(properties["description"])
    return description


@pytest.mark.slow
def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(WRITE, "exported-files.md", "exec"), {})
    in_fresh_process(READ_ONNX, tmp_path)
    in_fresh_process(READ_PT2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_process_without_descend_reproduces_the_example(name: str, tmp_path: Path) -> None:
    run = CASES[name]()
    run.export("pt2", tmp_path)
    in_fresh_process(READ_PT2, tmp_path)
    if name != "text":
        run.export("onnx", tmp_path)
        in_fresh_process(READ_ONNX, tmp_path)


@pytest.mark.slow
def test_the_program_of_the_page_detects_a_wrong_example(tmp_path: Path) -> None:
    model = onnx.load_from_string(onnx_content(several_targets()))
    (entry,) = [each for each in model.metadata_props if each.key == "description"]
    description = json.loads(entry.value)
    description["example"]["inputs"]["rows"][0][0] += 1.0
    entry.value = json.dumps(description)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        in_fresh_process(READ_ONNX, tmp_path)


@pytest.mark.slow
def test_the_entries_of_columns_state_kind_values_and_missing_values(tmp_path: Path) -> None:
    run = every_kind()
    inputs = {each["name"]: each for each in of_onnx(run.export("onnx", tmp_path))["inputs"]}
    assert list(inputs) == [column.name for column in run.schema.used]
    kinds = [
        "numeric",
        "numeric",
        "boolean",
        "categorical",
        "categorical",
        "date",
        "date",
        "time",
        "duration",
    ]
    assert [each["kind"] for each in inputs.values()] == kinds
    assert [each["dtype"] for each in inputs.values()] == [
        "string" if kind == "categorical" else "float64" for kind in kinds
    ]
    assert inputs["size"]["categories"] == ["S", "M", "L"]
    assert (inputs["size"]["ordered"], inputs["city"]["ordered"]) == (True, False)
    assert "NA" in inputs["city"]["missing"]
    assert inputs["age"]["missing"] == "NaN"
    assert inputs["share"]["meaning"] == "a number, in %"
    assert "in UTC" in inputs["zoned"]["meaning"]
    assert "UTC" not in inputs["seen"]["meaning"]
    pt2 = of_pt2(run.export("pt2", tmp_path))
    (rows,) = pt2["inputs"]
    assert [each["cells"] for each in rows["columns"]] == [[at, at + 1] for at in range(9)]
    assert [each["other_code"] for each in rows["columns"] if each["kind"] == "categorical"] == [-1, -1]


@pytest.mark.slow
def test_the_example_is_a_row_that_a_user_may_write(tmp_path: Path) -> None:
    run = every_kind()
    example = of_pt2(run.export("pt2", tmp_path))["example"]
    values = example["values"]
    first = datetime.datetime(1970, 1, 1)
    span = {name: datetime.timedelta(days=values[name]) for name in ("seen", "zoned", "opens", "lasts")}
    row = values | {
        "share": f"{values['share']} %",
        "member": "true",
        "seen": first + span["seen"],
        "zoned": (first + span["zoned"]).replace(tzinfo=datetime.UTC),
        "opens": (first + span["opens"]).time(),
        "lasts": span["lasts"],
    }
    found = run.predict_proba(pl.DataFrame([row]))
    np.testing.assert_allclose(found, example["outputs"]["probabilities"], atol=1e-6)
    assert run.predict(pl.DataFrame([row])).tolist() == [run.schema.classes[example["outputs"]["codes"][0]]]


@pytest.mark.parametrize(
    ("kind", "number", "value"),
    [("date", 10957.75, "2000-01-01T18:00"), ("time", 0.75, "18:00"), ("duration", 1.5, "36 h")],
)
def test_the_numbers_in_meanings_are_what_training_reads(kind: str, number: float, value: str) -> None:
    table = pl.DataFrame({"c": [value] * 2})
    if kind == "duration":
        table = pl.DataFrame({"c": pl.Series([36, 36]).cast(pl.Int64) * 3_600_000}).cast(pl.Duration("ms"))
    column = Column("c", kind)
    schema = Schema("table", "regression", "", (1,), 1, ("y",), (column,))
    assert schema.matrix(table)[:, 0].tolist() == [number] * 2
    assert str(number) in meaning(column)


@pytest.mark.slow
def test_the_cells_of_a_text_are_those_of_its_n_grams(tmp_path: Path) -> None:
    run = text()
    description = of_pt2(run.export("pt2", tmp_path))
    number, note = description["inputs"][0]["columns"]
    assert (number["name"], note["name"], note["kind"]) == ("length", "note", "text")
    row = description["example"]["inputs"]["rows"][0]
    start, end = note["cells"]
    assert (start, end, len(row)) == (1, 1 + note["ngrams"]["length"], run.schema.width)
    values = description["example"]["values"]
    assert run.schema.matrix({"note": [values["note"]], "length": [values["length"]]})[0].tolist() == row
    assert sum(cell > 0 for cell in row[start:end]) > 10


def test_images_of_more_than_8_bits_state_their_level_of_white(tmp_path: Path) -> None:
    run = images()
    entry = rows_entry(dataclasses.replace(run.schema, white=4095.0))
    assert (entry["dtype"], entry["shape"], entry["white"]) == ("uint8", ["rows", 3, 9, 8], 4095.0)
    assert "white" not in rows_entry(run.schema)


@pytest.mark.slow
def test_a_file_without_a_description_is_read_as_before(tmp_path: Path) -> None:
    run = several_targets()
    path = run.export("pt2", tmp_path)
    older = tmp_path / "older.pt2"
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(older, "w") as copy:
        for name in file.namelist():
            if not name.endswith("description.json"):
                copy.writestr(name, file.read(name))
    rows = RNG.normal(size=(5, 4))
    found = descend.export.load_exported(older).predict(rows)
    np.testing.assert_array_equal(found, descend.export.load_exported(path).predict(rows))
