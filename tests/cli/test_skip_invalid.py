"""Tests that rows with unusable values are named, and that the others are predicted on request."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest

import descend as package
from descend.data.sources import read
from descend.errors import InvalidRowsError
from descend.runs.predictions import prediction_table

ROWS = [{"x": float(at), "c": "ab"[at % 2], "w": at % 5, "y": float(at % 7)} for at in range(60)]
NEW = "id,x,c,w\nA,1.5,a,2\nB,inf,b,3\nC,2.5,a,oops\nD,-1e200,b,1\nE,3.5,b,0\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skip") / "run"
    package.train(ROWS, {"stop": {"max_epochs": 1}}, target="y", out=folder)
    return folder


def test_the_rows_are_named_and_the_way_to_predict_the_others(descend, run, tmp_path):
    (tmp_path / "new.csv").write_text(NEW, encoding="utf-8")
    result = descend("predict", run, tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert result.status == 2
    shown = " ".join(result.err.split())
    assert "column 'x'" in shown
    assert "column 'w'" in shown
    assert "'oops'" in shown
    assert "--skip-invalid predicts the other rows" in shown
    assert "--set" not in shown
    assert not (tmp_path / "p.csv").exists()


def test_the_others_are_predicted_on_request(descend, run, tmp_path):
    (tmp_path / "new.csv").write_text(NEW, encoding="utf-8")
    result = descend("predict", run, tmp_path / "new.csv", "--skip-invalid", "--keep", "id")
    assert result.status == 0
    assert result.err == "Note: rows 1, 2, 3 have no prediction\n"
    table = pl.read_csv(io.StringIO(result.out))
    assert table["id"].to_list() == list("ABCDE")
    assert [value is None for value in table["prediction"]] == [False, True, True, True, False]
    good = [{"x": 1.5, "c": "a", "w": 2}, {"x": 3.5, "c": "b", "w": 0}]
    expected = package.load(run).predict(good)
    np.testing.assert_allclose(table["prediction"].drop_nulls().to_numpy(), expected, rtol=1e-6)


def test_without_bad_rows_nothing_changes(run):
    trained = package.load(run)
    source = read(ROWS[:9], schema=trained.schema, predicting=True)
    assert prediction_table(trained.predictor, source, skip_invalid=True).equals(
        prediction_table(trained.predictor, source)
    )


def test_no_usable_row_is_an_error(descend, run, tmp_path):
    (tmp_path / "new.csv").write_text("x,c,w\ninf,a,1\n", encoding="utf-8")
    result = descend("predict", run, tmp_path / "new.csv", "--skip-invalid")
    assert result.status == 2
    assert "infinite" in result.err


def test_the_error_in_python_has_the_rows(run):
    with pytest.raises(InvalidRowsError) as raised:
        package.load(run).predict([{"x": 1.0, "c": "a", "w": 1}, {"x": float("-inf"), "c": "a", "w": 1}])
    assert raised.value.rows == {1}
    assert "--" not in str(raised.value)
