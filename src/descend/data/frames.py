"""Conversion to polars data frames from pandas, pyarrow, dictionaries of columns, lists of records and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.data.arrow_tables import frame_of_arrow
from descend.data.messages import listed
from descend.data.nested_columns import are_structures, flat_columns, flat_frame
from descend.data.ordered import enum_of
from descend.data.parsing import EXACT, in_zone, is_missing, series_of
from descend.data.titles import unique_names
from descend.errors import DataError, did_you_mean
from descend.process import in_fork

if TYPE_CHECKING:
    import polars as pl

    from descend.data.streaming import StoredTable

__all__ = [
    "as_array",
    "as_frame",
    "frame_of_array",
    "is_frame",
    "is_records",
    "is_strings",
    "take",
]


def is_frame(data: object) -> bool:
    """Return whether ``data`` is a data frame of a library that narwhals supports.

    >>> is_frame({"a": [1]}), is_frame(np.zeros((2, 2)))
    (False, False)
    """
    kind = type(data)  # polars warns of reading the columns of a LazyFrame
    if not any(hasattr(kind, name) for name in ("columns", "column_names", "collect_schema")):
        return False
    import narwhals.stable.v2.dependencies as supported

    return bool(supported.is_into_dataframe(data) or hasattr(data, "collect_schema"))


@in_fork
def as_frame(data: Any, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Convert rows of any form to a polars frame.

    Args:
        data: a data frame, a dictionary of columns, a list of dictionaries, one dictionary of single
            values, or a two-dimensional array.
        names: column names for an array; ``x0``, ``x1``, ... if None.

    >>> as_frame({"a": [1, 2], "b": ["x", None]}).shape
    (2, 2)

    Raises:
        DataError: columns have different lengths, names are duplicated, or an array has another width.
    """
    import polars as pl

    if isinstance(data, pl.LazyFrame):
        data = _collected(data)
    if isinstance(data, pl.Series):
        data = data.to_frame()
    if isinstance(data, pl.DataFrame):
        titles = unique_names(data.columns, "the data frame")
        return flat_frame(
            data if titles == data.columns else data.rename(dict(zip(data.columns, titles, strict=True)))
        )
    if isinstance(data, Mapping):
        return _from_columns(data)
    if is_frame(data):
        return _from_narwhals(data)
    if is_records(data):
        keys = dict.fromkeys(key for row in data for key in row)
        return _from_columns({key: [row.get(key) for row in data] for key in keys})
    if isinstance(data, np.ndarray) and data.dtype.names:
        return _from_columns({name: data[name] for name in data.dtype.names})
    return frame_of_array(data, names)


def is_records(data: object) -> bool:
    """Return whether ``data`` is a list of dictionaries, one per row."""
    return isinstance(data, list | tuple) and len(data) > 0 and all(isinstance(row, Mapping) for row in data)


def _collected(data: pl.LazyFrame) -> pl.DataFrame:
    import polars as pl

    try:
        return data.collect()
    except (pl.exceptions.PolarsError, OSError) as cause:
        raise DataError(f"the lazy frame cannot be collected: {cause}") from cause


def _from_narwhals(data: Any) -> pl.DataFrame:
    import narwhals.stable.v2 as nw
    import polars as pl

    names = unique_names(getattr(data, "column_names", None) or list(data.columns), "the data frame")
    try:
        if type(data).__module__.startswith("pyarrow"):
            converted = frame_of_arrow(data)
            return flat_frame(converted.rename(dict(zip(converted.columns, names, strict=True))))
        frame = nw.from_native(data)
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect()
        series: list[pl.Series] = []
        for name, one in zip(names, frame.iter_columns(), strict=True):
            values = one.to_list() if one.dtype in (nw.Object, nw.Struct) else None
            if are_structures(values):
                series += [series_of(part, column) for part, column in flat_columns({name: values}).items()]
            else:
                series.append(_narwhals_column(name, one))
        unique_names([one.name for one in series], "the data frame")
    except DataError:
        raise
    except Exception as cause:
        raise DataError(f"the data frame ({type(data).__module__}) cannot be read: {cause}") from cause
    return pl.DataFrame(series)


