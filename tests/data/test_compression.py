import gzip
import sys
import zipfile
from pathlib import Path

import pytest
from tests.support.table_formats import COMPRESS, zipped

from descend.data.compression import compression_of, decompress, inner_suffix
from descend.data.table_files import read_table
from descend.errors import DataError, MissingExtraError

TABLE = b"a,b\n1,x\n2,y\n"
ZSTANDARD = bytes.fromhex("28b52ffd200c6100") + b"\x00" + TABLE  # one raw block


@pytest.mark.parametrize("suffix", COMPRESS)
def test_content_is_recognized_and_restored(suffix):
    packed = COMPRESS[suffix](TABLE)
    assert compression_of(packed) == suffix
    assert decompress("a.csv", packed, suffix) == (TABLE, "")


def test_the_file_of_an_archive_is_named():
    assert decompress("a.zip", zipped(TABLE, "deep/b.tsv"), ".zip") == (TABLE, "deep/b.tsv")


def test_hidden_files_of_an_archive_do_not_count(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.csv", TABLE)
        archive.writestr("__MACOSX/._data.csv", b"x")
        archive.writestr(".DS_Store", b"x")
    assert read_table(path)[0].rows() == [(1, "x"), (2, "y")]


def test_an_archive_with_several_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train.csv", TABLE)
        archive.writestr("test.csv", TABLE)
    with pytest.raises(DataError, match=r"expected an archive with one table, got 'train\.csv', 'test\.csv'"):
        read_table(tmp_path / "a.zip")


@pytest.mark.parametrize("suffix", [*COMPRESS, ".zip"])
def test_damaged_and_wrongly_named_files_are_refused(tmp_path, suffix):
    packed = zipped(TABLE * 100, "a.csv") if suffix == ".zip" else COMPRESS[suffix](TABLE * 100)
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"cannot be decompressed: .*is it damaged\?"):
        read_table(path)
    path.write_bytes(TABLE)
    with pytest.raises(DataError, match=rf"is not compressed as its suffix \{suffix} says"):
        read_table(path)


def test_a_compressed_file_without_the_suffix_is_read_by_its_content(tmp_path):
    (tmp_path / "a.csv").write_bytes(gzip.compress(TABLE))
    assert read_table(tmp_path / "a.csv")[0].rows() == [(1, "x"), (2, "y")]


def test_the_format_of_an_unnamed_table_is_found_by_its_content(tmp_path):
    (tmp_path / "data.gz").write_bytes(gzip.compress(b'[{"a": 1}, {"a": 2}]'))
    assert read_table(tmp_path / "data.gz")[0]["a"].to_list() == [1, 2]


def test_an_unknown_format_within_a_compressed_file_is_refused(tmp_path):
    (tmp_path / "data.docx.gz").write_bytes(gzip.compress(TABLE))
    with pytest.raises(DataError, match=r"got '\.docx'"):
        read_table(tmp_path / "data.docx.gz")


def test_the_extra_for_zstandard_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.csv.zst").write_bytes(ZSTANDARD)
    for module in ("compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[zstd\]"):
        read_table(tmp_path / "a.csv.zst")


def test_zstandard_is_read(tmp_path):
    pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    (tmp_path / "a.csv.zst").write_bytes(ZSTANDARD)
    assert read_table(tmp_path / "a.csv.zst")[0].rows() == [(1, "x"), (2, "y")]


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.b.CSV.GZ", ".csv"), ("a.parquet", ".parquet"), ("a.tar.gz", ".tar"), ("gz", "")]
)
def test_the_suffix_of_the_table(name, suffix):
    assert inner_suffix(Path(name)) == suffix
