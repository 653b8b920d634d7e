"""The classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin

from descend.data.source import Array
from descend.errors import UserError
from descend.estimators.network import Network
from descend.estimators.validation import validate_labels
from descend.recipe import Recipe

__all__ = ["Classifier"]


class Classifier(ClassifierMixin, Network):  # type: ignore[misc]  # scikit-learn has no types
    """A neural network classifier, as a scikit-learn estimator.

    Each parameter sets a key of the recipe; None leaves the value of ``recipe``, and keys that are not specified are
    chosen for the data (``recipe_`` contains all of them). All other keys are set through ``recipe``:

    ========================  ================================  ==============================================
    parameter                 key of the recipe                 examples
    ========================  ================================  ==============================================
    ``hidden``                ``model.hidden``                  64, (256, 256)
    ``activation``            ``model.activation``              "relu", "silu", {"name": "elu", "alpha": 0.5}
    ``norm``                  ``model.norm``                    "none", "batch", "layer"
    ``dropout``               ``model.dropout``                 0.1, the probability of dropping a unit
    ``optimizer``             ``optimizer``                     "adamw", {"name": "sgd", "momentum": 0.9}
    ``lr``                    ``optimizer.lr``                  1e-3
    ``schedule``              ``schedule``                      "cosine", {"name": "staircase", "every": 5}
    ``weight_decay``          ``regularize.weight_decay``       0.01
    ``batch_size``            ``data.batch_size``               64
    ``max_epochs``            ``stop.max_epochs``               100
    ``patience``              ``stop.patience``                 20, "none" for no early stopping
    ``validation_fraction``   ``data.validation``               0.15, 0 for no validation part
    ``scale``                 ``data.scale``                    "standard", "minmax", "zca", "none"
    ``preset``                ``model.preset``                  "quick": one network; "good", "best": ensembles
    ``minutes``               ``model.minutes``                 10, the time of the preset "best"
    ``refit``                 ``stop.refit``                    train again on all rows
    ``device``                ``engine.device``                 "cpu", "cuda"
    ``class_weight``          ``data.class_weights``            "balanced", {"rare": 5.0}
    ========================  ================================  ==============================================

    Args:
        hidden, activation, norm, dropout, optimizer, lr, schedule, weight_decay, batch_size, max_epochs, patience,
            validation_fraction, scale, preset, minutes, refit, device, class_weight: see above. All default to None.
        recipe: a :class:`descend.Recipe`, a mapping of its sections, or a TOML file.
        random_state: the seed; equal seeds give bit-identical fits. None samples one from NumPy's global generator.
        verbose: whether to show a progress bar.

    Several labels: ``y`` may have several columns that contain 0 and 1 only. Then each column is a label that holds or not;
    ``predict`` and ``predict_proba`` return (n, L), and ``classes_`` are the numbers of the columns, as in scikit-learn.

    Attributes:
        classes_: the sorted labels of rows with positive weight, in their own dtype.
        model_: the network, a ``torch.nn.Module`` from encoded rows to raw outputs.
        run_: the :class:`descend.Run`, for prediction, evaluation, export and saving.
        recipe_: the recipe with every key filled in.
        history_: a record for each epoch.
        loss_curve_: the training loss of each epoch.
        n_iter_: number of epochs trained.
        n_features_in_, feature_names_in_: of the training data.

    One network or several: where the parameters and ``recipe`` specify nothing about the network and its training, several
    different networks are trained on a table, and the mean of those that are best together on the validation rows is the
    model (:mod:`descend.recipe.presets`). ``preset="quick"``, or any setting of the network or its training, such as
    ``hidden`` or ``max_epochs``, trains one network.

    Validation and stopping: with 40 distinct inputs or more, a fraction of them is held out to choose the best epoch.
    With fewer, or with ``validation_fraction=0``, all rows are trained on for ``max_epochs`` epochs. With ``refit=True`` the
    network is then trained again on all rows, for the number of epochs that was best (:mod:`descend.many.refit`).

    Weights: rows are treated as a weighted set, see :mod:`descend.estimators.weighted_set`, so that a weight of k and k
    copies give bit-identical results, and batches sample rows by weight, see
    :mod:`descend.estimators.weighted_batches`.

    Weights of classes: ``class_weight`` multiplies the weights of the training rows, as in scikit-learn, where "balanced"
    counts the training rows with their weights. Probabilities are those of the weighted classes, see
    :class:`descend.data.settings.DataSettings`. Columns of labels take ``recipe={"loss.pos_weight": ...}`` instead.

    Threads: a small network uses one thread, a large one ``torch.get_num_threads()``, so that the number, on which the
    last bits depend, is the same at every fit. ``recipe={"engine": {"threads": n}}`` sets it.

    >>> import numpy as np
    >>> X = np.array([[1.0, np.nan], [2.0, 0.5], [8.0, 0.7], [9.0, 0.1]] * 5)
    >>> y = np.array(["low", "low", "high", "high"] * 5)
    >>> model = Classifier(hidden=16, lr=0.01, random_state=0).fit(X, y)
    >>> model.predict([[1.5, 0.3], [8.5, np.nan]]).tolist()
    ['low', 'high']
    >>> model.classes_.tolist(), model.predict_proba(X).shape
    (['high', 'low'], (20, 2))
    """

    classes_: Array

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
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            hidden=hidden,
            activation=activation,
            norm=norm,
            dropout=dropout,
            optimizer=optimizer,
            lr=lr,
            schedule=schedule,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            patience=patience,
            validation_fraction=validation_fraction,
            scale=scale,
            preset=preset,
            minutes=minutes,
            refit=refit,
            recipe=recipe,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    @property
    def _task(self) -> str:
        return "classification"

    def _validate_targets(self, targets: Any) -> Array:
        return validate_labels(self, targets)

    def _store(self, run: Any) -> None:
        super()._store(run)
        several = run.schema.task == "multi_label"
        self.classes_ = np.arange(run.schema.outputs) if several else run.schema.labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over some rows, from the state of the previous call or of ``fit``.

        The first call fits columns and scaling on its rows, which should be representative, reads the parameters, and
        builds the network; later calls continue with the same optimizer. The learning rate is constant unless a
        schedule is specified. After ``fit`` training continues from the fitted weights.

        Args:
            X: features.
            y: labels.
            classes: all labels that will ever occur; required in the first call unless the estimator is fitted or ``y`` has
                several columns.
            sample_weight: weights, in proportion to which rows are sampled.

        Raises:
            ValueError: missing classes in the first call, classes that differ from the first call, or invalid data as
                for :meth:`fit`.
        """
        known = getattr(self, "classes_", None)
        if np.ndim(y) == 2 and np.shape(y)[1] > 1:
            return self._partial_fit(X, y, sample_weight, np.array([0, 1]) if known is None else None)
        if known is None and classes is None:
            raise UserError("classes must be passed on the first call to partial_fit.")
        named = None if classes is None else np.unique(np.asarray(classes))
        if known is not None and named is not None and not np.array_equal(named, known):
            raise UserError(f"classes: expected {known.tolist()}, as in the first call, got {named.tolist()}")
        return self._partial_fit(X, y, sample_weight, named)

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each row, (n,), in the dtype of the labels; or for several labels 0 or 1, (n, L)."""
        if hasattr(self, "run_") and self.run_.schema.task == "multi_label":
            predictor = self.run_.predictor
            return self.run_.schema.decode(predictor.finished(self._outputs(X)), predictor.form)
        probabilities = self.predict_proba(X)
        chosen: Array = self.classes_[probabilities.argmax(axis=1)]
        return chosen

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities, float64: of the classes (n, K) in the order of ``classes_``, or that labels hold, (n, L)."""
        outputs = self._outputs(X)
        predictor = self.run_.predictor
        return self.run_.schema.probabilities(predictor.finished(outputs), predictor.form).numpy()

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of :meth:`predict_proba`, (n, K)."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))
