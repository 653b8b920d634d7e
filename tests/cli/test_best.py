"""``descend train --preset best``."""

import pytest

from .conftest import write_houses

SMALL = [
    "--target", "band", "--preset", "best", "--set", "model.max_rounds=1", "--set", "model.hidden=[8]",
    "--set", "stop.max_epochs=2", "--set", "engine.threads=1", "--set", "model.members=[{},{'optimizer.lr'=0.01}]",
]  # fmt: skip


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    return write_houses(tmp_path_factory.mktemp("data") / "houses.csv", 120)


def test_a_search_is_a_run(descend, houses, tmp_path):
    out = tmp_path / "run"
    result = descend("train", houses, *SMALL, "--minutes", "5", "--out", out, "--json")
    assert result.status == 0, result.err
    assert (result.json["stopped"], result.json["search"]["rounds"]) == ("max_rounds", 1)
    assert result.json["recipe"]["model"]["minutes"] == 5.0
    again = descend("train", "--resume", "--out", out)
    assert again.status == 0, again.err
    assert "left to train. Continue the search with a larger" in " ".join(again.out.split())
    predicted = descend("predict", out, houses)
    assert predicted.status == 0, predicted.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "5"], "[model] minutes: it belongs to the preset best"),
        (["--preset", "best", "--minutes", "0"], "expected a number above 0"),
        (["--preset", "best", "--set", "model.name=linear"], "the preset best chooses the networks"),
        (["--set", "model.distill=true", "--preset", "quick"], "this recipe trains none"),
    ],
)
def test_settings_that_do_not_fit_are_refused(descend, houses, tmp_path, options, message):
    out = tmp_path / "run"
    result = descend("train", houses, "--target", "band", *options, "--out", out)
    assert result.status == 2
    assert message in " ".join(result.err.split())
    assert not out.exists()
