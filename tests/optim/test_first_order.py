"""Tests of PyTorch's optimizers against their formulas in scalar arithmetic, and the contract of all optimizers."""

import math

import pytest
import torch
from tests.support.optimizer_contract import Case, Contract, Problem
from torch import nn

from descend.errors import UserError
from descend.optim import OPTIMIZERS, adagrad, adam, adamax, adamw, rmsprop, sgd, sparse_adam
from descend.optim.first_order import can_fuse

FUSED = ["adagrad", "adam", "adamw", "sgd"]
# Further settings, so that the contract is tested with each kind of state.
CASES = [
    Case("sgd", stateful=False),
    Case("sgd", {"momentum": 0.9}),
    Case("sgd", {"momentum": 0.9, "nesterov": True}),
    Case("sgd", {"momentum": 0.9, "dampening": 0.5}),
    Case("adagrad"),
    Case("adagrad", {"initial_accumulator_value": 0.1}),
    Case("rmsprop"),
    Case("rmsprop", {"momentum": 0.9, "centered": True}),
    Case("adam"),
    Case("adam", {"betas": (0.5, 0.9), "amsgrad": True}),
    Case("adamw"),
    Case("adamax"),
    Case("sparse_adam", sparse=True),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract, for each of PyTorch's first-order optimizers."""


# The formulas for one coordinate, in Python floats.


def steps_of_sgd(x, gradients, lr, momentum=0.0, nesterov=False, dampening=0.0):
    v = None
    for g in gradients:
        v = g if v is None else momentum * v + (1 - dampening) * g
        x = x - lr * (g + momentum * v if nesterov else v)
        yield x


def steps_of_adagrad(x, gradients, lr, eps=1e-10, initial_accumulator_value=0.0):
    s = initial_accumulator_value
    for g in gradients:
        s = s + g * g
        x = x - lr * g / (math.sqrt(s) + eps)
        yield x


def steps_of_rmsprop(x, gradients, lr, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    s = mean = v = 0.0
    for g in gradients:
        s = alpha * s + (1 - alpha) * g * g
        mean = alpha * mean + (1 - alpha) * g
        v = momentum * v + g / (math.sqrt(s - mean * mean if centered else s) + eps)
        x = x - lr * v
        yield x


def steps_of_adam(x, gradients, lr, betas=(0.9, 0.999), eps=1e-8, amsgrad=False, decay=0.0):
    m = s = largest = 0.0
    for k, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * g * g
        largest = max(largest, s) if amsgrad else s
        x = x * (1 - lr * decay)
        x = x - lr * (m / (1 - betas[0] ** k)) / (math.sqrt(largest / (1 - betas[1] ** k)) + eps)
        yield x


def steps_of_adamw(x, gradients, lr, **settings):
    return steps_of_adam(x, gradients, lr, decay=0.01, **settings)


def steps_of_adamax(x, gradients, lr, betas=(0.9, 0.999), eps=1e-8):
    m = u = 0.0
    for k, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        u = max(betas[1] * u, abs(g) + eps)
        x = x - lr / (1 - betas[0] ** k) * m / u
        yield x


FORMULAS = [
    (sgd, steps_of_sgd, {}),
    (sgd, steps_of_sgd, {"momentum": 0.9}),
    (sgd, steps_of_sgd, {"momentum": 0.9, "nesterov": True}),
    (sgd, steps_of_sgd, {"momentum": 0.9, "dampening": 0.5}),
    (adagrad, steps_of_adagrad, {"eps": 0.1}),
    (adagrad, steps_of_adagrad, {"initial_accumulator_value": 0.5}),
    (rmsprop, steps_of_rmsprop, {"eps": 0.1, "alpha": 0.8}),
    (rmsprop, steps_of_rmsprop, {"momentum": 0.7, "centered": True}),
    (adam, steps_of_adam, {"eps": 0.1}),
    (adam, steps_of_adam, {"betas": (0.5, 0.7), "amsgrad": True}),
    (adamw, steps_of_adamw, {"eps": 0.1}),
    (adamax, steps_of_adamax, {"eps": 0.1, "betas": (0.6, 0.7)}),
]


@pytest.mark.parametrize(("constructor", "formula", "settings"), FORMULAS)
def test_the_steps_are_those_of_the_formula(constructor, formula, settings):
    gradients = [0.5, -2.0, 0.1, 3.0, 0.0, -0.7]
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = constructor([w], lr=0.05, **settings)
    got = []
    for g in gradients:
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        got.append(w.item())
    assert got == pytest.approx(list(formula(1.0, gradients, 0.05, **settings)), rel=1e-12)


def test_adamw_decays_independently_of_the_gradient():
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = adamw([{"params": [w], "weight_decay": 0.4}], lr=0.05)
    gradients, got = [0.5, -2.0, 0.1], []
    for g in gradients:
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        got.append(w.item())
    assert got == pytest.approx(list(steps_of_adam(1.0, gradients, 0.05, decay=0.4)), rel=1e-12)


class TestWhereTextsDiffer:
    @pytest.mark.parametrize("constructor", [adam, adamw, sparse_adam])
    @pytest.mark.parametrize("eps", [1e-8, 0.5])
    def test_the_first_step_of_adam(self, constructor, eps):
        """−t g/(|g| + ε): bias corrected, ε outside the root. Uncorrected it is 3.2 times as long."""
        g = torch.tensor([3.0, -0.2, 1e-3], dtype=torch.float64)
        w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimizer = constructor([w], lr=0.01, eps=eps)
        w.grad = g.to_sparse() if constructor is sparse_adam else g.clone()
        optimizer.step()
        expected = -0.01 * g / (g.abs() + eps)
        if constructor is sparse_adam:  # its ε meets the root before the correction: √s + ε, then √(1 − β₂)
            expected = -0.01 * g / (g.abs() + eps / math.sqrt(1 - 0.999))
        torch.testing.assert_close(w.detach(), expected, rtol=1e-9, atol=0)

    def test_the_buffer_of_sgd_does_not_contain_the_learning_rate(self):
        """The heavy ball x + μ (x − x_old) − t g agrees only while t is constant."""
        gradients = [1.0, -0.5, 2.0, 0.3]
        for rates, agrees in (([0.1] * 4, True), ([0.1, 0.1, 0.01, 0.01], False)):
            w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
            optimizer = sgd([w], lr=0.1, momentum=0.9)
            x = x_old = 1.0
            for g, t in zip(gradients, rates, strict=True):
                optimizer.param_groups[0]["lr"] = t
                w.grad = torch.tensor([g], dtype=torch.float64)
                optimizer.step()
                x, x_old = x - t * g + 0.9 * (x - x_old), x
            assert (abs(w.item() - x) < 1e-12) == agrees

    def test_nesterov_is_the_gradient_at_the_look_ahead_point(self):
        """Nesterov's two steps on f(x) = x²/2, seen at y = x + μ (x − x_old), the point that PyTorch stores."""
        t, mu = 0.1, 0.9
        w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        optimizer = sgd([w], lr=t, momentum=mu, nesterov=True)
        x = x_old = 1.0
        for _ in range(6):
            w.grad = w.detach().clone()
            optimizer.step()
            ahead = x + mu * (x - x_old)
            x, x_old = ahead - t * ahead, x
            assert w.item() == pytest.approx(x + mu * (x - x_old), rel=1e-12)


class TestSparse:
    def test_rows_without_a_gradient_are_bit_identical(self):
        table = nn.Embedding(6, 3, sparse=True)
        start = table.weight.detach().clone()
        optimizer = sparse_adam(table.parameters(), lr=0.1)
        for rows in ([1, 4], [4], [1]):
            optimizer.zero_grad()
            table(torch.tensor(rows)).square().sum().backward()
            optimizer.step()
        same = (table.weight == start).all(1).tolist()
        assert same == [True, False, True, True, False, True]

    def test_averages_of_absent_rows_do_not_decay(self):
        """Row 1 has a gradient at step 1 only. Dense Adam keeps moving it; this one changes neither it nor its averages."""
        table = nn.Embedding(2, 1, sparse=True)
        optimizer = sparse_adam(table.parameters(), lr=0.1)
        frozen = []
        for rows in ([0, 1], [0], [0]):
            optimizer.zero_grad()
            table(torch.tensor(rows)).sum().backward()
            optimizer.step()
            state = optimizer.state[table.weight]
            frozen.append((table.weight[1].item(), state["exp_avg"][1].item(), state["exp_avg_sq"][1].item()))
        assert frozen[0] == frozen[1] == frozen[2]

    def test_dense_gradients_are_refused(self):
        w = torch.ones(2, requires_grad=True)
        optimizer = sparse_adam([w])
        w.grad = torch.ones(2)
        with pytest.raises(RuntimeError, match="dense gradients"):
            optimizer.step()


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_equals_plain(name, dtype):
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    results = []
    for fused in (True, False):
        problem = Problem(Case(name), dtype)
        optimizer = OPTIMIZERS[name](problem.parameters(), lr=0.01, fused=fused)
        assert bool(optimizer.defaults["fused"]) is fused
        results.append(problem.train(optimizer, 20))
    torch.testing.assert_close(*results, **tolerance)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float32, True), (torch.float64, True), (torch.bfloat16, True), (torch.float16, False)],
)
def test_whether_parameters_can_be_fused(name, dtype, expected):
    w = nn.Parameter(torch.ones(2, dtype=dtype))
    assert can_fuse(OPTIMIZERS[name], [w]) is expected
    assert can_fuse(OPTIMIZERS[name], [{"params": [w]}]) is expected
    assert can_fuse(OPTIMIZERS[name], [("w", w)]) is expected
    assert can_fuse(OPTIMIZERS[name], [nn.Parameter(torch.ones(2)), w]) is expected


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - set(FUSED)))
def test_others_cannot_be_fused(name):
    assert not can_fuse(OPTIMIZERS[name], [nn.Parameter(torch.ones(2))])


