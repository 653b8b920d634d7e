"""Ensemble of networks that averages their predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.nn.outputs import Link

__all__ = ["Ensemble"]


@final
class Ensemble(nn.Module):
    """Ensemble of networks, which predicts the mean of their predictions.

    The ensemble averages the predictions p_m = σ(z_m), which are values or probabilities, and returns raw outputs z with
    σ(z) = mean_m p_m, so that losses, labels and export work as for a single network:

    - softmax: z = log mean_m softmax(z_m), computed as logsumexp_m log_softmax(z_m) - log M;
    - sigmoid: z = log (Σ_m σ(z_m) / Σ_m σ(-z_m)), as logsumexp_m log σ(z_m) - logsumexp_m log σ(-z_m);
    - sine: z = arcsin mean_m sin z_m;
    - identity: z = mean_m z_m.

    The first two stay finite and exact where probabilities round to 0 or 1. By the convexity of -log, the
    cross-entropy of the mean is at most the mean of the networks' cross-entropies. The same holds for squared errors.

    Shapes: those of each network, (n, ...) → (n, K).

    Args:
        members: the M networks.
        link: the link of the output activation, ``"logit"``, ``"identity"`` or ``"arcsine"``.

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
        if self.link == "identity":
            return outputs.mean(0)
        if self.link == "arcsine":
            return torch.arcsin(torch.sin(outputs).mean(0))
        if outputs.shape[-1] == 1:
            return torch.logsumexp(F.logsigmoid(outputs), 0) - torch.logsumexp(F.logsigmoid(-outputs), 0)
        return torch.logsumexp(F.log_softmax(outputs, -1), 0) - math.log(len(self.members))

    def extra_repr(self) -> str:
        """Return the link for the printed model."""
        return f"link={self.link}"
