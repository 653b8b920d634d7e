import io
import sys

import polars as pl
import pytest
from tests.support.table_formats import contents

from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

FRAME = pl.DataFrame({"a": [1.5, 2.5, 3.5], "b": ["x", "é", None], "y": [0, 1, 0]})


class Stream:
    """Standard input with some bytes."""

    def __init__(self, content, terminal=False):
        self.buffer = io.BytesIO(content)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("name", sorted(contents(FRAME)))
def test_every_format_is_recognized_by_its_content(monkeypatch, name):
    monkeypatch.setattr(sys, "stdin", Stream(contents(FRAME)[name]))
    source = read("-", target="y")
    assert source.frame.rows() == FRAME.drop("y").rows()
    assert source.name == "standard input"
    assert source.reference is None


def test_standard_input_is_read_once_and_can_be_used_again(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stream(FRAME.write_csv().encode()))
    assert len(read("-", target="y")) == len(read("-", target="a")) == 3
    monkeypatch.setattr(sys, "stdin", Stream(FRAME[:2].write_csv().encode()))
    assert len(read("-", target="y")) == 2


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (None, "is closed"),
        (Stream(b""), "is empty"),
        (Stream(b" \n"), "is empty"),
        (Stream(b"", terminal=True), "descend train - --target price < houses.csv"),
        (Stream(b"a,b\n1,2,3\n"), "standard input is ragged"),
    ],
)
def test_input_without_a_table_is_refused(monkeypatch, stream, message):
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(DataError, match=message):
        read("-", target="y")


def test_rows_have_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stream(b'a,y\n"1\n",0\nx,1\n'))
    source = read("-", target="y")
    assert source.numbers.text([1]) == "row 1 (line 4)"


def test_standard_input_is_not_streamed():
    with pytest.raises(DataError, match=r"data\.stream supports files only"):
        read("-", target="y", settings=DataSettings(stream=True))
