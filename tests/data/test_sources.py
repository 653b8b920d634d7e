import numpy as np
import polars as pl
import pytest
import torch

from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError

FRAME = pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"], "y": [0.5, 1.5, 2.5], "w": [1, 2, 3]})


def test_every_form_of_a_table_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.write_csv("t.csv")
    FRAME.write_parquet("t.parquet")
    (tmp_path / "mine_e.py").write_text("import polars\ndef load():\n    return polars.read_csv('t.csv')\n")
    (tmp_path / "mine_f.py").write_text("def load():\n    return 't.parquet'\n")
    forms = [
        "t.csv",
        tmp_path / "t.parquet",
        "mine_e:load",
        "mine_f:load",
        FRAME,
        FRAME.to_dict(),
        FRAME.to_dicts(),
    ]
    for form in forms:
        source = read(form, target="y")
        assert source.frame.columns == ["a", "b", "w"], form
        assert source.targets.tolist() == [0.5, 1.5, 2.5]
        assert source.target_names == ("y",)
    assert read("mine_e:load", target="y").reference == "mine_e:load"
    assert read(FRAME, target="y").reference is None


def test_several_targets():
    for target in ("a,y", ["a", "y"], ("a", "y"), "a, y"):
        source = read(FRAME, target=target)
        assert source.target_names == ("a", "y")
        assert source.targets.tolist() == [[1.0, 0.5], [2.0, 1.5], [3.0, 2.5]]
    invalid = FRAME.rename({"y": "a,w"})
    assert read(invalid, target="a,w").target_names == ("a,w",)


def test_weights_split_and_groups_are_separated_from_the_features():
    frame = FRAME.with_columns(pl.Series("part", ["train", "val", "test"]), pl.Series("who", ["p", "q", "r"]))
    source = read(frame, settings=DataSettings(target="y", split="part", groups="who", weights="w"))
    assert source.frame.columns == ["a", "b"]
    assert source.split.tolist() == ["train", "validation", "test"]
    assert source.groups.tolist() == ["p", "q", "r"]
    assert source.weights.tolist() == [1, 2, 3]
    assert read(FRAME, target="y", weights="w").weights.tolist() == [1, 2, 3]
    assert read(FRAME, target="y", weights=[3, 2, 1]).weights.tolist() == [3, 2, 1]


def test_parts_in_a_dictionary():
    part = (np.zeros((4, 2)), np.arange(4))
    source = read({"train": part, "test": part})
    assert source.split.tolist() == ["train"] * 4 + ["test"] * 4
    assert read({"X": np.zeros((3, 2)), "y": [1, 2, 3]}).targets.tolist() == [1, 2, 3]
    assert read({"X": [1, 2, 3], "y": [1, 2, 3]}, target="y").frame.columns == ["X"]


def test_pairs_of_arrays_tensors_and_lists():
    for pair in (
        (np.zeros((3, 2)), np.arange(3)),
        [torch.zeros(3, 2), torch.arange(3)],
        ([[0, 0]] * 3, [0, 1, 2]),
        (FRAME, [0, 1, 2]),
    ):
        assert read(pair).targets.tolist() == [0, 1, 2]
    assert read((np.zeros((3, 2)), [1, 2, 3]), target="price", held_out=True).target_names == ("price",)


def test_for_prediction_targets_are_optional(tmp_path):
    assert read(FRAME, predicting=True).targets is None
    assert read(FRAME, target="y", predicting=True).frame.columns == ["a", "b", "w"]
    assert read(FRAME.drop("y"), target="y", predicting=True).targets is None
    assert read(np.zeros((3, 2)), predicting=True).frame.shape == (3, 2)
    np.savez(tmp_path / "x.npz", X=np.zeros((3, 2)))
    assert read(tmp_path / "x.npz", predicting=True).targets is None
    assert len(read([[1, 2], [3, 4]], predicting=True)) == 2


