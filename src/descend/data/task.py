"""The learning task: inferred from the targets, with the reason, or declared in the recipe."""

from __future__ import annotations

import contextlib
import decimal as decimals
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from descend.data.gap_words import gap_words
from descend.data.label_lists import separator_hint
from descend.data.labels import classes_of
from descend.data.large_integers import too_close
from descend.data.messages import listed, rows_hold, rows_text
from descend.data.number_format import has_codes, parse
from descend.data.parsing import EXACT, is_missing
from descend.data.settings import Decimal, TaskChoice
from descend.data.source import Array
from descend.errors import DataError
from descend.interface import setting

__all__ = ["Task", "are_labels", "check_targets", "infer_task", "target_numbers"]

Task = Literal["regression", "multi_regression", "binary", "multiclass", "multi_label"]
_MAX_INTEGER_CLASSES = 20  # distinct integers up to which they are taken for classes
_LARGEST = 1e37  # metrics in the units of the target are computed in single precision
_MAX_MISTAKES = 0.2  # share of strings among numbers up to which they are taken for mistakes


def check_targets(targets: Array, names: Sequence[str], least: int = 2, absent: str = "") -> Array:
    """Check that each row has a target and that all numbers are finite, and return the targets.

    A column of shape (n, 1) becomes (n,); Python numbers in an object array become float64, except
    labels that are all integers or all booleans, which stay as they are.

    Args:
        targets: raw targets, shape (n,) or (n, T).
        names: names of the targets, for messages.
        least: the smallest number of rows that is allowed.
        absent: a remark on strings that were taken for missing targets, for messages.

    Raises:
        DataError: there are too few rows, or targets are missing or infinite (the message names the rows).
    """
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim not in (1, 2):
        raise DataError(f"expected targets of shape (rows,) or (rows, targets), got {targets.shape}")
    if len(targets) < least:
        count = "no row" if len(targets) == 0 else "one row"
        raise DataError(f"the data have {count}; at least a training and a validation row are needed")
    if targets.ndim == 2 and targets.shape[1] == 0:
        raise DataError(f"the targets have shape {targets.shape}; at least one target is needed")
    name = listed(names) if names else "'y'"
    if targets.dtype.kind not in "biufOUST":
        raise DataError(f"target {name}: expected numbers or labels, got values of type {targets.dtype}")
    if targets.dtype == object or targets.dtype.kind == "T":
        targets = _check_objects(targets, name, absent)
    if targets.dtype.kind == "f":
        _refuse_missing(np.isnan(targets), name, absent)
        infinite = ~np.isfinite(targets).reshape(len(targets), -1).all(axis=1)
        if infinite.any():
            raise DataError(
                f"target {name}: expected finite numbers, but {rows_hold(np.flatnonzero(infinite))} "
                "infinities; correct or remove these rows"
            )
    return targets


def _check_objects(targets: Array, name: str, remark: str) -> Array:
    flat = targets.reshape(-1).tolist()
    absent = np.array([is_missing(value) for value in flat]).reshape(targets.shape)
    _refuse_missing(absent, name, remark)
    kinds = {type(value) for value in flat}
    if all(issubclass(kind, str) for kind in kinds) or all(
        issubclass(kind, bool | np.bool_) for kind in kinds
    ):
        return targets.astype(object)
    if targets.ndim == 1 and all(issubclass(kind, int | np.integer) for kind in kinds):
        return targets
    integers = _integers_of_decimals(flat)
    if integers is not None and targets.ndim == 1:
        if max(map(abs, integers)) <= EXACT:
            return np.array(integers, dtype=np.int64)
        targets = np.empty(len(integers), dtype=object)
        targets[:] = integers
        return targets
    try:
        if any(issubclass(kind, str | bytes) for kind in kinds):
            return targets
        return targets.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as cause:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"target {name}: expected a number or a label in each row, got {shown}") from cause


def _integers_of_decimals(values: Sequence[object]) -> list[int] | None:
    """Return decimal numbers as integers if all are, written without decimals or beyond 2^53; None for other values."""
    if not all(isinstance(value, int | np.integer | decimals.Decimal) for value in values):
        return None
    if any(isinstance(value, decimals.Decimal) and (not value.is_finite() or value % 1) for value in values):
        return None
    integers = [int(value) for value in values]  # type: ignore[call-overload]  # checked above
    large = max(map(abs, integers)) > EXACT
    return integers if large or not any(map(_has_decimals, values)) else None


