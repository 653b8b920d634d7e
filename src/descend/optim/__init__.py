"""Optimizers: which direction. All are ``torch.optim.Optimizer`` objects and work in any PyTorch loop.

>>> import torch
>>> from descend.optim import adam
>>> model = torch.nn.Linear(2, 1)
>>> optimizer = adam(model.parameters(), lr=0.01)
>>> model(torch.ones(1, 2)).sum().backward(); optimizer.step()

:func:`descend.optim.perceptron.perceptron` is no optimizer: it trains one unit without a derivative.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer

from descend.optim.compositional import ASCPG, SCGD, asc_pg, scgd
from descend.optim.first_order import adagrad, adam, adamax, adamw, rmsprop, sgd, sparse_adam
from descend.optim.gradient_descent import gd
from descend.optim.momentum import heavy_ball, nesterov
from descend.optim.rows import Rows

__all__ = [
    "ASCPG",
    "COMPOSITIONAL",
    "OPTIMIZERS",
    "SCGD",
    "WHOLE_DATA",
    "Rows",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asc_pg",
    "gd",
    "heavy_ball",
    "nesterov",
    "rmsprop",
    "scgd",
    "sgd",
    "sparse_adam",
]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "gd": gd,
    "sgd": sgd,
    "heavy_ball": heavy_ball,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "sparse_adam": sparse_adam,
    "adamax": adamax,
    "scgd": scgd,
    "asc_pg": asc_pg,
}

WHOLE_DATA: frozenset[str] = frozenset({"gd"})
"""Those that are meant for the loss of all rows, and find the length of their steps by themselves."""

COMPOSITIONAL: frozenset[str] = frozenset({"scgd", "asc_pg"})
"""Those that minimise a loss of an average: from a recipe, of each row's outputs."""
