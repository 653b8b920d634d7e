"""Tests that the size of each optimizer's state is the documented one, within a tenth."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from descend.optim import OPTIMIZERS, Rows

M, N = 64, 48
W = M * N
SETTINGS = {
    "sgd": {"momentum": 0.9},
    "lbfgs": {"history_size": 7},
    "sqn": {"history_size": 7},
    "shampoo": {"block_size": 64},
    "soap": {"block_size": 64},
}
KEPT = {
    "gd": 0,
    "sgd": W,
    "heavy_ball": W,
    "nesterov": W,
    "adagrad": W,
    "rmsprop": W,
    "adam": 2 * W,
    "adamw": 2 * W,
    "adamax": 2 * W,
    "nadam": 2 * W,
    "radam": 2 * W,
    "adafactor": M + N,
    "lion": W,
    "muon": W,
    "schedule_free_adamw": 2 * W,
    "prodigy": 4 * W,
    "newton": 0,
    "subsampled_newton": 0,
    "trust_region": 0,
    "trish": 0,
    "stron": 0,
    "cg": W,
    "bfgs": W * W,
    "lbfgs": 2 * 7 * W,
    "sqn": (2 * 7 + 2) * W,
    "coordinate_descent": 0,
    "kfac": 2 * (M * M + N * N) + W,
    "shampoo": 2 * (M * M + N * N) + 2 * W,
    "soap": 2 * (M * M + N * N) + 2 * W,
    "cayley_sgd": 0,
    "cayley_adam": 2 * W,
    "scgd": 0,
    "asc_pg": 0,
}
"""Numbers for the weights of one matrix of M by N."""


def kept(optimizer):
    def numbers(value):
        if isinstance(value, torch.Tensor):
            return value.numel()
        if isinstance(value, dict):
            return sum(map(numbers, value.values()))
        return sum(map(numbers, value)) if isinstance(value, list | tuple) else 1

    return numbers(optimizer.state_dict()["state"])


def test_every_optimizer_is_measured():
    assert set(KEPT) == set(OPTIMIZERS) - {"sparse_adam"}


@pytest.mark.parametrize("name", sorted(KEPT))
def test_the_state_is_as_large_as_documented(name):
    torch.manual_seed(0)
    model = nn.Linear(N, M, bias=False)
    x, y = torch.randn(100, N), torch.randn(100, M)
    settings = SETTINGS.get(name, {})
    context = {"model": model, "likelihood": "normal"} if name == "kfac" else {}
    optimizer = OPTIMIZERS[name](model.parameters(), **context, **settings)
    for _ in range(5 if name == "bfgs" else 45 if name in ("lbfgs", "sqn") else 12):
        rows = Rows(model, F.mse_loss, x + 0.01 * torch.randn_like(x), y)
        optimizer.step(rows)
    assert kept(optimizer) == pytest.approx(KEPT[name], rel=0.1, abs=30)
