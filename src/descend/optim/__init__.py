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

from descend.optim.bfgs import BFGS, bfgs
from descend.optim.conjugate import CG, cg
from descend.optim.coordinate import CoordinateDescent, coordinate_descent
from descend.optim.first_order import adagrad, adam, adamax, adamw, rmsprop, sgd, sparse_adam
from descend.optim.gradient_descent import gd
from descend.optim.lbfgs import LBFGS, lbfgs
from descend.optim.momentum import heavy_ball, nesterov
from descend.optim.rows import Rows
from descend.optim.sqn import SQN, sqn

__all__ = [
    "BFGS",
    "CG",
    "LBFGS",
    "OPTIMIZERS",
    "SQN",
    "WHOLE_DATA",
    "CoordinateDescent",
    "Rows",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "bfgs",
    "cg",
    "coordinate_descent",
    "gd",
    "heavy_ball",
    "lbfgs",
    "nesterov",
    "rmsprop",
    "sgd",
    "sparse_adam",
    "sqn",
]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "gd": gd,
    "coordinate_descent": coordinate_descent,
    "cg": cg,
    "bfgs": bfgs,
    "lbfgs": lbfgs,
    "sqn": sqn,
    "sgd": sgd,
    "heavy_ball": heavy_ball,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "sparse_adam": sparse_adam,
    "adamax": adamax,
}

WHOLE_DATA: frozenset[str] = frozenset({"gd", "coordinate_descent", "cg", "bfgs"})
"""Those that are meant for the loss of all rows, and find the length of their steps by themselves."""
