"""Validation of X, y and weights by scikit-learn, with its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from descend.data.arrays import as_targets, labels_of_rows
from descend.data.frames import as_array, as_frame, is_frame, is_strings
from descend.data.parsing import EXACT
from descend.data.source import Array
from descend.data.task import are_labels, check_targets
from descend.errors import DataError, UserError

__all__ = ["validate_inputs", "validate_labels", "validate_numbers", "validate_weights"]


def validate_inputs(estimator: Any, inputs: Any, *, reset: bool, min_rows: int = 1) -> Any:
    """Return features as an array, or as a polars frame if they are a data frame of any library.

    Arrays become numeric where possible; missing values may be NaN. Columns of a frame without proper names (pandas
    numbers them) are named by position, ``x0``, ``x1``, ..., as those of an array.

    Args:
        estimator: the estimator whose ``n_features_in_`` and ``feature_names_in_`` are set or compared.
        inputs: array-like with two dimensions or more, or a data frame; a sequence of strings is one column.
        reset: whether these are training data.
        min_rows: minimum number of rows. Default 1.

    Raises:
        ValueError: wrong shape, too few rows or features, infinities, complex numbers, or features that differ from
            those of the training.
        TypeError: sparse data, or a cell that is neither a number nor a string.
    """
    if isinstance(inputs, np.ma.MaskedArray):
        inputs = as_array(inputs)
    if is_strings(inputs):
        inputs = as_array(inputs).reshape(-1, 1)
    if is_frame(inputs):
        return _validate_frame(estimator, inputs, reset, min_rows)
    options = {
        "reset": reset,
        "ensure_min_samples": min_rows,
        "ensure_all_finite": "allow-nan",
        "allow_nd": True,
    }
    if _contains_large_integers(inputs):
        return validate_data(estimator, np.asarray(inputs, dtype=object), dtype=None, **options)
    try:
        return validate_data(estimator, inputs, dtype="numeric", **options)
    except ValueError:
        if not _contains_strings(inputs):
            raise
    return validate_data(estimator, inputs, dtype=None, **options)


def _validate_frame(estimator: Any, inputs: Any, reset: bool, min_rows: int) -> Any:
    if type(inputs).__module__.partition(".")[0] not in ("pandas", "polars") or not hasattr(inputs, "shape"):
        inputs = as_frame(inputs)  # scikit-learn reads attributes that the others lack
    validate_data(estimator, inputs, reset=reset, skip_check_array=True)
    rows, features = inputs.shape
    for count, minimum, what in ((rows, min_rows, "sample"), (features, 1, "feature")):
        if count < minimum:
            raise ValueError(
                f"Found array with {count} {what}(s) (shape={(rows, features)}) while a minimum of {minimum} "
                f"is required by {type(estimator).__name__}."
            )
    frame = as_frame(inputs)
    if not hasattr(estimator, "feature_names_in_"):
        frame = frame.rename(dict(zip(frame.columns, _column_names(features), strict=True)))
    return frame


def _column_names(count: int) -> list[str]:
    return [f"x{position}" for position in range(count)]


def _contains_strings(inputs: Any) -> bool:
    try:
        cells = np.asarray(inputs, dtype=object).reshape(-1)
    except ValueError:
        return False
    return any(isinstance(cell, str | bytes) for cell in cells)


def _contains_large_integers(inputs: Any) -> bool:
    """Return whether Python values contain integers that scikit-learn would merge as floating-point numbers."""
    if not (isinstance(inputs, list | tuple) or getattr(getattr(inputs, "dtype", None), "kind", "") == "O"):
        return False
    try:
        cells = np.asarray(inputs, dtype=object).reshape(-1)
    except ValueError:
        return False
    return any(isinstance(cell, int | np.integer) and abs(int(cell)) > EXACT for cell in cells)


def _required(estimator: Any, targets: Any) -> Any:
    if targets is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    return targets


def _native(values: Any) -> Any:
    """Return masked arrays, and series with a type of their own library, as NumPy arrays that keep missing values.

    scikit-learn ignores masks and converts nullable integers and booleans to floating-point numbers.
    """
    if isinstance(values, np.ma.MaskedArray):
        return as_array(values)
    dtype = getattr(values, "dtype", None)
    if dtype is None or isinstance(values, np.ndarray) or isinstance(dtype, np.dtype) or is_frame(values):
        return values
    if type(values).__module__.startswith("torch"):
        return values
    return as_targets(values)[0]


def validate_labels(estimator: Any, targets: Any) -> Array:
    """Return class labels in their own dtype, (n,), or (n, L) for several columns of 0 and 1, scikit-learn's indicators.

    Raises:
        ValueError: continuous numbers, missing labels, or several columns of other values.
    """
    if labels_of_rows(targets) is not None:
        raise ValueError(
            "y lists the labels of each row; pass a column of 0 and 1 for each label, as "
            "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y) returns them"
        )
    targets = _native(targets)
    if _are_columns(targets):
        return _validate_indicators(targets)
    if isinstance(targets, list | tuple) and any(isinstance(label, str) for label in targets):
        targets = np.array(
            targets, dtype=object if _mixed(targets) else str
        )  # numbers among strings stay numbers
    labels: Array = column_or_1d(_required(estimator, targets), warn=True)
    if labels.dtype.kind == "f":
        check_classification_targets(labels)
    return check_targets(labels, ("y",), least=1) if len(labels) else labels


def _are_columns(targets: Any) -> bool:
    shape = (
        np.shape(targets) if isinstance(targets, list | tuple | np.ndarray) else getattr(targets, "shape", ())
    )
    return len(shape) == 2 and shape[1] > 1


def _validate_indicators(targets: Any) -> Array:
    columns: Array = targets.toarray() if hasattr(targets, "toarray") else np.asarray(targets)
    if is_frame(targets):
        columns = as_frame(targets).to_numpy()
    if not len(columns):
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    checked = check_targets(columns, ("y",), least=1)
    if checked.dtype.kind not in "biuf" or not are_labels(checked):
        raise ValueError(
            f"y has {columns.shape[1]} columns; expected one column of classes, or several columns that contain 0 and 1 "
            "only (a label each)"
        )
    return checked


def _mixed(labels: Sequence[Any]) -> bool:
    return not all(isinstance(label, str) for label in labels)


def validate_numbers(estimator: Any, targets: Any) -> Array:
    """Return regression targets, float64 (n,) or (n, T).

    Raises:
        ValueError: values that are missing, infinite or not numbers.
    """
    numbers: Array = check_array(
        _native(_required(estimator, targets)),
        ensure_2d=False,
        dtype="numeric",
        input_name="y",
        estimator=estimator,
    )
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = column_or_1d(numbers, warn=True)
    return numbers.astype(np.float64)


def validate_weights(weights: Any, inputs: Any, targets: Array) -> Array | None:
    """Return row weights, float64 (n,), or None; also checks that the numbers of rows agree.

    Raises:
        ValueError: a different number of rows; weights that are negative, not finite, or all zero.
    """
    if weights is None:
        check_consistent_length(inputs, targets)
        return None
    if isinstance(weights, str):
        raise UserError(
            f"sample_weight: expected one number per row, got the string {weights!r}; pass the column itself"
        )
    checked: Array = check_array(
        _native(weights), ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if checked.ndim != 1:
        raise ValueError(f"sample_weight: expected one number per row, got shape {checked.shape}")
    check_consistent_length(inputs, targets, checked)
    if (checked < 0).any():
        raise DataError("sample_weight: expected 0 or more in every row, got negative numbers")
    if not checked.any():
        raise DataError(
            "sample_weight: expected a positive weight in at least one row, got zero in every row"
        )
    return checked
