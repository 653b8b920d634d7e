"""The small real data that figures train on: scans of handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from descend.data.scaling import standard
from descend.rng import generator

__all__ = ["Digits", "digits", "pixels"]


@dataclass(frozen=True)
class Digits:
    """Standardised digits: rows (n, 64) float32 and labels (n,) of three parts."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def pixels(seed: int) -> Tensor:
    """All scans in a random order, (1797, 64) float32 from 0 to 1.

    >>> found = pixels(0)
    >>> tuple(found.shape), float(found.min()), float(found.max())
    ((1797, 64), 0.0, 1.0)
    """
    scans, _ = _pixels()
    order = torch.randperm(len(scans), generator=generator(seed, "gallery/pixels"))
    return (scans[order] / 16).float()


@cache
def _pixels() -> tuple[Tensor, Tensor]:
    found = load_digits()
    return torch.from_numpy(np.asarray(found.data)), torch.from_numpy(np.asarray(found.target))


def digits(seed: int, *, train: int = 1000, validation: int = 397, noise: float = 0.0) -> Digits:
    """The 1797 digits in a random order, scaled as the training rows say; the rest is the test part.

    Args:
        seed: the order, and which labels are wrong.
        train: training rows. Default 1000.
        validation: validation rows. Default 397.
        noise: the share of training labels that are replaced by random ones. Default 0.

    >>> found = digits(0)
    >>> [tuple(part[0].shape) for part in (found.train, found.validation, found.test)]
    [(1000, 64), (397, 64), (400, 64)]
    """
    scans, labels = _pixels()
    draws = generator(seed, "gallery/digits")
    order = torch.randperm(len(labels), generator=draws)
    scans, labels = scans[order], labels[order].clone()
    shift, spread = standard(scans[:train].numpy())
    rows = ((scans - torch.from_numpy(shift)) / torch.from_numpy(spread)).float()
    wrong = torch.rand(train, generator=draws) < noise
    labels[:train][wrong] = torch.randint(10, (int(wrong.sum()),), generator=draws)
    ends = (0, train, train + validation, len(labels))
    parts = [(rows[a:b], labels[a:b]) for a, b in pairwise(ends)]
    return Digits(*parts)
