import numpy as np
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder

from descend.data.labels import classes_of, codes_of, restore
from descend.errors import DataError
from descend.losses.classification import one_hot


@pytest.mark.parametrize(
    "targets",
    [
        np.array(["b", "a", "b"]),
        np.array(["b", "a", "b"], dtype=object),
        np.array([True, False, True]),
        np.array([True, False, True], dtype=object),
        np.array([3, -1, 3], dtype=np.int8),
        np.array([3, 1, 3], dtype=np.uint64),
        np.array([3, 1, 3], dtype=object),
        np.array([0.5, 0.1, 0.5], dtype=np.float32),
        np.array([1.0, 0.0, 1.0]),
        np.array([b"b", b"a", b"b"]),
    ],
    ids=lambda targets: str(targets.dtype),
)
def test_labels_are_restored_with_their_dtype(targets):
    classes, dtype = classes_of(targets)
    restored = restore(classes, dtype)[codes_of(targets, classes)]
    assert restored.dtype == targets.dtype
    assert restored.tolist() == targets.tolist()
    assert [type(one) for one in restored.tolist()] == [type(one) for one in targets.tolist()]


@pytest.mark.parametrize(
    "targets",
    [
        np.array(["b", "a", "ä", "b", "a"]),
        np.array([True, False, True]),
        np.array([7, -1, 3, 7, 7, 12]),
        np.array([0.5, -2.0, 0.5, 1.5]),
    ],
    ids=lambda targets: str(targets.dtype),
)
def test_one_hot_rows_equal_scikit_learn_and_are_decoded(targets):
    """Row i is 1 at the position of its class and 0 elsewhere; the position of the 1 is decoded to the label."""
    classes, dtype = classes_of(targets)
    codes = torch.tensor(codes_of(targets, classes), dtype=torch.int64)
    rows = one_hot(codes, torch.zeros(len(targets), len(classes)))
    expected = OneHotEncoder(sparse_output=False).fit_transform(targets[:, None])
    assert rows.tolist() == expected.tolist()
    assert restore(classes, dtype)[rows.argmax(1).numpy()].tolist() == targets.tolist()


def test_classes_are_sorted_like_numpy():
    for targets in (np.array([10, 9, 2]), np.array(["10", "9", "2"])):
        assert list(classes_of(targets)[0]) == np.unique(targets).tolist()


def test_unknown_labels_are_named_with_their_rows():
    with pytest.raises(DataError, match=r"'rat' in rows 1, 3, which is not among the classes 'cat', 'dog'"):
        codes_of(np.array(["cat", "rat", "dog", "rat"]), ("cat", "dog"))


def test_a_label_is_matched_by_its_string_if_types_differ():
    assert codes_of(np.array([1, 2]), ("1", "2")).tolist() == [0, 1]
    assert codes_of(np.array(["1", "2"]), (1, 2)).tolist() == [0, 1]
    assert codes_of(np.array([1.0, 2.0]), (1, 2)).tolist() == [0, 1]


def test_numbers_mixed_with_strings_are_refused():
    with pytest.raises(DataError, match="mixes labels of types int, str"):
        classes_of(np.array([1, "a"], dtype=object))


def test_labels_with_too_many_digits_are_refused():
    with pytest.raises(DataError, match="very many digits"):
        classes_of(np.array([1, 10**5000], dtype=object))


def test_structures_are_refused_as_labels():
    with pytest.raises(DataError, match="tuple"):
        classes_of(np.array([(1, 2), (3, 4), None], dtype=object)[:2])


def test_an_unknown_label_with_a_similar_spelling_is_named():
    with pytest.raises(
        DataError, match=r"not among the classes 'no', 'yes'; 'Yes ' and 'yes' differ only in capitals"
    ):
        codes_of(np.array(["no", "Yes "], dtype=object), ("no", "yes"))


@pytest.mark.parametrize(
    ("classes", "found", "code"),
    [
        ((1, 2), "1", 0),
        ((1, 2), "1.0", 0),
        ((1, 2), "02", 1),
        ((1.0, 2.5), "1", 0),
        ((1.0, 2.5), 1, 0),
        (("1", "2"), 1.0, 0),
        (("007", "8"), 7, 0),
        (("True", "x"), True, 0),
        ((False, True), "true", 1),
        ((False, True), "TRUE", 1),
        ((False, True), 1, 1),
        ((0, 1), "True", 1),
        ((2**60, 2**60 + 1), str(2**60 + 1), 1),
        (("a", "b"), " a ", 0),
    ],
)
def test_a_label_has_one_code_in_all_its_forms(classes, found, code):
    assert codes_of(np.array([found], dtype=object), classes).tolist() == [code]


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        (("007", "8"), "7"),
        (("7", "8"), "007"),
        (("07", "007"), 7),
        ((2**60, 2**60 + 2), float(2**60 + 1) + 512),
    ],
)
def test_different_labels_are_not_merged(classes, found):
    with pytest.raises(DataError, match="not among the classes"):
        codes_of(np.array([found], dtype=object), classes)


def test_labels_in_single_precision_match_those_in_double_precision() -> None:
    single = np.array([0.1, 0.2], dtype=np.float32)
    assert codes_of(np.array([0.2, 0.1]), classes_of(single)[0]).tolist() == [1, 0]
    assert codes_of(single, (0.1, 0.2)).tolist() == [0, 1]
    with pytest.raises(DataError):
        codes_of(np.array([0.10001]), classes_of(single)[0])
