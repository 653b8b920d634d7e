"""Files of the gallery and their index."""

import json

import pytest

from descend.errors import RunError
from descend.gallery import prepare_folder, write_figure, write_index

pytestmark = pytest.mark.slow  # each test may be the first to need a measurement


def test_a_figure_is_three_files_and_the_index_shows_all(pictures, tmp_path):
    for name in ("whitening", "scaling"):
        files = write_figure(pictures(name), tmp_path, 7)
        assert files.image.read_bytes().startswith(b"\x89PNG")
        assert files.page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        numbers = json.loads(files.numbers.read_text(encoding="utf-8"))
        assert numbers["name"] == name
        assert numbers["seed"] == 7
        assert isinstance(numbers["supported"], bool)
        assert {"name", "value", "low", "high"} == set(numbers["number"])
    index = write_index(tmp_path).read_text(encoding="utf-8")
    assert index.index('href="scaling.html"') < index.index(
        'href="whitening.html"'
    )  # the order of the catalogue
    assert "2 measured figures" in index
    assert 'href="momentum.html"' not in index
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_impossible_folder_is_refused_before_measuring(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="cannot create the gallery folder"):
            prepare_folder(place)


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_reported(pictures, tmp_path):
    (tmp_path / "whitening.png").mkdir()
    (tmp_path / "whitening.png" / "kept").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*whitening\.png"):
        write_figure(pictures("whitening"), tmp_path)
    assert not list(tmp_path.glob(".whitening*"))