def _narwhals_column(name: str, column: Any) -> pl.Series:
    import narwhals.stable.v2 as nw
    import polars as pl

    kind = column.dtype
    has_missing = column.null_count() > 0
    if kind.is_float() or (kind.is_integer() and not has_missing):
        return pl.Series(name, np.ascontiguousarray(column.to_numpy()))
    if kind.is_numeric() and kind != nw.Decimal and not _has_large_integers(column):
        return pl.Series(name, np.asarray(column.cast(nw.Float64).to_numpy(), dtype=np.float64))
    if kind == nw.Boolean and not has_missing:
        return pl.Series(name, column.to_numpy().astype(bool))
    if kind in (nw.Datetime, nw.Duration) and column.to_numpy().dtype.kind in "mM":
        unit = "datetime64[us]" if kind == nw.Datetime else "timedelta64[us]"
        series = pl.Series(name, column.to_numpy().astype(unit))
        zone = getattr(kind, "time_zone", None)
        return series if zone is None else in_zone(series.dt.replace_time_zone("UTC"), zone)
    if kind == nw.Enum:
        return enum_of(name, column.to_list(), column.cat.get_categories().to_list())
    return series_of(name, column.to_list())


def _has_large_integers(column: Any) -> bool:
    low, high = column.min(), column.max()
    return not is_missing(low) and bool(low < -EXACT or high > EXACT)


def _from_columns(data: Mapping[Any, Any]) -> pl.DataFrame:
    import polars as pl

    data = flat_columns(data)
    names = unique_names(data, "the data")
    columns = [_column(name, values) for name, values in zip(names, data.values(), strict=True)]
    longest = max((len(column) for column in columns if column is not None), default=1)
    series = []
    for name, values, column in zip(names, data.values(), columns, strict=True):
        one = series_of(name, [values] * longest) if column is None else column
        if len(one) != longest:
            raise DataError(
                f"expected columns of equal lengths, but {name!r} has {len(one)} row{'' if len(one) == 1 else 's'} and another "
                f"has {longest}"
            )
        series.append(one)
    return flat_frame(pl.DataFrame(series))


def _column(name: str, values: Any) -> pl.Series | None:
    """Return the values as a column, or None for a single value, which the caller repeats."""
    import polars as pl

    if isinstance(values, pl.Series):
        return values.alias(name)
    if isinstance(values, str | bytes) or not (hasattr(values, "__len__") or hasattr(values, "__iter__")):
        return None
    if _library(values) == "pyarrow" and hasattr(values, "to_pylist"):
        return series_of(name, values.to_pylist())
    if not hasattr(values, "dtype"):
        return series_of(name, values)
    if _library(values) == "pandas" and getattr(values.dtype, "ordered", False):
        return enum_of(name, list(values), list(values.dtype.categories))
    array = as_array(values)
    if array.ndim == 0:
        return None
    if array.ndim != 1:
        raise DataError(f"column {name!r}: expected one value per row, got shape {array.shape}")
    return _array_column(name, array)


