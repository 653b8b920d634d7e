"""Cross-validation: every row is predicted by a network that did not learn from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from descend.data.labels import codes_of
from descend.data.source import Source
from descend.data.task import check_targets
from descend.errors import DivergedError, UserError
from descend.many import EngineChoice, Watcher, train_many
from descend.metrics import main_metric
from descend.recipe import Recipe
from descend.rng import key
from descend.runs.plan import Planner
from descend.runs.run import Run

__all__ = ["CrossValidation", "cross_validate", "fold_of_rows"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CrossValidation:
    """What cross-validation found.

    Args:
        metric: the task's main metric.
        scores: (repeats, folds) of it on the rows left out; None where a fold's training diverged.
        predictions: (repeats, n), or (repeats, n, T) for several targets: the prediction of each row by the network
            that did not learn from it; None (NaN for numbers) where that one diverged.
        rows: (n,) row numbers in the data; all but those that the data keep for testing.
        folds: (repeats, n): the fold of each row.
        runs: all runs, fold by fold.
    """

    metric: str
    scores: Sequence[Sequence[float | None]]
    predictions: Array
    rows: Array
    folds: Array
    runs: Sequence[Run]

    @property
    def known(self) -> list[float]:
        """The scores of all folds that did not diverge."""
        return [score for repeat in self.scores for score in repeat if score is not None]

    @property
    def mean(self) -> float:
        """Mean score over folds and repeats."""
        return fmean(self.known)

    @property
    def standard_error(self) -> float | None:
        """How far chance moves the mean: s √(1/J + 1/(k - 1)) of J scores of k folds, s their standard deviation.

        Scores of folds are not independent, since any two networks share most of their training rows; s / √J is
        too small. The second term, the number of rows tested over that of rows trained on, corrects for this. It is
        a good guess and not exact: no unbiased estimate exists from one cross-validation (Bengio and Grandvalet,
        2004).

        Source: Nadeau and Bengio, "Inference for the generalization error", 2003.
        """
        known = self.known
        if len(known) < 2:
            return None
        return stdev(known) * math.sqrt(1 / len(known) + 1 / (len(self.scores[0]) - 1))


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
    """Train on all folds of the rows but one, score on that one, for each fold in turn.

    Classes are spread evenly over the folds (stratified), and rows of one group (``data.groups``) are never divided.
    Of each fold's training rows the share ``data.validation`` chooses when to stop; everything, scaling included,
    is fitted on the rest. Rows that the data mark as "test" take no part.

    Args:
        data: as for :func:`descend.train`.
        recipe: what is trained.
        folds: parts of the rows, 2 or more.
        repeats: how often to divide anew.
        seed: folds and runs follow from it; each run has a seed of its own.
        target: the column to predict, or several.
        out: a folder for the run folders; without it nothing is written.
        device: shorthand for the recipe's ``engine.device``.
        sample_weight: a weight per row of ``data``.
        engine: as of :func:`descend.train_many`.
        watchers: who watches.
        allow_imports: whether a recipe file may name import paths.

    Raises:
        UserError: the data or the recipe cannot be used, or there are fewer rows or groups than folds.
        DivergedError: every fold diverged.

    >>> found = cross_validate("iris", {"stop": {"max_epochs": 2}}, folds=3)
    >>> [len(repeat) for repeat in found.scores], found.predictions.shape
    ([3], (1, 150))
    """
    for name, value, least in (("folds", folds, 2), ("repeats", repeats, 1)):
        if not isinstance(value, int) or value < least:
            raise UserError(f"{name}: a whole number, {least} or more, was expected; found {value!r}")
    given: dict[str, Any] = {"target": target, "device": device, "sample_weight": sample_weight}
    plan = Planner(data, allow_imports=allow_imports, **given).plan(recipe, seed)
    source, schema = plan.source, plan.prepared.schema
    rows = np.arange(len(source)) if source.split is None else np.flatnonzero(source.split != "test")
    taken = source.take(rows)
    assert taken.targets is not None  # the plan could not have been made without
    codes = (
        codes_of(check_targets(taken.targets, taken.target_names), schema.classes) if schema.classes else None
    )
    folded = np.stack(
        [fold_of_rows(taken, codes, folds, key(seed, "folds", repeat)) for repeat in range(repeats)]
    )
    parts = [
        {"train": rows[fold_of != fold], "test": rows[fold_of == fold]}
        for fold_of in folded
        for fold in range(folds)
    ]
    runs = train_many(
        [recipe] * len(parts),
        data,
        seeds=range(seed, seed + len(parts)),
        parts=parts,
        out=out,
        engine=engine,
        watchers=watchers,
        allow_imports=allow_imports,
        **given,
    )
    if all(run.failed for run in runs):
        raise DivergedError(f"every fold diverged. The first of them:\n{runs[0].metrics['message']}")
    metric = main_metric(schema.task)
    scores = [None if run.failed else float(run.metrics["test"][metric]) for run in runs]
    return CrossValidation(
        metric,
        [scores[at : at + folds] for at in range(0, len(scores), folds)],
        np.stack(
            [
                _out_of_fold(source, rows, folded[at], runs[at * folds : (at + 1) * folds])
                for at in range(repeats)
            ]
        ),
        rows,
        folded,
        runs,
    )


def fold_of_rows(source: Source, codes: Array | None, folds: int, seed: int) -> Array:
    """The fold of each row, (n,): stratified by class, whole groups together, or both.

    Args:
        source: the rows, with their groups if they have any.
        codes: of their classes; None for regression.
        folds: how many.
        seed: of the shuffling.

    Raises:
        UserError: there are fewer rows or groups than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    n, groups = len(source), source.groups
    count, what = (n, "rows") if groups is None else (len(np.unique(groups.astype(str))), "groups")
    if count < folds:
        raise UserError(f"{count} {what} cannot be divided into {folds} folds")
    kinds = {
        (False, False): KFold,
        (True, False): StratifiedKFold,
        (False, True): GroupKFold,
        (True, True): StratifiedGroupKFold,
    }
    # Where a class has fewer rows than there are folds, some folds lack it, and scikit-learn would refuse.
    stratified = codes is not None and bool(np.bincount(codes).max() >= folds)
    divide = kinds[stratified, groups is not None](folds, shuffle=True, random_state=seed % 2**32)
    labels = codes if stratified else None
    found = np.empty(n, dtype=np.int64)
    for fold, (_, left_out) in enumerate(
        divide.split(np.zeros(n), labels, None if groups is None else groups.astype(str))
    ):
        found[left_out] = fold
    return found


def _out_of_fold(source: Source, rows: Array, fold_of: Array, runs: Sequence[Run]) -> Array:
    """Predictions of each row by the run that left it out."""
    found: Array | None = None
    for fold, run in enumerate(runs):
        if run.failed:
            continue
        places = np.flatnonzero(fold_of == fold)
        predicted = run.predictor.predict(_inputs(source, rows[places]))
        if found is None:
            lost = any(one.failed for one in runs)
            number = predicted.dtype.kind == "f"
            found = np.full(
                (len(rows), *predicted.shape[1:]),
                np.nan if number else None if lost else predicted[0],
                dtype=object if lost and not number else predicted.dtype,
            )
        found[places] = predicted
    return np.full(len(rows), None, dtype=object) if found is None else found


def _inputs(source: Source, rows: Array) -> Any:
    """Rows without their targets, as prediction takes them."""
    if source.dataset is not None:
        return np.stack([np.asarray(source.dataset[int(row)][0]) for row in rows])
    return source.take(rows)
