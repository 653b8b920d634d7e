import zipfile

import numpy as np
import polars as pl
import pytest

from descend.data.table_files import read_table
from descend.errors import DataError


def write(tmp_path, content, name="data.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(tmp_path, content, name="data.csv", **options):
    return read_table(write(tmp_path, content, name), **options)[0]


def test_types_are_inferred_from_the_whole_file(tmp_path):
    frame = table(tmp_path, "a,b\n" + "1,x\n" * 5000 + "1.5,y\n")
    assert frame.dtypes == [pl.Float64, pl.String]
    assert frame.height == 5001


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("a;b\n1;2\n3;4\n", "data.csv"),
        ("a\tb\n1\t2\n3\t4\n", "data.tsv"),
        ("a\tb\n1\t2\n3\t4\n", "data.csv"),
        ("a|b\n1|2\n3|4\n", "data.txt"),
        ("a,b\r\n1,2\r\n3,4\r\n", "DATA.CSV"),
        ("a,b\r1,2\r3,4\r", "data.csv"),
        ("\ufeffa,b\n1,2\n3,4\n", "data.csv"),
        ('"a","b"\n"1","2"\n"3","4"\n', "data.csv"),
        ("\n\na,b\n1,2\n3,4", "data.csv"),
    ],
)
def test_separators_line_ends_and_marks(tmp_path, content, name):
    assert table(tmp_path, content, name).to_dict(as_series=False) == {"a": [1, 3], "b": [2, 4]}


def test_strings_for_missing_values_are_nulls(tmp_path):
    frame = table(tmp_path, "a,b\n1,x\nNA,?\n3,N/A\n,null\n")
    assert frame["a"].to_list() == [1, None, 3, None]
    assert frame["b"].to_list() == ["x", None, None, None]
    assert table(tmp_path, "a,b\n1,x\n-,y\n", missing=("-",))["a"].to_list() == [1, None]


def test_columns_read_as_strings_keep_leading_zeros(tmp_path):
    assert table(tmp_path, "zip,n\n01234,1\n99999,2\n", strings=["zip", "absent"])["zip"].to_list() == [
        "01234",
        "99999",
    ]


def test_blanks_after_separators_are_stripped(tmp_path):
    frame = table(tmp_path, "a, b, zip, c\n1, 2.5, 01, x\n2, NA, 02, y\n", strings=["zip"])
    assert frame.columns == ["a", "b", "zip", "c"]
    assert frame["b"].to_list() == [2.5, None]
    assert frame["c"].to_list() == ["x", "y"]
    assert [value.strip() for value in frame["zip"]] == ["01", "02"]
    assert table(tmp_path, "a,b\n1, x\n2,y\n")["b"].to_list() == [" x", "y"]


def test_decimal_commas_are_read_and_noted(tmp_path):
    frame, notes, *_ = read_table(write(tmp_path, "a;b;c\n1,5;x;3\n-2,25;y;4\n"))
    assert frame.rows() == [(1.5, "x", 3), (-2.25, "y", 4)]
    assert "decimal commas" in notes[0]


def test_an_unnamed_column_of_row_numbers_is_not_used(tmp_path):
    frame, notes, *_ = read_table(write(tmp_path, ",a\n0,5\n1,7\n2,9\n"))
    assert frame.columns == ["a"]
    assert "contains the row numbers" in notes[0]
    assert read_table(write(tmp_path, ",a\n0,5\n2,7\n"))[0].columns == ["column_0", "a"]


