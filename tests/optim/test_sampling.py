"""Stochastic gradients with the three sampling methods: their mean and variance, and the rows of an epoch."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

import descend
from descend.data.batches import Order

N, D, BATCH = 24, 4, 5
X = torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.randn(N, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
W = torch.randn(D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gradient(rows):
    """Gradient of the mean of ½ (w'x − y)² over the rows."""
    return X[rows].T @ (X[rows] @ W - Y[rows]) / len(rows)


FULL = gradient(torch.arange(N))


def test_full_is_the_gradient():
    batches = Order(N, BATCH, sampling="full").batches(3)
    assert len(batches) == 1
    torch.testing.assert_close(gradient(batches[0]), FULL)


@pytest.mark.parametrize("epoch", range(5))
def test_an_epoch_visits_every_row_once_so_its_batches_average_to_the_gradient(epoch):
    batches = Order(N, BATCH, seed=7).batches(epoch)
    visited = torch.cat(batches)
    assert sorted(visited.tolist()) == list(range(N))
    mean = sum(len(rows) * gradient(rows) for rows in batches) / N
    torch.testing.assert_close(mean, FULL, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sampling", ["with_replacement", "epoch"])
def test_a_batch_is_unbiased(sampling):
    """The mean over the first batches of many epochs is within five standard errors of the gradient."""
    epochs = 4000
    gradients = torch.stack(
        [gradient(Order(N, BATCH, sampling=sampling).batches(e)[0]) for e in range(epochs)]
    )
    error = gradients.std(0) / math.sqrt(epochs)
    assert ((gradients.mean(0) - FULL).abs() < 5 * error).all()
    assert (5 * error < 0.15 * FULL.norm()).all()  # narrow enough to detect a bias


@pytest.mark.slow
def test_the_variance_is_that_of_sampling_theory():
    """With replacement σ²/b; without, σ²/b (n − b)/(n − 1): the finite-population correction."""
    singles = torch.stack([gradient(torch.tensor([row])) for row in range(N)])
    variance = (singles - FULL).square().mean(0)
    for sampling, factor in (("with_replacement", 1.0), ("epoch", (N - BATCH) / (N - 1))):
        gradients = torch.stack(
            [gradient(Order(N, BATCH, sampling=sampling).batches(e)[0]) for e in range(4000)]
        )
        np.testing.assert_allclose((gradients - FULL).square().mean(0), variance / BATCH * factor, rtol=0.1)


def test_with_replacement_an_epoch_omits_rows():
    """A fraction (1 − 1/n)^n on average, about 1/e."""
    missing = np.mean([N - len(set(Order(N, BATCH, sampling="with_replacement").indices(e).tolist()))
                       for e in range(2000)])  # fmt: skip
    assert missing == pytest.approx(N * (1 - 1 / N) ** N, rel=0.02)


@pytest.mark.parametrize("sampling", ["with_replacement", "epoch", "full"])
def test_sgd_trains_with_each(sampling):
    x, y = load_diabetes(return_X_y=True)
    recipe = {
        "data": {"sampling": sampling, "batch_size": 16},
        "model": "linear",
        "optimizer": {"name": "sgd", "lr": 0.01 if sampling != "full" else 0.1},
        "stop": {"max_epochs": 20, "average": 0.0, "patience": None},
        "engine": {"threads": 1, "device": "cpu"},
    }
    run = descend.train((x[:200], y[:200]), recipe)
    losses = [record["train"]["loss"] for record in run.history]
    assert losses[-1] < 0.75 * losses[0]
    steps = 1 if sampling == "full" else math.ceil(run.schema.rows["train"] / 16)
    assert run.metrics["steps"] == 20 * steps
