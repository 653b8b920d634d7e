import numpy as np
import pandas
import polars as pl
import pytest
import torch

from descend.data.arrays import (
    as_numbers,
    as_targets,
    from_arrays,
    from_named_arrays,
    labels_of,
    names_of,
    read_npz,
)
from descend.data.image_arrays import as_images
from descend.errors import DataError


@pytest.mark.parametrize(
    ("inputs", "kind", "shape"),
    [
        (np.zeros((5, 3)), "table", (5, 3)),
        (np.zeros((5, 3), dtype=np.uint8), "table", (5, 3)),
        (torch.zeros(5, 3), "table", (5, 3)),
        ([[1, 2]] * 5, "table", (5, 2)),
        ({"a": [1] * 5}, "table", (5, 1)),
        (pl.DataFrame({"a": [1] * 5}), "table", (5, 1)),
        (np.zeros((5, 8, 9), dtype=np.uint8), "images", (5, 1, 8, 9)),
        (np.zeros((5, 3, 8, 9), dtype=np.uint8), "images", (5, 3, 8, 9)),
        (np.zeros((5, 8, 9, 3), dtype=np.uint8), "images", (5, 3, 8, 9)),
        (torch.zeros(5, 8, 9, 1, dtype=torch.uint8), "images", (5, 1, 8, 9)),
        (np.zeros((5, 8, 9)), "tensor", (5, 8, 9)),
        (torch.zeros(5, 3, 8, 8), "tensor", (5, 3, 8, 8)),
        (np.zeros((5, 2, 3, 4, 5), dtype=np.uint8), "tensor", (5, 2, 3, 4, 5)),
    ],
)
def test_the_kind_follows_from_type_and_shape(inputs, kind, shape):
    source = from_arrays(inputs, np.arange(5))
    assert source.kind == kind
    assert (source.frame.shape if kind == "table" else source.inputs.shape) == shape
    assert len(source) == 5


def test_channels_last_are_moved_first():
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    assert np.array_equal(from_arrays(images, [0, 1, 0, 1]).inputs[:, 2], images[..., 2])


@pytest.mark.parametrize(
    ("targets", "dtype", "names"),
    [
        ([1, 2, 3], np.int64, ("y",)),
        ([1.0, 2, 3], np.float64, ("y",)),
        (["a", "b", "c"], "<U1", ("y",)),
        ([True, False, True], bool, ("y",)),
        ([1, "a", 2], object, ("y",)),
        (np.array([1, 2, 3], dtype=np.int8), np.int8, ("y",)),
        (torch.tensor([1, 2, 3]), np.int64, ("y",)),
        (torch.tensor([1.0, 2, 3], dtype=torch.bfloat16), np.float32, ("y",)),
        (pl.Series("price", [1.0, 2.0, 3.0]), np.float64, ("price",)),
        (pl.Series(["a", "b", None]), object, ("y",)),
        (pl.Series("c", ["a", "b", "c"], dtype=pl.Categorical), object, ("c",)),
        (pandas.Series([1, 2, 3], name="n", dtype="int16"), np.int16, ("n",)),
        (pandas.Series(["a", "b", "c"], dtype="category"), object, ("y",)),
        (pandas.Series([1, None, 3], dtype="Int64"), object, ("y",)),
        (pandas.Series([1, 2, 3], dtype="Int64"), np.int64, ("y",)),
        (pandas.Series([True, False, True], dtype="boolean"), bool, ("y",)),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), object, ("y",)),
        (pandas.DataFrame({"a": [1.0, 2, 3], "b": [1.0, 2, 3]}), np.float64, ("a", "b")),
        (np.zeros((3, 2)), np.float64, ("y0", "y1")),
    ],
)
def test_targets_keep_their_type_and_name(targets, dtype, names):
    result, found_names = as_targets(targets)
    assert result.dtype == dtype
    assert found_names == names
    assert len(result) == 3


def test_inputs_and_targets_need_equal_lengths():
    with pytest.raises(DataError, match="X has 5 rows, y has 4"):
        from_arrays(np.zeros((5, 2)), np.zeros(4))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.full((3, 2, 2), np.nan), "rows 0, 1, 2 hold missing or infinite"),
        (np.full((3, 2, 2), 1e300), "infinite"),
        (np.zeros((3, 2, 2), dtype=complex), "complex"),
        (np.array(["a", "b", "c"])[:, None, None], "numbers"),
        ([[1, 2], [1]], "equal lengths"),
        (5, "shape"),
        (None, "shape"),
    ],
)
def test_inputs_without_usable_rows_are_refused(inputs, message):
    with pytest.raises(DataError, match=message):
        from_arrays(inputs, [1, 2, 3])


