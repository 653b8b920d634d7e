"""Tables of ``pyarrow`` as polars frames, also with types that polars does not import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.data.ordered import with_arrow_orders
from descend.data.parsing import series_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["frame_of_arrow"]

_NOT_IMPORTED = (
    "is_decimal256",
    "is_run_end_encoded",
    "is_list_view",
    "is_large_list_view",
    "is_union",
    "is_interval",
)


def frame_of_arrow(table: Any) -> pl.DataFrame:
    """Return a table or a record batch of ``pyarrow`` as a frame; ordered dictionaries keep their order.

    Columns of a type that polars does not import, such as ``decimal256``, are converted by way of Python objects.

    Raises:
        DataError: a column has structures that cannot be used.
    """
    import polars as pl
    import pyarrow.types

    checks = [getattr(pyarrow.types, name) for name in _NOT_IMPORTED if hasattr(pyarrow.types, name)]
    others = [at for at, field in enumerate(table.schema) if any(check(field.type) for check in checks)]
    titles = [field.name for field in table.schema]
    known = table.select([at for at in range(len(titles)) if at not in others]) if others else table
    if known.num_columns:
        converted = pl.from_arrow(known)
        assert isinstance(converted, pl.DataFrame)
        converted = with_arrow_orders(converted, known)
    else:
        converted = pl.DataFrame()
    if not others:
        return converted
    columns = iter(converted)
    return pl.DataFrame(
        [
            series_of(title, table.column(at).to_pylist()) if at in others else next(columns)
            for at, title in enumerate(titles)
        ]
    )