@pytest.mark.parametrize("name", FUSED)
def test_the_fused_step_runs_in_bfloat16(name):
    w = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = OPTIMIZERS[name]([w], lr=0.1, fused=True)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert (w < 1).all()


BAD = [
    ("sgd", {"momentum": -0.1}),
    ("sgd", {"nesterov": True}),
    ("sgd", {"nesterov": True, "momentum": 0.9, "dampening": 0.5}),
    ("adagrad", {"eps": -1.0}),
    ("adagrad", {"initial_accumulator_value": -1.0}),
    ("rmsprop", {"alpha": -0.1}),
    ("rmsprop", {"eps": -1.0}),
    *[(name, {"betas": (1.0, 0.9)}) for name in ("adam", "adamw", "adamax", "sparse_adam")],
    *[(name, {"betas": (0.9, -0.1)}) for name in ("adam", "adamw", "adamax", "sparse_adam")],
    *[(name, {"eps": -1.0}) for name in ("adam", "adamw", "adamax", "sparse_adam")],
]


@pytest.mark.parametrize(("name", "settings"), BAD)
def test_bad_settings_are_refused(name, settings):
    with pytest.raises(UserError, match=f"^{name}: "):
        OPTIMIZERS[name]([nn.Parameter(torch.ones(1))], **settings)
