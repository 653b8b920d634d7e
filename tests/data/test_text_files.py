import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.table_files import line_numbers, read_table
from descend.data.text_files import open_text, records

TABLE = {"a": [1, 3], "b": [2, 4]}


def written(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("a,b\n1,2\n3,4\n", [2, 3]),
        ("\n\na,b\n1,2\n3,4", [4, 5]),
        ("a,b\r\n1,2\r\n3,4\r\n", [2, 3]),
        ("a,b\r1,2\r3,4\r", [2, 3]),
        ("\ufeffa,b\n1,2\n3,4\n", [2, 3]),
        ("sep=;\na;b\n1;2\n3;4\n", [3, 4]),
        ("# made by a program\n#\na,b\n1,2\n3,4\n", [4, 5]),
        ("\ufeff# note, with, commas\r\na,b\r\n1,2\r\n3,4\r\n", [3, 4]),
        ("#a,b\n1,2\n3,4\n", [2, 3]),
        ("# made by a program\n#a,b\n1,2\n3,4\n", [3, 4]),
        ("a;b\n1;2;\n3;4;\n", [2, 3]),
        ("a;b;\n1;2\n3;4\n", [2, 3]),
        ("a;b;\n1;2;\n3;4;\n", [2, 3]),
        ('a,b\n"1",2\n3,"4"\n', [2, 3]),
    ],
)
def test_the_table_is_found_with_the_lines_of_its_rows(tmp_path, content, lines):
    path = written(tmp_path, content)
    assert read_table(path)[0].to_dict(as_series=False) == TABLE
    assert line_numbers(path) == lines


def test_lines_of_quoted_line_ends_and_blank_lines(tmp_path):
    path = written(tmp_path, 'a,b\n"x\ny",1\n\n"z\n\n",2\n,\n')
    assert read_table(path)[0].height == 3
    assert line_numbers(path) == [2, 5, 8]


def test_skipped_lines_are_noted(tmp_path):
    notes = open_text(written(tmp_path, "# one\n# two\na,b\n1,2\n")).notes
    assert notes == ("2 lines before the header are skipped ('# one')",)


def test_a_header_of_numbers_is_noted(tmp_path):
    notes = open_text(written(tmp_path, "5.1,-3e2\n4.9,3\n")).notes
    assert "consists of numbers ('5.1', '-3e2'); if the file has no header line, add one" in notes[0]
    assert open_text(written(tmp_path, "5.1,b\n4.9,3\n")).notes == ()


def test_separators_at_the_end_of_some_rows_are_ragged(tmp_path):
    with pytest.raises(ValueError, match="ragged: the header has 2 fields, line 2 has 3"):
        read_table(written(tmp_path, "a;b\n1;2;\n3;4\n"))


FIELD = st.text(alphabet='ab,"\n ', max_size=4)


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6))
def test_records_have_the_lines_at_which_they_are_written(rows):
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    expected = []
    for row in rows:
        expected.append(buffer.getvalue().count("\n") + 1)
        writer.writerow(row)
    widths, lines = records(buffer.getvalue().encode(), ",")
    assert lines == expected
    assert widths == [2] * len(rows)


@pytest.mark.parametrize(
    "content",
    ["a,b\n\r1,2\n\r3,4\n\r", "a,b\r1,2\n3,4\n", "a,b\r\n1,2\r3,4\r\n", "a,b\r\r\n1,2\r\r\n3,4\r\r\n"],
)
def test_mixed_ends_of_lines_lose_no_row(tmp_path, content):
    assert read_table(written(tmp_path, content)).frame.to_dict(as_series=False) == TABLE


def test_a_carriage_return_within_quotes_stays(tmp_path):
    frame = read_table(written(tmp_path, 'a,b\n"x\ry",2\nz,4\n')).frame
    assert frame["a"].to_list() == ["x\ry", "z"]


@pytest.mark.parametrize("before", ["   \n", ",,\n", "\n,\n\n", "\ufeff;;\n", '"",""\n', "# note\n,\n"])
def test_lines_without_a_field_before_the_header_are_skipped(tmp_path, before):
    path = written(tmp_path, f"{before}a,b\n1,2\n3,4\n")
    table = read_table(path)
    assert table.frame.to_dict(as_series=False) == TABLE
    lines = before.count("\n")
    assert line_numbers(path) == [lines + 2, lines + 3]
