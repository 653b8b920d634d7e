import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest

from descend.data.arrays import from_arrays
from descend.data.source import Source, join
from descend.data.sources import read
from descend.errors import DataError

CONTENT = {
    "number": [1.5, None, 3.0, -0.0],
    "whole": [1, 2, 3, 4],
    "text": ["a", "", None, "é"],
    "truth": [True, False, None, True],
    "day": [dt.date(2024, 1, day) for day in (1, 2, 3, 4)],
}


def source(content=CONTENT, targets=(0, 1, 0, 1), **changes):
    built = Source("n", None, "table", np.array(targets), ("y",), frame=pl.DataFrame(content))
    return dataclasses.replace(built, **changes)


def test_equal_content_has_equal_fingerprints():
    first = source()
    again = source()
    halves = pl.concat([first.frame[:2], first.frame[2:]], rechunk=False)
    floats = first.frame.with_columns(pl.col("whole").cast(pl.Float32), pl.col("text").cast(pl.Categorical))
    with_nan = first.frame.with_columns(pl.col("number").fill_null(float("nan")))
    zero = first.frame.with_columns(pl.col("number").replace(-0.0, 0.0))
    for other in (
        again,
        *(source(frame) for frame in (halves, floats, with_nan, zero)),
        source(name="other", reference="x"),
    ):
        assert other.fingerprint() == first.fingerprint()
    assert first.fingerprint().startswith("blake2b:")
    assert len(first.fingerprint()) == len("blake2b:") + 32


@pytest.mark.parametrize(
    "other",
    [
        source({**CONTENT, "number": [1.5, None, 3.0, 1e-300]}),
        source({**CONTENT, "text": ["a", None, None, "é"]}),
        source({**CONTENT, "text": ["", "a", None, "é"]}),
        source({**CONTENT, "truth": [True, False, True, None]}),
        source({"amount" if name == "number" else name: values for name, values in CONTENT.items()}),
        source(dict(reversed(CONTENT.items()))),
        source(targets=(0, 1, 1, 0)),
        source(targets=("0", "1", "0", "1")),
        source(target_names=("z",)),
        source(weights=np.ones(4)),
        source(split=np.array(["train", "train", "test", "train"])),
    ],
)
def test_any_change_of_the_content_changes_the_fingerprint(other):
    assert other.fingerprint() != source().fingerprint()


def test_moving_text_between_rows_changes_the_fingerprint():
    assert (
        source({"a": ["ab", "c", "", ""]}).fingerprint() != source({"a": ["a", "bc", "", ""]}).fingerprint()
    )


def test_files_of_every_format_have_equal_fingerprints(tmp_path):
    frame = pl.DataFrame({"a": [1, 2, None, 4], "c": ["x", "y", "x", None], "y": [0.5, 1.5, 2.5, 3.5]})
    frame.write_csv(tmp_path / "d.csv")
    frame.write_csv(tmp_path / "d.tsv", separator="\t", null_value="NA")
    frame.write_parquet(tmp_path / "d.parquet")
    frame.write_ipc(tmp_path / "d.arrow")
    result = {
        read(tmp_path / f"d.{ending}", target="y").fingerprint()
        for ending in ("csv", "tsv", "parquet", "arrow")
    }
    result.add(read(frame.to_dict(as_series=False), target="y").fingerprint())
    assert len(result) == 1


def test_images_and_tensors_have_fingerprints():
    images = np.zeros((3, 4, 4), dtype=np.uint8)
    changed = images.copy()
    changed[2, 3, 3] = 1
    assert from_arrays(images, [0, 1, 0]).fingerprint() != from_arrays(changed, [0, 1, 0]).fingerprint()
    tensors = np.ones((3, 2, 2))
    assert (
        from_arrays(tensors, [0, 1, 0]).fingerprint()
        == from_arrays(tensors.astype("f4"), [0, 1, 0]).fingerprint()
    )
    assert (
        from_arrays(tensors, [0, 1, 0]).fingerprint()
        != from_arrays(tensors.reshape(3, 1, 4), [0, 1, 0]).fingerprint()
    )


def test_parts_are_joined_with_their_split():
    train, test = from_arrays(np.zeros((3, 2)), [1, 2, 3]), from_arrays(np.ones((2, 2)), [4, 5])
    joined = join(train, test=test)
    assert joined.split.tolist() == ["train"] * 3 + ["test"] * 2
    assert joined.targets.tolist() == [1, 2, 3, 4, 5]
    assert joined.frame["x1"].to_list() == [0, 0, 0, 1, 1]
    weighted = join(dataclasses.replace(train, weights=np.full(3, 2.0)), test)
    assert weighted.weights.tolist() == [2, 2, 2, 1, 1]
    assert join(train) is train


def test_joined_columns_are_found_by_name_and_widened():
    first = read({"a": [1, 2], "b": ["x", "y"], "y": [1.0, 2.0]}, target="y")
    second = read({"y": [3.0], "b": ["z"], "a": [1.5], "extra": [0]}, target="y")
    assert join(first, second).frame.rows() == [(1.0, "x"), (2.0, "y"), (1.5, "z")]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (from_arrays(np.zeros((2, 1)), [1, 2]), "lack the column 'x1', which the training data have"),
        (from_arrays(np.zeros((2, 3, 3)), [1, 2]), "of the kind tensor, but"),
        (from_arrays(np.zeros((2, 2)), np.zeros((2, 3))), "number of targets"),
        (from_arrays(np.zeros((2, 2)), None), "has targets"),
        (from_arrays(pl.DataFrame({"x0": [b"a", b"b"], "x1": [1, 2]}), [1, 2]), "different types"),
    ],
)
def test_parts_that_do_not_match_are_refused(other, message):
    with pytest.raises(DataError, match=message):
        join(from_arrays(np.zeros((3, 2)), [1, 2, 3]), other)


def test_tensors_of_another_shape_are_not_joined():
    with pytest.raises(DataError, match=r"shape \(3, 3\), a row of the training data \(2, 2\)"):
        join(from_arrays(np.zeros((2, 2, 2)), [1, 2]), from_arrays(np.zeros((2, 3, 3)), [1, 2]))


def test_integers_that_double_precision_merges_have_different_fingerprints():
    first, second = ({**CONTENT, "whole": [2**60, 2**60 + last, 3, 4]} for last in (1, 2))
    assert source(first).fingerprint() != source(second).fingerprint()
    assert (
        source(targets=(2**60, 2**60 + 1, 3, 4)).fingerprint()
        != source(targets=(2**60, 2**60, 3, 4)).fingerprint()
    )
    floats = pl.DataFrame({**CONTENT, "whole": [float(2**60), 2.0, 3.0, 4.0]})
    assert source({**CONTENT, "whole": [2**60, 2, 3, 4]}).fingerprint() == source(floats).fingerprint()


def test_joining_parts_of_different_types_keeps_large_integers():
    codes = [2**60 + 1, 2**60 + 2]
    train = read({"id": pl.Series(codes), "y": [0, 1]}, target="y")
    other = read({"id": pl.Series(codes, dtype=pl.UInt64), "y": [0, 1]}, target="y")
    fractions = read({"id": [0.5, 3.0], "y": [0, 1]}, target="y")
    assert join(train, other).frame["id"].to_list() == codes * 2
    assert join(train, fractions).frame["id"].to_list() == [*map(str, codes), "0.5", "3"]
    large = dataclasses.replace(train, targets=np.array(codes))
    unsigned = dataclasses.replace(train, targets=np.array(codes, dtype=np.uint64))
    assert join(large, unsigned).targets.tolist() == codes * 2
