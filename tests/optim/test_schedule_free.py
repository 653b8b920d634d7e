"""Schedule-free AdamW against the paper's three sequences, each kept as it is defined."""

import numpy as np
import pytest
import torch
from tests.support.optimizer_contract import Case, Contract, Problem
from torch import nn

from descend.errors import UserError
from descend.optim import ScheduleFreeAdamW, schedule_free_adamw

CASES = [
    Case("schedule_free_adamw", lr=0.03),
    Case("schedule_free_adamw", {"betas": (0.5, 0.9), "weight_decay": 0.1, "warmup_steps": 3, "r": 1.0}, lr=0.03),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    pass


class Reference:
    """Algorithm 1 of Defazio et al. 2024 in float64 NumPy: x is stored and averaged by its definition."""

    def __init__(self, start, lr, betas, eps, decay, r, power):
        self.z, self.v = start.copy(), np.zeros_like(start)
        self.lr, self.betas, self.eps, self.decay, self.r, self.power = lr, betas, eps, decay, r, power
        self.iterates, self.weights, self.largest = [start.copy()], [], 0.0

    @property
    def x(self):
        if not self.weights:
            return self.iterates[0]
        return np.average(self.iterates[1:], axis=0, weights=self.weights)

    @property
    def y(self):
        return (1 - self.betas[0]) * self.z + self.betas[0] * self.x

    def step(self, g, lr):
        k = len(self.weights) + 1
        direction_at = self.y
        self.v = self.betas[1] * self.v + (1 - self.betas[1]) * g**2
        d = g / (np.sqrt(self.v / (1 - self.betas[1] ** k)) + self.eps) + self.decay * direction_at
        self.z = self.z - lr * d
        self.largest = max(self.largest, lr)
        self.iterates.append(self.z.copy())
        self.weights.append(k**self.r * self.largest**self.power)


@pytest.mark.parametrize("r", [0.0, 1.5])
@pytest.mark.parametrize("power", [0.0, 2.0])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_the_sequences_are_those_of_the_paper(r, power, decay):
    rng = np.random.default_rng(1)
    start, betas = rng.normal(size=(3, 2)), (0.8, 0.95)
    w = nn.Parameter(torch.tensor(start))
    optimizer = schedule_free_adamw([w], 0.1, betas, 1e-6, decay, warmup_steps=4, r=r, weight_lr_power=power)
    reference = Reference(start, 0.1, betas, 1e-6, decay, r, power)
    for k in range(1, 25):
        g = rng.normal(size=(3, 2))
        w.grad = torch.tensor(g)
        optimizer.step()
        reference.step(g, 0.1 * min(1, k / 4))
        np.testing.assert_allclose(w.detach().numpy(), reference.y, rtol=1e-10, atol=1e-12)
        with optimizer.evaluation_weights():
            np.testing.assert_allclose(w.detach().numpy(), reference.x, rtol=1e-10, atol=1e-12)


def test_the_average_is_the_mean_of_the_iterates():
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = ScheduleFreeAdamW([w], lr=0.5, eps=0.0)
    for _ in range(4):  # each step of z is the learning rate
        w.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    with optimizer.evaluation_weights():
        assert w.item() == pytest.approx(np.mean([0.5, 0.0, -0.5, -1.0]), rel=1e-12)


def test_a_warm_up_of_the_schedule_is_that_of_the_setting():
    """The weights of the average follow the largest learning rate so far, whoever changes it."""
    ends = []
    for inside in (True, False):
        problem = Problem(CASES[0])
        optimizer = schedule_free_adamw(problem.parameters(), 0.1, warmup_steps=5 if inside else 0)
        for k in range(1, 12):
            optimizer.param_groups[0]["lr"] = 0.1 if inside else 0.1 * min(1, k / 5)
            optimizer.step(problem.closure(optimizer))
        with optimizer.evaluation_weights():
            ends.append(problem.vector())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-14)


class TestEvaluationWeights:
    def test_the_parameters_are_restored_to_the_bit_also_after_an_error(self):
        problem = Problem(CASES[0], torch.float32)
        optimizer = ScheduleFreeAdamW(problem.parameters(), 0.03)
        before = problem.train(optimizer, 5)
        with pytest.raises(ZeroDivisionError), optimizer.evaluation_weights():
            assert not torch.equal(problem.vector(), before)
            raise ZeroDivisionError
        assert torch.equal(problem.vector(), before)

    def test_before_the_first_step_they_are_the_initial_weights(self):
        w = nn.Parameter(torch.ones(2))
        with ScheduleFreeAdamW([w]).evaluation_weights():
            assert w.tolist() == [1.0, 1.0]

    def test_they_vary_less_than_the_iterates(self):
        """Noisy gradients of (w − 1)²/2 at a constant learning rate: the average is nearer to the minimum."""
        noise = torch.Generator().manual_seed(0)
        w = nn.Parameter(torch.zeros(50))
        optimizer = ScheduleFreeAdamW([w], lr=0.1)
        for _ in range(400):
            w.grad = w.detach() - 1 + torch.randn(50, generator=noise)
            optimizer.step()
        iterate = optimizer.state[w]["z"]
        with optimizer.evaluation_weights():
            assert (w - 1).norm() < 0.5 * (iterate - 1).norm()


def test_the_share_of_the_average_must_be_positive():
    """With β₁ = 0 the parameters would be z, from which x does not follow."""
    with pytest.raises(UserError, match="betas"):
        ScheduleFreeAdamW([nn.Parameter(torch.ones(1))], betas=(0.0, 0.9))
