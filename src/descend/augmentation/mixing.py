"""Mixtures of rows: the targets are mixed as the inputs are."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from descend.augmentation.base import PICTURES, ROWS, Mixed, Mixing
from descend.augmentation.occlude import boxes
from descend.cards import method
from descend.param_types import Positive

__all__ = ["Cutmix", "Mixup", "symmetric_beta"]


def symmetric_beta(count: int, alpha: float, draw: torch.Generator) -> Tensor:
    """Draws (count,) of Beta(alpha, alpha), float64.

    As G1 / (G1 + G2) with G1 and G2 of the gamma distribution of shape alpha. Gamma draws of a small shape
    underflow, both at once, to 0/0; their logarithms do not: G = G' U^(1/alpha) with G' of shape alpha + 1.

    Source: Marsaglia and Tsang 2000 for the step from alpha + 1 to alpha.

    >>> draws = symmetric_beta(1000, 1e-3, torch.Generator().manual_seed(0))
    >>> bool(((draws < 0.01) | (draws > 0.99)).float().mean() > 0.98)
    True
    """
    shape = torch.full((2, count), alpha + 1.0, dtype=torch.float64, device=draw.device)
    gamma = torch._standard_gamma(shape, generator=draw)
    # 1 - rand lies in (0, 1]
    chance = 1.0 - torch.rand(2, count, generator=draw, dtype=torch.float64, device=draw.device)
    logs = gamma.log() + chance.log() / alpha
    return torch.sigmoid(logs[0] - logs[1])


@method(
    row="H2",
    reference="Zhang et al. 2018 (mixup)",
    formula="x <- s x + (1 - s) x', y <- s y + (1 - s) y', s of Beta(alpha, alpha)",
    note="each row has its own share s; the paper draws one for a batch.",
)
@final
class Mixup(Mixing):
    """Rows mixed with other rows, targets likewise.

    Classes become distributions over classes, 0 and 1 numbers between them, and numbers are mixed. A row's partner
    is the row at its place in a permutation of the batch.
    Shapes: pictures (b, channels, height, width) or rows (b, ...), and the same again.

    Args:
        alpha: of the Beta distribution of the shares: near 0 rows stay almost as they are, 1 is uniform.
            Default 0.2.

    >>> mixed = Mixup()(torch.eye(2), torch.Generator().manual_seed(0))
    >>> mixed.inputs.sum(1).tolist()
    [1.0, 1.0]
    """

    fits: ClassVar[frozenset[str]] = frozenset({PICTURES, ROWS})

    def __init__(self, *, alpha: Positive = 0.2) -> None:
        self.alpha = alpha

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Mixed:
        """Mixed rows, with the shares by which targets are to be mixed."""
        partner = torch.randperm(len(inputs), generator=draw, device=inputs.device)
        share = symmetric_beta(len(inputs), self.alpha, draw).to(inputs.dtype)
        own = share.reshape(-1, *[1] * (inputs.dim() - 1))
        return Mixed(own * inputs + (1 - own) * inputs[partner], partner, share)


@method(
    row="H2",
    reference="Yun et al. 2019 (CutMix)",
    formula="x <- x' on a rectangle of area 1 - s, y <- s' y + (1 - s') y', s' the share of pixels left; s of "
    "Beta(alpha, alpha)",
    note="each picture has its own rectangle; the paper draws one for a batch.",
)
@final
class Cutmix(Mixing):
    """A rectangle of each picture replaced by that of another, targets by the share of pixels.

    The rectangle has the picture's aspect, its centre lies anywhere, and what of it is outside is cut off.
    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        alpha: of the Beta distribution of the shares: near 0 all or nothing is replaced, 1 is uniform.
            Default 1.

    >>> pictures = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    >>> mixed = Cutmix()(pictures, torch.Generator().manual_seed(0))
    >>> bool((mixed.inputs.mean((1, 2, 3)) == mixed.targets(torch.tensor([0.0, 1.0]))).all())
    True
    """

    fits: ClassVar[frozenset[str]] = frozenset({PICTURES})

    def __init__(self, *, alpha: Positive = 1.0) -> None:
        self.alpha = alpha

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Mixed:
        """Mixed pictures, with the shares by which targets are to be mixed."""
        count, (height, width) = len(inputs), inputs.shape[-2:]
        partner = torch.randperm(count, generator=draw, device=inputs.device)
        side = (1 - symmetric_beta(count, self.alpha, draw)).sqrt()
        edges = []
        for size in (height, width):
            half = side * size / 2
            centre = torch.randint(size, (count,), generator=draw, device=inputs.device)
            edges += [(centre - half).round(), (centre + half).round()]
        taken = boxes(inputs, *edges)
        share = 1 - taken.flatten(1).to(inputs.dtype).mean(1)
        return Mixed(torch.where(taken, inputs[partner], inputs), partner, share)
