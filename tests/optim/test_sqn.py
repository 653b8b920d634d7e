"""Tests of the stochastic quasi-Newton method against its paper: averages, pairs, first steps, and data accesses."""

import math
from typing import Any

import pytest
import torch
from tests.support.descents import Quadratic, draw
from tests.support.optimizer_contract import Case, Contract
from torch import nn

import descend
from descend.errors import UserError
from descend.linalg import GaussNewton, flat
from descend.optim import OPTIMIZERS, SQN, Rows, bfgs, sgd, sqn

CASES = [
    Case("sqn", {"update_frequency": 2}, lr=0.02, needs_closure=True, separable=False, graph=True),
    Case("sqn", {"update_frequency": 1, "history_size": 3}, lr=0.02, needs_closure=True, separable=False, graph=True,
         evaluations=1),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract; the state is the pairs, a sum and an average."""


class Walk:
    """The method on a quadratic with a noisy linear term, and its iterates before each step."""

    def __init__(self, quadratic, start, **chosen):
        self.quadratic, self.x = quadratic, torch.tensor(start, dtype=torch.float64, requires_grad=True)
        self.optimizer, self.path = sqn([self.x], **chosen), []
        self.noise = 0.3 * draw(200, len(start), seed=5)

    def gradient(self, step):
        return self.quadratic.gradient(self.path[step]) + self.noise[step]

    def step(self, count=1):
        for _ in range(count):
            noise = self.noise[len(self.path)]
            self.path.append(self.x.detach().clone())
            self.optimizer.step(lambda noise=noise: self.quadratic(self.x) + noise @ self.x)

    @property
    def state(self):
        return self.optimizer.state[self.x]

    def average(self, block, length):
        """Return the averages of the iterates at which the steps of a block started."""
        return torch.stack(self.path[block * length : (block + 1) * length]).mean(0)


@pytest.mark.parametrize("length", [2, 5])
def test_a_pair_is_the_hessian_times_the_difference_of_averages(length):
    """A pair uses the difference of AVERAGED iterates, not the last step."""
    walk = Walk(
        Quadratic([1.0, 4.0, 9.0]), [1.0, -2.0, 3.0], lr=0.05, update_frequency=length, history_size=4
    )
    walk.step(4 * length)
    steps, changes = walk.state["steps"], walk.state["changes"]
    for pair in range(3):
        expected = walk.average(pair + 1, length) - walk.average(pair, length)
        torch.testing.assert_close(steps[pair], expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(changes[pair], walk.quadratic.a @ expected, rtol=1e-12, atol=1e-14)
    assert torch.equal(steps[3], torch.zeros(3).double())
    last = walk.x.detach() - walk.path[-1]
    assert float((steps[2] - last).norm()) > 0.1 * float(steps[2].norm())  # control


def test_the_product_is_taken_at_the_average():
    """Where the Hessian is not constant the point makes a difference."""
    x = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    optimizer, path = sqn([x], lr=0.02, update_frequency=3), []
    for _ in range(6):
        path.append(x.detach().clone())
        optimizer.step(lambda: (x**4).sum())
    first, second = torch.stack(path[:3]).mean(0), torch.stack(path[3:]).mean(0)
    state = optimizer.state[x]
    torch.testing.assert_close(state["changes"][0], 12 * second**2 * (second - first), rtol=1e-12, atol=0)
    assert float((12 * x.detach() ** 2 * (second - first) - state["changes"][0]).norm()) > 1e-3


def test_the_first_steps_are_those_of_sgd():
    length = 4
    walk = Walk(Quadratic([1.0, 4.0, 9.0]), [1.0, -2.0, 3.0], lr=0.05, update_frequency=length)
    z = walk.x.detach().clone().requires_grad_()
    plain = sgd([z], lr=0.05)
    for step in range(2 * length):
        plain.zero_grad()
        (walk.quadratic(z) + walk.noise[step] @ z).backward()
        plain.step()
        walk.step()
        torch.testing.assert_close(walk.x.detach(), z.detach(), rtol=1e-15, atol=1e-15)
    start, gradient = walk.x.detach().clone(), None
    walk.step()
    gradient = walk.gradient(2 * length)
    assert float((walk.x.detach() - start + 0.05 * gradient).norm()) > 0.01  # control: the next step is not


def test_a_step_is_that_of_the_papers_algorithm():
    """The two-loop recursion over the pairs in order, with H0 from the newest pair."""
    length, memory = 2, 3
    walk = Walk(
        Quadratic([1.0, 2.0, 20.0, 40.0]),
        [1.0, -2.0, 3.0, 1.0],
        lr=0.02,
        update_frequency=length,
        history_size=memory,
    )
    for step in range(30):
        pairs = [
            (s, walk.quadratic.a @ s)
            for block in range(1, step // length)
            for s in [walk.average(block, length) - walk.average(block - 1, length)]
        ][-memory:]
        walk.step()
        q, alphas = walk.gradient(step).clone(), []
        for s, y in reversed(pairs):
            alphas.append((s @ q) / (s @ y))
            q -= alphas[-1] * y
        if pairs:
            s, y = pairs[-1]
            q *= (s @ y) / (y @ y)
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - (y @ q) / (s @ y)) * s
        torch.testing.assert_close(walk.x.detach(), walk.path[step] - 0.02 * q, rtol=1e-9, atol=1e-11)


def test_gauss_newton_instead_of_the_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    parameters = list(model.parameters())
    optimizer, path = sqn(parameters, lr=0.05, update_frequency=2, curvature="gauss_newton"), []
    x, y = draw(12, 3), draw(12, 1, seed=1)
    for _ in range(4):
        path.append(flat([p.detach() for p in parameters]))
        optimizer.step(Rows(model, nn.functional.mse_loss, x, y))
    went = flat([p.detach() for p in parameters])
    average = (path[2] + path[3]) / 2
    step = average - (path[0] + path[1]) / 2
    torch.nn.utils.vector_to_parameters(average, parameters)
    outputs = model(x)
    expected = GaussNewton(nn.functional.mse_loss(outputs, y), outputs, parameters)(step)
    torch.testing.assert_close(optimizer.state[parameters[0]]["changes"][0], expected, rtol=1e-10, atol=1e-12)
    assert not torch.equal(went, average)
    with pytest.raises(UserError, match=r"sqn needs the network's outputs.*Rows"):
        plain = sqn(parameters, update_frequency=1, curvature="gauss_newton")
        for _ in range(2):
            plain.step(lambda: nn.functional.mse_loss(model(x), y))


def test_a_product_on_a_part_of_the_rows_sees_fewer():
    model = nn.Linear(3, 1).double()
    optimizer = sqn(model.parameters(), update_frequency=1, sample_fraction=0.25)
    x, y = draw(16, 3), draw(16, 1, seed=1)
    seen = []
    model.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    for _ in range(3):
        optimizer.step(Rows(model, nn.functional.mse_loss, x, y))
    assert seen == [16, 16, 4, 16, 4]


def test_pairs_of_negative_curvature_are_discarded():
    x = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    optimizer = sqn([x], lr=0.05, update_frequency=1)
    for _ in range(8):
        optimizer.step(lambda: torch.cos(x).sum())
    state = optimizer.state[x]
    assert torch.equal(state["products"], torch.zeros(10, 10).double())
    assert float(state["scaling"]) == 1.0
    assert x.isfinite().all()


class Sampled:
    """A logistic loss on rows sampled for the gradient, and on six times as many others for the product, as in the paper."""

    def __init__(self, x, y, w, draw_rows):
        self.x, self.y, self.w, self.draw_rows, self.accessed = x, y, w, draw_rows, 0

    def _loss(self, rows):
        self.accessed += rows
        chosen = torch.randint(len(self.x), (rows,), generator=self.draw_rows)
        return nn.functional.binary_cross_entropy_with_logits(self.x[chosen] @ self.w, self.y[chosen])

    def __call__(self):
        self.w.grad = None
        loss = self._loss(50)
        loss.backward()
        return loss.detach()

    def value(self):
        return self._loss(50).detach()

    def differentiable(self):
        return self._loss(300)

    def linearized(self):
        raise NotImplementedError

    def part(self, share, *, nested=False):
        raise NotImplementedError


def excess(constructor, rate, problem, seed, *, budget):
    """Return the excess of the loss over its minimum after a budget of accessed data points."""
    x, y, best = problem
    w = torch.zeros(50, dtype=torch.float64, requires_grad=True)
    optimizer, step = constructor([w]), 0
    closure = Sampled(x, y, w, torch.Generator().manual_seed(seed))
    while closure.accessed < budget:
        optimizer.param_groups[0]["lr"] = rate / (1 + step / 50)
        optimizer.step(closure)
        step += 1
    return float(nn.functional.binary_cross_entropy_with_logits(x @ w.detach(), y)) - best


def synthetic(seed):
    """The paper's shape, 7000 points in 50 dimensions, with features of scales from 1 to 0.3."""
    scales = torch.logspace(0, -0.5, 50, dtype=torch.float64)
    x = draw(7000, 50, seed=seed) * scales
    w = draw(50, seed=seed + 10) / scales
    y = (torch.sigmoid(x @ w) > torch.rand(7000, generator=torch.Generator().manual_seed(seed))).double()
    found = torch.zeros(50, dtype=torch.float64, requires_grad=True)

    def loss():
        return nn.functional.binary_cross_entropy_with_logits(x @ found, y)

    bfgs([found], max_iter=60).step(loss)
    return x, y, float(loss().detach())


@pytest.mark.slow
def test_beats_sgd_by_accessed_data_points_on_the_papers_kind_of_problem():
    """Each with the best of a grid of learning rates β/(1 + k/50); b = 50, b_H = 300, M = 10, L = 20, as in section 4.1."""
    ratios = []
    for seed in (0, 1):
        problem = synthetic(seed)
        plain = min(excess(sgd, rate, problem, seed, budget=35_000) for rate in (3.0, 10.0, 30.0))
        ours = min(
            excess(lambda p: sqn(p, update_frequency=20), rate, problem, seed, budget=35_000)
            for rate in (0.1, 0.3)
        )
        assert ours < 0.8 * plain
        ratios.append(ours / plain)
    assert sum(ratios) < 2 * 0.65


def test_the_state_is_that_of_its_formula():
    model = nn.Linear(40, 20)
    optimizer = sqn(model.parameters(), history_size=4, update_frequency=1)
    for _ in range(3):
        optimizer.step(lambda: model(torch.ones(3, 40)).square().mean())
    state = optimizer.state[model.weight]
    held = sum(each.numel() for each in state.values() if isinstance(each, torch.Tensor))
    assert held == pytest.approx((2 * 4 + 2) * 820, rel=0.1)
    assert state["count"] == 3


def test_a_closure_without_a_graph_is_refused_at_the_first_step():
    x = torch.ones(2, requires_grad=True)

    def closure():
        loss = (x * x).sum()
        loss.backward()
        return loss.item()

    with pytest.raises(UserError, match="sqn differentiates the loss twice"):
        sqn([x]).step(closure)
    assert x.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"history_size": 0},
        {"update_frequency": 0},
        {"sample_fraction": 0.0},
        {"curvature": "fisher"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_settings_outside_their_domain_are_refused(wrong):
    with pytest.raises(UserError, match=f"sqn: {next(iter(wrong))}: expected"):
        sqn([torch.ones(1, requires_grad=True)], **wrong)


def test_the_class_works_in_a_plain_loop():
    x = torch.ones(2, requires_grad=True)
    optimizer = SQN([x], lr=0.2, history_size=2, update_frequency=2, curvature="hessian", sample_fraction=1.0)
    for _ in range(30):
        optimizer.step(lambda: (x * x * torch.tensor([0.5, 1.5])).sum())
    assert x.abs().max() < 0.05


def test_from_a_recipe_it_counts_its_products(tmp_path):
    recipe = descend.Recipe(
        optimizer={"name": "sqn", "update_frequency": 5},
        model={"name": "mlp", "hidden": [8]},
        stop={"max_epochs": 6},
    )
    run = descend.train("iris", recipe, seed=0, out=tmp_path / "run")
    losses = [record["train"]["loss"] for record in run.history]
    assert losses[-1] < losses[0]
    steps = run.metrics["steps"]
    assert run.history[-1]["gradients"] == pytest.approx(steps + 3 * (steps // 5 - 1))
    assert math.isfinite(losses[-1])


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, {"graph"}),
        ({"curvature": "gauss_newton"}, {"outputs"}),
        ({"sample_fraction": 0.5}, {"graph", "part"}),
    ],
    ids=["hessian", "gauss_newton", "part"],
)
def test_needs_follow_from_the_settings(settings, needs):
    optimizer: Any = OPTIMIZERS["sqn"]([nn.Parameter(torch.ones(1))], **settings)
    assert optimizer.needs == needs


@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
def test_a_frozen_layer_keeps_its_bits(curvature):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    before, other = model[0].weight.clone(), model[2].weight.detach().clone()
    x = torch.randn(20, 3)
    optimizer = sqn(model.parameters(), curvature=curvature, update_frequency=1)
    for _ in range(4):
        optimizer.step(Rows(model, nn.functional.mse_loss, x, x[:, :1]))
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(model[2].weight, other)
