"""Sources from NumPy arrays, tensors and NPZ files: tables, images, or numbers of any shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descend.data.binary_columns import decoded
from descend.data.frames import as_array, as_frame, frame_of_array, is_frame, is_records
from descend.data.label_lists import are_label_lists, indicators, labels_of_column
from descend.data.messages import listed, rows_hold
from descend.data.missing_numbers import without_missing_numbers
from descend.data.parsing import is_missing, large_integers, tidy
from descend.data.settings import Missing, missing_in
from descend.data.source import Array, Source, join
from descend.errors import DataError

__all__ = [
    "as_numbers",
    "as_targets",
    "from_arrays",
    "from_named_arrays",
    "is_named_arrays",
    "labels_of",
    "labels_of_rows",
    "names_of",
    "read_npz",
]

_CHANNELS = (1, 3, 4)


def from_arrays(inputs: Any, targets: Any, *, name: str = "data", reference: str | None = None,
           target_names: tuple[str, ...] | None = None, label_lists: bool = False) -> Source:  # fmt: skip
    """Return a source made of features and targets.

    The type and shape of the features determine the kind of data: a data frame, a dictionary of columns or an
    array (n, d) is a table; a uint8 array of three or four dimensions holds images; any other array of three or
    more dimensions is a tensor.

    Args:
        inputs: the features, n rows.
        targets: labels or numbers, shape (n,) or (n, T); None for prediction.
        name: a short name for display.
        reference: what identifies these data on a command line.
        target_names: names of the targets; by default those that the targets carry themselves.
        label_lists: whether the targets are known to be lists of labels.

    Raises:
        DataError: the shapes do not match, or a row has no entries.
    """
    listed_labels = None if targets is None else labels_of_rows(targets, known=label_lists)
    label_column = ""
    labels: Array | None
    if listed_labels is not None:
        labels, names, label_column = listed_labels
    else:
        labels, own_names = (None, ()) if targets is None else as_targets(targets)
        names = target_names or own_names
    if is_frame(inputs) or isinstance(inputs, Mapping) or is_records(inputs):
        source = Source(name, reference, "table", labels, names, frame=as_frame(inputs))
    else:
        try:
            array = as_array(inputs)
        except ValueError as cause:
            raise DataError(f"{name}: expected a table whose rows have equal lengths: {cause}") from cause
        if 0 in array.shape[1:]:
            raise DataError(f"{name}: rows of shape {array.shape[1:]} have no entries to learn from")
        if array.dtype.names:
            source = Source(name, reference, "table", labels, names, frame=as_frame(array))
        elif array.ndim >= 3 and array.dtype == np.uint8 and array.ndim <= 4:
            source = Source(name, reference, "images", labels, names, inputs=_channels_first(array))
        elif array.ndim >= 3:
            source = Source(
                name, reference, "tensor", labels, names, inputs=as_numbers(array, array.shape[1:])
            )
        else:
            source = Source(
                name, reference, "table", labels, names, frame=frame_of_array(inputs), named=False
            )
    if labels is not None and len(labels) != len(source):
        raise DataError(f"{name}: X has {len(source)} rows, y has {len(labels)}; each row needs one target")
    return dataclasses.replace(source, label_column=label_column)


def labels_of_rows(targets: Any, *, known: bool = False) -> tuple[Array, tuple[str, ...], str] | None:
    """Return targets that list the labels of each row as columns of 0 and 1, their names, and the name of the target.

    Args:
        targets: lists, tuples or sets of labels, also as an array of Python objects or a column of a data frame.
        known: whether the network was trained on lists of labels.

    Returns: None for other targets.

    >>> labels_of_rows([["b", "a"], ["b"]])[:2]
    (array([[1, 1],
           [0, 1]]), ('a', 'b'))
    """
    if is_frame(targets) or isinstance(targets, Mapping):
        frame = as_frame(targets)
        found = labels_of_column(frame.to_series()) if frame.width == 1 else None
        return None if found is None else (*found, frame.columns[0])
    if hasattr(targets, "name") and hasattr(targets, "to_list"):  # a series
        name = str(targets.name or "y")
        if type(targets).__module__.startswith("polars"):
            found = labels_of_column(targets.alias(name))
            return None if found is None else (*found, name)
        targets = targets.to_list() if str(targets.dtype) == "object" else None
    elif hasattr(targets, "to_pylist"):
        name, targets = "y", targets.to_pylist()
    else:
        name = "y"
        if isinstance(targets, np.ndarray) and targets.dtype == object and targets.ndim == 1:
            targets = [list(one) if isinstance(one, np.ndarray) else one for one in targets.tolist()]
    return (*indicators(targets, name), name) if are_label_lists(targets, known=known) else None


def as_targets(targets: Any) -> tuple[Array, tuple[str, ...]]:
    """Return raw targets as an array, and their names.

    A data frame or a series carries its own names; other targets are called ``y``, or ``y0``, ``y1``, ...

    >>> as_targets(["a", "b"])[0].tolist()
    ['a', 'b']
    """
    if is_frame(targets) or isinstance(targets, Mapping):
        frame = as_frame(targets)
        columns = [labels_of(series, ()) for series in frame]
        if not columns:
            raise DataError("the targets have no column")
        array = columns[0] if len(columns) == 1 else np.column_stack(columns)
        return array, tuple(frame.columns)
    if hasattr(targets, "dtype") and hasattr(targets, "name") and hasattr(targets, "to_numpy"):  # a series
        return labels_of(as_frame({"y": _plain(targets)})["y"], ()), (str(targets.name or "y"),)
    try:
        array = as_array(targets)
    except ValueError as cause:
        raise DataError(f"expected targets of equal lengths: {cause}") from cause
    if (
        array.dtype.kind == "U"
        and array.ndim == 1
        and isinstance(targets, list | tuple)
        and not all(isinstance(y, str) for y in targets)
    ):
        array = np.empty(len(targets), dtype=object)  # NumPy would convert numbers among strings to strings
        array[:] = targets
    if array.dtype.kind == "f" and isinstance(targets, list | tuple) and _are_integers(targets):
        array = np.empty(len(targets), dtype=object)  # beyond 64 bits, or of different signs
        array[:] = targets
    if array.ndim == 0:
        raise DataError("expected one target per row, got a single value")
    width = array.shape[1] if array.ndim == 2 else 1
    return array, ("y",) if width == 1 else tuple(f"y{at}" for at in range(width))


def _are_integers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | np.integer) for value in values)


def _plain(series: Any) -> Any:
    """Return a series of any library as an array where that keeps the dtype, else as a list."""
    if type(series).__module__.startswith("polars"):
        return series
    array = series.to_numpy()
    kind = getattr(array, "dtype", np.dtype(object)).kind
    if kind == "f" and not isinstance(series.dtype, np.dtype):
        return list(series.to_list())  # nullable integers
    return array if kind in "biuf" else list(series.to_list())


def labels_of(series: Any, missing: Missing) -> Array:
    """Return a polars column of targets as an array of the matching dtype, or of objects where values are missing.

    Args:
        series: the column.
        missing: strings that stand for a missing value, in all columns or by the name of the column.
    """
    import polars as pl

    series = decoded(series)
    kind = series.dtype
    if kind in (pl.Categorical, pl.Enum, pl.String):
        strings = series.cast(pl.String)
        is_absent = strings.str.strip_chars().is_in(list(missing_in(missing, series.name)))
        return np.array(strings.set(is_absent, None).to_list(), dtype=object)
    if kind.is_numeric():
        series = without_missing_numbers(series, missing)
    if kind.is_decimal():
        integers = large_integers(tidy(series, ()))
        if integers is None and getattr(kind, "scale", None) == 0:
            integers = series.cast(pl.Int64)
        series = series.cast(pl.Float64) if integers is None else integers
        kind = series.dtype
    if kind in (pl.Int128, pl.UInt128):  # NumPy has no such dtypes
        as_int64 = series.cast(pl.Int64, strict=False)
        if as_int64.null_count() > series.null_count():
            return np.array(series.to_list(), dtype=object)
        series, kind = as_int64, as_int64.dtype
    if series.null_count():
        return np.array(series.to_list(), dtype=object)
    if kind.is_numeric() or kind == pl.Boolean:
        array: Array = series.to_numpy()
        return array if array.flags.writeable else array.copy()
    if kind in (pl.Date, pl.Datetime, pl.Duration, pl.Time):
        raise DataError(
            f"target {series.name!r}: expected numbers or labels, got dates or times; "
            "convert them to numbers, such as days since a fixed date"
        )
    values = series.to_list()
    odd = next((value for value in values if not is_missing(value) and not np.isscalar(value)), None)
    if odd is not None:
        raise DataError(
            f"target {series.name!r}: expected a number or a label in each row, got {listed([odd])}"
        )
    return np.array(values, dtype=object)


def names_of(series: Any, missing: Missing) -> Array:
    """Return a polars column of the names of groups as an array: as labels, but dates as strings.

    >>> import datetime, polars as pl
    >>> names_of(pl.Series([datetime.date(2024, 1, 31), None]), ()).tolist()
    ['2024-01-31', None]
    """
    import polars as pl

    if series.dtype.is_temporal():
        series = series.cast(pl.String)
    return labels_of(series, missing)


def _channels_first(array: Array) -> Array:
    """Return uint8 images as (n, channels, height, width)."""
    if array.ndim == 3:
        return np.ascontiguousarray(array[:, None])
    if array.shape[1] not in _CHANNELS and array.shape[3] in _CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array)


def as_numbers(data: Any, shape: tuple[int, ...]) -> Array:
    """Return numbers as float32 (n, *shape).

    Raises:
        DataError: the shape is different, or numbers are missing or infinite.
    """
    array = as_array(data)
    if array.shape[1:] != shape:
        raise DataError(f"expected rows of shape {shape}, got {array.shape[1:]}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"expected numbers, got values of type {array.dtype}")
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    invalid = ~np.isfinite(numbers).all(axis=tuple(range(1, numbers.ndim)))
    if invalid.any():
        raise DataError(
            f"expected finite numbers, but {rows_hold(np.flatnonzero(invalid))} missing or infinite values; "
            "correct or remove these rows"
        )
    return numbers


_PART_SUFFIXES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


def is_named_arrays(data: Mapping[Any, Any]) -> bool:
    """Return whether a dictionary has the keys ``X`` and ``y``, or ``X_train`` and ``y_train`` (and perhaps more parts).

    ``x_train`` stands for ``X_train``, as in files of Keras.

    >>> is_named_arrays({"X": [[1.0]], "y": [0]}), is_named_arrays({"age": [3], "y": [0]})
    (True, False)
    """
    keras = "x_train" in data and "y_train" in data
    return ("X" in data and set(data) <= {"X", "y"}) or "X_train" in data or keras


def from_named_arrays(
    named: Mapping[str, Any],
    *,
    name: str,
    reference: str | None = None,
    predicting: bool = False,
    target_names: tuple[str, ...] | None = None,
) -> Source:
    """Return a source from arrays named ``X`` and ``y``, or ``X_train``, ``y_train`` and other parts.

    Suffixes of other parts are ``_validation`` and ``_test``.

    Raises:
        DataError: the names are different.
    """
    named = {"X" + key[1:] if key.startswith("x_") else key: value for key, value in named.items()}

    def source(suffix: str) -> Source:
        targets = named.get("y" + suffix)
        return from_arrays(
            named["X" + suffix], targets, name=name, reference=reference, target_names=target_names
        )

    def has(suffix: str) -> bool:
        return "X" + suffix in named and ("y" + suffix in named or predicting)

    if has(""):
        return source("")
    given = {
        part: source("_" + word)
        for part, suffixes in _PART_SUFFIXES.items()
        for word in suffixes
        if has("_" + word)
    }
    if "train" not in given:
        raise DataError(
            f"{name}: expected arrays 'X' and 'y', or 'X_train' and 'y_train', got {listed(named)}"
        )
    return (
        join(given["train"], given.get("validation"), given.get("test")) if len(given) > 1 else given["train"]
    )


def read_npz(path: Path, *, predicting: bool = False, target_names: tuple[str, ...] | None = None) -> Source:
    """Read an NPZ file with ``X`` and ``y``, or with a given split; see :func:`from_named_arrays`.

    Arrays of Python objects are refused, because reading them would run code from the file.

    Raises:
        DataError: the file is damaged, or the names are different.
    """
    return from_named_arrays(
        _load(path), name=path.name, reference=str(path), predicting=predicting, target_names=target_names
    )


def _load(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:  # numpy.load leaves a damaged file open
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise DataError(f"{path}: expected named arrays (numpy.savez), got a single array")
            return {name: content[name] for name in content.files}
    except DataError:
        raise
    except Exception as cause:  # damaged archives fail in many ways
        advice = (
            "save labels as strings or numbers, not as objects"
            if "pickle" in str(cause)
            else "is it damaged?"
        )
        raise DataError(
            f"{path}: cannot be read as NPZ: {cause or type(cause).__name__}; {advice}"
        ) from cause
