"""The data set that figures train on: scans of handwritten digits."""

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
    """Standardized digits in three parts, each with rows (n, 64) float32 and labels (n,)."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def pixels(seed: int) -> Tensor:
    """Return all scans in a random order, with values from 0 to 1, (1797, 64) float32.

    >>> scans = pixels(0)
    >>> tuple(scans.shape), float(scans.min()), float(scans.max())
    ((1797, 64), 0.0, 1.0)
    """
    scans, _ = _pixels()
    order = torch.randperm(len(scans), generator=generator(seed, "gallery/pixels"))
    return (scans[order] / 16).float()


@cache
def _pixels() -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    return torch.from_numpy(np.asarray(bunch.data)), torch.from_numpy(np.asarray(bunch.target))


def digits(seed: int, *, train: int = 1000, validation: int = 397, noise: float = 0.0) -> Digits:
    """Return the 1797 digits in a random order, standardized by the training rows; the remaining rows are the test part.

    Args:
        seed: seed of the order and of the wrong labels.
        train: number of training rows. Default 1000.
        validation: number of validation rows. Default 397.
        noise: fraction of training labels that are replaced by random ones. Default 0.

    >>> parts = digits(0)
    >>> [tuple(part[0].shape) for part in (parts.train, parts.validation, parts.test)]
    [(1000, 64), (397, 64), (400, 64)]
    """
    scans, labels = _pixels()
    rng = generator(seed, "gallery/digits")
    order = torch.randperm(len(labels), generator=rng)
    scans, labels = scans[order], labels[order].clone()
    offset, scale = standard(scans[:train].numpy())
    rows = ((scans - torch.from_numpy(offset)) / torch.from_numpy(scale)).float()
    wrong = torch.rand(train, generator=rng) < noise
    labels[:train][wrong] = torch.randint(10, (int(wrong.sum()),), generator=rng)
    ends = (0, train, train + validation, len(labels))
    parts = [(rows[a:b], labels[a:b]) for a, b in pairwise(ends)]
    return Digits(*parts)