def _has_decimals(value: object) -> bool:
    return isinstance(value, decimals.Decimal) and int(value.as_tuple().exponent) < 0


def _refuse_missing(absent: Array, name: str, remark: str) -> None:
    rows = np.flatnonzero(absent.reshape(len(absent), -1).any(axis=1))
    if len(rows):
        kept = f" ({remark})" if remark else ""
        raise DataError(
            f"target {name}: {rows_text(rows)} {'has' if len(rows) == 1 else 'have'} no value{kept}; "
            "each row needs a target: fill in or remove these rows, or leave them out: "
            f"{setting('data.drop_missing_targets', True)}"
        )


def infer_task(targets: Array, declared: TaskChoice = "auto", decimal: Decimal = "auto") -> tuple[Task, str]:
    """Infer the task, and return it with the reason.

    Several columns with the same two values, 0 and 1, booleans or strings, are labels, each of which may hold or not;
    other columns of numbers are regression targets. Of a single column, strings and booleans are classes; strings of
    numbers are treated as these numbers, unless they begin with 0 as codes do. Integers are classes if there are at most
    20 distinct values with four rows each on average, or at most two distinct values; other integers are regression
    targets. Floating-point numbers are classes only if they are 0 and 1, or if the recipe declares a classification.

    Args:
        targets: as :func:`check_targets` returns them, shape (n,) or (n, T).
        declared: the recipe's ``data.task``.
        decimal: the decimal mark of strings.

    >>> infer_task(np.array(["yes", "no", "no"]))
    ('binary', 'the target has 2 distinct strings')
    >>> infer_task(np.array([0.5, 1.5, 2.5]))[0]
    'regression'

    Raises:
        DataError: there is a single class, the target is constant, or the targets do not fit the declared task.
    """
    if declared == "multi_label" or (declared in ("auto", "classification") and are_labels(targets)):
        return _multi_label(targets, declared)
    if declared in ("regression", "multi_regression") or (
        declared == "auto" and _is_regression(targets, decimal)
    ):
        return _regression(targets, declared, decimal)
    if targets.ndim == 2:
        raise DataError(
            f"expected one column of classes, several columns of numbers, or several columns with the same two values, "
            f"got {targets.shape[1]} columns with other values; specify one target"
        )
    classes, _ = classes_of(targets)
    count, kind = len(classes), _kind(targets)
    if kind == "strings" and declared == "auto":
        _refuse_mixed(targets, decimal)
    if count == 1:
        raise DataError(
            f"every row has the same target {listed(classes)}; there is nothing to learn "
            "(a classifier needs at least two classes)"
        )
    if declared == "binary" and count != 2:
        raise DataError(
            f"data.task = 'binary' needs two classes, but the target has {count}: {listed(classes)}"
        )
    if count > max(2, len(targets) // 2):
        several = separator_hint(classes)
        raise DataError(
            f"the target has {count} distinct labels in {len(targets)} rows ({listed(classes, 3)}); "
            + (several and f"{several}; otherwise ")
            + f"each class needs several rows: is it an identifier? For numbers: {setting('data.task', 'regression')}"
        )
    if declared == "multiclass":
        return "multiclass", "as set in data.task"
    task: Task = "binary" if count == 2 else "multiclass"
    if declared != "auto":
        return task, f"data.task = '{declared}' and {count} classes"
    return task, f"the target has {count} distinct {kind}"


def are_labels(targets: Array) -> bool:
    """Return whether targets are several columns with the same two values, which are labels that may hold or not.

    >>> are_labels(np.array([[0, 1], [1, 1]])), are_labels(np.array([[0.0, 2.0], [1.0, 0.0]]))
    (True, False)
    """
    if targets.ndim != 2:
        return False
    values = set(targets.reshape(-1).tolist())
    if all(isinstance(value, str) for value in values):
        return len(values) == 2
    return all(not isinstance(value, str) and value in (0, 1) for value in values)


def _multi_label(targets: Array, declared: TaskChoice) -> tuple[Task, str]:
    if targets.ndim == 1:
        raise DataError(
            "data.task = 'multi_label' needs two or more target columns, got one; for strings of several labels such as "
            f"'red;round': {setting('data.label_separator', ';')}; for one column of two classes, set data.task = 'binary'"
        )
    classes, _ = classes_of(targets.reshape(-1))
    if len(classes) != 2:
        same = (
            f"{classes[0]!r} in every row" if len(classes) == 1 else f"{len(classes)}: {listed(classes, 5)}"
        )
        raise DataError(
            f"several labels need target columns with two values, the same in all columns, but the values are {same}"
        )
    if declared != "auto":
        return "multi_label", f"data.task = '{declared}' and {targets.shape[1]} columns"
    return (
        "multi_label",
        f"{targets.shape[1]} target columns with the values {classes[0]!r} and {classes[1]!r}",
    )


def _kind(targets: Array) -> str:
    sample = targets.reshape(-1)[0]
    if isinstance(sample, str | bytes):
        return "strings"
    if isinstance(sample, bool | np.bool_):
        return "booleans"
    return "integers" if isinstance(sample, int | np.integer) else "numbers"


def _is_regression(targets: Array, decimal: Decimal = "auto") -> bool:
    kind = _kind(targets)
    if kind == "booleans":
        return False
    if kind == "strings":
        numbers = _numbers_of_strings(targets, decimal)
        return numbers is not None and _is_regression(numbers)
    if targets.ndim == 2:
        return True
    distinct = np.unique(targets)
    if kind == "numbers":
        return not (len(distinct) <= 2 and set(distinct.tolist()) <= {0.0, 1.0})
    return not (
        len(distinct) <= 2 or (len(distinct) <= _MAX_INTEGER_CLASSES and 4 * len(distinct) <= len(targets))
    )


def _numbers_of_strings(targets: Array, decimal: Decimal) -> Array | None:
    """Return targets that are all strings of numbers as these numbers; None for others, and for codes such as 007."""
    import polars as pl

    flat = targets.reshape(-1).tolist()
    if not all(isinstance(value, str) for value in flat):
        return None
    numbers = target_numbers(targets, decimal)
    if not np.isfinite(numbers).all() or has_codes(pl.Series(flat, dtype=pl.String).str.strip_chars()):
        return None
    large = _large_integers(flat) if targets.ndim == 1 else None
    if large is not None:
        return large
    are_integers = (numbers == np.round(numbers)).all() and np.abs(numbers).max() < 2**53
    written_so = not any("." in value or "e" in value.lower() for value in flat) or decimal == "comma"
    return numbers.astype(np.int64) if are_integers and written_so else numbers


_DIGITS = re.compile(r"\s*[+-]?[0-9]{1,1000}\s*")


def _large_integers(values: Sequence[str]) -> Array | None:
    """Return strings of integers as Python integers if some are beyond 2^53, or else None."""
    if not all(map(_DIGITS.fullmatch, values)):
        return None
    integers = np.empty(len(values), dtype=object)
    integers[:] = [int(value) for value in values]
    return integers if max(map(abs, integers.tolist())) > EXACT else None


_MAYBE_NUMBER = re.compile(r"\d|inf|nan", re.IGNORECASE)
"""What strings of numbers contain; other strings need not be parsed."""


def target_numbers(targets: Array, decimal: Decimal = "auto") -> Array:
    """Return targets as float64, NaN where they are not numbers.

    Args:
        targets: numbers, or strings of numbers.
        decimal: the decimal mark of strings.

    >>> target_numbers(np.array(["1.234,5", "x"]), "comma").tolist()
    [1234.5, nan]
    """
    import polars as pl

    if targets.dtype.kind in "biuf":
        return targets.astype(np.float64)
    numbers = np.full(targets.size, np.nan)
    strings: list[str | None] = [None] * targets.size
    for at, value in enumerate(targets.reshape(-1).tolist()):
        if isinstance(value, str):
            strings[at] = value.strip() if _MAYBE_NUMBER.search(value) else None
            continue
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            numbers[at] = float(value)
    if any(one is not None for one in strings):
        parsed = parse(pl.Series(strings, dtype=pl.String), "comma" if decimal == "comma" else "point")[0]
        numbers = np.where(parsed.is_null().to_numpy(), numbers, parsed.to_numpy())
    return numbers.reshape(targets.shape)


def _refuse_mixed(targets: Array, decimal: Decimal) -> None:
    """Raise a DataError if most labels are distinct numbers and a few are not, which suggests mistakes."""
    numbers = target_numbers(targets, decimal)
    invalid = np.isnan(numbers)
    words = [str(value) for value in dict.fromkeys(targets[invalid].tolist())]
    if len(np.unique(numbers[~invalid])) > _MAX_INTEGER_CLASSES and gap_words(words) == words != []:
        raise DataError(
            f"the target contains numbers, but {rows_hold(np.flatnonzero(invalid))} {listed(words, 5)}; if this stands for "
            f"a missing value, add it to data.missing and leave these rows out: {setting('data.drop_missing_targets', True)}"
            f"; if these are classes: {setting('data.task', 'classification')}"
        )
    if (
        0 < invalid.sum() <= _MAX_MISTAKES * len(targets)
        and len(np.unique(numbers[~invalid])) > _MAX_INTEGER_CLASSES
    ):
        others = dict.fromkeys(targets[invalid].tolist())
        raise DataError(
            f"the target contains numbers, but {rows_hold(np.flatnonzero(invalid))} {listed(others, 5)}; "
            f"correct or remove these rows, or if they are classes: {setting('data.task', 'classification')}"
        )


def _integers(targets: Array) -> Array | None:
    """Return the integers of one target, also of strings beyond 2^53; None for other targets."""
    if targets.ndim > 1:
        return None
    flat = targets.tolist()
    if all(isinstance(value, str) for value in flat):
        return _large_integers(flat)
    return targets if _kind(targets) == "integers" else None


def _regression(targets: Array, declared: TaskChoice, decimal: Decimal = "auto") -> tuple[Task, str]:
    if _kind(targets) == "strings" or targets.dtype.kind not in "biuf":
        numbers = target_numbers(targets, decimal)
        invalid = np.isnan(numbers).reshape(len(numbers), -1).any(axis=1)
        if invalid.any():
            others = dict.fromkeys(targets.reshape(-1)[np.isnan(numbers).reshape(-1)].tolist())
            raise DataError(
                f"data.task = '{declared}' needs numbers, but {rows_hold(np.flatnonzero(invalid))} {listed(others, 3)}; "
                f"correct or remove these rows, or if they are classes: {setting('data.task', 'classification')}"
            )
    else:
        numbers = targets.astype(np.float64)
    integers = _integers(targets)
    if integers is not None:
        low, high = int(integers.min()), int(integers.max())
        if too_close(low, high):
            raise DataError(
                f"as floating-point numbers, different targets from {low} to {high} would be equal; subtract {low} "
                f"from each, or if they are classes: {setting('data.task', 'classification')}"
            )
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > _LARGEST:
        raise DataError(
            f"the target contains numbers that are not finite or beyond {_LARGEST:g}, the range of single precision; "
            "correct them, or divide all targets by a constant"
        )
    table = numbers.reshape(len(numbers), -1)
    constant = np.flatnonzero(table.min(axis=0) == table.max(axis=0))
    if len(constant):
        which = "the target" if table.shape[1] == 1 else f"target {constant[0]}"
        raise DataError(f"{which} is {table[0, constant[0]]:g} in every row; there is nothing to learn")
    count = table.shape[1]
    if declared == "multi_regression" or (numbers.ndim == 2 and count > 1):
        reason = f"{count} columns of numbers" if declared == "auto" else "as set in data.task"
        return "multi_regression", reason
    if declared != "auto":
        return "regression", "as set in data.task"
    distinct = len(np.unique(table))
    hint = ""
    if distinct <= _MAX_INTEGER_CLASSES and bool((table == np.round(table)).all()):
        hint = f"; if they are classes: {setting('data.task', 'classification')}"
    return "regression", f"the target has {distinct} distinct numbers{hint}"