def test_new_files_are_read_as_the_training_file_was(tmp_path):
    codes = [f"{i % 3:02d}" if i % 4 else "x" for i in range(40)]
    pl.DataFrame({"code": codes, "n": range(40), "y": np.arange(40) * 0.5}).write_csv(tmp_path / "t.csv")
    prepared = prepare(read(tmp_path / "t.csv", target="y"))
    assert prepared.schema.columns[0].categories == ("00", "01", "02", "x")
    pl.DataFrame({"code": ["01", "02"], "n": [1, 2]}).write_csv(tmp_path / "new.csv")  # all values are digits
    new = read(tmp_path / "new.csv", schema=prepared.schema, predicting=True)
    assert prepared.schema.matrix(new)[:, 0].tolist() == [1.0, 2.0]
    again = read(tmp_path / "t.csv", schema=prepared.schema)
    assert again.target_names == ("y",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digts", r"no such file, folder or data set: digts; did you mean 'digits'\?"),
        ("nothing/here.csv", "no such file"),
        ("a" * 5000, "no such file"),
        ("nul\x00byte.csv", "no such file"),
        (FRAME, "the target column is not specified.*'a', 'b', 'y', 'w'"),
        (np.zeros((3, 2)), r"ndarray of shape \(3, 2\) has no targets"),
        ("diabetis.csv", r"did you mean 'diabetes'\?"),
        ([1, 2], "a list of 2 items has no targets; pass a pair"),
        ((np.zeros((3, 2)),), "a tuple of 1 item has no targets"),
        (None, "data: None has no targets"),
        (5, "an int has no targets"),
        (object(), "an object"),
        ("platform:node", "no such file"),
    ],
)
def test_data_that_cannot_be_read_are_refused_with_a_remedy(data, message):
    with pytest.raises(DataError, match=message):
        read(data)


def test_the_nearest_name_is_suggested_for_a_wrong_column():
    with pytest.raises(DataError, match=r"data: target: no column 'Y'; did you mean 'y'\?"):
        read(FRAME, target="Y")
    with pytest.raises(DataError, match="data: sample_weight: no column 'weight'"):
        read(FRAME, target="y", weights="weight")


def test_files_of_other_formats_are_refused(tmp_path):
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"expected a data file ending in '\.csv'"):
        read(tmp_path / "a.docx")


def test_a_table_with_only_a_target_is_refused():
    with pytest.raises(DataError, match="expected feature columns in addition to the target column"):
        read({"y": [1, 2, 3]}, target="y")


def test_empty_data_are_refused():
    with pytest.raises(DataError, match="no rows"):
        read(FRAME[:0], target="y")
    with pytest.raises(DataError, match="no rows"):
        read((np.zeros((0, 2)), []))


def test_large_integers_are_the_same_categories_in_every_form(tmp_path):
    ids = [2**60 + at % 4 for at in range(80)]
    frame = pl.DataFrame({"id": ids, "x": np.arange(80) * 0.5, "y": [f"c{at % 2}" for at in ids]})
    frame.write_csv(tmp_path / "d.csv")
    frame.write_parquet(tmp_path / "d.parquet")
    settings = DataSettings(columns={"id": "categorical"})
    forms = (
        tmp_path / "d.csv",
        tmp_path / "d.parquet",
        frame,
        frame.to_dicts(),
        frame.to_dict(as_series=False),
    )
    schemas = [prepare(read(form, target="y", settings=settings), settings).schema for form in forms]
    first = read(forms[0], schema=schemas[0], predicting=True)
    expected = schemas[0].matrix(first)
    assert len(set(expected[:, 0].tolist())) == 4
    for schema, form in zip(schemas, forms, strict=True):
        assert schema.columns == schemas[0].columns
        assert schemas[0].matrix(read(form, schema=schemas[0], predicting=True)).equal(expected)


def test_large_group_numbers_with_gaps_stay_distinct(tmp_path):
    groups = [None, None, *(2**60 + at % 8 for at in range(78))]
    frame = pl.DataFrame({"x": np.arange(80) * 1.0, "y": np.arange(80) * 2.0, "g": groups})
    frame.write_csv(tmp_path / "d.csv")
    settings = DataSettings(groups="g")
    for form in (frame, tmp_path / "d.csv", frame.to_dicts()):
        source = read(form, target="y", settings=settings)
        assert [None if one is None else str(one) for one in source.groups] == [
            None if one is None else str(one) for one in groups
        ]
        assert "2 rows have no group" in " ".join(prepare(source, settings).notes)


def test_the_separator_is_part_of_the_schema(tmp_path):
    rows = "".join(f"{at}:{at * at}:{at % 7}\n" for at in range(60))
    (tmp_path / "d.csv").write_text("a:b:y\n" + rows)
    with pytest.raises(DataError, match=r"no column 'y'.*the separator is ','"):
        read(tmp_path / "d.csv", target="y")
    settings = DataSettings(separator=":")
    schema = prepare(read(tmp_path / "d.csv", target="y", settings=settings), settings).schema
    again = read(tmp_path / "d.csv", schema=type(schema).from_json(schema.to_json()))
    assert again.frame.columns == ["a", "b"]
