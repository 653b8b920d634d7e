"""K-fold cross-validation: every row is predicted by a network that was not trained on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from descend.arguments import integer
from descend.data.labels import codes_of
from descend.data.preparation import Part, Prepared
from descend.data.source import Source
from descend.data.split import group_names
from descend.data.task import check_targets
from descend.data.training_data import TrainingData
from descend.errors import DivergedError, UserError
from descend.experiments.objective import (
    MetricChoice,
    Objective,
    measuring,
    objective_of_metric,
    requested_metric,
)
from descend.many import EngineChoice, Watcher, train_many
from descend.metrics import Direction, better
from descend.process import undisturbed
from descend.recipe import Recipe
from descend.report.formatting import NO_BREAK, score
from descend.report.formatting import metric as shown_name
from descend.rng import key
from descend.runs.monitored import undefined_on
from descend.runs.plan import Planner, as_recipe
from descend.runs.run import Run

__all__ = ["CrossValidation", "assign_folds", "cross_validate"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False)
class CrossValidation:
    """The result of :func:`descend.cross_validate`.

    Args:
        metric: the name of the metric: the requested one, or the main one of the task; "rmse" if none was requested and
            R² is undefined on every fold, as in leave-one-out.
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
        text = f"Cross-validation of {folds}: {shown_name(self.metric)} {mean}{spread}"
        return text.replace(NO_BREAK, " ")

    @property
    def valid_scores(self) -> list[float]:
        """The scores of all folds that have one."""
        return [score for repeat in self.scores for score in repeat if score is not None]

    @property
    def mean(self) -> float:
        """Mean score over the folds and repeats that have one; NaN if none has."""
        return fmean(self.valid_scores) if self.valid_scores else math.nan

    @property
    def better(self) -> Direction:
        """Whether "higher" or "lower" scores are better."""
        return better(self.metric)

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
    metric: MetricChoice | None = None,
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
        metric: what the folds are scored by: a metric such as "f1" or "roc_auc", the "loss", an import path, or a function
            of (y_true, predictions) as ``stop.monitor`` takes it. Default None: the main metric of the task.
        out: a folder for the run folders; None saves nothing.
        device: shorthand for the recipe's ``engine.device``.
        sample_weight: a weight for each row of ``data``.
        engine: as for :func:`descend.train_many`.
        watchers: receive the epochs and ends of the runs.
        allow_imports: whether a recipe file may contain import paths.

    Returns:
        Scores, out-of-fold predictions and runs.

    Raises:
        UserError: the data or the recipe cannot be used, there are fewer rows or groups than folds, or the requested metric
            does not exist, does not fit the task, or is undefined on every fold.
        DivergedError: every fold diverged.

    >>> result = cross_validate("iris", {"stop": {"max_epochs": 2}}, folds=3)
    >>> [len(repeat) for repeat in result.scores], result.predictions.shape
    ([3], (1, 150))
    """
    folds, repeats, seed = integer("folds", folds, 2), integer("repeats", repeats, 1), integer("seed", seed)
    training_data = TrainingData.of(data, target=target, sample_weight=sample_weight)
    if training_data.validation is not None or training_data.test is not None:
        raise UserError("cross-validation splits one data set; remove validation and test data")
    recipe = as_recipe(recipe, allow_imports)
    planner = Planner(training_data, device=device, allow_imports=allow_imports, ensembles=True, refits=False)
    plan = planner.plan(recipe, seed)
    recipe = recipe.replace({"model.preset": plan.recipe.model["preset"]})
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
    objective = _objective(metric, plan.prepared, [each["test"] for each in parts], allow_imports)
    runs = train_many(
        [measuring(recipe, objective)] * len(parts),
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
    scores = _scores(runs, objective.name)
    return CrossValidation(
        objective.name,
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


def _objective(
    requested: MetricChoice | None, prepared: Prepared, folds: Sequence[Array], allow_imports: bool
) -> Objective:
    """Return what the folds are scored by; it must be defined on the rows of one of them."""
    metric = requested_metric(requested, prepared.schema, allow_imports)
    if metric is None:
        return Objective("loss")
    reason = ""
    for rows in folds:
        why = undefined_on(metric, _rows_of(prepared, rows), prepared.schema)
        if why is None:
            return objective_of_metric(metric, requested)
        reason = reason or why
    if requested is None and not prepared.schema.classes:
        return Objective("rmse", None, reason)
    if requested is None:
        return objective_of_metric(metric, None)
    raise UserError(f"{metric.name} is undefined on every fold: {reason}; use another metric, or fewer folds")


def _rows_of(prepared: Prepared, rows: Array) -> Part:
    """Return the targets and weights of some rows, from the parts that contain them."""
    parts = [part for part in (prepared.train, prepared.validation, prepared.test) if len(part)]
    chosen = [np.flatnonzero(np.isin(part.rows, rows)) for part in parts]
    weighted = parts[0].weights is not None
    return Part(
        None,
        torch.cat([part.targets[at] for part, at in zip(parts, chosen, strict=True)]),
        torch.cat(
            [part.weights[at] for part, at in zip(parts, chosen, strict=True) if part.weights is not None]
        )
        if weighted
        else None,
        np.concatenate([part.rows[at] for part, at in zip(parts, chosen, strict=True)]),
    )


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
