"""Mixtures of rows and of their targets: mixup and CutMix."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from descend.augmentation.base import IMAGES, ROWS, Mixed, Mixing
from descend.augmentation.occlusion import boxes
from descend.cards import method
from descend.param_types import Positive

__all__ = ["Cutmix", "Mixup", "symmetric_beta"]


def symmetric_beta(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Return samples (count,) of Beta(alpha, alpha), float64.

    They are computed as G1 / (G1 + G2) with G1 and G2 gamma distributed with shape alpha. For a small shape both
    samples underflow, which gives 0/0, but their logarithms do not: G = G' U^(1/alpha) with G' of shape alpha + 1.

    Source: Marsaglia and Tsang 2000 for the step from alpha + 1 to alpha.

    >>> samples = symmetric_beta(1000, 1e-3, torch.Generator().manual_seed(0))
    >>> bool(((samples < 0.01) | (samples > 0.99)).float().mean() > 0.98)
    True
    """
    shape = torch.full((2, count), alpha + 1.0, dtype=torch.float64, device=generator.device)
    gamma = torch._standard_gamma(shape, generator=generator)
    # 1 - rand lies in (0, 1]
    uniform = 1.0 - torch.rand(2, count, generator=generator, dtype=torch.float64, device=generator.device)
    logs = gamma.log() + uniform.log() / alpha
    return torch.sigmoid(logs[0] - logs[1])


@method(
    row="H2",
    reference="Zhang et al. 2018 (mixup)",
    formula="x <- s x + (1 - s) x', y <- s y + (1 - s) y', s ~ Beta(alpha, alpha)",
    note="each row has its own weight s; the paper samples one per batch.",
)
@final
class Mixup(Mixing):
    """Mixup: convex combinations of pairs of rows and of their targets.

    Class codes become distributions over classes, binary targets become numbers between 0 and 1, and numbers are mixed.
    The partner of a row is given by a random permutation of the batch.
    Shapes: images (b, channels, height, width) or rows (b, ...); the result has the same shape.

    Args:
        alpha: parameter of the Beta distribution of the weights: near 0, rows are hardly mixed; 1 is uniform.
            Default 0.2.

    >>> mixed = Mixup()(torch.eye(2), torch.Generator().manual_seed(0))
    >>> mixed.inputs.sum(1).tolist()
    [1.0, 1.0]
    """

    fits: ClassVar[frozenset[str]] = frozenset({IMAGES, ROWS})

    def __init__(self, *, alpha: Positive = 0.2) -> None:
        self.alpha = alpha

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Mixed:
        """Return mixed rows and the weights for mixing their targets."""
        partner = torch.randperm(len(inputs), generator=generator, device=inputs.device)
        share = symmetric_beta(len(inputs), self.alpha, generator).to(inputs.dtype)
        own = share.reshape(-1, *[1] * (inputs.dim() - 1))
        return Mixed(own * inputs + (1 - own) * inputs[partner], partner, share)


@method(
    row="H2",
    reference="Yun et al. 2019 (CutMix)",
    formula="x <- x' on a rectangle of area 1 - s, y <- s' y + (1 - s') y', s' the fraction of pixels of x; "
    "s ~ Beta(alpha, alpha)",
    note="each image has its own rectangle; the paper samples one per batch.",
)
@final
class Cutmix(Mixing):
    """CutMix: replace a rectangle of each image by that of another image, and mix targets by area.

    The rectangle has the aspect ratio of the image and a uniformly random center; it is clipped at the edges.
    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        alpha: parameter of the Beta distribution of the area: near 0, all or nothing is replaced; 1 is uniform.
            Default 1.

    >>> images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    >>> mixed = Cutmix()(images, torch.Generator().manual_seed(0))
    >>> bool((mixed.inputs.mean((1, 2, 3)) == mixed.targets(torch.tensor([0.0, 1.0]))).all())
    True
    """

    fits: ClassVar[frozenset[str]] = frozenset({IMAGES})

    def __init__(self, *, alpha: Positive = 1.0) -> None:
        self.alpha = alpha

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Mixed:
        """Return mixed images and the weights for mixing their targets."""
        count, (height, width) = len(inputs), inputs.shape[-2:]
        partner = torch.randperm(count, generator=generator, device=inputs.device)
        side = (1 - symmetric_beta(count, self.alpha, generator)).sqrt()
        edges = []
        for size in (height, width):
            half = side * size / 2
            center = torch.randint(size, (count,), generator=generator, device=inputs.device)
            edges += [(center - half).round(), (center + half).round()]
        replaced = boxes(inputs, *edges)
        share = 1 - replaced.flatten(1).to(inputs.dtype).mean(1)
        return Mixed(torch.where(replaced, inputs[partner], inputs), partner, share)
