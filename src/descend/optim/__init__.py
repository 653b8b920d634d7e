"""Optimizers. All are ``torch.optim.Optimizer`` classes and work in any PyTorch loop.

PyTorch's own optimizers are exported under their names (``Adam``) and as functions that check settings (``adam``). Of the
other optimizers the lower-case name is an alias of the class. Arguments have PyTorch's names, order and defaults.

>>> import torch
>>> from descend.optim import adam
>>> model = torch.nn.Linear(2, 1)
>>> optimizer = adam(model.parameters(), lr=0.01)
>>> model(torch.ones(1, 2)).sum().backward(); optimizer.step()

:func:`perceptron` is not an optimizer: it trains one unit without derivatives.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import (
    SGD,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    SparseAdam,
)

from descend.optim._bfgs import BFGS, bfgs
from descend.optim._kfac import KFAC, kfac
from descend.optim._lbfgs import LBFGS, lbfgs
from descend.optim._lion import Lion, lion
from descend.optim._lookahead import Lookahead, lookahead
from descend.optim._muon import Muon, muon
from descend.optim._newton import Newton, SubsampledNewton, newton, subsampled_newton
from descend.optim._perceptron import Perceptron, mistake_bound, perceptron
from descend.optim._prodigy import Prodigy, prodigy
from descend.optim._sam import SAM, sam
from descend.optim._schedule_free import ScheduleFreeAdamW, schedule_free_adamw
from descend.optim._shampoo import Shampoo, shampoo
from descend.optim._soap import SOAP, soap
from descend.optim._sqn import SQN, sqn
from descend.optim._trish import TRish, trish
from descend.optim._trust_region import STRON, TrustRegion, stron, trust_region
from descend.optim.adam_variants import adafactor, nadam, radam
from descend.optim.compiler_import import defer_compiler_import
from descend.optim.compositional import ASCPG, SCGD, asc_pg, scgd
from descend.optim.conjugate import CG, cg
from descend.optim.coordinate import CoordinateDescent, coordinate_descent
from descend.optim.first_order import adagrad, adam, adamax, adamw, rmsprop, sgd, sparse_adam
from descend.optim.gradient_descent import GD, gd
from descend.optim.momentum import HeavyBall, Nesterov, heavy_ball, nesterov
from descend.optim.rows import Rows
from descend.optim.stiefel import CayleyAdam, CayleySGD, cayley_adam, cayley_sgd
from descend.optim.wrapper import evaluation_weights

__all__ = [
    "ASCPG",
    "BFGS",
    "CG",
    "COMPOSITIONAL",
    "GD",
    "KFAC",
    "LBFGS",
    "OPTIMIZERS",
    "OWN_DECAY",
    "SAM",
    "SCGD",
    "SGD",
    "SOAP",
    "SQN",
    "STIEFEL",
    "STRON",
    "TRUNCATED_NEWTON",
    "WHOLE_DATA",
    "WRAPPERS",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "CayleyAdam",
    "CayleySGD",
    "CoordinateDescent",
    "HeavyBall",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "Nesterov",
    "Newton",
    "Perceptron",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rows",
    "ScheduleFreeAdamW",
    "Shampoo",
    "SparseAdam",
    "SubsampledNewton",
    "TRish",
    "TrustRegion",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asc_pg",
    "bfgs",
    "cayley_adam",
    "cayley_sgd",
    "cg",
    "coordinate_descent",
    "evaluation_weights",
    "gd",
    "heavy_ball",
    "kfac",
    "lbfgs",
    "lion",
    "lookahead",
    "mistake_bound",
    "muon",
    "nadam",
    "nesterov",
    "newton",
    "perceptron",
    "prodigy",
    "radam",
    "rmsprop",
    "sam",
    "scgd",
    "schedule_free_adamw",
    "sgd",
    "shampoo",
    "soap",
    "sparse_adam",
    "sqn",
    "stron",
    "subsampled_newton",
    "trish",
    "trust_region",
]

defer_compiler_import()

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
    "nadam": nadam,
    "radam": radam,
    "adafactor": adafactor,
    "lion": lion,
    "muon": muon,
    "schedule_free_adamw": schedule_free_adamw,
    "prodigy": prodigy,
    "newton": newton,
    "trust_region": trust_region,
    "subsampled_newton": subsampled_newton,
    "trish": trish,
    "stron": stron,
    "shampoo": shampoo,
    "soap": soap,
    "cayley_sgd": cayley_sgd,
    "cayley_adam": cayley_adam,
    "coordinate_descent": coordinate_descent,
    "cg": cg,
    "bfgs": bfgs,
    "lbfgs": lbfgs,
    "sqn": sqn,
    "kfac": kfac,
    "scgd": scgd,
    "asc_pg": asc_pg,
}
"""The optimizers by their names in a recipe."""

WRAPPERS: dict[str, Callable[..., Optimizer]] = {"sam": sam, "lookahead": lookahead}
"""Optimizers that wrap another one, by their keys in the section [optimizer] of a recipe."""

OWN_DECAY: frozenset[str] = frozenset(
    {"adafactor", "adamw", "lion", "muon", "prodigy", "schedule_free_adamw"}
)
"""Optimizers whose step contains decoupled weight decay; that of a parameter group is its ``weight_decay``."""

WHOLE_DATA: frozenset[str] = frozenset(
    {"bfgs", "cg", "coordinate_descent", "gd", "newton", "stron", "subsampled_newton", "trust_region"}
)
"""Optimizers that are meant for the loss of all rows and determine their step sizes themselves."""

STIEFEL: frozenset[str] = frozenset({"cayley_sgd", "cayley_adam"})
"""Optimizers that keep the weights of groups with ``orthonormal=True`` orthonormal."""

TRUNCATED_NEWTON: frozenset[str] = frozenset(
    {"newton", "stron", "subsampled_newton", "trish", "trust_region"}
)
"""Optimizers that minimize a quadratic model of the loss by conjugate gradients."""

COMPOSITIONAL: frozenset[str] = frozenset({"scgd", "asc_pg"})
"""Optimizers that minimize a function of an expectation; in a recipe, of the outputs of each row."""
