"""Weights of classes: ``data.class_weights`` of a recipe, ``class_weight`` of an estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from descend.data.labels import codes_of
from descend.data.messages import listed
from descend.data.source import Array
from descend.errors import DataError, did_you_mean
from descend.interface import key_name, setting

__all__ = ["ClassWeights", "class_factors", "class_weighted"]

ClassWeights = Literal["none", "balanced"] | tuple[float, ...] | Mapping[str, float]
"""No weights of classes; equal total weights; or a weight for each class, in their order or by name."""


def class_weighted(
    chosen: ClassWeights,
    codes: Array | None,
    classes: Sequence[object],
    train: Array,
    weights: Array | None,
    task: str,
) -> Array | None:
    """Return the weights of rows times the factors of their classes, (n,); None if all are equal.

    Args:
        chosen: the setting.
        codes: the class of each row, (n,); None for tasks without classes.
        classes: the classes in their order.
        train: the numbers of the training rows.
        weights: a weight for each row, (n,), or None.
        task: the learning task.

    Raises:
        DataError: the task has no classes, or the setting does not fit them.
    """
    if chosen == "none":
        return weights
    if codes is None:
        remedy = f"; for labels: {setting('loss.pos_weight', 2.0)}" if task == "multi_label" else ""
        raise DataError(
            f"{key_name('data.class_weights')} is for classes, of which each row has one, and the task is {task}{remedy}"
        )
    own = np.ones(len(codes)) if weights is None else weights
    mass = np.bincount(codes[train], weights=own[train], minlength=len(classes))
    weighted: Array = own * class_factors(chosen, classes, mass)[codes]
    return weighted


def class_factors(chosen: ClassWeights, classes: Sequence[object], mass: Array) -> Array:
    """Return the factor of the weight of a row of each class, float64 (K,).

    ``balanced`` is m / (K m_k), with m_k the total weight of class k in the training rows and m that of all, as in
    scikit-learn. Classes that a table does not name have the factor 1.

    Args:
        chosen: the setting.
        classes: the K classes in their order.
        mass: total weight of each class in the training rows, (K,).

    Raises:
        DataError: there is no such class, or the number of weights is not K.

    >>> class_factors("balanced", ["no", "yes"], np.array([90.0, 10.0])).round(3).tolist()
    [0.556, 5.0]
    >>> class_factors({"yes": 5.0}, ["no", "yes"], np.array([90.0, 10.0])).tolist()
    [1.0, 5.0]
    >>> class_factors({"1": 5.0}, [0, 1], np.array([90.0, 10.0])).tolist()
    [1.0, 5.0]
    """
    key = key_name("data.class_weights")
    if chosen == "balanced":
        balanced: Array = np.divide(mass.sum() / len(mass), mass, out=np.zeros(len(mass)), where=mass > 0)
        return balanced
    factors = np.ones(len(classes))
    if chosen == "none":
        return factors
    if not isinstance(chosen, Mapping):
        if len(chosen) != len(classes):
            raise DataError(
                f"{key}: expected one weight for each of the {len(classes)} classes, {listed(classes)}, got {len(chosen)}"
            )
        return np.asarray(chosen, dtype=np.float64)
    for name, weight in chosen.items():
        try:
            (place,) = codes_of(np.array([name], dtype=object), classes)  # type: ignore[arg-type]  # labels
        except DataError:
            known = did_you_mean(name, map(str, classes))
            raise DataError(f"{key}: no class {name!r}; {known}") from None
        factors[place] = weight
    return factors