def test_blank_lines_are_skipped_but_missing_rows_are_kept(tmp_path):
    frame, notes, *_ = read_table(write(tmp_path, "a,b\n1,2\n\n,\n3,4\n\n\n"))
    assert frame.rows() == [(1, 2), (None, None), (3, 4)]
    assert "blank lines" in notes[0]
    assert table(tmp_path, "a\n1\n\n3\n").height == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n\n\n", "no rows"),
        (b"a,b,a\n1,2,3\n", "'a' occurs more than once"),
        (b"a,b\n1,2\n3,4,5\n6,7\n", "ragged: the header has 2 fields, line 3 has 3"),
        (b"a,b,c\n1,2,3\n4,5\n", "ragged: the header has 3 fields, line 3 has 2"),
        (b"a,b\n1,2\n\xff\xfe\xfd,3\n", "not UTF-8"),
        (
            "a,b\n1,2\n".encode("utf-16-le"),
            "UTF-16 without a byte order mark; specify {'data.encoding': 'utf-16-le'}",
        ),
        (b"a,b\n\x00\x00,2\n", "line 2 contains a NUL byte, as binary files do"),
        (b'a,b\n"x,2\n3,4\n', "data.csv"),
        (b"PK\x03\x04\x00\x00", "cannot be decompressed"),
    ],
)
def test_invalid_text_files_are_refused_with_the_reason(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        table(tmp_path, content)
    assert "data.csv" in str(caught.value)


def test_quoted_line_ends_are_not_ragged(tmp_path):
    frame = table(tmp_path, 'a,b\n"two\nlines",\nx,2\n')
    assert frame.rows() == [("two\nlines", None), ("x", 2)]


@pytest.mark.parametrize("ending", ["parquet", "pq", "arrow", "feather", "ipc"])
def test_binary_tables_round_trip(tmp_path, ending):
    expected = pl.DataFrame({"a": [1.5, None], "c": ["x", "y"], "t": [True, None]})
    path = tmp_path / f"data.{ending}"
    (expected.write_parquet if ending in ("parquet", "pq") else expected.write_ipc)(path)
    assert read_table(path)[0].equals(expected)


def test_an_arrow_stream_is_read(tmp_path):
    expected = pl.DataFrame({"a": [1.5, 2.0]})
    expected.write_ipc_stream(tmp_path / "data.arrow")
    assert read_table(tmp_path / "data.arrow")[0].equals(expected)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_damaged_binary_tables_are_refused(tmp_path, ending, capfd):
    path = tmp_path / f"data.{ending}"
    frame = pl.DataFrame({"a": np.arange(1000), "b": ["word"] * 1000})
    (frame.write_parquet if ending == "parquet" else frame.write_ipc)(path)
    whole = path.read_bytes()
    for damaged in (b"", b"junk", whole[:50], whole[: len(whole) // 2], whole[:-20]):
        path.unlink()
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"data.{ending}"):
            read_table(path)


@pytest.mark.parametrize("name", ["data[1].csv", "da*ta.parquet", "{data}?.arrow"])
def test_a_file_name_is_not_a_glob_pattern(tmp_path, name):
    frame = pl.DataFrame({"a": [1, 2]})
    path = tmp_path / name
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".arrow": frame.write_ipc}[path.suffix](path)
    assert read_table(path)[0].equals(frame)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(DataError, match=r"loop\.csv: cannot be read"):
        read_table(tmp_path / "loop.csv")


def test_a_table_without_rows_is_refused(tmp_path):
    pl.DataFrame({"a": []}).write_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match="no rows"):
        read_table(tmp_path / "data.parquet")


ROWS = [(100.5, 20.25, 7.5), (90.5, 10.75, 3.5)]


@pytest.mark.parametrize(
    ("header", "separator", "names"),
    [
        ("area (m2, net);price (EUR, net);sold", ";", ["area (m2, net)", "price (EUR, net)", "sold"]),
        ('"area (m2, net)";"price, (EUR)";"sold"', ";", ["area (m2, net)", "price, (EUR)", "sold"]),
        ("a, b, c\td; e; f\tsold", "\t", ["a, b, c", "d; e; f", "sold"]),
        ('"area; m2","price; x; y; z","sold"', ",", ["area; m2", "price; x; y; z", "sold"]),
        ("a,b,c,d|e|f", "|", ["a,b,c,d", "e", "f"]),
    ],
)
def test_the_rows_decide_the_separator_not_marks_within_names(tmp_path, header, separator, names):
    content = "\n".join([header, *(separator.join(map(str, row)) for row in ROWS), ""])
    frame = table(tmp_path, content)
    assert frame.columns == names
    assert frame.rows() == ROWS


