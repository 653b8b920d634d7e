"""Encodings of categories: an input for each category, the mean target of its rows, or its rank.

The mean target of a category is estimated with shrinkage towards the mean of all rows. Training rows get the estimates
of folds to which they do not belong, so that the target of a row never enters its inputs; otherwise a category of one
row would reveal the target. All other rows get the estimates from all training rows, which the schema stores. An
encoding is a table with a row of inputs for each category, so that it is a lookup in every exported model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.cards import method
from descend.data.column import Column
from descend.data.settings import DataSettings
from descend.data.source import Array
from descend.errors import DataError, Problem, RecipeError, did_you_mean
from descend.interface import setting
from descend.rng import key

__all__ = [
    "CATEGORY_ENCODINGS",
    "FOLDS",
    "LARGEST",
    "Folds",
    "both",
    "encoding_of",
    "fit_effects",
    "fold_numbers",
    "onehot",
    "target",
]

FOLDS = 5
"""The number of folds of the training rows, as in scikit-learn's TargetEncoder."""
LARGEST = 10_000
"""The largest number of categories of a column that only the mean target encodes; others are pooled."""

Encoding = Callable[[Array, int, Array, "Array | None"], Array]
"""A function (codes, count, targets, weights) that returns the inputs of each category, (count, inputs)."""


