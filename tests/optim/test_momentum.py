"""Tests of the heavy ball and Nesterov's method against their formulas, PyTorch, and the convergence theorems."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.optimizer_contract import Case, Contract, Problem

import descend
from descend.errors import UserError
from descend.optim import heavy_ball, nesterov, sgd
from descend.optim.base import catalogue_name

CASES = [
    Case("heavy_ball"),
    Case("heavy_ball", {"momentum": 0.0}, stateful=False),
    Case("nesterov", needs_closure=True),
    Case("nesterov", {"momentum": 0.5}, needs_closure=True),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract."""


# The formulas in NumPy, with a learning rate and a momentum for each step.


def heavy_ball_steps(gradient, x, rates, momenta):
    old = x
    for a, b in zip(rates, momenta, strict=True):
        x, old = x - a * gradient(x) + b * (x - old), x
        yield x


def nesterov_steps(gradient, x, rates, momenta):
    old = x
    for a, b in zip(rates, momenta, strict=True):
        ahead = x + b * (x - old)
        x, old = ahead - a * gradient(ahead), x
        yield x


class Quadratic:
    """f(x) = ½ x'Hx in float64, with H = diag(curvatures), and the points at which its gradient was evaluated."""

    def __init__(self, curvatures, start=None):
        self.h = torch.tensor(curvatures, dtype=torch.float64)
        start = torch.ones_like(self.h) if start is None else torch.tensor(start, dtype=torch.float64)
        self.x = start.clone().requires_grad_()
        self.evaluated = []

    def closure(self):
        self.evaluated.append(self.x.detach().clone())
        loss = 0.5 * (self.h * self.x * self.x).sum()
        self.x.grad = (self.h * self.x).detach()
        return loss.detach()

    def run(self, optimizer, steps):
        seen = []
        for _ in range(steps):
            optimizer.step(self.closure)
            seen.append(self.x.detach().clone())
        return torch.stack(seen)


@pytest.mark.parametrize(
    ("constructor", "formula"), [(heavy_ball, heavy_ball_steps), (nesterov, nesterov_steps)]
)
@given(
    rates=st.lists(st.floats(0.01, 0.4), min_size=1, max_size=12),
    momentum=st.floats(0.0, 0.95),
    start=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
)
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_the_steps_are_those_of_the_formula_with_any_schedule(constructor, formula, rates, momentum, start):
    problem = Quadratic([0.3, 1.0, 2.5], start)
    optimizer = constructor([problem.x], momentum=momentum)
    h = problem.h.numpy()
    expected = formula(lambda x: h * x, np.array(start), rates, [momentum] * len(rates))
    for a, x in zip(rates, expected, strict=True):
        optimizer.param_groups[0]["lr"] = a
        optimizer.step(problem.closure)
        np.testing.assert_allclose(problem.x.detach().numpy(), x, rtol=1e-12, atol=1e-13)


