import csv
import io
import re

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.data.text_cells import absent_strings, converted_columns, typed
from descend.errors import DataError


def test_columns_are_converted_as_a_whole():
    cells = pl.DataFrame(
        {
            "i": ["1", " 2", None],
            "f": ["1.5", "NA", "1e3"],
            "b": ["true", "false", ""],
            "B": ["True", "FALSE", None],
            "t": ["True", "x", "y"],
            "code": ["007", "10", "3"],
            "big": [str(2**60 + 1), "1", "2"],
            "huge": [str(2**130 + 1), "1", "2"],
            "money": ["$3", "$4", "$5"],
            "w": ["a", "NA", "1"],
        }
    )
    frame = typed(cells).frame
    assert frame["i"].to_list() == [1, 2, None]
    assert frame["i"].dtype == pl.Int64
    assert frame["f"].to_list() == [1.5, None, 1000.0]
    assert frame["b"].to_list() == [True, False, None]
    assert frame["B"].to_list() == [True, False, None]
    assert frame["big"].to_list() == [2**60 + 1, 1, 2]
    assert {name for name in frame.columns if frame[name].dtype == pl.String} == {
        "t",
        "code",
        "huge",
        "money",
        "w",
    }
    assert frame["w"].to_list() == ["a", None, "1"]


def test_strings_for_missing_values_may_differ_between_columns():
    cells = pl.DataFrame({"n": ["1", "NA"], "region": ["EU", "NA"]})
    frame = typed(cells, missing={"region": ()}).frame
    assert frame["n"].to_list() == [1, None]
    assert frame["region"].to_list() == ["EU", "NA"]
    assert "'NA' stands for a missing value" in absent_strings([*cells], {"n": ("NA",), "region": ()})
    assert absent_strings([cells["region"]], {"region": ()}) == ""
    assert absent_strings([cells["region"]], ["", "NA", "-"]).endswith("{'data.missing': ['', '-']}")


def test_notes_show_how_unusual_numbers_are_read():
    cells = pl.DataFrame({"a": ["1.250", "3"], "b": ["1,5", "2,25"]})
    result = typed(cells)
    assert result.notes == (
        "numbers are read with decimal commas",
        "column 'a': '1.250' is read as 1250",
    )
    (numbers,), notes = converted_columns([pl.Series("p", ["12 %", "3 %"])], "auto", ())
    assert numbers.to_list() == [12, 3]
    assert notes == ("column 'p': '12 %' is read as 12 (unit: %)",)


def test_a_specified_decimal_mark_is_used_and_checked():
    assert typed(pl.DataFrame({"a": ["1,250"]}), decimal="comma").frame["a"].to_list() == [1.25]
    assert typed(pl.DataFrame({"a": ["1,250"]}), decimal="point").frame["a"].to_list() == [1250]
    with pytest.raises(DataError, match=r"column 'a': expected numbers with a decimal comma.*'2\.5'"):
        typed(pl.DataFrame({"a": ["2.5"]}), decimal="comma")


