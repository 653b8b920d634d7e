"""Arrays and tensors as sources: tables, images, numbers of any shape; NPZ files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descend.data.frames import as_array, as_frame, frame_of_array, is_frame, is_records
from descend.data.messages import listed, rows_hold
from descend.data.parsing import is_missing
from descend.data.source import Array, Source, join
from descend.errors import DataError

__all__ = [
    "as_images",
    "as_numbers",
    "as_targets",
    "from_arrays",
    "from_named_arrays",
    "is_named_arrays",
    "labels_of",
    "read_npz",
]

_CHANNELS = (1, 3, 4)


def from_arrays(inputs: Any, targets: Any, *, name: str = "data", reference: str | None = None,
           target_names: tuple[str, ...] | None = None) -> Source:  # fmt: skip
    """A source from features and targets.

    Features may be a data frame, a dictionary of columns or an array (n, d), a table; uint8 of three or
    four dimensions, images; or an array of numbers of three or more dimensions.

    Args:
        inputs: the features, n rows.
        targets: labels or numbers, shape (n,) or (n, T); None for prediction.
        name: a short name for people.
        reference: what names these data on a command line.
        target_names: names of the targets, where they do not bring their own.

    Raises:
        DataError: shapes that do not fit together, or that cannot be learned from.
    """
    found, own_names = (None, ()) if targets is None else as_targets(targets)
    names = target_names or own_names
    if is_frame(inputs) or isinstance(inputs, Mapping) or is_records(inputs):
        source = Source(name, reference, "table", found, names, frame=as_frame(inputs))
    else:
        try:
            array = as_array(inputs)
        except ValueError as cause:
            raise DataError(f"{name}: a table with rows of one length was expected: {cause}") from cause
        if 0 in array.shape[1:]:
            raise DataError(f"{name}: rows of shape {array.shape[1:]} hold nothing to learn from")
        if array.dtype.names:
            source = Source(name, reference, "table", found, names, frame=as_frame(array))
        elif array.ndim >= 3 and array.dtype == np.uint8 and array.ndim <= 4:
            source = Source(name, reference, "images", found, names, inputs=_channels_first(array))
        elif array.ndim >= 3:
            source = Source(
                name, reference, "tensor", found, names, inputs=as_numbers(array, array.shape[1:])
            )
        else:
            source = Source(name, reference, "table", found, names, frame=frame_of_array(inputs), named=False)
    if found is not None and len(found) != len(source):
        raise DataError(f"{name}: X has {len(source)} rows, y has {len(found)}; each row needs its target")
    return source


def as_targets(targets: Any) -> tuple[Array, tuple[str, ...]]:
    """Raw targets as an array, with their names where they have some.

    >>> as_targets(["a", "b"])[0].tolist()
    ['a', 'b']
    """
    if is_frame(targets) or isinstance(targets, Mapping):
        frame = as_frame(targets)
        columns = [labels_of(series, ()) for series in frame]
        if not columns:
            raise DataError("the targets hold no column")
        found = columns[0] if len(columns) == 1 else np.column_stack(columns)
        return found, tuple(frame.columns)
    if hasattr(targets, "dtype") and hasattr(targets, "name") and hasattr(targets, "to_numpy"):  # a series
        return labels_of(as_frame({"y": _plain(targets)})["y"], ()), (str(targets.name or "y"),)
    try:
        found = as_array(targets)
    except ValueError as cause:
        raise DataError(f"targets of one length were expected: {cause}") from cause
    if (
        found.dtype.kind == "U"
        and isinstance(targets, list | tuple)
        and not all(isinstance(y, str) for y in targets)
    ):
        found = np.empty(len(targets), dtype=object)  # NumPy would make texts of numbers among texts
        found[:] = targets
    if found.ndim == 0:
        raise DataError("one target for each row was expected, found a single value")
    width = found.shape[1] if found.ndim == 2 else 1
    return found, ("y",) if width == 1 else tuple(f"y{at}" for at in range(width))


def _plain(series: Any) -> Any:
    """A series of any library as an array where that keeps its dtype, or as a list."""
    if type(series).__module__.startswith("polars"):
        return series
    array = series.to_numpy()
    return array if getattr(array, "dtype", np.dtype(object)).kind in "biuf" else list(series.to_list())


def labels_of(series: Any, missing: Sequence[str]) -> Array:
    """A polars column of targets as an array of its own type; objects, with None, where values are missing.

    Args:
        series: the column.
        missing: words that stand for a missing value in text.
    """
    import polars as pl

    kind = series.dtype
    if kind in (pl.Categorical, pl.Enum, pl.String):
        texts = series.cast(pl.String)
        words = texts.str.strip_chars()
        gaps = words.is_in(list(missing))
        return np.array(texts.set(gaps, None).to_list(), dtype=object)
    if kind.is_decimal() or kind in (pl.Int128, pl.UInt128):  # NumPy has no such numbers
        small = series.cast(pl.Int64, strict=False) if kind.is_integer() else series
        whole = kind.is_integer() and small.null_count() == series.null_count()
        series = small if whole else series.cast(pl.Float64)
        kind = series.dtype
    if series.null_count():
        return np.array(series.to_list(), dtype=object)
    if kind.is_numeric() or kind == pl.Boolean:
        found: Array = series.to_numpy()
        return found if found.flags.writeable else found.copy()
    if kind in (pl.Date, pl.Datetime, pl.Duration, pl.Time):
        raise DataError(
            f"target {series.name!r}: numbers or labels can be predicted, it holds dates or times; "
            "make a number of it, such as days since a fixed day"
        )
    values = series.to_list()
    odd = next((value for value in values if not is_missing(value) and not np.isscalar(value)), None)
    if odd is not None:
        raise DataError(
            f"target {series.name!r}: a number or label in each row was expected, found {listed([odd])}"
        )
    return np.array(values, dtype=object)


def _channels_first(array: Array) -> Array:
    """uint8 images as (n, channels, height, width)."""
    if array.ndim == 3:
        return np.ascontiguousarray(array[:, None])
    if array.shape[1] not in _CHANNELS and array.shape[3] in _CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array)


def as_images(data: Any, shape: tuple[int, ...]) -> Array:
    """Images as uint8 (n, *shape), shape = (channels, height, width).

    Raises:
        DataError: another type or shape.
    """
    array = as_array(data)
    if array.ndim == 3:
        array = array[None] if array.shape == shape else array[:, None]
    if array.ndim == 4 and array.shape[1:] != shape and (array.shape[3], *array.shape[1:3]) == shape:
        array = array.transpose(0, 3, 1, 2)
    if array.shape[1:] != shape:
        raise DataError(
            f"images of shape (n, {', '.join(map(str, shape))}) were expected, found {array.shape}"
        )
    if array.dtype != np.uint8:
        whole = array.dtype.kind in "iuf" and bool(
            ((array >= 0) & (array <= 255) & (array == np.round(array))).all()
        )
        if not whole:
            raise DataError(f"images hold whole numbers from 0 to 255 (uint8), found {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.uint8)


def as_numbers(data: Any, shape: tuple[int, ...]) -> Array:
    """Numbers as float32 (n, *shape).

    Raises:
        DataError: another shape, or numbers that are missing or infinite.
    """
    array = as_array(data)
    if array.shape[1:] != shape:
        raise DataError(f"rows of shape {shape} were expected, found {array.shape[1:]}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"numbers were expected, found values of type {array.dtype}")
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    wild = ~np.isfinite(numbers).all(axis=tuple(range(1, numbers.ndim)))
    if wild.any():
        raise DataError(
            f"finite numbers were expected, {rows_hold(np.flatnonzero(wild))} missing or infinite ones; "
            "correct these rows or remove them"
        )
    return numbers


_PART_WORDS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}


def is_named_arrays(data: Mapping[Any, Any]) -> bool:
    """Whether a dictionary holds ``X`` and ``y``, or ``X_train`` and ``y_train`` (and perhaps more parts).

    >>> is_named_arrays({"X": [[1.0]], "y": [0]}), is_named_arrays({"age": [3], "y": [0]})
    (True, False)
    """
    return ("X" in data and set(data) <= {"X", "y"}) or "X_train" in data


def from_named_arrays(
    held: Mapping[str, Any],
    *,
    name: str,
    reference: str | None = None,
    predicting: bool = False,
    target_names: tuple[str, ...] | None = None,
) -> Source:
    """``X`` and ``y``; or ``X_train`` and ``y_train``, and the same with ``_validation`` and ``_test``.

    Raises:
        DataError: other names.
    """

    def source(ending: str) -> Source:
        targets = held.get("y" + ending)
        return from_arrays(
            held["X" + ending], targets, name=name, reference=reference, target_names=target_names
        )

    def there(ending: str) -> bool:
        return "X" + ending in held and ("y" + ending in held or predicting)

    if there(""):
        return source("")
    given = {
        part: source("_" + word) for part, words in _PART_WORDS.items() for word in words if there("_" + word)
    }
    if "train" not in given:
        raise DataError(
            f"{name}: arrays 'X' and 'y', or 'X_train' and 'y_train', were expected, found {listed(held)}"
        )
    return (
        join(given["train"], given.get("validation"), given.get("test")) if len(given) > 1 else given["train"]
    )


def read_npz(path: Path, *, predicting: bool = False, target_names: tuple[str, ...] | None = None) -> Source:
    """An NPZ file with ``X`` and ``y``, or with a given split, see :func:`from_named_arrays`.

    Arrays of Python objects are refused, because reading them would run code from the file.

    Raises:
        DataError: a damaged file, or other names.
    """
    return from_named_arrays(
        _load(path), name=path.name, reference=str(path), predicting=predicting, target_names=target_names
    )


def _load(path: Path) -> dict[str, Array]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise DataError(f"{path}: named arrays (numpy.savez) were expected, found a single array")
        with found as file:
            return {name: file[name] for name in file.files}
    except DataError:
        raise
    except Exception as cause:  # damaged archives fail in many ways
        advice = (
            "save labels as text or numbers, not as objects" if "pickle" in str(cause) else "is it damaged?"
        )
        raise DataError(
            f"{path}: cannot be read as NPZ: {cause or type(cause).__name__}; {advice}"
        ) from cause
