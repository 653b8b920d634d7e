"""Types of Arrow that polars does not import."""

import decimal
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.feather
import pyarrow.parquet
import pytest

from descend.data import read
from descend.data.arrow_tables import frame_of_arrow

N = 24
COLUMNS = {
    "decimal256": (pa.array([decimal.Decimal(at) / 4 for at in range(N)], pa.decimal256(50, 2)), [0.0, 0.25, 0.5]),
    "run ends": (pa.compute.run_end_encode(pa.array([1.5] * 10 + [2.5] * 14)), [1.5, 1.5, 1.5]),
    "union": (
        pa.UnionArray.from_dense(
            pa.array([0] * N, pa.int8()), pa.array(range(N), pa.int32()), [pa.array(range(N)), pa.array(["x"])]
        ),
        [0, 1, 2],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_values_are_converted_and_columns_keep_their_places(name):
    column, first = COLUMNS[name]
    table = pa.table({"a": np.arange(N), "v": column, "b": np.arange(N) * 0.5})
    frame = frame_of_arrow(table)
    assert frame.columns == ["a", "v", "b"]
    assert frame["v"].head(3).to_list() == first
    assert frame_of_arrow(table.select(["v"]))["v"].head(3).to_list() == first
    assert read(table, target="b").frame["v"].head(3).to_list() == first


def test_identifiers_in_bytes_are_left_out(tmp_path):
    keys = [uuid.UUID(int=at**9 + 2**127).bytes for at in range(N)]
    table = pa.table({"id": pa.array(keys, pa.binary(16)), "v": np.arange(N) * 1.5, "y": np.arange(N) * 1.0})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    pandas = table.to_pandas()
    for data in (table, tmp_path / "a.parquet", tmp_path / "a.feather", pandas):
        (column, _) = read_columns(data)
        assert column.kind == "identifier"


def read_columns(data):
    from descend.data.columns import infer
    from descend.data.settings import DataSettings

    return infer(read(data, target="y").frame, DataSettings())[0]
