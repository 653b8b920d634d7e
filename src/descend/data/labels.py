"""Class labels of any type, which come back as they went in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descend.data.messages import listed, rows_text
from descend.data.source import Array
from descend.errors import DataError

__all__ = ["Label", "classes_of", "codes_of", "restore"]

Label = bool | int | float | str


def classes_of(targets: Array) -> tuple[tuple[Label, ...], str]:
    """The distinct labels in ascending order, and the name of the NumPy dtype they came in.

    >>> classes_of(np.array([3, 1, 3], dtype="int8"))
    ((1, 3), 'int8')
    >>> classes_of(np.array(["b", "a"], dtype=object))
    (('a', 'b'), 'object')

    Raises:
        DataError: labels of types that cannot be ordered, such as numbers among texts.
    """
    try:
        distinct = sorted(set(targets.tolist())) if targets.dtype == object else np.unique(targets).tolist()
    except TypeError as cause:
        kinds = sorted({type(label).__name__ for label in targets.tolist()})
        raise DataError(
            f"the target mixes labels of types {', '.join(kinds)}; make them all text or all numbers"
        ) from cause
    plain = [label.item() if isinstance(label, np.generic) else label for label in distinct]
    plain = [label.decode("latin-1") if isinstance(label, bytes) else label for label in plain]
    odd = [label for label in plain if not isinstance(label, bool | int | float | str) or _endless(label)]
    if odd:
        raise DataError(
            f"class labels may be texts, numbers or truth values, the target holds a {type(odd[0]).__name__} "
            f"({listed(odd, 1)})"
        )
    return tuple(plain), targets.dtype.str if targets.dtype.kind in "US" else str(targets.dtype)


def _endless(label: object) -> bool:
    """Whether a label is a whole number with more digits than can be written down."""
    return isinstance(label, int) and label.bit_length() > 4096


def codes_of(targets: Array, classes: Sequence[Label]) -> Array:
    """The place of each label among the classes, as int64.

    A label is matched by its value, or else by its text: the file that is evaluated may hold 1 where
    the training file held ``"1"``.

    Raises:
        DataError: labels that are none of the classes, with their rows.
    """
    if targets.ndim > 1:
        raise DataError(f"one label a row was expected, the targets have shape {targets.shape}")
    if targets.dtype.kind in "biuf":
        held, place = np.unique(targets, return_inverse=True)
        distinct = held.tolist()
    else:
        values = [
            value.decode("latin-1") if isinstance(value, bytes) else value for value in targets.tolist()
        ]
        distinct = list(dict.fromkeys(values))
        order = {value: at for at, value in enumerate(distinct)}
        place = np.fromiter((order[value] for value in values), dtype=np.int64, count=len(values))
    by_value = {label: code for code, label in enumerate(classes)}
    by_text = {str(label): code for code, label in enumerate(classes)}
    codes = np.array([by_value.get(value, by_text.get(str(value), -1)) for value in distinct], dtype=np.int64)
    found: Array = codes[place]
    unknown = [value for value, code in zip(distinct, codes, strict=True) if code < 0]
    if unknown:
        rows = np.flatnonzero(found < 0)
        raise DataError(
            f"the target holds {listed(sorted(unknown, key=str), 5)} in {rows_text(rows)}, "
            f"which {'is' if len(unknown) == 1 else 'are'} none of the classes {listed(classes)}"
        )
    return found


def restore(classes: Sequence[Label], dtype: str) -> Array:
    """The classes as an array of the dtype they came in.

    >>> restore((1, 3), "int8")
    array([1, 3], dtype=int8)
    """
    if dtype == "object":
        made = np.empty(len(classes), dtype=object)
        made[:] = classes
        return made
    if np.dtype(dtype).kind == "S":
        return np.array([str(label).encode("latin-1") for label in classes], dtype=dtype)
    return np.array(classes, dtype=dtype)
