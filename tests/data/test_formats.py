"""The same table is the same data in every format, compression and encoding."""

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.table_formats import write_all

from descend.data.sources import read

WORDS = st.text(alphabet="aäßœЖ,;\"'\n |#é", min_size=1, max_size=8).map(lambda text: f"w{text}w")
INTEGERS = st.integers(-(2**60), 2**60)
NUMBERS = st.integers(-(10**6), 10**6).map(lambda number: number + 0.25)  # three decimals could be thousands


@st.composite
def tables(draw):
    height = draw(st.integers(2, 6))

    def column(values):
        some = draw(st.lists(st.none() | values, min_size=height - 1, max_size=height - 1))
        some.insert(draw(st.integers(0, height - 1)), draw(values))
        return some

    return pl.DataFrame(
        {
            "größe, m": pl.Series(column(NUMBERS), dtype=pl.Float64),
            "count": pl.Series(column(INTEGERS), dtype=pl.Int64),
            "name": pl.Series(column(WORDS), dtype=pl.String),
            "y": pl.Series(draw(st.lists(st.integers(0, 3), min_size=height, max_size=height))),
        }
    )


@pytest.mark.slow
@settings(max_examples=examples(40))
@given(tables())
@example(
    pl.DataFrame({"größe, m": [0.5, 1.5], "count": [2**60 + 1, 2**60], "name": ["w", None], "y": [0, 1]})
)
def test_the_same_table_has_the_same_content_in_every_format(tmp_path_factory, frame):
    expected = None
    for path in write_all(frame, tmp_path_factory.mktemp("formats")):
        source = read(path, target="y")
        assert source.frame is not None
        assert source.frame.columns == ["größe, m", "count", "name"], path.name
        assert source.targets is not None
        assert source.targets.tolist() == frame["y"].to_list(), path.name
        assert source.targets.dtype.kind == "i", path.name
        for name in ("größe, m", "count", "name"):
            read_values = source.frame[name].to_list()
            assert read_values == frame[name].to_list(), (path.name, name)
        if expected is None:
            expected = source.fingerprint()
        assert source.fingerprint() == expected, path.name
