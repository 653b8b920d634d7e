import numpy as np
import pandas as pd
import pytest

import descend
from descend.errors import DataError
from descend.estimators.validation import validate_labels, validate_numbers, validate_weights


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pd.Series(pd.array([0, 1, 0], dtype="Int64")), np.int64),
        (pd.Series(pd.array([True, False, True], dtype="boolean")), np.bool_),
        (pd.Series(pd.array(["a", "b", "a"], dtype="string")), object),
        (np.ma.array([0, 1, 0]), np.int64),
    ],
)
def test_labels_of_nullable_types_keep_their_type(labels, expected):
    assert validate_labels(None, labels).dtype == expected


def test_masks_are_missing_values():
    mask = [False, True, False]
    with pytest.raises(DataError, match="row 1 has no value"):
        validate_labels(None, np.ma.array([0, 1, 0], mask=mask))
    with pytest.raises(ValueError, match="NaN"):
        validate_weights(np.ma.array([1.0, 1.0, 1.0], mask=mask), np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        validate_numbers(None, np.ma.array([1.0, 2.0, 3.0], mask=mask))


@pytest.mark.parametrize(
    "inputs",
    [
        [[2**60 + at % 8, at * 0.5] for at in range(40)],
        np.array([[2**60 + at % 8, at * 0.5] for at in range(40)], dtype=object),
    ],
)
def test_large_integers_among_numbers_are_not_merged(inputs):
    with pytest.raises(DataError, match=f"different integers from {2**60} to {2**60 + 7} would be equal"):
        descend.Regressor(max_epochs=1).fit(inputs, np.arange(40.0))


def test_lists_of_labels_are_refused_with_the_remedy() -> None:
    for targets in ([["a"], ["a", "b"]], pd.Series([["a"], ["a", "b"]]), [{"a"}, {"b"}]):
        with pytest.raises(ValueError, match=r"MultiLabelBinarizer\(\).fit_transform\(y\)"):
            descend.Classifier().fit(np.zeros((2, 1)), targets)
