import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.split import group_names, part_names, split
from descend.errors import DataError


def assert_partition(parts, n):
    joined = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(joined.tolist()) == list(range(n))
    for rows in (parts.train, parts.validation, parts.test):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=8),
    validation=st.sampled_from([0.0, 0.1, 0.15, 0.3]),
    test=st.sampled_from([0.0, 0.2, 0.25]),
    seed=st.integers(0, 5),
)
def test_stratified_parts_have_their_size_and_every_class_its_share(counts, validation, test, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    n = len(labels)
    sizes = [max(1, round(n * share)) if share else 0 for share in (validation, test)]
    if n - sum(sizes) < 1:
        return
    parts = split(n, labels, task="multiclass", validation=validation, test=test, seed=seed)
    assert_partition(parts, n)
    assert [len(parts.validation), len(parts.test)] == sizes
    if n - sum(sizes) >= len(counts):
        assert (np.bincount(labels[parts.train], minlength=len(counts)) >= 1).all()
    if min(counts) >= 20:
        for rows, size in ((parts.validation, sizes[0]), (parts.test, sizes[1])):
            result = np.bincount(labels[rows], minlength=len(counts))
            assert np.abs(result - np.array(counts) * size / n).max() <= 1


def test_the_split_depends_on_the_seed_only():
    labels = np.arange(100) % 3
    first, again, other = (
        split(100, labels, task="multiclass", validation=0.2, test=0.2, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_rows_are_shuffled_for_regression_and_within_classes():
    for task, labels in (("regression", None), ("binary", np.arange(1000) // 500)):
        parts = split(1000, labels, task=task, validation=0.2, test=0.2, seed=0)
        for rows in (parts.train, parts.validation, parts.test):
            assert 400 < rows.mean() < 600
            assert len(np.unique(np.diff(rows))) > 2


def test_each_row_is_in_the_test_part_equally_often():
    labels = np.repeat([0, 1], [30, 10])
    counts = np.zeros(40)
    for seed in range(2000):
        counts[split(40, labels, task="binary", validation=0.1, test=0.2, seed=seed).test] += 1
    assert np.abs(counts / 2000 - 0.2).max() < 0.05  # five standard deviations


@pytest.mark.parametrize("n", [3, 4, 5])
def test_tiny_data_fill_every_part(n):
    parts = split(n, None, task="regression", validation=0.1, test=0.1)
    assert min(len(parts.train), len(parts.validation), len(parts.test)) == 1


def test_too_few_rows_are_refused():
    with pytest.raises(
        DataError,
        match=r"2 rows are too few for training, validation and test parts; add rows, or omit a part: ",
    ):
        split(2, None, task="regression", validation=0.1, test=0.1)
    assert len(split(2, None, task="regression", validation=0.0, test=0.5).test) == 1


def test_shares_must_leave_training_rows():
    for validation, test in ((0.5, 0.5), (-0.1, 0.2), (0.2, float("nan"))):
        with pytest.raises(DataError, match="below 1"):
            split(100, None, task="regression", validation=validation, test=test)


def test_no_validation_and_no_test_is_possible():
    parts = split(10, None, task="regression", validation=0, test=0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (10, 0, 0)


def test_a_class_keeps_a_training_row():
    parts = split(50, np.array([0] * 49 + [1]), task="binary", validation=0.2, test=0.2)
    assert 49 in parts.train


def test_a_given_split_is_respected():
    given = np.array(["train"] * 60 + ["validation"] * 20 + ["test"] * 20)
    parts = split(100, None, task="regression", validation=0.1, test=0.5, given=given)
    assert parts.train.tolist() == list(range(60))
    assert parts.validation.tolist() == list(range(60, 80))
    assert parts.test.tolist() == list(range(80, 100))


def test_missing_validation_rows_are_taken_from_the_given_training_rows():
    given = np.array(["test"] * 20 + ["train"] * 80)
    parts = split(100, np.arange(100) % 2, task="binary", validation=0.25, test=0.5, given=given)
    assert_partition(parts, 100)
    assert parts.test.tolist() == list(range(20))
    assert len(parts.validation) == 20
    assert "taken from the given training rows" in " ".join(parts.notes)
    assert len(split(100, None, task="regression", validation=0, test=0, given=given).validation) == 0


@given(sizes=st.lists(st.integers(1, 30), min_size=3, max_size=20), seed=st.integers(0, 3))
def test_groups_stay_together_and_every_part_has_one(sizes, seed):
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n = len(groups)
    parts = split(n, np.arange(n) % 2, task="binary", validation=0.2, test=0.2, seed=seed, groups=groups)
    assert_partition(parts, n)
    owners = [set(groups[rows].tolist()) for rows in (parts.train, parts.validation, parts.test)]
    assert all(owners)
    assert sum(map(len, owners)) == len(sizes)


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="2 groups; 3 parts"):
        split(10, None, task="regression", validation=0.2, test=0.2, groups=np.array(["a", "b"] * 5))


def test_names_of_parts():
    assert part_names(["Train", " val", "HOLDOUT"], "here").tolist() == ["train", "validation", "test"]
    with pytest.raises(DataError, match=r"here: .* row 1 holds 'maybe'"):
        part_names(["train", "maybe"], "here")
    with pytest.raises(DataError, match="no row is marked 'train'"):
        part_names(["test"], "here")


def test_rows_without_a_group_are_not_one_group():
    groups = np.array([2**60, None, 2**60 + 1, float("nan"), 2**60], dtype=object)
    names, without = group_names(groups)
    assert without == 2
    assert [int(np.flatnonzero(names == name)[0]) for name in names] == [0, 1, 2, 3, 0]