def test_separators_within_quoted_cells_do_not_count(tmp_path):
    content = 'a;b;c\n"x, y, z";"1, 2";3\n"u, v, w";"3, 4";4\n'
    assert table(tmp_path, content).rows() == [("x, y, z", "1, 2", 3), ("u, v, w", "3, 4", 4)]
    content = 'a,b\n"x;\n;y",1\n"z;;",2\n'
    assert table(tmp_path, content).rows() == [("x;\n;y", 1), ("z;;", 2)]


def test_decimal_commas_and_commas_in_names_may_occur_equally_often(tmp_path):
    assert table(tmp_path, "a,b;c,d\n1,5;2,5\n3,25;4,5\n").rows() == [(1.5, 2.5), (3.25, 4.5)]
    assert table(tmp_path, "id,tag|kind,n\n1,a|b,2\n2,c|d,3\n").columns == ["id", "tag|kind", "n"]


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"'])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_that_declares_the_separator_is_followed_and_skipped(tmp_path, line, end, mark):
    content = mark + end.join([line, "a,b;c", "1;2", "3;4", ""])
    assert table(tmp_path, content).to_dict(as_series=False) == {"a,b": [1, 3], "c": [2, 4]}


def test_a_specified_separator_is_used(tmp_path):
    assert table(tmp_path, "a:b\n1:2\n3:4\n", separator=":").rows() == [(1, 2), (3, 4)]
    assert table(tmp_path, "sep=;\na:b\n1:2\n", separator=":").rows() == [(1, 2)]


def test_messages_name_the_separator_and_the_setting(tmp_path):
    for content in ("a;b\n1;2\n3;4;5\n6;7\n", "a;b;c\n1;2;3\n4;5\n"):
        with pytest.raises(DataError, match=r"the separator is ';' \(another one: {'data.separator': ','}\)"):
            table(tmp_path, content)
    assert "the separator is ','" in " ".join(read_table(write(tmp_path, "a:b\n1:2\n"))[1])


def test_one_column_needs_no_separator(tmp_path):
    assert table(tmp_path, "area, m2\n1.5\n2.5\n").to_dict(as_series=False) == {"area, m2": [1.5, 2.5]}
    assert table(tmp_path, "a\n1\n2\n").columns == ["a"]


@pytest.mark.parametrize(
    ("ending", "what"),
    [("parquet", "a Parquet table"), ("arrow", "an Arrow table"), ("jsonl", "JSON"), ("xlsx", "a workbook")],
)
def test_another_format_in_a_text_file_is_named(tmp_path, ending, what):
    frame, path = pl.DataFrame({"a": [1, 2]}), tmp_path / "data.csv"
    if ending == "xlsx":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("xl/workbook.xml", "")
    else:
        {"parquet": frame.write_parquet, "arrow": frame.write_ipc, "jsonl": frame.write_ndjson}[ending](path)
    with pytest.raises(DataError, match=rf"data\.csv contains {what}, .*rename it to end in \."):
        read_table(path)


def test_a_title_may_begin_with_a_bracket(tmp_path):
    assert table(tmp_path, "[a],{b}\n1,2\n").columns == ["[a]", "{b}"]


def test_the_format_of_a_file_without_a_suffix_is_found_by_its_content(tmp_path):
    assert table(tmp_path, "a,b\n1,2\n", "data").rows() == [(1, 2)]
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "table")
    assert read_table(tmp_path / "table")[0]["a"].to_list() == [1, 2]


def test_lines_before_the_header_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Report 2020\na,b\n1,2\n3,4\n")
    with pytest.raises(
        DataError,
        match=r"the header has 1 field, line 2 has 2.*remove the lines before the header, if line 1",
    ):
        read_table(path)
    path.write_text("a,b\n1,2\n3,4,5\n")
    with pytest.raises(DataError, match=r"line 3 has 3.*check for separators inside values") as caught:
        read_table(path)
    assert "before the header" not in str(caught.value)
