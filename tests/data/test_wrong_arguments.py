"""Data that are something else than what they were passed as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import descend
from descend.data import read
from descend.errors import DataError
from descend.interface import command_line

X = np.random.default_rng(0).normal(size=(40, 2))
PAIR = (X, X[:, 0])
QUICK = {"model": {"hidden": [4]}, "stop": {"max_epochs": 1}}


@pytest.mark.parametrize("part", ["validation", "test"])
def test_other_parts_are_named(part: str) -> None:
    with pytest.raises(DataError, match=f"^{part}: an int has no targets"):
        descend.train(PAIR, **{part: 3})
    with pytest.raises(DataError, match=rf"^{part}: an ndarray of shape \(40, 2\) has no targets"):
        descend.train(PAIR, **{part: X})
    with pytest.raises(
        DataError, match=f"^the {part} data lack the column 'x1', which the training data have$"
    ):
        descend.train(PAIR, **{part: (X[:, :1], X[:, 0])})


def test_a_row_of_a_frame_is_not_a_table() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": X[:, 0]})
    run = descend.train(frame, QUICK, target="y")
    with pytest.raises(
        DataError, match=r"got a series; for one row of a data frame, pass frame\.iloc\[\[row\]\]"
    ):
        run.predict(frame.iloc[0])
    assert run.predict(frame.iloc[[0]]).shape == (1,)
    with pytest.raises(DataError, match="expected a table of shape \\(rows, columns\\), got None"):
        run.predict(None)


def test_results_are_not_data(tmp_path: Path) -> None:
    descend.train(PAIR, QUICK, out=tmp_path / "run")
    with pytest.raises(DataError, match="is a folder of results, not of data"):
        read(tmp_path / "run")
    # A recipe next to pictures is no run.
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "recipe.toml").write_text("")
    with pytest.raises(DataError, match="one subfolder of images per class"):
        read(tmp_path / "own")


def test_a_kind_that_hardly_any_value_has() -> None:
    words = {"city": ["Ulm", "Bonn", "Jena", "Ulm"] * 10, "y": [1.0, 2.0, 3.0, 4.0] * 10}
    recipe = {"data.columns.city": "numeric"}
    with pytest.raises(
        DataError, match=r"or declare another kind: \{'data\.columns\.city': 'categorical'\}$"
    ):
        descend.train(words, recipe, target="y")
    one = {**words, "city": ["?!", *range(39)]}
    with pytest.raises(
        DataError, match=r"or if they stand for missing values: \{'data\.missing\.city': .*'\?!'"
    ):
        descend.train(one, recipe, target="y")


def test_advice_in_the_words_of_the_interface() -> None:
    infinite = (np.where(X > 1, np.inf, X), X[:, 0])
    with pytest.raises(DataError) as caught:
        descend.train(infinite)
    assert "replace them by NaN to treat them as missing, or leave the column out: {'data.columns.x" in str(
        caught.value
    )
    with command_line(), pytest.raises(DataError) as caught:
        descend.train(infinite)
    assert "leave them empty to treat them as missing, or leave the column out: --set data.columns.x" in str(
        caught.value
    )
    two = (X[:2], X[:2, 0])
    with pytest.raises(DataError, match=r"omit a part: \{'data.test': 0\} or \{'data.validation': 0\}$"):
        descend.train(two)
    with (
        command_line(),
        pytest.raises(DataError, match=r"omit a part: --set data\.test=0 or --set data\.validation=0$"),
    ):
        descend.train(two)


def test_weights_that_are_not_numbers() -> None:
    rows = {"a": [1.0, 2.0, 3.0, 4.0] * 10, "w": ["1", "x", "2", "3"] * 10, "y": [1.0, 2.0, 3.0, 5.0] * 10}
    with pytest.raises(DataError, match=r"the weights of rows must be numbers, but rows 1, 5, .* hold 'x'$"):
        descend.train(rows, {"data.weights": "w"}, target="y")


def test_a_table_for_a_network_of_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 6, 6)).astype(np.uint8)
    run = descend.train((pixels, ["a", "b"] * 20), {"model": "linear", "stop": {"max_epochs": 1}})
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    for use in (run.predict, run.evaluate):
        with pytest.raises(DataError, match=r"rows\.csv is a table, but the network was trained on images$"):
            use(str(tmp_path / "rows.csv"))


def test_files_with_a_similar_name(tmp_path: Path) -> None:
    for name in ("houses.csv", "two.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    for name in ("house.csv", "houses.cvs", "houses.parquet"):
        with pytest.raises(DataError, match=r"did you mean '.*houses\.csv'\?$"):
            read(str(tmp_path / name))
    with pytest.raises(DataError, match="; bundled data sets are"):
        read(str(tmp_path / "new.csv"))
