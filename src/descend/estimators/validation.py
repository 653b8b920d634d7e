"""X, y and weights as scikit-learn checks them, with its messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from descend.data.frames import as_frame, is_frame
from descend.data.source import Array
from descend.data.task import check_targets
from descend.errors import DataError

__all__ = ["checked_inputs", "checked_labels", "checked_numbers", "checked_weights"]


def checked_inputs(estimator: Any, inputs: Any, *, reset: bool, least: int = 1) -> Any:
    """Features as an array, or as a polars frame where they came as a data frame of any library.

    Arrays are numeric where they can be; missing values may be NaN. Columns of a frame without proper names
    (pandas numbers them) are known by their place, ``x0``, ``x1``, ..., as those of an array.

    Args:
        estimator: its ``n_features_in_`` and ``feature_names_in_`` are set, or compared with.
        inputs: anything array-like of two dimensions or more, or a data frame.
        reset: True where these are training data.
        least: the fewest rows that will do.

    Raises:
        ValueError: another shape, too few rows or features, infinities, complex numbers, other features
            than in training.
        TypeError: sparse data, or a cell that is neither a number nor a text.
    """
    if is_frame(inputs):
        return _checked_frame(estimator, inputs, reset, least)
    options = {
        "reset": reset,
        "ensure_min_samples": least,
        "ensure_all_finite": "allow-nan",
        "allow_nd": True,
    }
    try:
        return validate_data(estimator, inputs, dtype="numeric", **options)
    except ValueError:
        if not _holds_texts(inputs):
            raise
    return validate_data(estimator, inputs, dtype=None, **options)


def _checked_frame(estimator: Any, inputs: Any, reset: bool, least: int) -> Any:
    if type(inputs).__module__.partition(".")[0] not in ("pandas", "polars") or not hasattr(inputs, "shape"):
        inputs = as_frame(inputs)  # scikit-learn asks the others for attributes that they lack
    validate_data(estimator, inputs, reset=reset, skip_check_array=True)
    rows, features = inputs.shape
    for found, wanted, what in ((rows, least, "sample"), (features, 1, "feature")):
        if found < wanted:
            raise ValueError(
                f"Found array with {found} {what}(s) (shape={(rows, features)}) while a minimum of {wanted} "
                f"is required by {type(estimator).__name__}."
            )
    frame = as_frame(inputs)
    if not hasattr(estimator, "feature_names_in_"):
        frame = frame.rename(dict(zip(frame.columns, _places(features), strict=True)))
    return frame


def _places(count: int) -> list[str]:
    return [f"x{place}" for place in range(count)]


def _holds_texts(inputs: Any) -> bool:
    try:
        cells = np.asarray(inputs, dtype=object).reshape(-1)
    except ValueError:
        return False
    return any(isinstance(cell, str | bytes) for cell in cells)


def _given(estimator: Any, targets: Any) -> Any:
    if targets is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    return targets


def checked_labels(estimator: Any, targets: Any) -> Array:
    """Class labels, (n,), of the dtype in which they came.

    Raises:
        ValueError: numbers that are no classes, missing labels, several columns.
    """
    if isinstance(targets, list | tuple) and any(isinstance(label, str) for label in targets):
        targets = np.array(
            targets, dtype=object if _mixed(targets) else str
        )  # numbers among texts stay numbers
    labels: Array = column_or_1d(_given(estimator, targets), warn=True)
    if labels.dtype.kind == "f":
        check_classification_targets(labels)
    return check_targets(labels, ("y",), least=1) if len(labels) else labels


def _mixed(labels: Sequence[Any]) -> bool:
    return not all(isinstance(label, str) for label in labels)


def checked_numbers(estimator: Any, targets: Any) -> Array:
    """Regression targets, float64 (n,) or (n, T).

    Raises:
        ValueError: values that are missing, infinite or no numbers.
    """
    found: Array = check_array(
        _given(estimator, targets), ensure_2d=False, dtype="numeric", input_name="y", estimator=estimator
    )
    if found.ndim == 2 and found.shape[1] == 1:
        found = column_or_1d(found, warn=True)
    return found.astype(np.float64)


def checked_weights(weights: Any, inputs: Any, targets: Array) -> Array | None:
    """Row weights, float64 (n,), or None; also checks that there are as many as inputs and targets.

    Raises:
        ValueError: another number of rows; weights that are negative, not finite, or all zero.
    """
    if weights is None:
        check_consistent_length(inputs, targets)
        return None
    found: Array = check_array(weights, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if found.ndim != 1:
        raise ValueError(f"sample_weight must be one number a row, found shape {found.shape}")
    check_consistent_length(inputs, targets, found)
    if (found < 0).any():
        raise DataError("sample_weight must be 0 or more in each row, found negative numbers")
    if not found.any():
        raise DataError("sample_weight is zero in every row; at least one must count")
    return found
