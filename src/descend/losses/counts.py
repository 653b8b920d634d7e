"""Losses of counts: the negative log-likelihoods of Poisson and negative binomial distributions, with a log link.

The raw output is the logarithm of the mean μ = exp(z), so that means are positive and effects multiply. Targets are counts
in their own units; other numbers of at least 0 are accepted, for which the loss is a quasi-likelihood. The terms that do not
depend on z are included: the loss is the negative logarithm of the probability of the target, so that it is at least 0 for
counts. It is computed in double precision, since its terms are large where counts are.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError
from descend.interface import setting
from descend.losses.base import Form, Loss, Predicted, Reduction, blocks_of, same_shape
from descend.losses.likelihoods import Poisson as PoissonLikelihood
from descend.nn.outputs import positive
from descend.param_types import Positive

__all__ = ["NegativeBinomial", "Poisson"]

_TASKS = frozenset({"regression", "multi_regression"})


def _check_counts(name: str, targets: Tensor) -> None:
    """Raise a UserError if a target is negative."""
    negative = targets < 0
    if bool(negative.any()):
        first = targets[negative].flatten()[0].item()
        raise UserError(
            f"{name} takes counts, targets of at least 0, got {first:g}; use {setting('loss.name', 'mse')}, 'huber' or "
            "'gaussian' for targets that may be negative"
        )


def _wide(values: Tensor) -> Tensor:
    return values if values.device.type == "mps" else values.double()


def _reduced(losses: Tensor, like: Tensor, reduction: Reduction) -> Tensor:
    rows = losses.flatten(1).mean(1)
    return (rows.mean() if reduction == "mean" else rows).to(like.dtype)


@method(
    row="K12",
    reference="McCullagh and Nelder 1989, Generalized linear models; torch.nn.PoissonNLLLoss",
    formula="l = exp(z) - y z + log y!, the mean is exp(z); mean over targets",
    note="Counts are learned in their own units. With a linear model it is Poisson regression. PyTorch's loss leaves log y! "
    "out, which is constant.",
)
@final
class Poisson(Loss):
    """Negative log-likelihood of counts y with mean and variance exp(z).

    The derivative with respect to z is exp(z) − y. Where counts vary more than their mean, as most do,
    ``negative_binomial`` describes them better.
    Shapes: outputs (n, T), targets (n, T) of at least 0.

    Raises:
        UserError: when called, a target is negative.

    >>> Poisson()(torch.zeros(1, 1), torch.tensor([[3.0]]))  # 1 + log 6
    tensor(2.7918)
    """

    form: Form = "values"
    tasks = _TASKS
    target_space = "raw"
    output = "exp"

    @property
    def likelihood(self) -> PoissonLikelihood:
        """Poisson, with the natural parameter z."""
        return PoissonLikelihood()

    def _check(self, targets: Tensor) -> None:
        _check_counts("poisson", targets)

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        same_shape(outputs, targets)
        z, y = _wide(outputs), _wide(targets)
        return _reduced(torch.exp(z) - y * z + torch.lgamma(y + 1.0), outputs, reduction)

    def distribution(self, outputs: Tensor) -> dict[str, Predicted]:
        """Return ``mean`` and ``standard_deviation``."""
        mean = torch.exp(outputs)
        return {
            "mean": Predicted(mean, "location"),
            "standard_deviation": Predicted(mean.sqrt(), "scale"),
        }


@method(
    row="K12",
    reference="Hilbe 2011, Negative binomial regression (NB2)",
    formula="l = (y + 1/a) log(1 + a m) - y log(a m) - log G(y + 1/a) + log G(1/a) + log y!, m = exp(z_1), variance m + a m^2",
    note='Counts are learned in their own units. For a -> 0 it is the Poisson loss. With dispersion = "learned" the network '
    "has a second output per target, a = log(1 + exp z_2) + 1e-6.",
)
@final
class NegativeBinomial(Loss):
    """Negative log-likelihood of counts y with mean m = exp(z) and variance m + a m².

    Shapes: outputs (n, T), or (n, 2T) with a learned dispersion, the logarithms of the means first; targets (n, T) of at
    least 0.

    Args:
        dispersion: a, above 0; ``"learned"`` predicts it for each row. Default "learned".

    Raises:
        UserError: the dispersion is not positive; or, when called, a target is negative.

    >>> NegativeBinomial(dispersion=1.0)(torch.zeros(1, 1), torch.tensor([[0.0]]))  # geometric, p = 1/2
    tensor(0.6931)
    """

    form: Form = "values"
    tasks = _TASKS
    target_space = "raw"

    def __init__(self, *, dispersion: Positive | Literal["learned"] = "learned") -> None:
        super().__init__()
        learned = dispersion == "learned"
        if not learned and not (isinstance(dispersion, int | float) and dispersion > 0):
            raise UserError(f'negative_binomial: dispersion must be above 0 or "learned", got {dispersion}')
        self.dispersion = dispersion
        self.output = "negative_binomial_mean" if learned else "exp"
        self.blocks = 2 if learned else 1

    def _check(self, targets: Tensor) -> None:
        _check_counts("negative_binomial", targets)

    def _parameters_of(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return log m and a."""
        if isinstance(self.dispersion, str):
            logs, raw = outputs.chunk(2, 1)
            return logs, positive(raw)
        return outputs, torch.full_like(outputs, self.dispersion)

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        blocks_of(outputs, targets, self.blocks)
        (z, a), y = self._parameters_of(_wide(outputs)), _wide(targets)
        size = 1.0 / a
        # log(1 + a m) and log(a m / (1 + a m)) from the logarithm of a m, which does not overflow.
        odds = z + torch.log(a)
        grown = torch.nn.functional.softplus(odds)
        losses = size * grown + y * (grown - odds)
        losses = losses - torch.lgamma(y + size) + torch.lgamma(size) + torch.lgamma(y + 1.0)
        return _reduced(losses, outputs, reduction)

    def distribution(self, outputs: Tensor) -> dict[str, Predicted]:
        """Return ``mean``, ``standard_deviation`` and ``dispersion``."""
        logs, a = self._parameters_of(outputs)
        mean = torch.exp(logs)
        return {
            "mean": Predicted(mean, "location"),
            "standard_deviation": Predicted((mean + a * mean.square()).sqrt(), "scale"),
            "dispersion": Predicted(a, "number"),
        }
