import numpy as np
import polars as pl
import pytest

from descend.data.gap_words import gap_note, gap_words, gaps_among_numbers
from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

WORDS = ["-", ".", "NULL", "n/a", "#N/A", "<NA>", "#DIV/0!", "\\N"]
TARGETS = [0.5 * at for at in range(120)]


def prepared(cells, **settings):
    frame = pl.DataFrame({"a": cells, "b": TARGETS[::-1], "y": TARGETS})
    return prepare(read(frame, target="y"), DataSettings(**settings)).schema.columns[0]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("every", [2, 3, 20])
def test_a_word_among_numbers_is_refused_with_the_setting(word, every):
    cells = [word if at % every == 0 else f"{at * 0.25}" for at in range(120)]
    with pytest.raises(DataError, match=r"values are numbers, but rows .* hold .*'data\.missing\.a'"):
        prepared(cells)
    column = prepared(cells, missing={"a": (word,)})
    known = [at for at in range(120) if at % every]
    assert (column.kind, column.missing) == ("numeric", 120 - len(known))
    assert (column.low, column.high) == (known[0] * 0.25, known[-1] * 0.25)


@pytest.mark.parametrize(
    ("numbers", "others", "gaps"),
    [
        ([1.0, 2.0, 3.0], ["NULL"], True),
        ([1.0, 2.0], ["NULL"], False),
        ([1.0, 2.0, 3.0], ["many"], False),
        (list(range(10)), ["many"], True),
        (list(range(10)), ["a", "b", "c", "d"], False),
        (list(range(10)), [], False),
    ],
)
def test_columns_of_numbers_with_gaps(numbers, others, gaps):
    assert gaps_among_numbers(pl.Series([*map(float, numbers), None]), others) is gaps


def test_categories_that_may_be_gaps_are_noted():
    cells = ["x", "NULL", "y"] * 40
    column = prepared(cells)
    assert column.categories == ("NULL", "x", "y")
    assert column.note.startswith(
        "'NULL' is a category; if it stands for a missing value: {'data.missing.a':"
    )
    assert prepared(["x", "NA", "y"] * 40, missing={"a": ()}).note == ""
    assert prepared(["x", "z", "y"] * 40).note == ""
    assert gap_words(["Null", 3, "nullable", " - "]) == ["Null", " - "]
    assert gap_note("a", ["-", "."], ["x"]).startswith("'-', '.' are categories; if they stand for")


def test_a_word_among_the_numbers_of_a_target_is_refused():
    targets = [f"{at * 0.25}" if at % 3 else "NULL" for at in range(120)]
    frame = pl.DataFrame({"x": np.arange(120) % 7, "y": targets})
    with pytest.raises(
        DataError, match=r"rows 0, 3, 6.* hold 'NULL'; .*data\.missing.*'data\.drop_missing_targets': True"
    ):
        prepare(read(frame, target="y"))
    settings = DataSettings(missing=("NULL",), drop_missing_targets=True)
    assert prepare(read(frame, target="y", settings=settings), settings).schema.task == "regression"
