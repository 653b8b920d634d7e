"""The regressor."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import RegressorMixin

from descend.data.source import Array
from descend.estimators.validation import checked_numbers
from descend.estimators.network import Network

__all__ = ["Regressor"]


class Regressor(RegressorMixin, Network):  # type: ignore[misc]  # scikit-learn has no types
    """A neural network that predicts one or several numbers, as a scikit-learn estimator.

    Parameters, attributes and behaviour are those of :class:`descend.Classifier`, without classes. Targets
    are standardised for training and predictions are in their units.

    Args: hidden, activation, norm, dropout, optimizer, lr, schedule, weight_decay, batch_size, max_epochs,
        patience,
            validation_fraction, scale, device: keys of the recipe, see :class:`descend.Classifier`. All
            default to None.
        recipe: a :class:`descend.Recipe`, a mapping of its sections, or a TOML file, for everything else.
        random_state: the seed, for the same bits at every fit; None draws one from NumPy's global generator.
        verbose: whether to show a progress bar.

    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> model = Regressor(hidden=(32, 32), lr=0.02, random_state=0).fit(X, np.column_stack([X, X**2]))
    >>> model.predict([[0.5]]).shape, bool(model.score(X, np.column_stack([X, X**2])) > 0.9)
    ((1, 2), True)
    """

    @property
    def _task(self) -> str:
        return "regression"

    def _checked_targets(self, targets: Any) -> Array:
        return checked_numbers(self, targets)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one pass over some rows, where ``fit`` or the call before left off.

        The first call fixes columns and the scaling of inputs and targets by its rows, which should be like
        those to come, reads the parameters, and builds the network; later calls go on with the same
        optimizer. The rate is constant unless a schedule is asked for.

        Args:
            X: features.
            y: targets (n,) or (n, T).
            sample_weight: rows are drawn in proportion to their weights.
        """
        return self._partial_fit(X, y, sample_weight, None)

    def predict(self, X: Any) -> Array:
        """Predictions in the targets' units, float64 (n,) or (n, T)."""
        outputs = self._outputs(X)
        predictor = self.run_.predictor
        return self.run_.schema.decode(predictor.finished(outputs), predictor.form)
