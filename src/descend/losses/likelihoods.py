"""Likelihoods p(y | z) of targets given network outputs z, whose negative logarithms are losses.

They define the Fisher information matrix. With J = dz/dw, its mean over the n predictions of a batch is

    F = 1/n Σ E_y [g gᵀ],    g = Jᵀ s,    s = −d log p(y | z)/dz,    y ~ p(· | z).

Targets sampled from the network's distribution, rather than those of the data, give an unbiased estimate of F. Each
likelihood here is an exponential family with natural parameter z: E_y [s sᵀ] is the second derivative of the loss with
respect to z, and F is the generalized Gauss-Newton matrix of the mean loss (Martens 2020, "New insights and perspectives
on the natural gradient method", section 9).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

__all__ = ["LIKELIHOODS", "Bernoulli", "Categorical", "Likelihood", "Normal", "Poisson"]


class Likelihood(ABC):
    """Base class of distributions of targets given outputs; instances of the same class are equal."""

    @abstractmethod
    def predictions(self, outputs: Tensor) -> int:
        """Return the number of predictions in the outputs, by which the mean loss divides the sum."""

    @abstractmethod
    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample targets from p(· | z).

        Args:
            outputs: z.
            generator: a generator on the device of the outputs. Default None: torch's global generator.
        """

    @abstractmethod
    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient s = −d log p(y | z)/dz of each prediction, in the shape of the outputs; a sum, not a mean."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@final
class Categorical(Likelihood):
    """Categorical distribution with probabilities softmax(z), the likelihood of the cross-entropy of K classes.

    −log p(y | z) = log Σ_j exp z_j − z_y; s = softmax(z) − onehot(y), E [s sᵀ] = diag(p) − p pᵀ. The second derivative of
    the cross-entropy is the same for any distribution of targets, so label smoothing does not change it.
    Shapes: outputs (..., K), targets int64 (...).

    >>> Categorical().gradient(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[ 0.5000, -0.5000]])
    """

    def predictions(self, outputs: Tensor) -> int:
        """Return the number of outputs divided by K."""
        return outputs.numel() // outputs.shape[-1]

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample a class for each row: the first whose cumulative probability exceeds a uniform random number."""
        # torch.multinomial refuses probabilities that are not finite, on CUDA by aborting the process. Here the sample is
        # arbitrary, and s is not finite, which the check of all gradients detects.
        cumulative = torch.softmax(outputs, -1).cumsum(-1)
        level = _uniform(outputs[..., :1], generator)
        below: Tensor = cumulative <= level
        return below.sum(-1).clamp_max(outputs.shape[-1] - 1)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return softmax(z) − onehot(y)."""
        probabilities = torch.softmax(outputs, -1)
        ones = torch.ones_like(probabilities[..., :1])
        return probabilities.scatter_add(-1, targets.unsqueeze(-1), -ones)


@final
class Bernoulli(Likelihood):
    """Bernoulli distribution with logit z, the likelihood of the binary cross-entropy.

    −log p(y | z) = log(1 + exp z) − y z; s = σ(z) − y, E [s²] = σ(z) (1 − σ(z)).
    Shapes: outputs and targets of any equal shape; each entry is a prediction.

    >>> Bernoulli().gradient(torch.zeros(1), torch.ones(1))
    tensor([-0.5000])
    """

    def predictions(self, outputs: Tensor) -> int:
        """Return the number of outputs."""
        return outputs.numel()

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample 0 or 1 for each output."""
        return (_uniform(outputs, generator) < torch.sigmoid(outputs)).to(outputs.dtype)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return σ(z) − y."""
        return torch.sigmoid(outputs) - targets


@final
class Normal(Likelihood):
    """Normal distribution with mean z and variance 1/2, the likelihood of the mean squared error.

    With variance 1/2, −log p(y | z) = (y − z)² + const has no factor; s = 2 (z − y), E [s²] = 2. Since
    the mean squared error is also a mean over the T targets of a row, each entry is a prediction, and the T entries of a
    row share its weight.
    Shapes: outputs and targets of any equal shape.

    >>> Normal().gradient(torch.ones(1), torch.zeros(1))
    tensor([2.])
    """

    def predictions(self, outputs: Tensor) -> int:
        """Return the number of outputs."""
        return outputs.numel()

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample z + ε/√2 with ε standard normal."""
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return torch.add(outputs, noise, alpha=math.sqrt(0.5))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return 2 (z − y)."""
        return 2.0 * (outputs - targets)


@final
class Poisson(Likelihood):
    """Poisson distribution with mean exp(z).

    −log p(y | z) = exp z − y z + log y!; s = exp(z) − y, E [s²] = exp z.
    Shapes: outputs and targets of any equal shape; each entry is a prediction.

    >>> Poisson().gradient(torch.zeros(1), torch.tensor([3.0]))
    tensor([-2.])
    """

    def predictions(self, outputs: Tensor) -> int:
        """Return the number of outputs."""
        return outputs.numel()

    def sample(self, outputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample a count for each output."""
        # torch.poisson refuses means that are not finite; then s is not finite either, which the check of all gradients
        # detects.
        means = torch.exp(outputs)
        return torch.poisson(means.nan_to_num(0.0, 0.0, 0.0), generator=generator)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return exp(z) − y."""
        return torch.exp(outputs) - targets


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.empty_like(like).uniform_(generator=generator)


LIKELIHOODS: Mapping[str, Likelihood] = {
    "categorical": Categorical(),
    "bernoulli": Bernoulli(),
    "normal": Normal(),
    "poisson": Poisson(),
}
"""Likelihoods by name."""
