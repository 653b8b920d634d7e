"""Base class of the classifier and the regressor."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from rich.console import Console
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from descend.data.arrays import from_arrays
from descend.data.frames import is_frame
from descend.data.source import Array, Source
from descend.errors import Interrupted, Problem, RecipeError
from descend.estimators.fitting import train_complete
from descend.estimators.parameters import RECIPE_KEYS, Sections, sections_of
from descend.estimators.partial_fit import State, class_weighted_pass, initial_run, train_pass
from descend.estimators.problems import in_own_words
from descend.estimators.validation import validate_inputs, validate_weights
from descend.metrics import main_metric
from descend.process import undisturbed
from descend.recipe import Recipe
from descend.runs.run import Run
from descend.training.evaluation import EVALUATION_BATCH_SIZE, evaluating
from descend.training.loop import Observer
from descend.training.progress import ProgressBar

__all__ = ["Network"]


class Network(BaseEstimator, metaclass=ABCMeta):  # type: ignore[misc]  # scikit-learn has no types
    """Base class of the estimators: parameters, training, raw outputs. See :class:`descend.Classifier`."""

    run_: Run
    _state: State | None

    def __init__(
        self,
        *,
        hidden: int | Sequence[int] | None = None,
        activation: Any = None,
        norm: Any = None,
        dropout: float | None = None,
        optimizer: Any = None,
        lr: float | None = None,
        schedule: Any = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        patience: int | str | None = None,
        validation_fraction: float | None = None,
        scale: str | None = None,
        preset: str | None = None,
        minutes: float | None = None,
        refit: bool | None = None,
        recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.norm = norm
        self.dropout = dropout
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.scale = scale
        self.preset = preset
        self.minutes = minutes
        self.refit = refit
        self.recipe = recipe
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    @abstractmethod
    def _task(self) -> str:
        """Name of the task in a recipe."""

    @abstractmethod
    def _validate_targets(self, targets: Any) -> Array:
        """Return the validated targets."""

    @undisturbed
    @in_own_words
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train from scratch.

        Args:
            X: features (n, d), as an array or a data frame of pandas, polars or pyarrow. Columns may contain numbers,
                strings, categories, booleans and dates, and values may be missing. uint8 arrays (n, H, W) or
                (n, C, H, W) are images; other arrays with three or more dimensions are used as they are.
            y: targets (n,), or (n, T) for regression on several targets, or (n, L) of 0 and 1 for several labels.
            sample_weight: (n,), 0 or more. A weight of 2 is equivalent to repeating the row and a weight of 0 to
                leaving it out, bit for bit.

        Returns:
            The estimator itself.

        Raises:
            ValueError: invalid data or parameters; the message states what was expected.
            DivergedError: a number became NaN or infinite.
        """
        source, weights = self._source(X, y, sample_weight, reset=True, min_rows=2)
        sections, seed = self._sections(), self._seed_value()
        try:
            run = train_complete(source, weights, sections, seed, self._observers(source))
        except Interrupted as stop:
            raise KeyboardInterrupt(
                str(stop)
            ) from stop  # which ends a search over many fits, unlike other exceptions
        self._seed, self._state = seed, None
        self._store(run)
        return self

    @undisturbed
    @in_own_words
    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Array | None) -> Self:
        _check_single(self._sections())
        first = not hasattr(self, "run_")
        source, weights = self._source(X, y, sample_weight, reset=first, min_rows=2 if first else 1)
        known = classes if first else self.run_.schema.labels
        weights = class_weighted_pass(self._sections(), source, weights, known)
        if first:
            seed = self._seed_value()
            run = initial_run(dataclasses.replace(source, classes=classes), weights, self._sections(), seed)
            self._seed, self._state = seed, None
        else:
            run = self.run_
        has_schedule = bool(self._sections().get("schedule"))
        self._state = train_pass(run, source, weights, self._state, self._seed, keep_schedule=has_schedule)
        self._store(run)
        return self

    def _source(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, min_rows: int
    ) -> tuple[Source, Array | None]:
        names = _target_names(y)
        inputs = validate_inputs(self, X, reset=reset, min_rows=min_rows)
        targets = self._validate_targets(y)
        weights = validate_weights(sample_weight, inputs, targets)
        return from_arrays(inputs, targets, name=type(self).__name__, target_names=names), weights

    def _sections(self) -> Sections:
        return sections_of({name: getattr(self, name, None) for name in ("recipe", *RECIPE_KEYS)}, self._task)

    def _seed_value(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _observers(self, source: Source) -> list[Observer]:
        if not self.verbose:
            return []
        several = source.targets is not None and source.targets.ndim == 2
        task = ("multi_label" if several else "binary") if self._task == "classification" else "regression"
        return [ProgressBar(Console(stderr=True), main_metric(task))]

    def _store(self, run: Run) -> None:
        self.run_ = run
        self.model_ = run.model
        self.recipe_ = run.recipe
        self.history_ = run.history
        self.loss_curve_ = [record["train"]["loss"] for record in run.history]
        self.n_iter_ = len(run.history)

    def _outputs(self, X: Any) -> Tensor:
        """Return raw outputs of the network, float64 (n, K), on the CPU.

        They are computed with float64 copies of the weights: in float32 the last digits of a row's result depend on the
        number of rows in the matrix product, and predictions should not depend on the other rows.
        """
        check_is_fitted(self)
        rows = self.run_.schema.matrix(validate_inputs(self, X, reset=False))
        model, preprocess = self.run_.predictor.network, self.run_.preprocess
        device = next(model.parameters()).device
        kind = torch.float64 if _supports_float64(model) and device.type in ("cpu", "cuda") else torch.float32
        if kind == torch.float64:
            model = copy.deepcopy(model).double()
        with evaluating(model):
            pieces = [
                model(preprocess(piece).to(device, kind)).cpu()
                for piece in torch.split(rows, EVALUATION_BATCH_SIZE)
            ]
        return torch.cat(pieces).double()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Tags describe arrays: there is none for the contents of a data frame. `string` is for estimators that accept
        # any object in an array, whereas a cell must be a number or a string here.
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags


def _check_single(sections: Sections) -> None:
    """Refuse recipes of several networks, which are compared at the end of their training; passes have no end."""
    problems = [
        Problem(section, key, "partial_fit trains one network, pass by pass", f"use fit, or {one}")
        for section, key, one in (
            ("model", "preset", '"quick"'),
            ("model", "ensemble", "1"),
            ("model", "members", "none"),
            ("init", "restarts", "1"),
        )
        if sections.get(section, {}).get(key, 1) not in (1, "auto", "quick", (), [])
    ]
    if sections.get("stop", {}).get("refit"):
        problems.append(Problem("stop", "refit", "partial_fit has no rows but those of a pass", "use fit"))
    if problems:
        raise RecipeError(problems)


def _supports_float64(model: nn.Module) -> bool:
    """Return whether float64 is certain to work for all modules."""
    packages = {type(module).__module__.partition(".")[0] for module in model.modules()}
    return packages <= {"torch", "descend"}


def _target_names(targets: Any) -> tuple[str, ...] | None:
    """Return the names of a data frame or series."""
    if is_frame(targets):
        return tuple(map(str, getattr(targets, "column_names", None) or targets.columns))
    name = getattr(targets, "name", None)
    return (str(name),) if isinstance(name, str) and name else None
