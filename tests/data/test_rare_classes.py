"""Notes on classes that do not occur in every part."""

from __future__ import annotations

import numpy as np

from descend.data.preparation import prepare
from descend.data.rare_classes import rare_class_notes
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.data.split import Split


def notes_of(train: list[int], validation: list[int], test: list[int], names: str) -> tuple[str, ...]:
    """The notes for the class codes of the rows of each part."""
    codes = np.array([*train, *validation, *test])
    ends = np.cumsum([len(train), len(validation), len(test)])
    return rare_class_notes(codes, Split(*np.split(np.arange(ends[-1]), ends[:-1])), list(names))


def test_classes_that_occur_everywhere_need_no_note() -> None:
    assert notes_of([0, 1], [1, 0], [0, 1], "ab") == ()


def test_each_class_is_named_with_the_parts_that_lack_it() -> None:
    first, second = notes_of([0, 1, 2, 2], [0, 2], [0], "abc")
    assert first.startswith("class 'b' has only one row: no validation row, no test row; ")
    assert second.startswith("class 'c' has 3 rows: no test row; ")


def test_an_empty_part_lacks_nothing() -> None:
    assert notes_of([0, 1], [0, 1], [], "ab") == ()


def test_many_classes_share_one_note() -> None:
    (note,) = notes_of([0, 1, 2, 3, 4], [0], [0, 1], "abcde")
    assert note.startswith(
        "4 of 5 classes do not occur in the validation or test rows: 'b', 'c', 'd' and 1 more; "
    )


def test_a_class_with_one_row_is_noted_when_data_are_prepared() -> None:
    rows = (np.random.default_rng(0).normal(size=(200, 2)), np.array(["n"] * 199 + ["p"]))
    notes = prepare(read(rows), DataSettings()).notes
    assert any(
        note.startswith("class 'p' has only one row: no validation row, no test row") for note in notes
    )
