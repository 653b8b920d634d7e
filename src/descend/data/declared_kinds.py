"""The kinds that users declare for columns, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from descend.data.date_reading import KINDS as DATE_KINDS
from descend.data.messages import listed
from descend.data.settings import ColumnChoice, DeclaredKind
from descend.errors import DataError, did_you_mean

__all__ = ["checked_kind"]


def checked_kind(name: str, choice: ColumnChoice | None) -> str | None:
    """Return the kind that the settings declare for a column, or None.

    >>> checked_kind("when", {"kind": "date", "zone": "UTC"})
    'date'

    Raises:
        DataError: a table has no kind, an unknown one, or settings that the kind does not have.
    """
    if choice is None or isinstance(choice, str):
        return choice
    if not isinstance(choice, Mapping):
        return "categorical"  # a list of ordered categories
    kinds = get_args(DeclaredKind)
    kind = choice.get("kind")
    if kind not in kinds:
        found = (
            f"{kind!r}; {did_you_mean(str(kind), kinds)}"
            if "kind" in choice
            else f"the keys {listed(choice)}"
        )
        raise DataError(f"data.columns.{name}: expected a table with the kind of the column, got {found}")
    if kind == "categorical":
        _check_categorical(name, choice)
    elif kind not in DATE_KINDS and len(choice) > 1:
        raise DataError(
            f"data.columns.{name}: the kind {kind!r} has no settings, got {listed(set(choice) - {'kind'})}"
        )
    return str(kind)


_ENCODINGS = ("onehot", "target", "both")
_OF_ORDERED = ("thermometer", "ordinal", *_ENCODINGS)


def _check_categorical(name: str, choice: Mapping[str, object]) -> None:
    where = f"data.columns.{name}"
    unknown = [key for key in choice if key not in ("kind", "encoding", "order")]
    if unknown:
        raise DataError(
            f"{where}: the kind 'categorical' has the settings 'encoding' and 'order', got {listed(unknown)}; "
            f"{did_you_mean(unknown[0], ('encoding', 'order'))}"
        )
    encoding = choice.get("encoding")
    if encoding is not None and encoding not in _OF_ORDERED:
        raise DataError(
            f"{where}: expected an encoding, one of {listed(_OF_ORDERED)}, got {encoding!r}; "
            f"{did_you_mean(str(encoding), _OF_ORDERED)}"
        )
    order = choice.get("order")
    if order is not None and not isinstance(order, list | tuple):
        raise DataError(
            f"{where}: expected the order as a list of the categories, the lowest first, got {order!r}"
        )
