"""Prodigy against the paper's algorithm in float64 NumPy, and its estimate against the known distance."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.support.optimizer_contract import Case, Contract
from torch import nn

from descend.errors import UserError
from descend.optim import Prodigy

CASES = [
    Case("prodigy", lr=1.0, separable=False),
    Case(
        "prodigy",
        {"beta3": 0.9, "use_bias_correction": True, "safeguard_warmup": True, "growth_rate": 3.0, "weight_decay": 0.01},
        lr=1.0,
        separable=False,
    ),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    pass


class Reference:
    """Algorithm 4 of Mishchenko and Defazio 2023, for Adam, with the options of its implementation."""

    def __init__(
        self, start, *, beta3=None, decay=0.0, correction=False, safeguard=False, growth=math.inf, c=1.0
    ):
        self.x, self.start, self.d, self.d_max, self.r, self.k = (
            start.copy(),
            start.copy(),
            1e-6,
            1e-6,
            0.0,
            0,
        )
        self.m, self.v, self.s = (np.zeros_like(start) for _ in range(3))
        self.beta3, self.decay, self.correction = beta3 or math.sqrt(0.99), decay, correction
        self.safeguard, self.growth, self.c = safeguard, growth, c

    def step(self, g, lr):
        self.k += 1
        d, d0, one, two = self.d, 1e-6, 0.8, 0.99
        factor = math.sqrt(1 - two**self.k) / (1 - one**self.k) if self.correction else 1.0
        eta = d * lr * factor
        self.r = self.beta3 * self.r + d / d0 * eta * (g * (self.start - self.x)).sum()
        self.s = self.beta3 * self.s + d / d0 * (d if self.safeguard else eta) * g
        self.m = one * self.m + (1 - one) * d * g
        self.v = two * self.v + (1 - two) * d**2 * g**2
        estimate = self.c * self.r / np.abs(self.s).sum()
        grown = max(d, estimate) if d == d0 else d
        self.d_max = max(self.d_max, estimate)
        self.d = min(self.d_max, grown * self.growth)
        self.x = (1 - eta * self.decay) * self.x - eta * self.m / (np.sqrt(self.v) + self.d * 1e-8)


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        ({}, {}),
        ({"beta3": 0.7, "d_coef": 0.5}, {"beta3": 0.7, "c": 0.5}),
        ({"weight_decay": 0.1, "growth_rate": 1.3}, {"decay": 0.1, "growth": 1.3}),
        ({"use_bias_correction": True, "safeguard_warmup": True}, {"correction": True, "safeguard": True}),
    ],
)
def test_steps_are_those_of_the_paper(settings, own):
    """Two parameters, so that the sums extend over both; the learning rate changes, as with a warm-up."""
    rng = np.random.default_rng(0)
    start, goal = rng.normal(size=10), 3 + rng.normal(size=10)
    params = [nn.Parameter(torch.tensor(start[:4].reshape(2, 2))), nn.Parameter(torch.tensor(start[4:]))]
    optimizer = Prodigy(params, betas=(0.8, 0.99), **settings)
    reference = Reference(start, **own)
    for k in range(60):
        lr = min(1.0, (k + 1) / 10)
        g = np.sign(reference.x - goal) + 0.1 * rng.normal(size=10)
        params[0].grad, params[1].grad = torch.tensor(g[:4].reshape(2, 2)), torch.tensor(g[4:])
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        reference.step(g, lr)
        got = torch.cat([p.detach().flatten() for p in params]).numpy()
        np.testing.assert_allclose(got, reference.x, rtol=1e-9, atol=1e-10)
        assert optimizer.d.item() == pytest.approx(reference.d, rel=1e-9)
    assert reference.d > 1e3 * 1e-6


@pytest.mark.parametrize("distance", [0.01, 1.0, 1000.0])
def test_the_estimate_rises_to_the_distance_and_never_falls(distance):
    """|w| summed over coordinates that all start at the same distance D: d approaches D, and stays below about it."""
    w = nn.Parameter(torch.full((20,), distance, dtype=torch.float64))
    optimizer, estimates = Prodigy([w]), [1e-6]
    for _ in range(300):
        optimizer.zero_grad()
        w.abs().sum().backward()
        optimizer.step()
        estimates.append(optimizer.d.item())
    assert all(a <= b for a, b in pairwise(estimates))
    assert distance / 5 < estimates[-1] < 2 * distance


def test_the_growth_is_limited():
    def estimates(rate):
        w = nn.Parameter(torch.full((20,), 10.0, dtype=torch.float64))
        optimizer, found = Prodigy([w], growth_rate=rate), []
        for _ in range(30):
            optimizer.zero_grad()
            w.abs().sum().backward()
            optimizer.step()
            found.append(optimizer.d.item())
        return found

    limited = estimates(1.02)
    grown = [b / a for a, b in pairwise(limited) if a > 1e-6]
    assert max(grown[1:]) <= 1.02 * (1 + 1e-12)
    assert max(b / a for a, b in pairwise(estimates(None))) > 1.5


def test_gradients_of_zero_change_nothing():
    w = nn.Parameter(torch.ones(3))
    optimizer = Prodigy([w], weight_decay=0.5)
    for _ in range(3):
        w.grad = torch.zeros(3)
        optimizer.step()
    assert w.tolist() == [1.0] * 3
    assert optimizer.d.item() == pytest.approx(1e-6)


def test_a_gradient_that_is_not_finite_is_noticed():
    w = nn.Parameter(torch.ones(3))
    optimizer = Prodigy([w])
    w.grad = torch.tensor([1.0, float("nan"), 1.0])
    optimizer.step()
    assert w.isnan().any()


def test_a_group_without_a_learning_rate_takes_no_part():
    """Its gradients are not in the estimate, which is that of the other group."""
    found = []
    for both in (True, False):
        a, b = nn.Parameter(torch.full((5,), 2.0)), nn.Parameter(torch.full((5,), 100.0))
        optimizer = Prodigy([{"params": [a]}, {"params": [b], "lr": 0.0}] if both else [a])
        for _ in range(30):
            optimizer.zero_grad()
            (a.abs().sum() + b.abs().sum()).backward()
            optimizer.step()
        found.append((optimizer.d.item(), a.tolist()))
        assert b.tolist() == [100.0] * 5
    assert found[0] == found[1]


def test_the_estimate_of_weights_in_half_precision_is_saved_in_single_precision():
    w = nn.Parameter(torch.full((50,), 3.0, dtype=torch.bfloat16))
    optimizer = Prodigy([w])
    for _ in range(20):
        optimizer.zero_grad()
        w.abs().sum().backward()
        optimizer.step()
    other = Prodigy([nn.Parameter(torch.zeros(50, dtype=torch.bfloat16))])
    other.load_state_dict(optimizer.state_dict())
    assert other.d.dtype == torch.float32
    assert other.d.item() == optimizer.d.item()


@pytest.mark.parametrize("settings", [{"d0": 0.0}, {"growth_rate": 0.5}, {"beta3": 1.0}, {"eps": 0.0}])
def test_settings_outside_their_domain_are_refused(settings):
    with pytest.raises(UserError, match=f"prodigy: {next(iter(settings))}"):
        Prodigy([nn.Parameter(torch.ones(1))], **settings)