FORMATS = {  # name: decimal mark, separator of thousands
    "US": (".", ","),
    "plain": (".", ""),
    "DE": (",", "."),
    "AT": (",", ""),
    "FR": (",", "\u202f"),
    "CH": (".", "’"),
    "SE": (",", "\u00a0"),
}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(-(10**8), 10**8)), min_size=4, max_size=12),
    st.integers(0, 5),
)
def test_a_table_in_any_format_has_its_true_values_or_is_refused(
    tmp_path, name, separator, quoting, rows, decimals
):
    mark, thousands = FORMATS[name]

    def written(value, places):
        text = f"{value:,.{places}f}"
        return text.replace(",", "\0").replace(".", mark).replace("\0", thousands)

    numbers = [(float(a), float(f"{b / 10**decimals:.{decimals}f}")) for a, b in rows]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, quoting=quoting)
    writer.writerow(["whole", "part", "y"])
    for at, (a, b) in enumerate(numbers):
        writer.writerow([written(a, 0), written(b, decimals), "no" if at % 2 else "yes"])
    path = tmp_path / "data.csv"
    path.write_text(stream.getvalue(), encoding="utf-8")
    if separator == "," and mark == "," and decimals == 3:
        # Nothing tells 1,250 from 1250 if all cells have this form; in a file with commas it is 1250, with a note.
        assume(not all(re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", written(b, decimals)) for _, b in numbers))
    try:
        source = read(str(path), target="y")
    except DataError as refusal:
        assert "data.decimal" in str(refusal)
        return
    for column, expected in zip(("whole", "part"), zip(*numbers, strict=True), strict=True):
        assert source.frame[column].cast(pl.Float64).to_list() == list(expected)


def german(values):
    return [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in values]


def test_new_rows_are_read_with_the_decimal_mark_of_the_training_data(tmp_path):
    amounts, targets = np.arange(1001, 1041) * 1.5, np.arange(40) * 1000.5
    (tmp_path / "train.csv").write_text(
        "amount;y\n" + "".join(f"{a};{b}\n" for a, b in zip(german(amounts), german(targets), strict=True))
    )
    source = read(str(tmp_path / "train.csv"), target="y")
    schema = prepare(source, DataSettings()).schema
    assert schema.decimal == "comma"
    assert type(schema).from_json(schema.to_json()) == schema
    (tmp_path / "one.csv").write_text("amount\n1.250\n")
    one = read(str(tmp_path / "one.csv"), schema=schema, predicting=True)
    for rows in (one, [{"amount": "1.250"}], {"amount": ["1250"]}, {"amount": [1250]}):
        assert schema.matrix(rows).tolist() == [[1250.0]]
    with pytest.raises(DataError, match=r"decimal comma, as in the training data, got '1\.25'"):
        schema.matrix([{"amount": "1.25"}])
    evaluated = read(str(tmp_path / "train.csv"), schema=schema)
    np.testing.assert_array_equal(evaluated.targets, targets)


def test_validation_rows_are_read_like_the_training_rows(tmp_path):
    for name, rows in (("train", "1.250;1,5\n2.500;2,5\n"), ("validation", "1.250;3\n")):
        (tmp_path / f"{name}.csv").write_text("x;y\n" + rows)
    files = {part: str(tmp_path / f"{part}.csv") for part in ("train", "validation")}
    source = read(files, target="y")
    assert source.frame["x"].to_list() == [1250, 2500, 1250]


def test_codes_in_one_part_only_are_codes_in_all(tmp_path):
    (tmp_path / "train.csv").write_text("zip,y\n" + "1001,1.5\n20095,2.5\n" * 20)
    (tmp_path / "validation.csv").write_text("zip,y\n01001,3.5\n")
    files = {part: str(tmp_path / f"{part}.csv") for part in ("train", "validation")}
    (column,) = prepare(read(files, target="y")).schema.columns
    assert (column.kind, column.categories, column.unseen) == ("categorical", ("1001", "20095", "01001"), 1)


@pytest.mark.parametrize("as_file", [True, False])
def test_codes_are_categories_or_numbers_with_a_note(tmp_path, as_file):
    def columns(codes):
        frame = pl.DataFrame(
            {"zip": codes, "x": np.arange(len(codes)) ** 0.5, "y": np.arange(len(codes)) * 1.5}
        )
        if not as_file:
            return prepare(read(frame, target="y")).schema.columns
        frame.write_csv(tmp_path / "data.csv")
        return prepare(read(str(tmp_path / "data.csv"), target="y")).schema.columns

    few = columns(["01001", "1001", "001001", "20095"] * 10)[0]
    assert few.kind == "categorical"
    assert few.categories == ("001001", "01001", "1001", "20095")
    assert "data.columns.zip': 'numeric'" in few.note
    many = columns([f"{value * 37 % 1009:05d}" for value in range(200)])[0]
    assert many.kind == "numeric"
    assert "data.columns.zip': 'categorical'" in many.note


def test_missing_targets_name_the_setting(tmp_path):
    (tmp_path / "data.csv").write_text("x,region\n" + "NA,EU\n1.5,NA\n2.5,APAC\n" * 10)
    with pytest.raises(DataError, match=r"'NA' stands for a missing value.*data\.missing\.region"):
        prepare(read(str(tmp_path / "data.csv"), target="region"))
    kept = DataSettings(target="region", missing={"region": ()})
    schema = prepare(read(str(tmp_path / "data.csv"), settings=kept), kept).schema
    assert schema.classes == ("APAC", "EU", "NA")
    assert schema.columns[0].missing == 10
    with pytest.raises(DataError, match=r"data\.missing: no column 'regoin'; did you mean 'region'"):
        read(str(tmp_path / "data.csv"), settings=DataSettings(target="region", missing={"regoin": ()}))


@pytest.mark.parametrize("kind", ["frame", "pair"])
def test_targets_may_be_strings_of_numbers(kind):
    amounts = np.arange(40) * 1000.25
    strings = german(amounts)
    data = (
        pl.DataFrame({"x": np.arange(40) ** 2, "y": strings})
        if kind == "frame"
        else (np.arange(40)[:, None] ** 2, np.array(strings))
    )
    prepared = prepare(read(data, target="y" if kind == "frame" else None))
    assert prepared.schema.task == "regression"
    rows = np.concatenate([part.rows for part in (prepared.train, prepared.validation, prepared.test)])
    scaled = np.concatenate(
        [part.targets.numpy() for part in (prepared.train, prepared.validation, prepared.test)]
    )
    restored = scaled[:, 0] * prepared.schema.target_scale[0] + prepared.schema.target_mean[0]
    np.testing.assert_allclose(restored, amounts[rows], rtol=1e-6, atol=1e-2)
    encoded = prepared.schema.encode_targets(np.array(["1.250,00"]))
    assert torch.equal(encoded, prepared.schema.encode_targets(np.array([1250.0])))
