"""Ensemble of networks that averages their predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.nn.outputs import Link, inverse_positive, positive

__all__ = ["Ensemble", "mean_outputs"]


@final
class Ensemble(nn.Module):
    """Ensemble of networks, which predicts the mean of their predictions, or their weighted mean.

    The ensemble averages the predictions p_m = σ(z_m), which are values or probabilities, and returns raw outputs z with
    σ(z) = mean_m p_m, so that losses, labels and export work as for a single network:

    - softmax: z = log mean_m softmax(z_m), computed as logsumexp_m log_softmax(z_m) - log M;
    - sigmoid, of one class or of each label: z = log (Σ_m σ(z_m) / Σ_m σ(-z_m)), as logsumexp_m log σ(z_m) -
      logsumexp_m log σ(-z_m);
    - sine: z = arcsin mean_m sin z_m;
    - identity: z = mean_m z_m; quantiles likewise, and the output activation sorts the means;
    - exp: z = log mean_m exp z_m;
    - normal distributions: the mean and the variance of the mixture, mean_m μ_m and mean_m (v_m + μ_m²) - μ²;
    - negative binomial distributions: the mean and, through the dispersion, the variance of the mixture.

    The first two stay finite and exact where probabilities round to 0 or 1. By the convexity of -log, the
    cross-entropy of the mean is at most the mean of the networks' cross-entropies. The same holds for squared errors.

    Shapes: those of each network, (n, ...) → (n, K).

    Args:
        members: the M networks.
        link: the link of the output activation (:mod:`descend.nn.outputs`).
        weights: the M weights of the mean, positive; they are divided by their sum. Default None: equal weights.

    >>> confident, uniform = nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False)
    >>> _ = confident.weight.data.copy_(torch.tensor([[200.0], [0.0]])), uniform.weight.data.zero_()
    >>> torch.softmax(Ensemble([confident, uniform], "logit")(torch.ones(1, 1)), 1)
    tensor([[0.7500, 0.2500]], grad_fn=<SoftmaxBackward0>)

    Source: Hansen and Salamon, "Neural network ensembles", 1990; Lakshminarayanan et al., "Simple and scalable
    predictive uncertainty estimation using deep ensembles", 2017.
    """

    weights: Tensor | None

    def __init__(
        self, members: Sequence[nn.Module], link: Link, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.link = link
        self.register_buffer("weights", None if weights is None else torch.tensor(weights) / sum(weights))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the raw outputs of the mean prediction."""
        return mean_outputs(torch.stack([member(inputs) for member in self.members]), self.link, self.weights)

    def extra_repr(self) -> str:
        """Return the link for the printed model."""
        return f"link={self.link}"


def mean_outputs(outputs: Tensor, link: Link, weights: Tensor | None = None) -> Tensor:
    """Return raw outputs whose prediction is the mean of those of several networks; see :class:`Ensemble`.

    Args:
        outputs: raw outputs (M, n, K).
        link: the link of the output activation.
        weights: (M,), with sum 1, or None for equal weights.

    >>> mean_outputs(torch.tensor([[[0.0]], [[4.0]]]), "identity", torch.tensor([0.75, 0.25]))
    tensor([[1.]])
    """
    if link in ("identity", "quantiles"):
        return _mean(outputs, weights)
    if link == "log":
        return _log_mean(outputs, weights)
    if link == "gaussian":
        return _gaussian(outputs, weights)
    if link == "negative_binomial":
        return _negative_binomial(outputs, weights)
    if link == "arcsine":
        return torch.arcsin(_mean(torch.sin(outputs), weights))
    if link == "logits" or outputs.shape[-1] == 1:
        return _log_mean(F.logsigmoid(outputs), weights) - _log_mean(F.logsigmoid(-outputs), weights)
    return _log_mean(F.log_softmax(outputs, -1), weights)


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean(0) if weights is None else torch.tensordot(weights, values, 1)


def _log_mean(logarithms: Tensor, weights: Tensor | None) -> Tensor:
    """Return the logarithm of the mean of exp."""
    if weights is None:
        return torch.logsumexp(logarithms, 0) - math.log(len(logarithms))
    return torch.logsumexp(logarithms + weights.log().reshape(-1, *[1] * (logarithms.dim() - 1)), 0)


def _gaussian(outputs: Tensor, weights: Tensor | None) -> Tensor:
    """Return the raw outputs of the normal distribution with the mixture's mean and variance."""
    means, raw = outputs.chunk(2, -1)
    mean = _mean(means, weights)
    variance = _mean(positive(raw), weights) + _mean((means - mean).square(), weights)
    return torch.cat([mean, inverse_positive(variance)], -1)


def _negative_binomial(outputs: Tensor, weights: Tensor | None) -> Tensor:
    """Return the raw outputs of the negative binomial distribution with the mixture's mean and variance.

    A variance m + a m² of each network gives that of the mixture as m̄ + (mean_m (1 + a_m) r_m² - 1) m̄², r = m / m̄.
    """
    logs, raw = outputs.chunk(2, -1)
    mean = _log_mean(logs, weights)
    dispersion = _mean((1.0 + positive(raw)) * torch.exp(2.0 * (logs - mean)), weights) - 1.0
    return torch.cat([mean, inverse_positive(dispersion)], -1)