def _unmasked(values: np.ma.MaskedArray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a masked array with missing values in place of the masked ones: NaN, NaT or None."""
    masked = np.ma.getmaskarray(values)
    plain = np.asarray(values.data)
    if values.dtype.names or not masked.any():
        return plain
    if plain.dtype.kind == "f":
        return np.where(masked, np.array(np.nan, dtype=plain.dtype), plain)
    if plain.dtype.kind in "mM":
        return np.where(masked, np.array("NaT", dtype=plain.dtype), plain)
    objects = plain.astype(object)
    objects[masked] = None
    return objects


def as_array(values: Any) -> np.ndarray[Any, Any]:
    """Convert an array, a tensor on any device or nested lists to an array.

    Masked values become missing values: NaN in arrays of floating-point numbers, None in others.

    Raises:
        DataError: the values are a sparse matrix.
    """
    if isinstance(values, np.ma.MaskedArray):
        return _unmasked(values)
    if type(values).__module__.startswith("torch"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        return np.asarray(values.numpy())
    if hasattr(values, "toarray"):
        raise DataError(
            "expected a dense array, got a sparse matrix; pass X.toarray() if it fits into memory"
        )
    objects = _nullable(values)
    return np.asarray(values) if objects is None else objects


def _library(values: object) -> str:
    """Return the name of the library that a type comes from."""
    return type(values).__module__.partition(".")[0]


def _nullable(values: Any) -> np.ndarray[Any, Any] | None:
    """Return an array of pandas, pyarrow or polars with missing values as Python objects, or None for any other data.

    NumPy would convert integers and booleans with missing values to floating-point numbers, and merge large integers.
    """
    library = _library(values)
    if library == "pandas" and np.ndim(values) == 1 and not isinstance(values.dtype, np.dtype):
        plain = [
            None if is_missing(value) else value.item() if isinstance(value, np.generic) else value
            for value in values
        ]
    elif library == "pyarrow" and getattr(values, "null_count", None):
        plain = values.to_pylist()
    elif library == "polars" and np.ndim(values) == 1 and values.dtype.is_integer() and values.null_count():
        plain = values.to_list()
    else:
        return None
    if all(value is not None for value in plain):
        return None
    objects = np.empty(len(plain), dtype=object)
    objects[:] = plain
    return objects


def _array_column(name: str, array: np.ndarray[Any, Any]) -> pl.Series:
    import polars as pl

    if array.dtype.kind == "c":
        raise DataError(
            f"column {name!r}: Complex data not supported; pass real and imaginary parts as two columns"
        )
    if array.dtype.kind == "V":
        raise DataError(f"column {name!r}: expected numbers, strings or dates, got {array.dtype}")
    if array.dtype.kind in "iu":
        return pl.Series(name, array.astype(array.dtype.newbyteorder("="), copy=False))
    if array.dtype.kind == "f":
        return pl.Series(
            name, array.astype(np.float32 if array.dtype.itemsize < 8 else np.float64, copy=False)
        )
    if array.dtype.kind == "b":
        return pl.Series(name, array)
    if array.dtype.kind == "M":
        return pl.Series(name, array.astype("datetime64[us]"))
    if array.dtype.kind == "m":
        return pl.Series(name, array.astype("timedelta64[us]"))
    return series_of(name, array.tolist())


def frame_of_array(data: Any, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Convert a two-dimensional array, or a sequence of strings, which is one column, to a frame.

    Args:
        data: an array, a tensor or nested lists, shape (n, d).
        names: names of the d columns; ``x0``, ``x1``, ... if None.

    Raises:
        DataError: the number of dimensions or columns is different.
    """
    import polars as pl

    try:
        array = as_array(data)
    except ValueError as cause:
        raise DataError(f"expected a table whose rows have equal lengths: {cause}") from cause
    if is_strings(array):
        data = array = array.reshape(-1, 1)
    if data is None:
        raise DataError("expected a table of shape (rows, columns), got None")
    if array.ndim == 1 and hasattr(data, "to_frame"):
        raise DataError("expected a table, got a series; for one row of a data frame, pass frame.iloc[[row]]")
    if array.ndim != 2:
        raise DataError(
            f"expected a table of shape (rows, columns), got shape {array.shape}; reshape your data: "
            "X.reshape(-1, 1) for one column, X.reshape(1, -1) for one row"
        )
    if names is not None and array.shape[1] != len(names):
        raise DataError(
            f"expected {len(names)} columns, as in training ({listed(names, 4)}), "
            f"got an array with {array.shape[1]}"
        )
    names = [f"x{at}" for at in range(array.shape[1])] if names is None else list(names)
    if isinstance(data, list | tuple) and array.dtype.kind == "f" and (np.abs(array) >= EXACT).any():
        # NumPy converts integers among fractions to floating-point numbers.
        return pl.DataFrame([series_of(name, [row[at] for row in data]) for at, name in enumerate(names)])
    if array.dtype.kind in "iuf" and array.dtype.itemsize in (4, 8) and array.dtype.isnative:
        return pl.from_numpy(np.ascontiguousarray(array), schema=names, orient="row")
    return pl.DataFrame([_array_column(name, array[:, at]) for at, name in enumerate(names)])


def is_strings(data: Any) -> bool:
    """Return whether data are a sequence of strings, possibly with missing values: one column of text.

    >>> is_strings(["win a phone", None]), is_strings([1, 2]), is_strings([["a"]])
    (True, False, False)
    """
    if isinstance(data, list | tuple):
        return any(isinstance(one, str) for one in data) and all(
            isinstance(one, str) or is_missing(one) for one in data
        )
    if not hasattr(data, "__array__") or getattr(data, "ndim", 1) != 1 or hasattr(data, "toarray"):
        return False
    values = as_array(data)
    return values.ndim == 1 and values.dtype.kind in "UO" and is_strings(values.tolist())


def take(
    frame: pl.DataFrame | StoredTable, names: Sequence[str], what: str
) -> tuple[pl.DataFrame | StoredTable, list[pl.Series]]:
    """Return the frame without the named columns, and these columns.

    Raises:
        DataError: there is no such column; the message suggests the nearest name.
    """
    names = [name if name in frame.columns else name.strip() for name in names]
    for name in names:
        if name not in frame.columns:
            raise DataError(f"{what}: no column {name!r}; {did_you_mean(name, frame.columns)}")
    return frame.drop(list(names)), [frame[name] for name in names]
