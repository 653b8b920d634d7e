"""A date that is declared as missing is missing in any type of column."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from descend.data import prepare, read
from descend.data.settings import DataSettings

DATES = [dt.datetime(2021, 1, 1) + dt.timedelta(days=3 * at) for at in range(40)]
CELLS = [*DATES, dt.datetime(9999, 12, 31)]


@pytest.mark.parametrize(
    "column",
    [CELLS, [one.date() for one in CELLS], [f"{one:%Y-%m-%d}" for one in CELLS], pl.Series(CELLS),
     pd.Series(CELLS, dtype="datetime64[us]"), pa.array(CELLS, pa.timestamp("us"))],
    ids=["datetime", "date", "string", "polars", "pandas", "arrow"],
)  # fmt: skip
def test_a_declared_date_is_missing(column):
    data = {"when": column, "y": [float(at) for at in range(41)]}
    settings = DataSettings(missing={"when": ("", "9999-12-31")})
    schema = prepare(read(data, target="y"), settings).schema
    assert schema.columns[0].high == 18628.0 + 3 * 39
    rows = schema.matrix({"when": [CELLS[0], CELLS[40]]})
    assert rows[0, 0] == 18628.0
    assert np.isnan(float(rows[1, 0]))
