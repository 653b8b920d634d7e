"""Ordered categories, such as S < M < L: declared by a list in ``data.columns``, or carried by the type of a column.

An ordered column with categories c_0 < c_1 < ... has one input per category, 1 if the value is at least c_j and 0
otherwise (a thermometer code): neighboring categories differ in one input, and the weight of input j is the effect of
the step from c_(j-1) to c_j. All inputs are 0 if the value is missing or unknown.

These types carry an order: polars ``Enum``, ordered ``Categorical`` of pandas, and ordered dictionaries of Arrow, also in
Parquet and Feather files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.data.category_forms import aliases
from descend.data.messages import listed, rows_hold
from descend.data.parsing import is_missing, series_of, tidy, to_strings
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["enum_of", "order_of", "ordered_strings", "with_arrow_orders"]


def order_of(series: pl.Series, declared: object) -> tuple[str, ...] | None:
    """Return the categories of a column in their order; None if it has no order.

    Args:
        series: the raw column.
        declared: what ``data.columns`` declares for it: a list of categories, the name of a kind, a table with a kind and
            an ``order``, or None. A kind other than ``categorical`` overrides the order of the type.

    Raises:
        DataError: the declared list has fewer than two categories, or one occurs twice.
    """
    import polars as pl

    if isinstance(declared, Mapping):
        if declared.get("encoding") == "onehot" and "order" not in declared:
            return None
        declared = declared.get("order", declared.get("kind"))
    if isinstance(declared, list | tuple):
        order = tuple(str(one).strip() for one in declared)
        twice = [one for one in dict.fromkeys(order) if order.count(one) > 1]
        if twice or len(order) < 2:
            fault = f"{listed(twice, 3)} occurs twice" if twice else "an order needs at least two categories"
            raise DataError(f"data.columns: the order of {series.name!r} is {listed(order)}: {fault}")
        return order
    if isinstance(series.dtype, pl.Enum) and declared in (None, "categorical"):
        order = tuple(dict.fromkeys(one.strip() for one in series.dtype.categories.to_list()))
        return order if len(order) > 1 else None
    return None


def ordered_strings(series: pl.Series, order: Sequence[str], missing: Sequence[str]) -> pl.Series:
    """Return the values of an ordered column as strings.

    Args:
        series: the raw column.
        order: its categories.
        missing: strings that stand for a missing value, unless they are categories.

    Raises:
        DataError: there are values that are not among the categories; the message names their rows.
    """
    strings = to_strings(tidy(series, [one for one in missing if one not in order]))
    forms = aliases(order)  # such as true for "True", and 1.0 for "1"
    if strings.is_in(list(forms)).any():
        strings = strings.replace(forms)
    invalid = strings.is_not_null() & ~strings.is_in(list(order))
    if invalid.any():
        rows = np.flatnonzero(invalid.to_numpy())
        others = strings.filter(invalid).unique(maintain_order=True).to_list()
        raise DataError(
            f"column {series.name!r}: expected one of the ordered categories {listed(order)}, but {rows_hold(rows)} "
            f"{listed(others, 5)}; add them to the order in data.columns, or correct them"
        )
    return strings


def enum_of(name: str, values: Sequence[Any], categories: Sequence[Any]) -> pl.Series:
    """Return a column of ordered categories as a polars ``Enum``; categories of other types become strings.

    >>> enum_of("size", ["M", None, "S"], ["S", "M"]).to_physical().to_list()
    [1, None, 0]
    >>> enum_of("grade", [2, 1, 3], [1, 2, 3]).dtype.categories.to_list()
    ['1', '2', '3']
    """
    import polars as pl

    def strings(values: Sequence[Any]) -> list[str | None]:
        clean = [None if is_missing(value) else value for value in values]
        if all(value is None or isinstance(value, str) for value in clean):
            return clean
        try:
            return list(to_strings(tidy(series_of(name, clean), ())))
        except DataError:  # intervals and other objects
            return [None if value is None else str(value) for value in clean]

    order = [one for one in strings(categories) if one is not None]
    if len(set(order)) < len(order):
        return pl.Series(name, strings(values), dtype=pl.String)
    return pl.Series(name, strings(values), dtype=pl.Enum(order))


def with_arrow_orders(frame: pl.DataFrame, table: Any) -> pl.DataFrame:
    """Return the frame that polars made of an Arrow table, with its ordered dictionaries as ``Enum`` columns.

    Args:
        frame: the frame, whose ordered columns are unordered.
        table: the ``pyarrow.Table`` or ``RecordBatch``, or one of some of the columns.
    """
    for name in table.schema.names:
        kind = table.schema.field(name).type
        if getattr(kind, "ordered", False) and hasattr(kind, "value_type"):
            column = table.column(name)
            chunks = column.unify_dictionaries().chunks if hasattr(column, "chunks") else [column]
            categories = chunks[0].dictionary.to_pylist() if chunks else []
            if len(categories) > 1 and None not in categories:
                frame = frame.with_columns(enum_of(name, column.to_pylist(), categories))
    return frame
