"""Whitening layers: each group of channels has mean 0 and covariance I over the batch.

Batch normalization normalizes the variances and keeps the correlations; whitening layers also remove the correlations.

=============================  ================================================
layer                          inverse square root of the covariance
=============================  ================================================
DecorrelatedBatchNorm1d, 2d    exact, by an eigendecomposition
IterNorm1d, 2d                 approximate, by Newton's iteration
=============================  ================================================

>>> import torch
>>> layer = DecorrelatedBatchNorm1d(8, groups=2)
>>> layer(torch.randn(32, 8)).shape, layer.eval()(torch.randn(1, 8)).shape
(torch.Size([32, 8]), torch.Size([1, 8]))
"""

from descend.nn.whitening.decorrelated_batch_norm import (
    DecorrelatedBatchNorm1d,
    DecorrelatedBatchNorm2d,
    decorrelated,
)
from descend.nn.whitening.iternorm import IterNorm1d, IterNorm2d, iterative
from descend.nn.whitening.layer import Whitening, whiten

__all__ = [
    "DecorrelatedBatchNorm1d",
    "DecorrelatedBatchNorm2d",
    "IterNorm1d",
    "IterNorm2d",
    "Whitening",
    "decorrelated",
    "iterative",
    "whiten",
]
