import numpy as np
import polars as pl
import pytest

import descend
from descend.data.messages import rows_hold, rows_text
from descend.data.preparation import prepare
from descend.data.row_numbers import RowNumbers, named_rows, naming
from descend.data.source import join
from descend.data.sources import read
from descend.errors import DataError

BAD = "v,w,y\n" + "".join(f'{at},"p\n{at % 3}",{at % 2}\n' for at in range(30))


def with_lines(*lines):
    return RowNumbers(lines=(lambda: list(lines),))


def test_rows_count_from_zero_and_lines_from_one():
    assert RowNumbers().text([0]) == "row 0"
    assert with_lines(2, 3, 7).text([0]) == "row 0 (line 2)"
    assert with_lines(2, 3, 7).text([0, 2]) == "rows 0, 2 (lines 2, 7)"
    assert RowNumbers().text(range(10)) == "rows 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert (
        with_lines(*range(2, 20))
        .text(np.arange(10))
        .endswith("and 2 more (lines 2, 3, 4, 5, 6, 7, 8, 9, ...)")
    )


def test_selected_rows_keep_their_numbers():
    taken = with_lines(2, 3, 7, 8).take(np.array([3, 1])).take(np.array([1, 0]))
    assert taken.text([0, 1]) == "rows 1, 3 (lines 3, 8)"
    assert taken.number(1) == 3


def test_joined_rows_name_their_file():
    joined = RowNumbers.join([("a", 2, None), ("b", 3, with_lines(2, 4, 6))])
    assert joined.text([1]) == "row 1 of a"
    assert joined.text([1, 4]) == "row 1 of a, row 2 (line 6) of b"
    again = RowNumbers.join([("c", 5, joined), ("d", 1, None)])
    assert again.text([4, 5]) == "row 2 (line 6) of b, row 0 of d"


def test_lines_that_cannot_be_found_are_left_out():
    def vanished():
        raise FileNotFoundError("a.csv")

    assert RowNumbers(lines=(vanished,)).text([1]) == "row 1"
    assert with_lines(2).text([1]) == "row 1"


def test_messages_use_the_numbers_of_their_context():
    with naming(with_lines(5, 9)):
        assert rows_text([1]) == named_rows([1]) == "row 1 (line 9)"
        assert rows_hold([0, 1]) == "rows 0, 1 (lines 5, 9) hold"
    assert rows_text([1]) == "row 1"


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_cell_is_found_by_its_line(tmp_path, ending):
    import gzip

    content = ("# comment\n" + BAD.replace('7,"p', 'x7,"p', 1)).encode()
    (tmp_path / f"a.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(DataError, match=r"row 7 \(line 17\) holds 'x7'"):
        prepare(read(tmp_path / f"a.{ending}", target="y"))


def test_rows_of_validation_data_are_named_by_their_file(tmp_path):
    (tmp_path / "a.csv").write_text(BAD)
    (tmp_path / "b.csv").write_text(BAD.replace("\n7,", "\nx7,"))
    sources = [read(tmp_path / name, target="y") for name in ("a.csv", "b.csv")]
    with pytest.raises(DataError, match=r"row 7 \(line 16\) of b\.csv holds 'x7'"):
        prepare(join(*sources))
    frame = pl.DataFrame({"v": ["x", *map(str, range(9))], "y": [0, 1] * 5})
    with pytest.raises(DataError, match="row 0 of the validation data holds 'x'"):
        prepare(join(read(frame[1:], target="y"), read(frame, target="y")))


def test_new_rows_and_labels_have_lines(tmp_path):
    run = descend.train({"v": range(30), "y": [0, 1] * 15}, {"stop": {"max_epochs": 1}}, target="y")
    (tmp_path / "new.jsonl").write_text('{"v": 1, "y": 0}\n\n{"v": "q", "y": 0}\n')
    with pytest.raises(DataError, match=r"row 1 \(line 3\) holds 'q'"):
        run.predict(tmp_path / "new.jsonl")
    (tmp_path / "new.csv").write_text("v,y\n1,0\n2,2\n")
    with pytest.raises(DataError, match=r"contains 2 in row 1 \(line 3\), which is not among the classes"):
        run.evaluate(tmp_path / "new.csv")
