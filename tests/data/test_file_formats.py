"""A file whose content has another format than its suffix says is refused by one sentence that names the format."""

import gzip
import json

import pytest

from descend.data import read
from descend.errors import DataError

CSV = "a,y\n1,2\n3,4\n"
PAGE = "<!DOCTYPE html><html><body>404 not found</body></html>\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", PAGE, "contains a page of HTML"),
        ("a.xls", "<html><table><tr><td>a</td></tr></table></html>", "contains a page of HTML"),
        ("a.xlsx", CSV, "contains text, and not what its suffix .xlsx says; rename it to end in .csv"),
        ("a.parquet", CSV, "rename it to end in .csv"),
        ("a.feather", json.dumps([{"a": 1}]), "rename it to end in .json"),
    ],
)
def test_another_format_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read(path, target="y")
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    with pytest.raises(DataError, match=message):
        read(packed, target="y")


@pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
def test_a_damaged_file_is_damaged(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="is it damaged"):
        read(path, target="y")


def test_a_title_with_angle_brackets_is_a_title(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("<b>area</b>,y\n1,2\n3,4\n5,7\n")
    assert read(path, target="y").frame.columns == ["<b>area</b>"]