def test_images_for_prediction_in_every_layout():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 6, 5), dtype=np.uint8)
    shape = (3, 6, 5)
    for given in (images, images.transpose(0, 2, 3, 1), images.astype(float), torch.from_numpy(images)):
        assert np.array_equal(as_images(given, shape), images)
    assert as_images(images[0], shape).shape == (1, 3, 6, 5)
    assert as_images(images[:, 0], (1, 6, 5)).shape == (4, 1, 6, 5)
    for invalid in (images[:, :2], images / 7.0, images[:, :, :4], np.zeros((4, 30)), np.array(["a"])):
        with pytest.raises(DataError):
            as_images(invalid, shape)


def test_numbers_for_prediction_have_the_shape_of_training():
    with pytest.raises(DataError, match=r"expected rows of shape \(2, 3\), got \(3, 2\)"):
        as_numbers(np.zeros((4, 3, 2)), (2, 3))


def test_named_arrays_with_a_given_split():
    named = {f"{name}_{part}": np.ones((n, 2)) if name == "X" else np.arange(n)
            for name in "Xy" for part, n in (("train", 6), ("val", 3), ("test", 2))}  # fmt: skip
    source = from_named_arrays(named, name="mine")
    assert source.split.tolist() == ["train"] * 6 + ["validation"] * 3 + ["test"] * 2
    assert source.targets.tolist() == [*range(6), *range(3), *range(2)]


def test_npz_round_trip(tmp_path):
    path = tmp_path / "data.npz"
    inputs, targets = np.random.default_rng(0).normal(size=(7, 3)), np.array(list("abcabca"))
    np.savez(path, X=inputs, y=targets)
    source = read_npz(path)
    assert np.array_equal(source.frame.to_numpy(), inputs)
    assert source.targets.tolist() == targets.tolist()
    assert source.reference == str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.zeros(3)}, "'X' and 'y'"),
        ({"X": np.zeros((3, 2))}, "'X' and 'y'"),
        ({"X": np.zeros((3, 2)), "y": np.array([{}, 1, "a"], dtype=object)}, "not as objects"),
        ({"X_test": np.zeros((3, 2)), "y_test": np.zeros(3)}, "'X_train' and 'y_train'"),
    ],
)
def test_npz_with_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / "data.npz"
    np.savez(path, **content)
    with pytest.raises(DataError, match=message) as caught:
        read_npz(path)
    assert "data.npz" in str(caught.value)


def test_a_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, X=np.zeros((100, 2)), y=np.arange(100))
    whole = path.read_bytes()
    for damaged in (
        b"",
        b"nonsense",
        whole[:100],
        whole[: len(whole) // 2],
        whole[:300] + b"\xff" * 50 + whole[350:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"data\.npz"):
            read_npz(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        read_npz((tmp_path / "single.npy").rename(tmp_path / "single.npz"))


def test_large_integer_targets_stay_integers():
    labels = [2**60 + 1, 2**60 + 2]
    for targets in (
        labels,
        pl.Series(labels, dtype=pl.Decimal(38, 0)),
        pandas.Series(labels, dtype="Int64"),
        pl.Series(labels, dtype=pl.Int128),
    ):
        assert as_targets(targets)[0].tolist() == labels
    assert as_targets([2**63, -1])[0].tolist() == [2**63, -1]
    assert as_targets(pl.Series([2**100, 1], dtype=pl.Int128))[0].tolist() == [2**100, 1]
    with_gap = as_targets(pandas.Series([2**60 + 1, None], dtype="Int64"))[0]
    assert with_gap.tolist() == [2**60 + 1, None]


def test_decimal_numbers_without_fractions_are_integers():
    whole = pl.Series("y", [0, 1, 2]).cast(pl.Decimal(10, 0))
    assert labels_of(whole, ()).dtype == np.int64
    assert labels_of(whole, ()).tolist() == [0, 1, 2]
    assert labels_of(whole.cast(pl.Decimal(10, 1)), ()).dtype == np.float64


@pytest.mark.parametrize(
    ("series", "names"),
    [
        (pl.Series("g", [" 7", "7", None]), [" 7", "7", None]),
        (pl.Series("g", [2**60, 2**60 + 1, None]), [2**60, 2**60 + 1, None]),
        (pl.Series("g", ["2020-01-01", "2020-01-02"]).str.to_date(), ["2020-01-01", "2020-01-02"]),
    ],
)
def test_names_of_groups(series, names):
    assert names_of(series, ()).tolist() == names


def test_bytes_are_strings():
    assert labels_of(pl.Series("y", [b"a", "é".encode(), None]), ()).tolist() == ["a", "é", None]
