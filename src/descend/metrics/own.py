"""Metrics of one's own: functions of NumPy arrays with the conventions of scikit-learn."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from descend.arguments import kind_of
from descend.errors import UserError, message_of
from descend.interface import option
from descend.metrics.base import CLASSES, LABELS, Direction, Form, Metric, wide
from descend.metrics.catalogue import FAMILIES, LOSSES, METRICS, metric_names, similar_metric

__all__ = ["declare", "own_metric"]

Function = TypeVar("Function", bound=Callable[..., Any])

_DIRECTIONS = ("higher", "lower")
_FORMS = ("classes", "probabilities", "values")

_HIGHER = ("_score", "_coef", "_coefficient", "_accuracy")
_LOWER = ("_loss", "_error", "_deviance")
"""Ends of names from which the direction follows, by the convention of scikit-learn."""

_OF_PARAMETER: dict[str, Form] = {
    "y_pred": "classes",
    "predictions": "classes",
    "classes": "classes",
    "y_proba": "probabilities",
    "y_prob": "probabilities",
    "y_score": "probabilities",
    "probabilities": "probabilities",
    "proba": "probabilities",
    "scores": "probabilities",
}
"""Name of the second parameter -> the form of predictions of a task with classes."""

_PROBABILISTIC = frozenset({"log_loss", "d2_log_loss_score", "d2_brier_score"})
"""Functions of scikit-learn that take probabilities as ``y_pred``."""


def declare(*, better: Direction, takes: Form | None = None) -> Callable[[Function], Function]:
    """Decorator that declares what a metric of one's own takes and which direction is better.

    Args:
        better: "higher" or "lower".
        takes: "classes", "probabilities" or "values". Default None: by the name of the second parameter.

    >>> @declare(better="higher", takes="classes")
    ... def profit(y_true, y_pred):
    ...     return float((10 * (y_pred == 1) * (y_true == 1) - (y_pred == 1)).sum())
    >>> profit.better
    'higher'
    """
    _check_choice("better", better, _DIRECTIONS)
    if takes is not None:
        _check_choice("takes", takes, _FORMS)

    def mark(function: Function) -> Function:
        function.better = better  # type: ignore[attr-defined]  # a function takes attributes
        if takes is not None:
            function.takes = takes  # type: ignore[attr-defined]  # likewise
        return function

    return mark


def own_metric(
    function: Callable[..., Any],
    task: str,
    *,
    name: str | None = None,
    better: str | None = None,
    takes: str | None = None,
) -> Metric:
    """Return a metric made from a function of NumPy arrays, called as ``function(y_true, predictions)``.

    With weights it is called with ``sample_weight=`` in addition, an array (n,), which it must take. ``y_true`` holds
    class indices (n,) from 0, in the order of the classes, or values (n,) or (n, T) in the units of the targets. The
    predictions are class indices (n,), probabilities (n,) of the second of two classes or (n, K) of K classes, or values
    in the shape of ``y_true``. Values have the precision of float32, in which networks are trained. It returns a number;
    NaN, None or an infinite number where the metric is undefined.

    Args:
        function: such a function, as those of ``sklearn.metrics``.
        task: the task.
        name: its name in records. Default None: that of the function.
        better: "higher" or "lower". Default None: as declared by :func:`declare`, or by the end of the name: "_score" is
            higher, "_loss" and "_error" are lower.
        takes: the form of the predictions. Default None: as declared, or by the name of the second parameter: ``y_pred``
            are classes, ``y_proba`` and ``y_score`` are probabilities. For regression it is always "values".

    Raises:
        UserError: the name, the direction or the form is unknown, or the function cannot be called so.

    >>> from sklearn.metrics import f1_score
    >>> metric = own_metric(f1_score, "binary")
    >>> metric.name, metric.better, metric.takes
    ('f1_score', 'higher', 'classes')
    >>> metric(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 1])).item()
    0.5
    """
    subject = function.func if isinstance(function, functools.partial) else function
    own_name = str(getattr(subject, "__name__", type(subject).__name__))
    name = name or own_name
    score = getattr(subject, "_score_func", None)  # a scorer of scikit-learn
    if score is not None:
        meant = str(getattr(score, "__name__", name))
        similar = similar_metric(meant, metric_names(task))
        hint = f"use '{similar}', or the function" if similar is not None else "use the function"
        raise UserError(
            f"'{meant}': a scorer of scikit-learn is called with an estimator, a metric with targets and predictions; {hint} "
            f"sklearn.metrics.{meant} itself"
        )
    if not name.isidentifier():
        raise UserError(
            f"the function has no name that records could use; give it one: {_table('name', 'my_metric')} (got '{name}')"
        )
    if name in METRICS or name in LOSSES or any(name.startswith(prefix) for prefix in FAMILIES):
        raise UserError(
            f"'{name}' is the name of a built-in metric; give yours another one: {_table('name', 'my_' + name)}"
        )
    chosen: Any = (
        better
        or getattr(function, "better", getattr(subject, "better", None))
        or _direction_of(own_name)
        or _direction_of(name)
    )
    if chosen is None:
        raise UserError(
            f"'{name}' does not declare which direction is better; write {_table('better', 'higher')}, or \"lower\", or "
            "decorate it with descend.metrics.declare"
        )
    _check_choice("better", chosen, _DIRECTIONS)
    form: Any = (
        takes
        or getattr(function, "takes", getattr(subject, "takes", None))
        or _form_of(function, own_name, task)
    )
    if form is None:
        raise UserError(
            f"'{name}' does not declare which predictions it takes; write {_table('takes', 'classes')}, or "
            '"probabilities", or decorate it with descend.metrics.declare'
        )
    _check_choice("takes", form, _FORMS)
    of_classes = task in CLASSES | LABELS
    if (form == "values") == of_classes:
        fitting = '"classes" or "probabilities"' if of_classes else '"values"'
        raise UserError(
            f"'{name}' takes {form}, but the task is {task}; for this task takes must be {fitting}"
        )
    call = functools.partial(_called, function, name, _takes_weights(function), of_classes)
    return Metric(name, call, chosen, form, frozenset({task}), each_epoch=True, own=function)


def _table(key: str, value: str) -> str:
    """Return the table of a function with a declaration, in TOML or in Python."""
    return option(f'{{ function = ..., {key} = "{value}" }}', f'{{"function": ..., "{key}": "{value}"}}')


def _direction_of(name: str) -> Direction | None:
    if name.endswith(_HIGHER):
        return "higher"
    return "lower" if name.endswith(_LOWER) else None


def _form_of(function: Callable[..., Any], name: str, task: str) -> Form | None:
    if task not in CLASSES | LABELS:
        return "values"
    if name in _PROBABILISTIC:
        return "probabilities"
    parameters = _parameters(function)
    return _OF_PARAMETER.get(parameters[1]) if len(parameters) > 1 else None


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def _takes_weights(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return "sample_weight" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        shown = ", ".join(f'"{each}"' for each in choices)
        raise UserError(f"{key}: expected one of {shown}, got {value!r}")


def _called(
    function: Callable[..., Any],
    name: str,
    takes_weights: bool,
    of_classes: bool,
    predictions: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Call the function on arrays; return its value as a tensor on the device of the predictions."""
    y_true, y_pred = _array(targets.long() if of_classes else targets), _array(predictions)
    given: dict[str, Any] = {}
    if weights is not None:
        if not takes_weights:
            raise UserError(f"the rows have weights, but the metric '{name}' takes no sample_weight")
        given["sample_weight"] = _array(wide(weights))
    try:
        value = function(y_true, y_pred, **given)
    except Exception as cause:  # anyone's metric may raise anything
        shapes = f"y_true of shape {y_true.shape} and predictions of shape {y_pred.shape}"
        raise UserError(f"the metric '{name}' failed on {shapes}: {message_of(cause)}") from cause
    return wide(torch.tensor(_number(value, name), dtype=torch.float64)).to(predictions.device)


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        got = f"an array of shape {array.shape}" if array.dtype.kind in "biuf" else kind_of(value)
        raise UserError(f"the metric '{name}' returned {got} instead of one number")
    number = float(array.reshape(()))
    return number if math.isfinite(number) else math.nan


def _array(values: Tensor) -> np.ndarray[Any, Any]:
    """Return a copy as an array: a function that changes it in place must not change the rows."""
    array: np.ndarray[Any, Any] = values.detach().cpu().numpy().copy()
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
