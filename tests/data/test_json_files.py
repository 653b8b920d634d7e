import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.json_files import frame_of_json, lines_of_json
from descend.errors import DataError

CELLS = st.lists(
    st.fixed_dictionaries({"a": st.integers(-(2**70), 2**70), "b": st.text(min_size=1)}), min_size=1
)


@given(CELLS)
def test_all_layouts_hold_the_same_table(records):
    lines = "\n".join(json.dumps(record) for record in records)
    layouts = [
        lines, json.dumps(records), json.dumps(records, indent=3, ensure_ascii=False),
        json.dumps({key: [record[key] for record in records] for key in ("a", "b")}),
        json.dumps({key: {str(at): record[key] for at, record in enumerate(records)} for key in ("a", "b")}),
        json.dumps({str(at): record for at, record in enumerate(records)}),
        json.dumps({"records": records}),
        json.dumps({"columns": ["a", "b"], "index": [0], "data": [[record["a"], record["b"]] for record in records]}),
    ]  # fmt: skip
    for layout in layouts:
        frame = frame_of_json("a.json", layout.encode("utf-8", "replace"))
        assert [int(value) for value in frame["a"]] == [record["a"] for record in records]
        assert frame["b"].to_list() == [record["b"] for record in records]


def test_integers_stay_integers_and_other_numbers_do_not_change():
    frame = frame_of_json(
        "a", b'[{"a": 1, "b": 1, "c": 1.5, "d": true}, {"a": null, "b": 2.5, "c": 2, "d": null}]'
    )
    assert frame.dtypes == [pl.Int64, pl.Float64, pl.Float64, pl.Boolean]
    assert frame.rows() == [(1, 1.0, 1.5, True), (None, 2.5, 2.0, None)]


def test_one_object_is_one_row():
    assert frame_of_json("a", b'{"a": 1, "b": "x"}').rows() == [(1, "x")]


def test_the_line_of_each_record():
    content = b'{"a": 1}\r\n\r\n{"a": 2}\r\n'
    assert frame_of_json("a", content)["a"].to_list() == [1, 2]
    assert lines_of_json(content) == [1, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"[]", "got an empty array"),
        (b"{}", "got an empty object"),
        (b"3", "got 3"),
        (b"[1, 2]", "got the value 1 in row 0"),
        (b'{"a": 1}\n{"a": \n', "line 2 is not valid JSON: Expecting value"),
        (b'{"a": 1} x', "line 1 is not valid JSON: Extra data"),
        (b'{\n "a": [1,\n x]}', "line 3 is not valid JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice in one object"),
        (b'{"a": 1}\n{"b": 1, "b": 2}', "line 2: the key 'b' occurs twice"),
        (b'[{"a": 1}, {"a": [1]}]', "column 'a': .* row 1 holds a list"),
        (b'{"a": [1, 2], "b": [1]}', "columns of equal lengths"),
        (b'{"rows": [1], "n": 1}', "got an object with the keys 'rows', 'n'"),
        (b'{"a": "\xe9"}', "line 1 is not UTF-8"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_other_content_is_refused_with_its_place(content, message):
    with pytest.raises(DataError, match=message) as caught:
        frame_of_json("data.json", content)
    assert "data.json" in str(caught.value)
    assert len(str(caught.value)) < 600
