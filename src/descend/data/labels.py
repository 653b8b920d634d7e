"""Class labels of any type and their codes; predicted labels have the type of the training labels."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence

import numpy as np

from descend.arguments import kind_of
from descend.data.category_forms import aliases
from descend.data.messages import listed, rows_text
from descend.data.source import Array
from descend.data.spellings import similar_spellings
from descend.errors import DataError

__all__ = ["Label", "classes_of", "codes_of", "restore"]

Label = bool | int | float | str


def classes_of(targets: Array) -> tuple[tuple[Label, ...], str]:
    """Return the distinct labels in ascending order, and the name of their NumPy dtype.

    >>> classes_of(np.array([3, 1, 3], dtype="int8"))
    ((1, 3), 'int8')
    >>> classes_of(np.array(["b", "a"], dtype=object))
    (('a', 'b'), 'object')

    Raises:
        DataError: the labels have types that cannot be ordered, such as numbers and strings.
    """
    try:
        distinct = sorted(set(targets.tolist())) if targets.dtype == object else np.unique(targets).tolist()
    except TypeError as cause:
        kinds = sorted({type(label).__name__ for label in targets.tolist()})
        raise DataError(
            f"the target mixes labels of types {', '.join(kinds)}; use strings only or numbers only"
        ) from cause
    plain = [label.item() if isinstance(label, np.generic) else label for label in distinct]
    plain = [label.decode("latin-1") if isinstance(label, bytes) else label for label in plain]
    invalid = [
        label for label in plain if not isinstance(label, bool | int | float | str) or _too_long(label)
    ]
    if invalid:
        raise DataError(
            f"class labels must be strings, numbers or booleans, got {kind_of(invalid[0])} "
            f"({listed(invalid, 1)})"
        )
    return tuple(plain), targets.dtype.str if targets.dtype.kind in "US" else str(targets.dtype)


def _too_long(label: object) -> bool:
    """Return whether a label is an integer with too many digits to be written as a string."""
    return isinstance(label, int) and label.bit_length() > 4096


def codes_of(targets: Array, classes: Sequence[Label], *, columns: int = 1) -> Array:
    """Return the code of each label, its position among the classes, as int64.

    A label is matched by its value, or else by its string, by other forms of it (true and "True", 1.0 and "1"), without
    surrounding spaces, or as a number: the file that is evaluated may contain 1 where the training file contains
    ``"1"`` or ``"01"``. Strings are never merged as numbers: ``"01"`` is not ``"1"``.

    Args:
        targets: the labels, (n,).
        classes: the classes.
        columns: how many labels each row has, for messages, where ``targets`` are those of all rows in sequence. Default 1.

    Raises:
        DataError: some labels are not among the classes; the message names their rows.
    """
    if targets.ndim > 1:
        raise DataError(f"expected one label per row, got targets of shape {targets.shape}")
    if targets.dtype.kind in "biuf":
        unique, position = np.unique(targets, return_inverse=True)
        distinct = unique.tolist()
    else:
        values = [
            value.decode("latin-1") if isinstance(value, bytes) else value for value in targets.tolist()
        ]
        distinct = list(dict.fromkeys(values))
        order = {value: at for at, value in enumerate(distinct)}
        position = np.fromiter((order[value] for value in values), dtype=np.int64, count=len(values))
    find = _lookup(classes)
    codes = np.array([find(value) for value in distinct], dtype=np.int64)
    result: Array = codes[position]
    unknown = [value for value, code in zip(distinct, codes, strict=True) if code < 0]
    if unknown:
        rows = np.unique(np.flatnonzero(result < 0) // columns)
        raise DataError(
            f"the target contains {listed(sorted(unknown, key=str), 5)} in {rows_text(rows)}, "
            f"which {'is' if len(unknown) == 1 else 'are'} not among the classes {listed(classes)}{_similar(unknown, classes)}"
        )
    return result


def _similar(unknown: Sequence[object], classes: Sequence[Label]) -> str:
    """Return a hint on an unknown label that differs only in capitals or blanks from a class, or nothing."""
    for label in unknown:
        alike = [one for one in classes if similar_spellings([label, one])]
        if alike:
            return f"; {label!r} and {alike[0]!r} differ only in capitals or blanks"
    return ""


def _lookup(classes: Sequence[Label]) -> Callable[[object], int]:
    """Return a function that returns the code of a label, -1 if it is unknown."""
    by_value: dict[object, int] = {label: code for code, label in enumerate(classes)}
    by_string = {str(label).strip(): code for code, label in enumerate(classes)}
    by_string |= {str(label): code for code, label in enumerate(classes)}
    forms = {form: by_string[label] for form, label in aliases(list(by_string)).items()}
    by_number: dict[tuple[decimal.Decimal, bool], list[int]] = {}
    by_single: dict[float, list[int]] = {}
    for code, label in enumerate(classes):
        if isinstance(label, float):
            by_single.setdefault(_single(label), []).append(code)
        number = _number(label)
        if number is not None:
            by_number.setdefault((number, isinstance(label, str)), []).append(code)

    def find(value: object) -> int:
        if value in by_value and not (isinstance(value, float) and abs(value) >= 2**53):
            return by_value[value]
        for string in (str(value), str(value).strip()):
            for known in (by_string, forms):
                if string in known:
                    return known[string]
        number = _number(value)
        if number is None:
            return -1
        same = by_number.get((number, False), [])
        if not isinstance(value, str):
            same = same + by_number.get((number, True), [])
        if len(same) != 1 and isinstance(value, float) and value == value:
            same = by_single.get(_single(value), [])  # one of the two was stored in single precision
        return same[0] if len(same) == 1 else -1

    return find


def _single(label: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(label))


def _number(label: object) -> decimal.Decimal | None:
    try:
        number = decimal.Decimal(str(label).strip())
    except decimal.InvalidOperation:
        return None
    return number if number.is_finite() else None


def restore(classes: Sequence[Label], dtype: str) -> Array:
    """Return the classes as an array of their original dtype.

    >>> restore((1, 3), "int8")
    array([1, 3], dtype=int8)
    """
    if dtype == "object":
        labels = np.empty(len(classes), dtype=object)
        labels[:] = classes
        return labels
    if np.dtype(dtype).kind == "S":
        return np.array([str(label).encode("latin-1") for label in classes], dtype=dtype)
    return np.array(classes, dtype=dtype)
