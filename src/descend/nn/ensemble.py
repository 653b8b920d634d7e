"""Ensemble of networks that averages their predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.nn.outputs import Link, inverse_positive, positive

__all__ = ["Ensemble"]


@final
class Ensemble(nn.Module):
    """Ensemble of networks, which predicts the mean of their predictions.

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

    >>> confident, uniform = nn.Linear(1, 2, bias=False), nn.Linear(1, 2, bias=False)
    >>> _ = confident.weight.data.copy_(torch.tensor([[200.0], [0.0]])), uniform.weight.data.zero_()
    >>> torch.softmax(Ensemble([confident, uniform], "logit")(torch.ones(1, 1)), 1)
    tensor([[0.7500, 0.2500]], grad_fn=<SoftmaxBackward0>)

    Source: Hansen and Salamon, "Neural network ensembles", 1990; Lakshminarayanan et al., "Simple and scalable
    predictive uncertainty estimation using deep ensembles", 2017.
    """

    def __init__(self, members: Sequence[nn.Module], link: Link) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.link = link

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the raw outputs of the mean prediction."""
        outputs = torch.stack([member(inputs) for member in self.members])
        if self.link in ("identity", "quantiles"):
            return outputs.mean(0)
        if self.link == "log":
            return torch.logsumexp(outputs, 0) - math.log(len(self.members))
        if self.link == "gaussian":
            return _gaussian(outputs)
        if self.link == "negative_binomial":
            return _negative_binomial(outputs)
        if self.link == "arcsine":
            return torch.arcsin(torch.sin(outputs).mean(0))
        if self.link == "logits" or outputs.shape[-1] == 1:
            return torch.logsumexp(F.logsigmoid(outputs), 0) - torch.logsumexp(F.logsigmoid(-outputs), 0)
        return torch.logsumexp(F.log_softmax(outputs, -1), 0) - math.log(len(self.members))

    def extra_repr(self) -> str:
        """Return the link for the printed model."""
        return f"link={self.link}"


def _gaussian(outputs: Tensor) -> Tensor:
    """Return the raw outputs of the normal distribution with the mixture's mean and variance."""
    means, raw = outputs.chunk(2, -1)
    variance = positive(raw).mean(0) + means.var(0, correction=0)
    return torch.cat([means.mean(0), inverse_positive(variance)], -1)


def _negative_binomial(outputs: Tensor) -> Tensor:
    """Return the raw outputs of the negative binomial distribution with the mixture's mean and variance.

    A variance m + a m² of each network gives that of the mixture as m̄ + (mean_m (1 + a_m) r_m² - 1) m̄², r = m / m̄.
    """
    logs, raw = outputs.chunk(2, -1)
    mean = torch.logsumexp(logs, 0) - math.log(len(outputs))
    dispersion = ((1.0 + positive(raw)) * torch.exp(2.0 * (logs - mean))).mean(0) - 1.0
    return torch.cat([mean, inverse_positive(dispersion)], -1)
