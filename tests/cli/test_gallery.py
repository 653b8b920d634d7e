"""``descend gallery``."""

import json

import pytest

from descend.gallery.catalogue import FIGURES


def test_the_list_measures_nothing(descend, tmp_path):
    result = descend("gallery", "--list")
    assert result.status == 0
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == list(FIGURES)
    assert list(tmp_path.iterdir()) == []
    found = descend("gallery", "--list", "--json").json["figures"]
    assert [one["name"] for one in found] == list(FIGURES)
    assert all(one["about"] for one in found)


@pytest.mark.slow
def test_one_figure_becomes_files_and_one_object(descend, tmp_path):
    result = descend("gallery", "whitening", "--out", "pictures", "--seed", "3", "--json")
    assert result.status == 0, result.err
    (figure,) = result.json["figures"]
    assert figure["name"] == "whitening"
    assert figure["supported"] is True
    assert figure["seed"] == 3
    assert figure["number"]["value"] < 1e-9
    assert (tmp_path / figure["png"]).is_file()
    assert (tmp_path / figure["html"]).is_file()
    assert "whitening" in (tmp_path / result.json["index"]).read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "pictures" / "whitening.json").read_text(encoding="utf-8"))
    assert kept["finding"] == figure["finding"]


@pytest.mark.slow
def test_people_read_the_finding_and_the_verdict(descend, tmp_path):
    result = descend("gallery", "normalization_zoo")
    assert result.status == 0, result.err
    words = " ".join(result.out.split())
    assert "Supports the claim: yes." in words
    assert "gallery/normalization_zoo.png" in words
    assert (tmp_path / "gallery" / "index.html").is_file()


def test_a_name_that_is_none_is_a_mistake(descend, tmp_path):
    result = descend("gallery", "momentun", "--json")
    assert result.status == 2
    assert "did you mean 'momentum'?" in result.json["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_mistake(descend, tmp_path):
    (tmp_path / "taken").write_text("")
    result = descend("gallery", "whitening", "--out", "taken")
    assert result.status == 2
    assert "cannot create the gallery folder taken" in result.err
