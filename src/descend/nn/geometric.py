"""Initialisation by the geometric mean of the two fans."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from descend.cards import method

__all__ = ["geometric"]


@method(
    row="E3",
    reference="Defazio and Bottou 2019",
    formula="W_ij ~ N(0, c / sqrt(d_in d_out)), c = g^2, 2 for relu",
    note="The lecture leaves c open; here it is the squared gain of the activation that follows, the paper's 2 for the "
    "rectifier.",
)
def geometric() -> Callable[[Tensor, float, Generator], None]:
    """Normal weights whose variance is the geometric mean of what the forward and the backward signal ask for.

    √(g²/d_in · g²/d_out), where xavier takes their harmonic mean. In a rectifier network the ratio of mean squared
    gradient to mean squared weight is then the same in every layer, whatever the widths, so that one rate changes
    all layers by the same share.

    >>> W = torch.empty(2, 3)
    >>> geometric()(W, 2**0.5, torch.Generator().manual_seed(0)); W.isfinite().all().item()
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        kernel = math.prod(weight.shape[2:])
        fans = max(1, weight.shape[0] * weight.shape[1] * kernel**2)
        with torch.no_grad():
            weight.normal_(0.0, gain / fans**0.25, generator=generator)

    return fill
