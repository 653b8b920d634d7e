import sys

import pandas
import polars as pl
import pyarrow
import pytest
from pyarrow import feather

from descend.data.sources import read

VALUES = ["M", "S", None, "L"]
FRAME = pandas.DataFrame(
    {
        "size": pandas.Categorical(VALUES, ["S", "M", "L"], ordered=True),
        "color": pandas.Categorical(["b", "a", "b", "a"]),
        "y": [1, 2, 3, 4],
    }
)


def write(folder, ending):
    path, table = folder / f"a.{ending}", pyarrow.Table.from_pandas(FRAME)
    if ending == "parquet":
        FRAME.to_parquet(path)
    elif ending == "feather":
        feather.write_feather(table, path)
    else:
        with pyarrow.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("ending", ["parquet", "feather", "arrow"])
def test_the_order_in_a_file_is_read(tmp_path, ending):
    source = read(write(tmp_path, ending), target="y")
    assert source.frame["size"].dtype == pl.Enum(["S", "M", "L"])
    assert source.frame["size"].to_list() == VALUES
    assert source.frame["color"].dtype == pl.Categorical
    assert source.notes == ()


def test_a_lost_order_is_noted(tmp_path, monkeypatch):
    path = write(tmp_path, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    source = read(path, target="y")
    assert source.frame["size"].to_list() == VALUES
    assert "the categories of 'size' have an order in the file, which is read if pyarrow" in source.notes[0]


def test_polars_keeps_its_own_order(tmp_path):
    frame = pl.DataFrame({"size": pl.Series(["M", "S"], dtype=pl.Enum(["S", "M"])), "y": [0, 1]})
    frame.write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", target="y").frame["size"].dtype == pl.Enum(["S", "M"])
