import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.data.spellings import similar_spellings, spelling_note


@given(st.lists(st.text(alphabet="aAbB \t", max_size=4)))
def test_groups_differ_only_in_capitals_and_blanks(names):
    def plain(name):
        return name.lower().replace(" ", "").replace("\t", "")

    groups = similar_spellings(names)
    assert all(len(group) == len(set(group)) > 1 for group in groups)
    assert all(len(set(map(plain, group))) == 1 for group in groups)
    alone = set(names) - {name for group in groups for name in group}
    assert len(set(map(plain, alone))) == len(alone)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["straße", "STRASSE"], True), (["ﬁn", "fin"], True), (["x\u00a0", "x"], True), (["New York", "newyork"], True),
        (["a", "b"], False), ([1, True, "1"], False), (["é", "e"], False),
    ],
)  # fmt: skip
def test_spellings(names, found):
    assert bool(similar_spellings(names)) == found


def test_a_note_is_short():
    (note,) = spelling_note("classes", [f"{word}{number}" for number in range(50) for word in ("a", "A")])
    assert "; and 47 more differ only in capitals or blanks" in note


def test_classes_groups_and_categories_are_noted():
    size = 40
    frame = pl.DataFrame(
        {
            "city": ["Bern", "bern", "Chur", "Genf"] * 10,
            "patient": [f"{' ' if at % 4 else ''}p{at // 4}" for at in range(size)],
            "x": range(size, 0, -1),
            "answer": ["yes", "Yes", "no", " no"] * 10,
        }
    )
    settings = DataSettings(target="answer", groups="patient")
    notes = prepare(read(frame, settings=settings), settings).notes
    assert any(
        note.startswith("the classes ' no' and 'no'; 'Yes' and 'yes' differ only in") for note in notes
    )
    assert any(note.startswith("the groups 'p0' and ' p0'") for note in notes)
    assert any(note.startswith("the categories of the column 'city' 'Bern' and 'bern'") for note in notes)
    assert not any(
        "differ only" in note
        for note in prepare(
            read(frame[["x", "city"]][2:].rename({"city": "y"}).filter(pl.col("y") != "bern"), target="y")
        ).notes
    )