class TestAgainstPyTorch:
    RATE, MOMENTUM = 0.1, 0.9

    def torchs(self, nesterov, rates):
        problem = Quadratic([0.3, 1.0, 2.5])
        optimizer = torch.optim.SGD([problem.x], lr=self.RATE, momentum=self.MOMENTUM, nesterov=nesterov)
        iterates = []
        for rate in rates:
            optimizer.param_groups[0]["lr"] = rate
            iterates.append(problem.run(optimizer, 1)[0])
        return torch.stack(iterates), problem.evaluated

    def ours(self, constructor, rates):
        problem = Quadratic([0.3, 1.0, 2.5])
        optimizer = constructor([problem.x], lr=self.RATE, momentum=self.MOMENTUM)
        iterates = []
        for rate in rates:
            optimizer.param_groups[0]["lr"] = rate
            iterates.append(problem.run(optimizer, 1)[0])
        return torch.stack(iterates), problem.evaluated

    def test_heavy_ball_equals_its_momentum_while_the_learning_rate_is_constant(self):
        theirs, _ = self.torchs(False, [0.1] * 30)
        ours, _ = self.ours(heavy_ball, [0.1] * 30)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)

    def test_nesterov_evaluates_at_the_parameters_of_pytorch(self):
        """PyTorch's parameters are the look-ahead points: those at which our closure is evaluated."""
        _, theirs = self.torchs(True, [0.1] * 30)
        _, ours = self.ours(nesterov, [0.1] * 30)
        torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize(("constructor", "flag"), [(heavy_ball, False), (nesterov, True)])
    def test_they_differ_when_it_changes(self, constructor, flag):
        """At a tenth of the learning rate the heavy ball keeps its velocity, and PyTorch's step falls to a tenth."""
        rates = [0.1] * 5 + [0.01] * 5
        theirs, asked_theirs = self.torchs(flag, rates)
        ours, asked_ours = self.ours(constructor, rates)
        assert (theirs[-1] - ours[-1]).abs().max() > 0.01
        assert (asked_theirs[-1] - asked_ours[-1]).abs().max() > 0.01

    def test_without_momentum_both_are_gradient_descent(self):
        expected = Quadratic([0.3, 2.0])
        plain = expected.run(sgd([expected.x], lr=0.2), 10)
        for constructor in (heavy_ball, nesterov):
            problem = Quadratic([0.3, 2.0])
            got = problem.run(constructor([problem.x], lr=0.2, momentum=0.0), 10)
            torch.testing.assert_close(got, plain, rtol=1e-14, atol=0)


