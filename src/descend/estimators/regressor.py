"""The regressor."""

from __future__ import annotations

from typing import Any, Literal, Self, overload

from sklearn.base import RegressorMixin

from descend.data.source import Array
from descend.errors import UserError
from descend.estimators.network import Network
from descend.estimators.validation import validate_numbers

__all__ = ["Regressor"]


class Regressor(RegressorMixin, Network):  # type: ignore[misc]  # scikit-learn has no types
    """A neural network for regression on one or several targets, as a scikit-learn estimator.

    Parameters, attributes and behavior are those of :class:`descend.Classifier`, without classes. Targets are
    standardized for training, and predictions are in their units.

    Args:
        hidden, activation, norm, dropout, optimizer, lr, schedule, weight_decay, batch_size, max_epochs, patience,
            validation_fraction, scale, preset, minutes, refit, device: keys of the recipe, see :class:`descend.Classifier`. All
            default to None.
        recipe: a :class:`descend.Recipe`, a mapping of its sections, or a TOML file.
        random_state: the seed; equal seeds give bit-identical fits. None samples one from NumPy's global generator.
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

    def _validate_targets(self, targets: Any) -> Array:
        return validate_numbers(self, targets)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one pass over some rows, from the state of the previous call or of ``fit``.

        The first call fits columns and the scaling of inputs and targets on its rows, which should be representative,
        reads the parameters, and builds the network; later calls continue with the same optimizer. The learning rate
        is constant unless a schedule is specified.

        Args:
            X: features.
            y: targets (n,) or (n, T).
            sample_weight: weights, in proportion to which rows are sampled.
        """
        return self._partial_fit(X, y, sample_weight, None)

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> Array: ...

    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[Array, Array]: ...

    def predict(self, X: Any, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Return predictions in the units of the targets, float64 (n,) or (n, T).

        Args:
            X: features.
            return_std: whether to return (predictions, standard deviations), for losses that predict a distribution:
                ``gaussian``, ``poisson`` and ``negative_binomial``. Default False.

        Raises:
            UserError: ``return_std`` with another loss.
        """
        outputs = self._outputs(X)
        predictor = self.run_.predictor
        predicted = self.run_.schema.decode(predictor.finished(outputs), predictor.form)
        if not return_std:
            return predicted
        needs = "return_std needs a loss that predicts a standard deviation: recipe={'loss': 'gaussian'}, or for counts "
        try:
            found = self.run_.distribution_of(outputs)
        except UserError as cause:
            raise UserError(f"{needs}'poisson' or 'negative_binomial'") from cause
        if "standard_deviation" not in found:
            raise UserError(f"{needs}'poisson' or 'negative_binomial'")
        return predicted, found["standard_deviation"]
