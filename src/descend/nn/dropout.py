"""Dropout whose masks cost little: 16 random bits for each unit, from a fast generator with a seed of its own.

PyTorch's ``bernoulli_`` takes one 32-bit number of a Mersenne Twister for each unit, one after another, which is a fifth to
two fifths of the training step of a small network. See :mod:`descend.nn.masks`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.nn.masks import Masks

__all__ = ["Dropout"]


class Dropout(nn.Dropout):
    """Dropout, y = x · m / (1 − p̂), with masks that cost a fraction of those of ``nn.Dropout`` on the CPU.

    In training mode each entry is dropped (m = 0) independently with probability p̂, the multiple of 2⁻¹⁶ nearest to p,
    so that |p̂ − p| ≤ 2⁻¹⁷; the scale is that of p̂, so that the mean of y is x up to rounding. In evaluation mode y = x.

    When descend trains, the masks are a function of (seed, epoch, step). Otherwise they are a function of the state of
    PyTorch's generator (``torch.manual_seed``), which advances by one number for each call. On other devices than the CPU,
    and in programs that ``torch.compile`` or ``torch.export`` captures, this is ``nn.Dropout``: CUDA's generator is
    counter-based, and its dropout is one kernel.

    Args:
        p: the probability to drop an entry, in [0, 1]. Default 0.5.

    >>> _ = torch.manual_seed(0)
    >>> Dropout(0.25)(torch.ones(8, 4)).unique()
    tensor([0.0000, 1.3333])

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Tensor) -> Tensor:
        """Return an output of the same shape."""
        if not self.training:
            return input
        if input.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(input, self.p)
        noise = self.noise(input)
        return input if noise is None else input * noise

    def noise(self, x: Tensor) -> Tensor | None:
        """Return random factors of the shape and type of ``x`` (on the CPU), 0 or 1/(1 − p̂); None where p̂ = 0."""
        masks = Masks.current()
        if masks is None:
            masks = Masks(int(torch.empty((), dtype=torch.int64).random_()))
        return masks.noise(x.shape, self.p, x.dtype)
