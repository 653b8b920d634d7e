import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.encodings import as_utf8, marked_encoding, not_text, not_utf8
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.data.table_files import read_table
from descend.errors import DataError

TEXT = "größe,name\n1,Žofie\n2,é\n"
ROWS = [(1, "Žofie"), (2, "é")]
MARKS = {
    "utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE,
}  # fmt: skip


@given(st.sampled_from(sorted(MARKS)), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_byte_order_mark_decides(encoding, text):
    content = MARKS[encoding] + text.encode(encoding)
    if encoding != "utf-16-le" or not text.startswith("\0"):  # which is the mark of UTF-32
        assert marked_encoding(content) == (encoding, len(MARKS[encoding]))
        assert (
            as_utf8("a.csv", content, "cp1252")[0] == text.removeprefix("\ufeff").encode() or "\ufeff" in text
        )


@pytest.mark.parametrize("encoding", MARKS)
def test_files_with_a_mark_are_read(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(MARKS[encoding] + TEXT.encode(encoding))
    frame, notes = read_table(tmp_path / "a.csv")[:2]
    assert frame.rows() == ROWS
    assert frame.columns == ["größe", "name"]
    assert bool(notes) == (encoding != "utf-8")


@pytest.mark.parametrize("encoding", ["cp1250", "iso-8859-2", "utf-16-le", "utf-16-be"])
def test_the_specified_encoding_decides_without_a_mark(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    assert read_table(tmp_path / "a.csv", encoding=encoding)[0].rows() == ROWS


def test_bytes_that_are_not_utf8_are_refused_with_their_line_and_the_setting(tmp_path):
    (tmp_path / "a.csv").write_bytes("name,b\nZoe,1\ncafé;x,2\n".encode("cp1252"))
    message = (
        r"a\.csv: line 3 is not UTF-8 text \(byte 16: 0xE9\); in the encoding cp1252 it reads 'café;x,2'.*"
        r"\{'data\.encoding': 'cp1252'\}"
    )
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "a.csv")


def test_a_title_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 1 is not UTF-8 .*reads 'größe,b'"):
        read_table(tmp_path / "a.csv")


def test_bytes_far_from_the_beginning_are_refused_too(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + b"1,two\n" * 300_000 + "1,é\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 300002 is not UTF-8"):
        read_table(tmp_path / "a.csv")


def test_utf16_without_a_mark_is_named():
    for encoding in ("utf-16-le", "utf-16-be"):
        assert f"specify {{'data.encoding': {encoding!r}}}" in str(not_text("a.csv", TEXT.encode(encoding)))
    assert "line 2 contains a NUL byte" in str(not_text("a.csv", b"a,b\n1,\x002\n"))


def test_unknown_encodings_are_refused_with_a_suggestion():
    with pytest.raises(DataError, match=r"data\.encoding: unknown encoding 'latn-1'; did you mean 'latin-1'"):
        as_utf8("a.csv", b"x", "latn-1")
    with pytest.raises(DataError, match="unknown encoding 'rot13'"):
        as_utf8("a.csv", b"x", "rot13")


def test_bytes_that_the_specified_encoding_does_not_have_are_refused():
    with pytest.raises(DataError, match=r"line 2 is not valid ascii \(byte 2: 0xE9\)"):
        as_utf8("a.csv", b"a\n\xe9", "ascii")


def test_utf8_that_is_read_in_another_encoding_is_noted():
    content, notes = as_utf8("a.csv", "é".encode(), "cp1252")
    assert content.decode() == "Ã©"
    assert "valid UTF-8" in notes[0]
    assert as_utf8("a.csv", b"plain", "cp1252") == (b"plain", ())


def test_new_data_are_utf8_or_in_the_encoding_of_training():
    assert as_utf8("a.csv", "é".encode(), "auto", expected="cp1252") == ("é".encode(), ())
    assert as_utf8("a.csv", "é".encode("cp1252"), "auto", expected="cp1252")[0] == "é".encode()


@given(st.binary(max_size=60))
def test_a_cut_off_character_is_no_fault_of_an_incomplete_text(content):
    valid = True
    try:
        content.decode()
    except UnicodeDecodeError:
        valid = False
    assert (not_utf8("a", content) is None) == valid
    if valid:
        assert all(not_utf8("a", content[:end], complete=False) is None for end in range(len(content)))


def test_json_is_read_in_the_specified_encoding(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"größe": "é", "y": 1}\n'.encode("latin-1"))
    with pytest.raises(DataError, match="line 1 is not UTF-8"):
        read(tmp_path / "a.jsonl", target="y")
    source = read(tmp_path / "a.jsonl", target="y", settings=DataSettings(encoding="latin-1"))
    assert source.frame.to_dict(as_series=False) == {"größe": ["é"]}
