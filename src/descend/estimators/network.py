"""What the classifier and the regressor share."""

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
from descend.errors import Interrupted
from descend.estimators.parameters import PLACES, Sections, asked
from descend.estimators.validation import checked_inputs, checked_weights
from descend.estimators.fitting import train_whole
from descend.estimators.partial_fit import State, begin, pass_over
from descend.metrics import main_metric
from descend.recipe import Recipe
from descend.runs.run import Run
from descend.training.evaluation import EVALUATION_BATCH_SIZE, evaluating
from descend.training.loop import Observer
from descend.training.progress import ProgressBar

__all__ = ["Network"]


class Network(BaseEstimator, metaclass=ABCMeta):  # type: ignore[misc]  # scikit-learn has no types
    """Base of the estimators: parameters, training, raw outputs. See :class:`descend.Classifier`."""

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
        self.recipe = recipe
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @property
    @abstractmethod
    def _task(self) -> str:
        """What a recipe calls the task."""

    @abstractmethod
    def _checked_targets(self, targets: Any) -> Array:
        """The targets, if they are of the estimator's kind."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train from scratch.

        Args:
            X: features (n, d), as an array or a data frame of pandas, polars or pyarrow; columns may hold
                numbers, texts, categories, truth values and dates, and values may be missing. uint8 (n, H,
                W) or (n, C, H, W) are images, other arrays of three dimensions or more are taken as they
                are.
            y: targets (n,), or (n, T) to regress on several.
            sample_weight: (n,), 0 or more. A weight of 2 means the row twice and a weight of 0 means without
                the row, exactly: the fit is the same bits.

        Returns:
            The estimator itself.

        Raises:
            ValueError: data or parameters that cannot be used, each with what was expected.
            DivergedError: a number became NaN or infinite.
        """
        source, weights = self._source(X, y, sample_weight, reset=True, least=2)
        sections, seed = self._asked(), self._drawn_seed()
        try:
            run = train_whole(source, weights, sections, seed, self._observers(source))
        except Interrupted as stop:
            raise KeyboardInterrupt(str(stop)) from stop  # as a search over many fits expects it
        self._seed, self._state = seed, None
        self._keep(run)
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Array | None) -> Self:
        first = not hasattr(self, "run_")
        source, weights = self._source(X, y, sample_weight, reset=first, least=2 if first else 1)
        if first:
            seed = self._drawn_seed()
            run = begin(dataclasses.replace(source, classes=classes), weights, self._asked(), seed)
            self._seed, self._state = seed, None
        else:
            run = self.run_
        said = bool(self._asked().get("schedule"))
        self._state = pass_over(run, source, weights, self._state, self._seed, keep_schedule=said)
        self._keep(run)
        return self

    def _source(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, least: int
    ) -> tuple[Source, Array | None]:
        names = _target_names(y)
        inputs = checked_inputs(self, X, reset=reset, least=least)
        targets = self._checked_targets(y)
        weights = checked_weights(sample_weight, inputs, targets)
        return from_arrays(inputs, targets, name=type(self).__name__, target_names=names), weights

    def _asked(self) -> Sections:
        return asked({name: getattr(self, name) for name in ("recipe", *PLACES)}, self._task)

    def _drawn_seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _observers(self, source: Source) -> list[Observer]:
        if not self.verbose:
            return []
        task = "binary" if self._task == "classification" else "regression"
        return [ProgressBar(Console(stderr=True), main_metric(task))]

    def _keep(self, run: Run) -> None:
        self.run_ = run
        self.model_ = run.model
        self.recipe_ = run.recipe
        self.history_ = run.history
        self.loss_curve_ = [record["train"]["loss"] for record in run.history]
        self.n_iter_ = len(run.history)

    def _outputs(self, X: Any) -> Tensor:
        """Raw outputs of the network, float64 (n, K), on the CPU.

        Computed with float64 copies of the weights: in float32 the last digits of a row's result depend on
        how many rows the matrix product handles together, and predictions should not depend on the rows
        beside them.
        """
        check_is_fitted(self)
        rows = self.run_.schema.matrix(checked_inputs(self, X, reset=False))
        model, preprocess = self.run_.model, self.run_.preprocess
        device = next(model.parameters()).device
        kind = torch.float64 if _ours(model) and device.type in ("cpu", "cuda") else torch.float32
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
        # Tags speak of arrays: what a data frame may hold beyond numbers has no tag. `string` is for
        # estimators that take any object in an array, and a cell here must be a number or a text.
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags


def _ours(model: nn.Module) -> bool:
    """Whether all modules are such that float64 is sure to work."""
    homes = {type(module).__module__.partition(".")[0] for module in model.modules()}
    return homes <= {"torch", "descend"}


def _target_names(targets: Any) -> tuple[str, ...] | None:
    """Names that a data frame or a series brings."""
    if is_frame(targets):
        return tuple(map(str, getattr(targets, "column_names", None) or targets.columns))
    name = getattr(targets, "name", None)
    return (str(name),) if isinstance(name, str) and name else None
