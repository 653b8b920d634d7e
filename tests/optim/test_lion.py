"""Lion against the paper's algorithm in scalar arithmetic."""

import numpy as np
import pytest
import torch
from tests.support.optimizer_contract import Case, Contract
from torch import nn

from descend.optim import Lion

CASES = [
    Case("lion", lr=0.03),
    Case("lion", {"betas": (0.5, 0.9), "weight_decay": 0.1}, lr=0.03),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    pass


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_the_paper(decay):
    """Algorithm 2 of Chen et al. 2023, in float64 NumPy."""
    rng = np.random.default_rng(0)
    w = nn.Parameter(torch.tensor(rng.normal(size=(3, 4))))
    x, m, lr, (one, two) = w.detach().numpy().copy(), np.zeros((3, 4)), 0.1, (0.8, 0.95)
    optimizer = Lion([w], lr, (one, two), decay)
    for _ in range(20):
        g = rng.normal(size=(3, 4))
        w.grad = torch.tensor(g)
        optimizer.step()
        c = one * m + (1 - one) * g
        x = x - lr * (np.sign(c) + decay * x)
        m = two * m + (1 - two) * g
        np.testing.assert_allclose(w.detach().numpy(), x, rtol=1e-12, atol=1e-14)


def test_the_first_step_is_the_sign_of_the_gradient():
    w = nn.Parameter(torch.zeros(4))
    w.grad = torch.tensor([1e-30, -5.0, 0.0, 1e20])
    Lion([w], lr=0.5).step()
    assert w.tolist() == [-0.5, 0.5, 0.0, -0.5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_is_noticed(bad):
    """The sign of NaN is 0 in PyTorch, with which the weight would stay where it is."""
    w = nn.Parameter(torch.zeros(2))
    optimizer = Lion([w])
    w.grad = torch.tensor([bad, 1.0])
    optimizer.step()
    assert w.isnan().tolist() == [True, False]
