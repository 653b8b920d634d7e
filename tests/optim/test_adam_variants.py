"""Tests of NAdam, RAdam and Adafactor against their formulas in scalar arithmetic, and the contract of all optimizers.

That they are PyTorch's classes, to the bit, is tested in test_torch_conventions.py.
"""

import math

import numpy as np
import pytest
import torch
from tests.support.optimizer_contract import Case, Contract
from torch import nn

from descend.errors import UserError
from descend.optim import adafactor, nadam, radam

CASES = [
    Case("nadam"),
    Case("nadam", {"betas": (0.5, 0.9), "momentum_decay": 0.1}),
    Case("radam", lr=0.03),
    Case("radam", {"betas": (0.5, 0.9)}, lr=0.03),
    Case("adafactor", lr=0.05, overflows=True),
    Case("adafactor", {"beta2_decay": -0.5, "d": 2.0, "eps": (1e-6, 0.1)}, lr=0.05, overflows=True),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract, for each of PyTorch's variants of Adam."""


def steps_of_nadam(x, gradients, lr, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3):
    """Dozat's algorithm 2 with the schedule of the momentum in its section 2."""
    m = s = 0.0
    products = [1.0]
    mu = [betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in range(len(gradients) + 2)]
    for k, g in enumerate(gradients, start=1):
        products.append(products[-1] * mu[k])
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * g * g
        average = mu[k + 1] * m / (1 - products[k] * mu[k + 1]) + (1 - mu[k]) * g / (1 - products[k])
        x = x - lr * average / (math.sqrt(s / (1 - betas[1] ** k)) + eps)
        yield x


def steps_of_radam(x, gradients, lr, betas=(0.9, 0.999), eps=1e-8):
    """Algorithm 2 of the paper, with eps where PyTorch adds it."""
    m = s = 0.0
    limit = 2 / (1 - betas[1]) - 1
    for k, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * g * g
        average = m / (1 - betas[0] ** k)
        length = limit - 2 * k * betas[1] ** k / (1 - betas[1] ** k)
        if length > 5:
            r = math.sqrt((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length))
            x = x - lr * r * average * math.sqrt(1 - betas[1] ** k) / (math.sqrt(s) + eps)
        else:
            x = x - lr * average
        yield x


@pytest.mark.parametrize(("make", "reference"), [(nadam, steps_of_nadam), (radam, steps_of_radam)])
@pytest.mark.parametrize("settings", [{}, {"betas": (0.6, 0.9), "eps": 1e-3}])
def test_steps_are_those_of_the_formula(make, reference, settings):
    gradients = [math.sin(3.0 * k) + 0.2 for k in range(30)]
    w = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    optimizer = make([w], lr=0.05, **settings)
    for g, expected in zip(gradients, reference(0.7, gradients, 0.05, **settings), strict=True):
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        # The product of PyTorch's momenta is in float32.
        assert w.item() == pytest.approx(expected, rel=1e-12 if make is radam else 1e-6)


class TestFirstSteps:
    def test_nadam(self):
        """With m = (1 − β₁) g and s = (1 − β₂) g² the quotient is g/|g| times a number of the momentum alone."""
        w = nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
        optimizer = nadam([w], lr=0.1, eps=0.0)
        w.grad = torch.tensor([5.0, -0.01], dtype=torch.float64)
        optimizer.step()
        one, two = (0.9 * (1 - 0.5 * 0.96 ** (k * 4e-3)) for k in (1, 2))
        length = 0.1 * (two * 0.1 / (1 - one * two) + 1.0)
        expected = torch.tensor([3.0 - length, -2.0 + length], dtype=torch.float64)
        torch.testing.assert_close(w.detach(), expected, rtol=1e-7, atol=0)

    def test_radam_follows_the_gradient_five_times(self):
        w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        optimizer = radam([w], lr=0.1, betas=(0.0, 0.999))
        for _ in range(5):
            w.grad = torch.tensor([0.5], dtype=torch.float64)
            optimizer.step()
        assert w.item() == pytest.approx(1 - 5 * 0.05, rel=1e-12)
        w.grad = torch.tensor([0.5], dtype=torch.float64)
        optimizer.step()
        assert 0.75 - w.item() != pytest.approx(0.05, rel=1e-2)

    def test_adafactor_of_a_matrix_of_rank_one(self):
        """The factors of squares of rank one are exact, so that u = sign G, and its root mean square is 1."""
        rows, columns = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 4.0])
        w = nn.Parameter(torch.full((3, 2), 2.0, dtype=torch.float64))
        w.grad = torch.outer(rows, columns).double()
        adafactor([w], lr=0.25).step()
        torch.testing.assert_close(w.detach(), 2.0 - 0.5 * w.grad.sign(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (5,)])
def test_adafactor_in_dense_arithmetic(shape):
    rng = np.random.default_rng(0)
    w = nn.Parameter(torch.tensor(rng.normal(size=shape)))
    x, lr, decay = w.detach().numpy().copy(), 0.3, 0.1
    optimizer = adafactor([w], lr=lr, weight_decay=decay)
    rows = columns = squares = 0.0
    for k in range(1, 15):
        g = rng.normal(size=shape) * rng.exponential(size=shape[-1])
        w.grad = torch.tensor(g)
        optimizer.step()
        keep = 1 - k**-0.8
        length = max(1e-3, math.sqrt((x**2).mean())) * min(lr, 1 / math.sqrt(k))
        x = x * (1 - lr * decay)
        if len(shape) > 1:
            rows = keep * rows + (1 - keep) * (g**2).mean(-1, keepdims=True)
            columns = keep * columns + (1 - keep) * (g**2).mean(-2, keepdims=True)
            u = g / np.sqrt(rows * columns / rows.mean(-2, keepdims=True))
        else:
            squares = keep * squares + (1 - keep) * g**2
            u = g / np.sqrt(squares)
        x = x - length * u / max(1.0, math.sqrt((u**2).mean()))
        np.testing.assert_allclose(w.detach().numpy(), x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (nadam, {"momentum_decay": -1}, "nadam: momentum_decay: expected a number >= 0"),
        (radam, {"betas": (1.0, 0.9)}, "radam: betas"),
        (adafactor, {"beta2_decay": 0.8}, "adafactor: beta2_decay: expected a number <= 0"),
        (adafactor, {"d": 0.5}, "adafactor: d: expected a number >= 1"),
        (adafactor, {"eps": (-1.0, 1e-3)}, "adafactor: eps"),
    ],
)
def test_settings_outside_their_domain_are_refused(make, settings, words):
    with pytest.raises(UserError, match=words):
        make([nn.Parameter(torch.ones(1))], **settings)
