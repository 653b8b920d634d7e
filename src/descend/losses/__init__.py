"""Loss functions, averaged over rows.

Each loss is a module called as ``loss(outputs, targets, weights=None)``. It returns the mean over rows, or with
weights Σ w_i ℓ_i / Σ w_i; ``loss.per_sample(outputs, targets)`` returns the ℓ_i, shape (n,). ``loss.form`` is
the expected form of the outputs: ``"values"`` and ``"logits"`` are raw outputs of a model, ``"probabilities"`` are
outputs of an output activation. Losses of form ``"logits"`` compute log σ and log softmax of the logits, which
stay finite where the logarithm of a rounded probability is −∞; :meth:`Loss.on_probabilities` returns the same
loss for outputs that are probabilities without logits, such as those of the sine activation.

Targets are float (n, T) for regression, float (n,) in [0, 1] for binary, float (n, L) in [0, 1] for several labels, and
int64 (n,) in 0…K−1 or distributions (n, K) for multiclass problems. For regression they are standardized, or in their own
units where ``loss.target_space`` is ``"raw"``. A loss with ``loss.blocks`` above 1 takes several outputs per target, and
``loss.distribution`` returns what they describe.
"""

from __future__ import annotations

from collections.abc import Callable

from descend.losses.base import Form, Loss
from descend.losses.classification import BinaryCrossEntropy, CrossEntropy, KullbackLeibler, Squared
from descend.losses.counts import NegativeBinomial, Poisson
from descend.losses.focal import Focal
from descend.losses.gaussian import Gaussian
from descend.losses.quantile import Quantile
from descend.losses.regression import Huber, MeanAbsoluteError, MeanSquaredError
from descend.losses.transport import Wasserstein

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Focal",
    "Form",
    "Gaussian",
    "Huber",
    "KullbackLeibler",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "NegativeBinomial",
    "Poisson",
    "Quantile",
    "Squared",
    "Wasserstein",
]

LOSSES: dict[str, Callable[..., Loss]] = {
    "mse": MeanSquaredError,
    "l1": MeanAbsoluteError,
    "huber": Huber,
    "bce": BinaryCrossEntropy,
    "squared": Squared,
    "cross_entropy": CrossEntropy,
    "kl": KullbackLeibler,
    "wasserstein": Wasserstein,
    "quantile": Quantile,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "gaussian": Gaussian,
    "focal": Focal,
}