class TestRates:
    """On ½ x'Hx with curvatures in [m, L], κ = L/m."""

    @pytest.mark.parametrize("kappa", [10.0, 100.0, 1000.0])
    def test_heavy_ball_contracts_by_the_root_of_the_condition_number(self, kappa):
        small, large = 1.0, kappa
        root = math.sqrt(kappa)
        rho = (root - 1) / (root + 1)
        alpha = 4 / (math.sqrt(large) + math.sqrt(small)) ** 2
        problem = Quadratic(np.geomspace(small, large, 7).tolist())
        steps = math.ceil(14 / -math.log(rho))  # a decrease by e^-14
        norms = problem.run(heavy_ball([problem.x], lr=alpha, momentum=rho**2), 2 * steps).norm(dim=1)
        # Every mode of x_k is (a + b k) ρ^k at most: doubling k squares the decrease, up to a factor of 2 from the k.
        measured = (norms[-1] / norms[steps - 1]) ** (1 / steps)
        assert rho * 0.9 ** (1 / steps) <= measured <= rho * 2.2 ** (1 / steps)
        # gradient descent at its best, (κ−1)/(κ+1), is far slower
        other = Quadratic(problem.h.tolist())
        gd = other.run(sgd([other.x], lr=2 / (small + large)), steps).norm(dim=1)
        slow = (kappa - 1) / (kappa + 1)
        assert (gd[-1] / gd[steps // 2]) ** (1 / (steps - 1 - steps // 2)) == pytest.approx(slow, rel=1e-2)
        assert norms[steps - 1] < 1e-2 * gd[-1]

    @pytest.mark.parametrize("wrong", ["alpha", "beta"])
    def test_other_settings_are_slower(self, wrong):
        """Control: the rate of convergence is that of the optimal α and β only."""
        root = 10.0
        rho = (root - 1) / (root + 1)
        alpha, beta = 4 / (root + 1) ** 2, rho**2
        finals = []
        for a, b in ((alpha, beta), (alpha / 2, beta) if wrong == "alpha" else (alpha, rho)):
            problem = Quadratic(np.geomspace(1.0, 100.0, 7).tolist())
            finals.append(problem.run(heavy_ball([problem.x], lr=a, momentum=b), 150)[-1].norm())
        assert finals[1] > 10 * finals[0]

    @pytest.mark.parametrize("kappa", [4.0, 100.0, 2500.0])
    def test_nesterov_keeps_its_bound_at_every_step(self, kappa):
        """f(x_k) − f* ≤ (1 − 1/√κ)^k (f(x_0) − f* + m/2 ‖x_0 − x*‖²)."""
        root = math.sqrt(kappa)
        problem = Quadratic(np.geomspace(1.0, kappa, 9).tolist())
        start = problem.x.detach().clone()
        first = 0.5 * (problem.h * start**2).sum() + 0.5 * start.square().sum()
        steps = 300
        seen = problem.run(nesterov([problem.x], lr=1 / kappa, momentum=(root - 1) / (root + 1)), steps)
        values = 0.5 * (problem.h * seen**2).sum(1)
        bound = first * (1 - 1 / root) ** torch.arange(1, steps + 1, dtype=torch.float64)
        assert (values <= bound * (1 + 1e-9) + 1e-300).all()

    def test_gradient_descent_would_break_that_bound(self):
        kappa = 2500.0
        problem = Quadratic(np.geomspace(1.0, kappa, 9).tolist())
        first = 0.5 * problem.h.sum() + 0.5 * len(problem.h)
        seen = problem.run(sgd([problem.x], lr=1 / kappa), 300)
        assert 0.5 * (problem.h * seen[-1] ** 2).sum() > first * (1 - 1 / 50) ** 600


class TestNesterov:
    def test_the_closure_sees_the_look_ahead_point_and_its_loss_is_returned(self):
        problem = Quadratic([1.0, 2.0])
        optimizer = nesterov([problem.x], lr=0.1, momentum=0.9)
        problem.run(optimizer, 2)
        x, velocity = problem.x.detach().clone(), optimizer.state[problem.x]["velocity"].clone()
        loss = optimizer.step(problem.closure)
        ahead = x + 0.9 * velocity
        torch.testing.assert_close(problem.evaluated[-1], ahead, rtol=1e-15, atol=0)
        assert loss.item() == pytest.approx(0.5 * (problem.h * ahead**2).sum().item(), rel=1e-14)

    def test_the_error_names_a_remedy(self):
        with pytest.raises(UserError, match=r"optimizer\.step\(closure\)"):
            nesterov([torch.ones(1, requires_grad=True)]).step()


@pytest.mark.parametrize(
    ("constructor", "formula"), [(heavy_ball, heavy_ball_steps), (nesterov, nesterov_steps)]
)
class TestChangesOfTheParametersByOthers:
    def test_a_value_that_is_set_is_not_taken_for_momentum(self, constructor, formula):
        """After five steps all of x moves by 1000: the next displacement is β v − α g at the new point, and not 900."""
        problem = Quadratic([0.3, 1.0, 2.5])
        optimizer = constructor([problem.x], lr=0.1, momentum=0.9)
        before = problem.run(optimizer, 5)
        velocity = before[-1] - before[-2]
        problem.x.data += 1000.0
        start = problem.x.detach().clone()
        optimizer.step(problem.closure)
        at = start + 0.9 * velocity if constructor is nesterov else start
        expected = 0.9 * velocity - 0.1 * problem.h * at
        torch.testing.assert_close(problem.x.detach() - start, expected, rtol=1e-9, atol=1e-9)

    def test_decoupled_decay_is_not_accumulated(self, constructor, formula):
        """With a gradient of zero, x shrinks by the factor 1 − αλ per step, as with SGD; not by 1/(1 − β) times more."""
        x = torch.ones(3, dtype=torch.float64, requires_grad=True)
        optimizer = constructor([x], lr=0.1, momentum=0.9)

        def decay(*_):
            x.data.mul_(1 - 0.1 * 0.5)

        optimizer.register_step_pre_hook(decay)

        def closure():
            x.grad = torch.zeros_like(x)
            return torch.zeros(())

        for _ in range(20):
            optimizer.step(closure)
        torch.testing.assert_close(x.detach(), torch.full_like(x, 0.95**20), rtol=1e-12, atol=0)

    def test_a_state_of_an_earlier_version_continues(self, constructor, formula):
        """Earlier versions stored the previous iterate; a run that they started takes the same steps."""
        problem = Quadratic([0.3, 1.0, 2.5])
        optimizer = constructor([problem.x], lr=0.1, momentum=0.9)
        seen = problem.run(optimizer, 5)
        expected = formula(lambda x: problem.h.numpy() * x, np.ones(3), [0.1] * 8, [0.9] * 8)
        state = optimizer.state_dict()
        state["state"] = {0: {"previous": seen[-2].clone()}}
        optimizer.load_state_dict(state)
        np.testing.assert_allclose(problem.run(optimizer, 3)[-1], list(expected)[-1], rtol=1e-12)


class TestSparse:
    def test_a_refused_gradient_leaves_nesterov_at_its_iterate(self):
        x = torch.ones(3, requires_grad=True)
        optimizer = nesterov([x], lr=0.1, momentum=0.9)

        def closure(layout=torch.strided):
            dense = torch.ones(3)
            x.grad = dense if layout is torch.strided else dense.to_sparse()
            return torch.zeros(())

        optimizer.step(closure)
        reached = x.detach().clone()
        x.grad = None
        with pytest.raises(UserError, match="sparse"):
            optimizer.step(lambda: closure(torch.sparse_coo))
        assert torch.equal(x.detach(), reached)


@pytest.mark.parametrize(
    ("name", "formula"), [("heavy_ball", heavy_ball_steps), ("nesterov", nesterov_steps)]
)
def test_in_the_training_loop_the_steps_are_those_of_the_formula(name, formula):
    """A linear model on full batches with a decaying learning rate: the weights are those of the formula."""
    x = np.linspace(-1, 1, 40)[:, None]
    recipe = {
        "data": {"sampling": "full", "validation": 0.0, "test": 0.0, "clip": "none"},
        "model": "linear",
        "init": {"name": "zeros", "output_gain": 1.0},
        "optimizer": {"name": name, "lr": 0.1, "momentum": 0.8},
        "schedule": {"name": "exponential", "beta": 0.2, "warmup": 0.0},
        "regularize": {"weight_decay": 0.0},
        "stop": {"max_epochs": 12, "average": 0.0},
        "engine": {"threads": 1, "device": "cpu"},
    }
    with pytest.warns(UserWarning, match="init 'zeros'"):
        run = descend.train((x, 2 * x[:, 0] + np.cos(9 * x[:, 0])), recipe)

    def scaled(values):
        return (values - values.mean()) / values.std()

    a, y = scaled(x[:, 0]), scaled(2 * x[:, 0] + np.cos(9 * x[:, 0]))

    def gradient(w):
        return np.array([2 * np.mean((w[0] * a + w[1] - y) * each) for each in (a, np.ones(40))])

    *_, last = formula(gradient, np.zeros(2), 0.1 * np.exp(-0.2 * np.arange(12)), [0.8] * 12)
    found = [run.model.output.weight.item(), run.model.output.bias.item()]
    np.testing.assert_allclose(found, last, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("constructor", [heavy_ball, nesterov])
def test_on_a_gpu_it_takes_the_same_steps(constructor):
    ends = []
    for device in ("cpu", "cuda"):
        problem = Problem(Case(catalogue_name(constructor)))
        problem.tables.to(device)
        problem.rows, problem.goal = problem.rows.to(device), problem.goal.to(device)
        ends.append(problem.train(constructor(problem.parameters(), lr=0.01), 20).cpu())
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("constructor", [heavy_ball, nesterov])
class TestRefusals:
    @pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
    def test_momentum(self, constructor, momentum):
        with pytest.raises(UserError, match="momentum: expected a number >= 0 and below 1, got"):
            constructor([torch.ones(1, requires_grad=True)], momentum=momentum)

    def test_sparse_gradients(self, constructor):
        problem = Problem(Case(catalogue_name(constructor), sparse=True))
        optimizer = constructor(problem.parameters())
        with pytest.raises(UserError, match="use sparse_adam"):
            problem.train(optimizer, 1)
