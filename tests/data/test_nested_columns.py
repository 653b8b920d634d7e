"""A column of structures is a column for each part, in every form of data."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import descend
from descend.data import read
from descend.data.nested_columns import flat_columns
from descend.errors import DataError

ROWS = [
    {"a": at * 1.5, "geo": None if at == 3 else {"lat": at * at, "in": {"zip": f"{at % 3}00"}}, "y": float(at)}
    for at in range(30)
]  # fmt: skip
FLAT = {
    "a": [at * 1.5 for at in range(30)],
    "geo.lat": [None if at == 3 else at * at for at in range(30)],
    "geo.in.zip": [None if at == 3 else f"{at % 3}00" for at in range(30)],
}


def forms(folder):
    table = pa.Table.from_pylist(ROWS)
    (folder / "a.json").write_text(json.dumps(ROWS))
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "w.json").write_text(json.dumps({"count": 30, "next": None, "results": ROWS}))
    pl.DataFrame(ROWS).write_parquet(folder / "a.parquet")
    pl.DataFrame(ROWS).write_ipc(folder / "a.arrow")
    files = [folder / name for name in ("a.json", "a.jsonl", "w.json", "a.parquet", "a.arrow")]
    columns = {key: [row[key] for row in ROWS] for key in ROWS[0]}
    frames = [pl.DataFrame(ROWS), pd.DataFrame(ROWS), table, table.to_pandas(types_mapper=pd.ArrowDtype)]
    return [*files, ROWS, columns, *frames]


def test_every_form_gives_the_same_columns(tmp_path):
    for data in forms(tmp_path):
        frame = read(data, target="y").frame
        assert list(frame.columns) == list(FLAT)
        for name, values in FLAT.items():
            found = [None if one != one else one for one in frame[name].to_list()]
            assert found == values, (type(data), name)


def test_new_rows_have_the_same_structures():
    run = descend.train(ROWS, {"stop": {"max_epochs": 1}, "model": {"width": 4}}, target="y")
    rows = [{key: row[key] for key in ("a", "geo")} for row in ROWS]
    flat = [{name: values[at] for name, values in FLAT.items()} for at in range(30)]
    assert np.array_equal(run.predict(rows), run.predict(flat))
    np.testing.assert_allclose(run.predict(rows)[:1], run.predict(rows[0]), rtol=1e-6)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(DataError, match=r"must be unique, but 'geo\.lat'"):
        read([{"geo.lat": 1, "geo": {"lat": 2}, "y": 1.0}] * 3, target="y")


def test_other_values_stay():
    assert flat_columns({"a": [{"b": 1}, 2], "c": [{}], "d": "x"}) == {
        "a": [{"b": 1}, 2],
        "c": [{}],
        "d": "x",
    }


def test_columns_by_the_labels_of_rows():
    table = pd.DataFrame({"a": [1.5, 2.5, 9.0], "y": [1.0, 2.0, 3.0]})
    assert read(table.to_dict(), target="y").frame["a"].to_list() == [1.5, 2.5, 9.0]
