"""What is predicted: inferred from the targets, with the reason, or as the recipe names it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from descend.data.labels import classes_of
from descend.data.messages import listed, rows_hold, rows_text
from descend.data.parsing import is_missing
from descend.data.settings import TaskChoice
from descend.data.source import Array
from descend.errors import DataError

__all__ = ["Task", "check_targets", "infer_task"]

Task = Literal["regression", "multi_regression", "binary", "multiclass"]
_FEW = 20  # distinct whole numbers that still look like classes
_MISTAKES = 0.2  # share of texts up to which they look like mistakes among numbers


def check_targets(targets: Array, names: Sequence[str], least: int = 2) -> Array:
    """The targets, if each row has one and all numbers are finite.

    One column of shape (n, 1) becomes (n,); Python numbers in an object array become float64, except
    labels that are all integers or truth values, which stay as they are.

    Args:
        targets: raw targets, shape (n,) or (n, T).
        names: the targets' names, for messages.
        least: the fewest rows that will do.

    Raises:
        DataError: no rows or one row, a missing or infinite target (with its rows).
    """
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim not in (1, 2):
        raise DataError(f"targets of shape (rows,) or (rows, targets) were expected, found {targets.shape}")
    if len(targets) < least:
        count = "no row" if len(targets) == 0 else "one row"
        raise DataError(f"the data hold {count}; at least a training and a validation row are needed")
    if targets.ndim == 2 and targets.shape[1] == 0:
        raise DataError(f"the targets have shape {targets.shape}; at least one target is needed")
    name = listed(names) if names else "'y'"
    if targets.dtype.kind not in "biufOUST":
        raise DataError(
            f"target {name}: numbers or labels were expected, found values of type {targets.dtype}"
        )
    if targets.dtype == object or targets.dtype.kind == "T":
        targets = _objects(targets, name)
    if targets.dtype.kind == "f":
        _refuse_missing(np.isnan(targets), name)
        wild = ~np.isfinite(targets).reshape(len(targets), -1).all(axis=1)
        if wild.any():
            raise DataError(
                f"target {name}: finite numbers were expected, {rows_hold(np.flatnonzero(wild))} "
                "infinities; correct these rows or remove them"
            )
    return targets


def _objects(targets: Array, name: str) -> Array:
    flat = targets.reshape(-1).tolist()
    gaps = np.array([is_missing(value) for value in flat]).reshape(targets.shape)
    _refuse_missing(gaps, name)
    kinds = {type(value) for value in flat}
    if all(issubclass(kind, str) for kind in kinds) or all(
        issubclass(kind, bool | np.bool_) for kind in kinds
    ):
        return targets.astype(object)
    if targets.ndim == 1 and all(issubclass(kind, int | np.integer) for kind in kinds):
        return targets
    try:
        if any(issubclass(kind, str | bytes) for kind in kinds):
            return targets
        return targets.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as cause:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(
            f"target {name}: a number or a label in each row was expected, found {shown}"
        ) from cause


def _refuse_missing(gaps: Array, name: str) -> None:
    rows = np.flatnonzero(gaps.reshape(len(gaps), -1).any(axis=1))
    if len(rows):
        raise DataError(
            f"target {name}: {rows_text(rows)} {'has' if len(rows) == 1 else 'have'} no value; "
            "a network learns only from rows with a target: fill them in or remove them"
        )


def infer_task(targets: Array, declared: TaskChoice = "auto") -> tuple[Task, str]:
    """The task, and the reason for it in words.

    Texts and truth values are classes; whole numbers are classes where they are few (at most 20 distinct
    ones, each in four rows on average, or two); other numbers are regression targets. Floating-point
    numbers are classes only if they are 0 and 1, or if the recipe says so.

    Args:
        targets: as :func:`check_targets` returns them, shape (n,) or (n, T).
        declared: the recipe's ``data.task``.

    >>> infer_task(np.array(["yes", "no", "no"]))
    ('binary', 'the target holds 2 different texts')
    >>> infer_task(np.array([0.5, 1.5, 2.5]))[0]
    'regression'

    Raises:
        DataError: one class, a constant target, or targets that do not fit the declared task.
    """
    if declared in ("regression", "multi_regression") or (declared == "auto" and _is_regression(targets)):
        return _regression(targets, declared)
    if targets.ndim == 2:
        raise DataError(
            f"{targets.shape[1]} columns of labels were given; one column of labels, or several of numbers, "
            "can be predicted: name one target"
        )
    classes, _ = classes_of(targets)
    count, kind = len(classes), _kind(targets)
    if kind == "texts" and declared == "auto":
        _refuse_mixed(targets)
    if count == 1:
        raise DataError(
            f"every row has the same target {listed(classes)}; at least two classes are needed to tell apart"
        )
    if declared == "binary" and count != 2:
        raise DataError(
            f"data.task = 'binary' needs two classes, the target holds {count}: {listed(classes)}"
        )
    if count > max(2, len(targets) // 2):
        raise DataError(
            f"the target holds {count} different labels in {len(targets)} rows ({listed(classes, 3)}); "
            "classes must repeat to be learned: is it an identifier? For numbers, data.task = 'regression'"
        )
    if declared == "multiclass":
        return "multiclass", "as data.task names it"
    task: Task = "binary" if count == 2 else "multiclass"
    if declared != "auto":
        return task, f"data.task = '{declared}' and {count} classes"
    return task, f"the target holds {count} different {kind}"


def _kind(targets: Array) -> str:
    sample = targets.reshape(-1)[0]
    if isinstance(sample, str | bytes):
        return "texts"
    if isinstance(sample, bool | np.bool_):
        return "truth values"
    return "whole numbers" if isinstance(sample, int | np.integer) else "numbers"


def _is_regression(targets: Array) -> bool:
    kind = _kind(targets)
    if kind in ("texts", "truth values"):
        return False
    if targets.ndim == 2:
        return True
    distinct = np.unique(targets)
    if kind == "numbers":
        return not (len(distinct) <= 2 and set(distinct.tolist()) <= {0.0, 1.0})
    return not (len(distinct) <= 2 or (len(distinct) <= _FEW and 4 * len(distinct) <= len(targets)))


def _parsed(targets: Array) -> Array:
    """Labels as numbers, NaN where they are none."""
    numbers = np.full(targets.shape, np.nan)
    for at, value in enumerate(targets.reshape(-1).tolist()):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            numbers.reshape(-1)[at] = float(value)
    return numbers


def _refuse_mixed(targets: Array) -> None:
    """Labels of which most are different numbers and a few are not are numbers with mistakes."""
    numbers = _parsed(targets)
    bad = np.isnan(numbers)
    if 0 < bad.sum() <= _MISTAKES * len(targets) and len(np.unique(numbers[~bad])) > _FEW:
        odd = dict.fromkeys(targets[bad].tolist())
        raise DataError(
            f"the target holds numbers, but {rows_hold(np.flatnonzero(bad))} {listed(odd, 5)}; "
            "correct these rows, remove them, or if these are classes: --set data.task=classification"
        )


def _regression(targets: Array, declared: TaskChoice) -> tuple[Task, str]:
    if _kind(targets) == "texts" or targets.dtype.kind not in "biuf":
        numbers = _parsed(targets)
        gaps = np.isnan(numbers).reshape(len(numbers), -1).any(axis=1)
        if gaps.any():
            odd = dict.fromkeys(targets.reshape(-1)[np.isnan(numbers).reshape(-1)].tolist())
            raise DataError(
                f"data.task = '{declared}' needs numbers, {rows_hold(np.flatnonzero(gaps))} {listed(odd, 3)}"
            )
    else:
        numbers = targets.astype(np.float64)
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e150:
        raise DataError(
            "the target holds numbers that are not finite or beyond 1e150; correct or rescale them"
        )
    table = numbers.reshape(len(numbers), -1)
    still = np.flatnonzero(table.min(axis=0) == table.max(axis=0))
    if len(still):
        which = "the target" if table.shape[1] == 1 else f"target {still[0]}"
        raise DataError(f"{which} is {table[0, still[0]]:g} in every row; there is nothing to learn")
    count = table.shape[1]
    if declared == "multi_regression" or (numbers.ndim == 2 and count > 1):
        reason = f"{count} columns of numbers" if declared == "auto" else "as data.task names it"
        return "multi_regression", reason
    if declared != "auto":
        return "regression", "as data.task names it"
    distinct = len(np.unique(table))
    hint = ""
    if distinct <= _FEW and bool((table == np.round(table)).all()):
        hint = "; if they are classes: --set data.task=classification"
    return "regression", f"the target holds {distinct} different numbers{hint}"
