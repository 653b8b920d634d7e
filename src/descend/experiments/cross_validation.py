"""K-fold cross-validation: every row is predicted by a network that was not trained on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from descend.arguments import integer
from descend.data.labels import codes_of
from descend.data.source import Source
from descend.data.split import group_names
from descend.data.task import check_targets
from descend.data.training_data import TrainingData
from descend.errors import DivergedError, UserError
from descend.many import EngineChoice, Watcher, train_many
from descend.metrics import main_metric
from descend.process import undisturbed
from descend.recipe import Recipe
from descend.report.formatting import NO_BREAK, metric, score
from descend.rng import key
from descend.runs.plan import Planner
from descend.runs.run import Run

__all__ = ["CrossValidation", "assign_folds", "cross_validate"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False)
class CrossValidation:
    """The result of :func:`descend.cross_validate`.

    Args:
        metric: the task's main metric; "rmse" if R² is undefined on every fold, as in leave-one-out.
        scores: (repeats, folds) scores on the held-out rows; None for folds whose training diverged, or on whose rows the
            metric is undefined.
        predictions: (repeats, n), or (repeats, n, T) for T > 1 targets: the out-of-fold prediction of each row; None
            (NaN for numbers) if the training diverged.
        rows: (n,) row numbers in the data: all rows except those that the data mark as "test".
        folds: (repeats, n) the fold of each row.
        runs: all runs, in order of repeats, then folds.
    """

    metric: str
    scores: Sequence[Sequence[float | None]]
    predictions: Array
    rows: Array
    folds: Array
    runs: Sequence[Run]

    def __repr__(self) -> str:
        """Return the mean score with its standard error, and the number of runs."""
        error = self.standard_error
        mean = score(self.metric, self.mean) if self.valid_scores else "no score"
        spread = "" if error is None else f", standard error {score(self.metric, error)}"
        folds = f"{len(self.scores[0])} folds" + (
            f" x {len(self.scores)} repeats" if len(self.scores) > 1 else ""
        )
        text = f"Cross-validation of {folds}: {metric(self.metric)} {mean}{spread}"
        return text.replace(NO_BREAK, " ")

    @property
    def valid_scores(self) -> list[float]:
        """The scores of all folds that have one."""
        return [score for repeat in self.scores for score in repeat if score is not None]

    @property
    def mean(self) -> float:
        """Mean score over folds and repeats."""
        return fmean(self.valid_scores)

    @property
    def standard_error(self) -> float | None:
        """Corrected standard error of the mean; None for fewer than two scores.

        s √(1/J + 1/(k - 1)) for J scores of k folds with standard deviation s. The scores of folds are not independent,
        since any two networks share most of their training rows, so s / √J is too small. The second term, the ratio of
        test rows to training rows, corrects for this. The correction is approximate: a single cross-validation admits
        no unbiased estimate (Bengio and Grandvalet, 2004).

        Source: Nadeau and Bengio, "Inference for the generalization error", 2003.
        """
        scores = self.valid_scores
        if len(scores) < 2:
            return None
        return stdev(scores) * math.sqrt(1 / len(scores) + 1 / (len(self.scores[0]) - 1))


@undisturbed
def cross_validate(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    target: str | Sequence[str] | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    sample_weight: Any = None,
    engine: EngineChoice = "auto",
    watchers: Sequence[Watcher] = (),
    allow_imports: bool = False,
) -> CrossValidation:
    """Cross-validate a recipe: train on all folds of the rows except one and score on that one, for each fold.

    Folds are stratified by class, and rows of one group (``data.groups``) stay together. The share ``data.validation``
    of each fold's training rows is used for early stopping; everything else, including scaling, is fitted on the rest.
    Rows that the data mark as "test" are not used.

    Args:
        data: as for :func:`descend.train`.
        recipe: the recipe to train.
        folds: number of folds, 2 or more.
        repeats: number of repetitions, each with other random folds.
        seed: seed of the folds; the runs use this seed and those after it.
        target: the column to predict, or several.
        out: a folder for the run folders; None saves nothing.
        device: shorthand for the recipe's ``engine.device``.
        sample_weight: a weight for each row of ``data``.
        engine: as for :func:`descend.train_many`.
        watchers: receive the epochs and ends of the runs.
        allow_imports: whether a recipe file may contain import paths.

    Returns:
        Scores, out-of-fold predictions and runs.

    Raises:
        UserError: the data or the recipe cannot be used, or there are fewer rows or groups than folds.
        DivergedError: every fold diverged.

    >>> result = cross_validate("iris", {"stop": {"max_epochs": 2}}, folds=3)
    >>> [len(repeat) for repeat in result.scores], result.predictions.shape
    ([3], (1, 150))
    """
    folds, repeats, seed = integer("folds", folds, 2), integer("repeats", repeats, 1), integer("seed", seed)
    training_data = TrainingData.of(data, target=target, sample_weight=sample_weight)
    if training_data.validation is not None or training_data.test is not None:
        raise UserError("cross-validation splits one data set; remove validation and test data")
    plan = Planner(training_data, device=device, allow_imports=allow_imports).plan(recipe, seed)
    source, schema = plan.source, plan.prepared.schema
    rows = np.arange(len(source)) if source.split is None else np.flatnonzero(source.split != "test")
    subset = source.take(rows)
    assert subset.targets is not None  # planning fails without targets
    codes = (
        codes_of(check_targets(subset.targets, subset.target_names), schema.classes)
        if schema.classes and schema.task != "multi_label"
        else None
    )
    fold_of_row = np.stack(
        [assign_folds(subset, codes, folds, key(seed, "folds", repeat)) for repeat in range(repeats)]
    )
    parts = [
        {"train": rows[fold_of != fold], "test": rows[fold_of == fold]}
        for fold_of in fold_of_row
        for fold in range(folds)
    ]
    runs = train_many(
        [recipe] * len(parts),
        training_data,
        seeds=range(seed, seed + len(parts)),
        parts=parts,
        out=out,
        engine=engine,
        watchers=watchers,
        device=device,
        allow_imports=allow_imports,
    )
    if all(run.failed for run in runs):
        raise DivergedError(f"every fold diverged. The first:\n{runs[0].metrics['message']}")
    metric = main_metric(schema.task)
    scores = _scores(runs, metric)
    if all(score is None for score in scores) and not schema.classes:
        metric = "rmse"
        scores = _scores(runs, metric)
    return CrossValidation(
        metric,
        [scores[start : start + folds] for start in range(0, len(scores), folds)],
        np.stack(
            [
                _out_of_fold_predictions(
                    source, rows, fold_of_row[repeat], runs[repeat * folds : (repeat + 1) * folds]
                )
                for repeat in range(repeats)
            ]
        ),
        rows,
        fold_of_row,
        runs,
    )


def _scores(runs: Sequence[Run], metric: str) -> list[float | None]:
    return [None if run.failed else run.metrics["test"][metric] for run in runs]


def assign_folds(source: Source, codes: Array | None, folds: int, seed: int) -> Array:
    """Assign each row to a fold, stratified by class if there are classes, with groups kept together if there are any.

    Args:
        source: the rows.
        codes: (n,) class codes; None for regression.
        folds: number of folds.
        seed: seed of the shuffling.

    Returns:
        (n,) the fold of each row.

    Raises:
        UserError: there are fewer rows or groups than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    n = len(source)
    groups = None if source.groups is None else group_names(source.groups)[0]
    count, unit = (n, "rows") if groups is None else (len(np.unique(groups)), "groups")
    if count < folds:
        raise UserError(f"{count} {unit} cannot be divided into {folds} folds")
    splitters = {
        (False, False): KFold,
        (True, False): StratifiedKFold,
        (False, True): GroupKFold,
        (True, True): StratifiedGroupKFold,
    }
    # scikit-learn refuses to stratify if every class has fewer rows than there are folds.
    stratified = codes is not None and bool(np.bincount(codes).max() >= folds)
    splitter = splitters[stratified, groups is not None](folds, shuffle=True, random_state=seed % 2**32)
    labels = codes if stratified else None
    fold_of = np.empty(n, dtype=np.int64)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(n), labels, groups)):
        fold_of[held_out] = fold
    return fold_of


def _out_of_fold_predictions(source: Source, rows: Array, fold_of: Array, runs: Sequence[Run]) -> Array:
    """The prediction of each row by the run that was not trained on it."""
    predictions: Array | None = None
    for fold, run in enumerate(runs):
        if run.failed:
            continue
        positions = np.flatnonzero(fold_of == fold)
        predicted = run.predictor.predict(_inputs(source, rows[positions]))
        if predictions is None:
            some_failed = any(other.failed for other in runs)
            numeric = predicted.dtype.kind == "f"
            predictions = np.full(
                (len(rows), *predicted.shape[1:]),
                np.nan if numeric else None if some_failed else predicted[0],
                dtype=object if some_failed and not numeric else predicted.dtype,
            )
        predictions[positions] = predicted
    return np.full(len(rows), None, dtype=object) if predictions is None else predictions


def _inputs(source: Source, rows: Array) -> Any:
    """The given rows without their targets, as input of a predictor."""
    if source.dataset is not None:
        return np.stack([np.asarray(source.dataset[int(row)][0]) for row in rows])
    return source.take(rows)
