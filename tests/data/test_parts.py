import polars as pl
import pytest

from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

FRAME = pl.DataFrame({"a": range(6), "b": list("uvwxyz"), "y": [0, 1, 0, 1, 0, 1]})


@pytest.fixture
def folder(tmp_path):
    FRAME[:2].write_parquet(tmp_path / "part-0.parquet")
    FRAME[2:].select("y", "b", "a").write_parquet(tmp_path / "part-1.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".hidden").touch()
    return tmp_path


def test_the_tables_of_a_folder_are_one_table(folder):
    source = read(folder, target="y")
    assert source.fingerprint() == read(FRAME, target="y").fingerprint()
    assert "consists of 2 files" in source.notes[0]
    assert source.reference == str(folder)


def test_a_pattern_selects_files(folder):
    FRAME.write_csv(folder / "other.csv")
    assert len(read(folder / "*.parquet", target="y")) == 6
    assert len(read(str(folder / "part-[1-9].parquet"), target="y")) == 4


def test_parts_may_stay_on_disk(folder):
    stored = read(folder, target="y", settings=DataSettings(stream=True))
    assert stored.stored is not None
    assert stored.fingerprint() == read(FRAME, target="y").fingerprint()
    assert stored.stored.rows(1, 4).rows() == FRAME.drop("y")[1:4].rows()
    FRAME[:2].drop("b").write_parquet(folder / "part-2.parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(folder, target="y", settings=DataSettings(stream=True)).fingerprint()


def test_a_folder_with_several_formats_is_no_table(folder):
    FRAME.write_csv(folder / "other.csv")
    with pytest.raises(DataError, match="expected a folder with one subfolder of images per class"):
        read(folder, target="y")


def test_rows_are_named_by_file_and_line(tmp_path):
    FRAME[:3].write_csv(tmp_path / "a.csv")
    FRAME[3:].write_csv(tmp_path / "b.csv")
    numbers = read(tmp_path, target="y").numbers
    assert numbers.text([4]) == f"row 1 (line 3) of {tmp_path / 'b.csv'}"
    assert numbers.text([0, 4]).startswith(f"row 0 (line 2) of {tmp_path / 'a.csv'}, row 1")


def test_files_with_other_columns_are_refused(tmp_path):
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.drop("b").write_csv(tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"b\.csv has the columns 'a', 'y', but .*a\.csv has 'a', 'b', 'y'"):
        read(tmp_path, target="y")


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    FRAME.write_csv(tmp_path / "a.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(read("~/a.csv", target="y")) == 6


@pytest.mark.parametrize("address", ["https://example.org/a.csv", "s3://bucket/a.parquet", "hf://datasets/a"])
def test_addresses_are_refused(address):
    with pytest.raises(DataError, match=rf"{address}: addresses .* are not read; download the file first"):
        read(address, target="y")


class TestKeptColumns:
    def test_text_files_keep_their_characters(self, tmp_path):
        (tmp_path / "a.csv").write_text("id,a,y\n007,1.50,0\n08,2,1\n")
        source = read(tmp_path / "a.csv", target="y", keep=("id", "a", "id"))
        assert source.kept.to_dict(as_series=False) == {"id": ["007", "08"], "a": ["1.50", "2"]}
        assert source.frame["a"].to_list() == [1.5, 2.0]

    def test_frames_keep_their_values(self):
        assert read(FRAME, target="y", keep=["y", "b"]).kept.equals(FRAME.select("y", "b"))
        assert read({"a": [1], "b": ["x"]}, predicting=True, keep=["b"]).kept.rows() == [("x",)]

    def test_parts_keep_all_rows(self, tmp_path):
        FRAME[:3].write_csv(tmp_path / "a.csv")
        FRAME[3:].write_csv(tmp_path / "b.csv")
        assert read(tmp_path, target="y", keep=["b"]).kept["b"].to_list() == list("uvwxyz")

    def test_names_may_be_listed_and_may_contain_commas(self, tmp_path):
        (tmp_path / "a.csv").write_text('id,"size, m",a,y\n007,1.0,1,0\n08,2.0,2,1\n')
        kept = read(tmp_path / "a.csv", target="y", keep=["id, a", "size, m"]).kept
        assert kept.to_dict(as_series=False) == {
            "id": ["007", "08"],
            "a": ["1", "2"],
            "size, m": ["1.0", "2.0"],
        }

    def test_rows_are_selected_together(self):
        assert read(FRAME, target="y", keep=["b"]).take(FRAME["a"].to_numpy()[[4, 1]]).kept[
            "b"
        ].to_list() == ["y", "v"]

    def test_a_column_that_does_not_exist_is_refused(self):
        with pytest.raises(DataError, match="no column 'B' to keep; did you mean 'b'"):
            read(FRAME, target="y", keep=["B"])

    def test_data_without_column_names_are_refused(self):
        with pytest.raises(DataError, match=r"columns to keep \('id'\) need data with column names"):
            read([[1.0, 2.0]], predicting=True, keep=["id"])
