"""Optimizers: which direction. All are ``torch.optim.Optimizer`` objects and work in any PyTorch loop.

>>> import torch
>>> from descend.optim.first_order import adagrad, adam, adamax, adamw, rmsprop, sgd, sparse_adam
from descend.optim.gradient_descent import gd
from descend.optim.momentum import heavy_ball, nesterov
from descend.optim.newton import Newton, SubsampledNewton, newton, subsampled_newton
from descend.optim.rows import Rows
from descend.optim.shampoo import Shampoo, shampoo
from descend.optim.soap import SOAP, soap
from descend.optim.trish import TRish, trish
from descend.optim.trust_region import STRON, TrustRegion, stron, trust_region

__all__ = ["Newton", "OPTIMIZERS", "Rows", "SOAP", "STRON", "Shampoo", "SubsampledNewton", "TRish", "TrustRegion", "WHOLE_DATA", "adagrad", "adam", "adamax", "adamw", "gd", "heavy_ball", "nesterov", "newton", "rmsprop", "sgd", "shampoo", "soap", "sparse_adam", "stron", "subsampled_newton", "trish", "trust_region",]

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
    "newton": newton,
    "trust_region": trust_region,
    "subsampled_newton": subsampled_newton,
    "trish": trish,
    "stron": stron,
    "shampoo": shampoo,
    "soap": soap,
}

WHOLE_DATA: frozenset[str] = frozenset({"gd", "newton", "stron", "subsampled_newton", "trust_region"})
"""Those that are meant for the loss of all rows, and find the length of their steps by themselves."""
