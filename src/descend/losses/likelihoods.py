"""Likelihoods: the distributions p(y | z) of targets given a network's outputs z that losses are the negative logarithms of.

They give the Fisher information matrix. With J = dz/dw, its mean over the n predictions of a batch is

    F = 1/n Σ E_y [g gᵀ],    g = Jᵀ s,    s = −d log p(y | z)/dz,    y drawn from p(· | z),

so that targets drawn from the network's own distribution, and not those of the data, make an unbiased estimate of it. Each
likelihood here is an exponential family whose natural parameter is z: E_y [s sᵀ] is the second derivative of the loss by z, and
F the generalised Gauss-Newton matrix of the mean loss (Martens 2020, "New insights and perspectives on the natural
gradient method", section 9).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

__all__ = ["LIKELIHOODS", "Bernoulli", "Categorical", "Likelihood", "Normal"]


class Likelihood(ABC):
    """A distribution of targets given outputs. It is a value: likelihoods of one class are the same."""

    @abstractmethod
    def predictions(self, outputs: Tensor) -> int:
        """How many predictions the outputs hold: the number that the mean loss divides a sum by."""

    @abstractmethod
    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Targets drawn from p(· | z).

        Args:
            outputs: z.
            generator: on the device of the outputs. Default None: torch's own.
        """

    @abstractmethod
    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The slope s = −d log p(y | z)/dz of each prediction, in the shape of the outputs; not divided by their number."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@final
class Categorical(Likelihood):
    """Classes with probabilities softmax(z): cross-entropy of K classes, with smoothed labels as well.

    −log p(y | z) = log Σ_j exp z_j − z_y; s = softmax(z) − onehot(y), E [s sᵀ] = diag(p) − p pᵀ. The second derivative of a
    cross-entropy against any distribution of targets is the same, so that label smoothing changes nothing.
    Shapes: outputs (..., K), targets int64 (...).

    >>> Categorical().gradient(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[ 0.5000, -0.5000]])
    """

    def predictions(self, outputs: Tensor) -> int:
        """One for K outputs."""
        return outputs.numel() // outputs.shape[-1]

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A class for each row: the first whose cumulated probability exceeds a uniform number."""
        # torch.multinomial refuses probabilities that are not finite, on CUDA by ending the process. Here they draw something,
        # and s is not finite, which is noticed where all numbers are looked at.
        shares = torch.softmax(outputs, -1).cumsum(-1)
        level = _uniform(outputs[..., :1], generator)
        below: Tensor = shares <= level
        return below.sum(-1).clamp_max(outputs.shape[-1] - 1)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """softmax(z) − onehot(y)."""
        made = torch.softmax(outputs, -1)
        ones = torch.ones_like(made[..., :1])
        return made.scatter_add(-1, targets.unsqueeze(-1), -ones)


@final
class Bernoulli(Likelihood):
    """Two classes from one logit: binary cross-entropy.

    −log p(y | z) = log(1 + exp z) − y z; s = σ(z) − y, E [s²] = σ(z) (1 − σ(z)).
    Shapes: outputs and targets of any one shape; each entry is a prediction.

    >>> Bernoulli().gradient(torch.zeros(1), torch.ones(1))
    tensor([-0.5000])
    """

    def predictions(self, outputs: Tensor) -> int:
        """One for each output."""
        return outputs.numel()

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """0 or 1 for each output."""
        return (_uniform(outputs, generator) < torch.sigmoid(outputs)).to(outputs.dtype)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """σ(z) − y."""
        return torch.sigmoid(outputs) - targets


@final
class Normal(Likelihood):
    """Normal with mean z and variance 1/2: the mean squared error over all entries, of rows and of targets.

    −log p(y | z) = (y − z)² + const for the variance 1/2, without a factor before the square; s = 2 (z − y), E [s²] = 2. Since
    the mean squared error is a mean over the T targets of a row as well, each entry is a prediction: T entries share
    what a row weighs.
    Shapes: outputs and targets of any one shape.

    >>> Normal().gradient(torch.ones(1), torch.zeros(1))
    tensor([2.])
    """

    def predictions(self, outputs: Tensor) -> int:
        """One for each output."""
        return outputs.numel()

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The mean z and ε/√2, ε standard normal."""
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return torch.add(outputs, noise, alpha=math.sqrt(0.5))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """2 (z − y)."""
        return 2.0 * (outputs - targets)


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.empty_like(like).uniform_(generator=generator)


LIKELIHOODS: Mapping[str, Likelihood] = {
    "categorical": Categorical(),
    "bernoulli": Bernoulli(),
    "normal": Normal(),
}
"""By name."""
