"""The classifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin

from descend.data.source import Array
from descend.errors import UserError
from descend.estimators.validation import checked_labels
from descend.estimators.network import Network

__all__ = ["Classifier"]


class Classifier(ClassifierMixin, Network):  # type: ignore[misc]  # scikit-learn has no types
    """A neural network that tells classes apart, as a scikit-learn estimator.

    Each parameter stands for a key of the recipe; None leaves it to the recipe, and what the recipe does
    not say is chosen for the data (``recipe_`` shows all of it). Everything else is reached through
    ``recipe``:

    ========================  ================================  ==============================================
    parameter                 key of the recipe                 examples
    ========================  ================================  ==============================================
    ``hidden``                ``model.hidden``                  64, (256, 256)
    ``activation``            ``model.activation``              "relu", "silu", {"name": "elu", "alpha": 0.5}
    ``norm``                  ``model.norm``                    "none", "batch", "layer"
    ``dropout``               ``model.dropout``                 0.1, the probability to drop
    ``optimizer``             ``optimizer``                     "adamw", {"name": "sgd", "momentum": 0.9}
    ``lr``                    ``optimizer.lr``                  1e-3
    ``schedule``              ``schedule``                      "cosine", {"name": "staircase", "every": 5}
    ``weight_decay``          ``regularize.weight_decay``       0.01
    ``batch_size``            ``data.batch_size``               64
    ``max_epochs``            ``stop.max_epochs``               100
    ``patience``              ``stop.patience``                 20, "none" to never stop early
    ``validation_fraction``   ``data.validation``               0.15, 0 for none
    ``scale``                 ``data.scale``                    "standard", "minmax", "zca", "none"
    ``device``                ``engine.device``                 "cpu", "cuda"
    ========================  ================================  ==============================================

    Args: hidden, activation, norm, dropout, optimizer, lr, schedule, weight_decay, batch_size, max_epochs,
        patience,
            validation_fraction, scale, device: see above. All default to None.
        recipe: a :class:`descend.Recipe`, a mapping of its sections, or a TOML file, for everything else.
        random_state: the seed, for the same bits at every fit; None draws one from NumPy's global generator.
        verbose: whether to show a progress bar.

    Attributes:
        classes_: the labels, sorted, in the dtype they came in; those of rows with a weight above 0.
        model_: the network, a plain ``torch.nn.Module`` from encoded rows to raw outputs.
        run_: the :class:`descend.Run`: predict, evaluate, export, save a run folder.
        recipe_: the recipe with every key filled in.
        history_: a record for each epoch.
        loss_curve_: the training loss of each epoch.
        n_iter_: epochs done.
        n_features_in_, feature_names_in_: of the training data.

    Validation and stopping: from 40 different inputs on, a share of them is held out to choose the best
    epoch. With fewer, or ``validation_fraction=0``, all rows train for ``max_epochs`` epochs.

    Weights: rows are learned from as a weighted set, see :mod:`descend.estimators.weighted_set`, so that a
    weight of k and k copies give the same bits, and batches draw rows by weight, see
    :mod:`descend.estimators.weighted_batches`.

    Threads: a small network uses one thread, a large one as many as ``torch.get_num_threads()`` says, so
    that the number, on which the last bits depend, is the same at every fit. ``recipe={"engine":
    {"threads": n}}`` sets it.

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

    @property
    def _task(self) -> str:
        return "classification"

    def _checked_targets(self, targets: Any) -> Array:
        return checked_labels(self, targets)

    def _keep(self, run: Any) -> None:
        super()._keep(run)
        self.classes_ = run.schema.labels

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over some rows, where ``fit`` or the call before left off.

        The first call fixes columns and scaling by its rows, which should be like those to come, reads the
        parameters, and builds the network; later calls go on with the same optimizer. The rate is constant
        unless a schedule is asked for. After ``fit`` training goes on from the fitted weights.

        Args:
            X: features.
            y: labels.
            classes: all labels that will ever occur; needed in the first call of an estimator not fitted yet.
            sample_weight: rows are drawn in proportion to their weights.

        Raises:
            ValueError: no classes at first, other classes than at first, or data as for :meth:`fit`.
        """
        known = getattr(self, "classes_", None)
        if known is None and classes is None:
            raise UserError("classes must be passed on the first call to partial_fit.")
        named = None if classes is None else np.unique(np.asarray(classes))
        if known is not None and named is not None and not np.array_equal(named, known):
            raise UserError(f"classes={named.tolist()} are not those of before, {known.tolist()}")
        return self._partial_fit(X, y, sample_weight, named)

    def predict(self, X: Any) -> Array:
        """The most probable class of each row, (n,), in the dtype of the labels."""
        probabilities = self.predict_proba(X)
        chosen: Array = self.classes_[probabilities.argmax(axis=1)]
        return chosen

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, float64 (n, K), in the order of ``classes_``."""
        outputs = self._outputs(X)
        predictor = self.run_.predictor
        return self.run_.schema.probabilities(predictor.finished(outputs), predictor.form).numpy()

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of :meth:`predict_proba`, (n, K)."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))