@method(row="K7", reference="folklore", formula="x_j = 1 if the category is c_j, else 0")
def onehot(codes: Array, count: int, targets: Array, weights: Array | None = None, /) -> Array:
    """Encode a category as one input for each category, 1 for its own and 0 for the others.

    Args:
        codes: category of each training row (n,); NaN if it is missing, negative if it is unknown.
        count: the number of categories.
        targets: learned targets of the training rows (n, K), not used.
        weights: a weight for each row, or None; not used.

    Returns: (count, count), the identity.

    >>> onehot(np.array([0.0, 1.0]), 2, np.zeros((2, 1))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return np.eye(count)


@method(
    row="K7",
    reference="Micci-Barreca 2001; scikit-learn's TargetEncoder(smooth='auto')",
    formula="x = s (m - M) / sqrt(V), s = n V / (n V + v); m, v, n: mean, variance and number of the category's targets",
    note="training rows are encoded out of fold, in 5 folds; an unseen or missing category becomes 0, the mean target. "
    "Several classes, labels or targets have one input each",
)
def target(codes: Array, count: int, targets: Array, weights: Array | None = None, /) -> Array:
    r"""Encode a category as the mean target of its rows, shrunk to the mean of all rows.

    With mean M and variance V of the targets of all rows, and mean m_c, variance v_c and number n_c of those of category
    c, the input is x_c = s_c (m_c - M) / √V, s_c = n_c V / (n_c V + v_c). The estimate of the mean target, M + √V x_c, is
    the empirical Bayes estimate of scikit-learn's TargetEncoder(smooth="auto"). With weights w, the number n_c is
    (Σ w)² / Σ w², which does not change if all weights are multiplied by a number.

    Args:
        codes: category of each training row (n,); NaN if it is missing, negative if it is unknown.
        count: the number of categories.
        targets: learned targets of the training rows (n, K): numbers, or indicators of classes or labels.
        weights: a weight for each row, or None.

    Returns: (count, K), 0 for a category without rows.

    >>> y = np.array([[0.0], [2.0], [3.0], [3.0]])
    >>> target(np.array([0.0, 0.0, 1.0, 1.0]), 3, y).round(3).tolist()
    [[-0.612], [0.816], [0.0]]
    """
    weights = np.ones(len(codes)) if weights is None else weights
    total = weights.sum()
    if total <= 0:
        return np.zeros((count, targets.shape[1]))
    mean = weights @ targets / total
    centered = targets - mean
    variance = weights @ centered**2 / total
    known = codes >= 0  # false for NaN
    own, weight, values = codes[known].astype(np.int64), weights[known], centered[known]

    def sums(numbers: Array) -> Array:
        columns = [np.bincount(own, numbers[:, at], minlength=count) for at in range(numbers.shape[1])]
        return np.stack(columns, axis=1)

    mass = sums(weight[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = mass**2 / sums(weight[:, None] ** 2)
        means = sums(weight[:, None] * values) / mass
        within = sums(weight[:, None] * (values - means[own]) ** 2) / mass
        shrinkage = rows * variance / (rows * variance + within)
        effects = shrinkage * means / np.sqrt(variance)
    return np.where(np.isfinite(effects), effects, 0.0)


@method(
    row="K7",
    reference="Micci-Barreca 2001",
    formula="the inputs of 'onehot' and those of 'target'",
    note="training rows are encoded out of fold",
)
def both(codes: Array, count: int, targets: Array, weights: Array | None = None, /) -> Array:
    """Encode a category both as one input for each category and as the mean target of its rows.

    Args:
        codes: category of each training row (n,); NaN if it is missing, negative if it is unknown.
        count: the number of categories.
        targets: learned targets of the training rows (n, K).
        weights: a weight for each row, or None.

    Returns: (count, count + K).

    >>> both(np.array([0.0, 1.0]), 2, np.array([[0.0], [2.0]])).tolist()
    [[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]
    """
    return np.concatenate(
        [onehot(codes, count, targets, weights), target(codes, count, targets, weights)], axis=1
    )


CATEGORY_ENCODINGS: Mapping[str, Encoding] = {"onehot": onehot, "target": target, "both": both}
"""Encodings of unordered categories by name."""


def encoding_of(column: Column, settings: DataSettings) -> str:
    """Return the name of the encoding that the settings choose for a column of categories.

    An ordered column has a thermometer code unless it declares another encoding.

    >>> encoding_of(Column("city", "categorical"), DataSettings(categories="target"))
    'target'
    >>> encoding_of(Column("size", "categorical", ordered=True), DataSettings(categories="target"))
    'thermometer'

    Raises:
        DataError: the declared encoding does not fit the column.
    """
    choice = settings.columns.get(column.name)
    if not (isinstance(choice, Mapping) and "encoding" in choice):
        return "thermometer" if column.ordered else settings.categories
    encoding = str(choice["encoding"])
    if encoding in ("thermometer", "ordinal") and not column.ordered:
        declared = {"kind": "categorical", "order": ["S", "M", "L"], "encoding": encoding}
        raise DataError(
            f"data.columns.{column.name}: the encoding '{encoding}' requires an order of the categories; "
            f"declare it, such as {setting(('data', 'columns', column.name), declared)}, or use 'onehot'"
        )
    if encoding == "onehot" and column.ordered:
        raise DataError(
            f"data.columns.{column.name}: 'onehot' ignores the declared order; use 'thermometer', or remove the order"
        )
    return encoding


@dataclass(frozen=True, eq=False)
class Folds:
    """How training rows are encoded out of fold.

    Args:
        of_row: the fold of each row of the source, (n,); -1 for rows that are not training rows.
        columns: for each fold, all columns, fitted without the rows of the fold.
    """

    of_row: Array
    columns: tuple[tuple[Column, ...], ...]


def fold_numbers(count: int, classes: Array | None = None, groups: Array | None = None) -> Array:
    """Return the fold of each training row, 0 to ``FOLDS`` - 1, of nearly equal sizes.

    The folds are a function of the rows; they do not depend on the seed of a run.

    Args:
        count: the number of training rows.
        classes: the class of each row, whose rows are divided equally; or None.
        groups: a label for each row; rows with equal labels are in one fold, and are not stratified. Or None.

    >>> np.bincount(fold_numbers(12)).tolist()
    [3, 3, 2, 2, 2]
    """
    order = np.random.default_rng(key(0, "category folds")).permutation(count)
    found = np.empty(count, dtype=np.int64)
    if groups is not None:
        _, first, of_group = np.unique(groups[order], return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        found[order] = rank[of_group] % FOLDS
        return found
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    found[order] = np.arange(count) % FOLDS
    return found


def fit_effects(
    columns: Sequence[Column],
    codes_of: Callable[[Column], Array],
    train: Array,
    rows: int,
    settings: DataSettings,
    targets: Array | None,
    weights: Array | None,
    groups: Array | None,
) -> tuple[list[Column], Folds | None]:
    """Fit the encodings that are tables, and return the fitted columns, and how to encode training rows out of fold.

    Args:
        columns: the columns with their categories.
        codes_of: a function that returns the categories of all rows of a column, see :func:`target`.
        train: numbers of the training rows.
        rows: number of all rows.
        settings: the settings of the data.
        targets: learned targets of the training rows (n, K); None if no column needs them.
        weights: a weight for each training row, or None.
        groups: the group of each training row, or None.

    Returns: the columns, and None if no column has the mean target as an input.

    Raises:
        DataError: the encoding that a column declares does not fit it.
        RecipeError: there is no such encoding.
    """
    if settings.categories not in CATEGORY_ENCODINGS:
        hint = did_you_mean(settings.categories, CATEGORY_ENCODINGS)
        message = f"unknown encoding {settings.categories!r}"
        raise RecipeError([Problem("data", "categories", message, hint=hint)])
    fitted = list(columns)
    folds: list[list[Column]] = [list(columns) for _ in range(FOLDS)]
    number: Array | None = None
    for at, column in enumerate(columns):
        encoding = encoding_of(column, settings) if column.kind == "categorical" else "onehot"
        if encoding in ("onehot", "thermometer"):
            continue
        codes, count = codes_of(column)[train], len(column.coded)
        if encoding == "ordinal":
            fitted[at] = _with_effects(column, _ranks(codes, count, weights), encoding)
            for fold in folds:
                fold[at] = fitted[at]
            continue
        assert targets is not None
        if number is None:
            number = fold_numbers(len(train), _classes(targets), groups)
        fitted[at] = _with_effects(column, target(codes, count, targets, weights), encoding)
        for without, own in enumerate(folds):
            rest = number != without
            part = None if weights is None else weights[rest]
            own[at] = _with_effects(column, target(codes[rest], count, targets[rest], part), encoding)
    if number is None:
        return fitted, None
    of_row = np.full(rows, -1)
    of_row[train] = number
    return fitted, Folds(of_row, tuple(map(tuple, folds)))


def _with_effects(column: Column, effects: Array, encoding: Any) -> Column:
    return dataclasses.replace(column, effects=tuple(map(tuple, effects.tolist())), encoding=encoding)


def _ranks(codes: Array, count: int, weights: Array | None) -> Array:
    """Return the standardized rank of each category of an ordered column, (count, 1)."""
    known = codes >= 0
    own, weight = codes[known], None if weights is None else weights[known]
    if weight is not None and weight.sum() <= 0:
        weight = None
    mean = np.average(own, weights=weight)
    deviation = np.sqrt(np.average((own - mean) ** 2, weights=weight))
    ranks: Array = (np.arange(count) - mean) / (deviation if deviation > 0 else 1.0)
    return ranks[:, None]


def _classes(targets: Array) -> Array | None:
    """Return a class for each row if the targets are indicators, by which folds are stratified; None for numbers."""
    if not np.isin(targets, (0.0, 1.0)).all():
        return None
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
