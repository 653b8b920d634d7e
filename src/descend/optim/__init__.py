"""Optimizers: which direction. All are ``torch.optim.Optimizer`` objects and work in any PyTorch loop.

>>> import torch
>>> from descend.optim import adam
>>> model = torch.nn.Linear(2, 1)
>>> optimizer = adam(model.parameters(), lr=0.01)
>>> model(torch.ones(1, 2)).sum().backward(); optimizer.step()
"""

from descend.optim.first_order import (
    OPTIMIZERS,
    adagrad,
    adam,
    adamax,
    adamw,
    rmsprop,
    sgd,
    sparse_adam,
)

__all__ = ["OPTIMIZERS", "adagrad", "adam", "adamax", "adamw", "rmsprop", "sgd", "sparse_adam"]
