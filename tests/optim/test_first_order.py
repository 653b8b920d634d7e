"""The optimizers against their formulas in plain numbers, and the contract every optimizer keeps."""

import io
import math

import pytest
import torch
from torch import nn

from descend.errors import UserError
from descend.method import card
from descend.optim import OPTIMIZERS, adagrad, adam, adamax, adamw, rmsprop, sgd, sparse_adam

DENSE = sorted(set(OPTIMIZERS) - {"sparse_adam"})
FUSED = ["adagrad", "adam", "adamw", "sgd"]
# Settings beside the defaults, so that the contract is tested with state of every kind.
VARIANTS = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("sgd", {"momentum": 0.9, "dampening": 0.5}),
    ("adagrad", {}),
    ("adagrad", {"initial": 0.1}),
    ("rmsprop", {}),
    ("rmsprop", {"momentum": 0.9, "centered": True}),
    ("adam", {}),
    ("adam", {"betas": (0.5, 0.9), "amsgrad": True}),
    ("adamw", {}),
    ("adamax", {}),
    ("sparse_adam", {}),
]
variants = pytest.mark.parametrize(("name", "settings"), VARIANTS)


class Problem:
    """A least-squares problem whose parameters are rows of two tables, with sparse gradients on request."""

    def __init__(self, name, dtype=torch.float64, seed=0):
        torch.manual_seed(seed)
        sparse = name == "sparse_adam"
        self.tables = nn.ModuleList(nn.Embedding(4, 3, sparse=sparse, dtype=dtype) for _ in range(2))
        self.rows = torch.tensor([0, 1, 3])
        self.goal = torch.randn(3, 3, dtype=dtype)

    def parameters(self):
        return list(self.tables.parameters())

    def loss(self):
        first, second = self.tables
        return (first(self.rows) * second(self.rows) - self.goal).square().sum()

    def closure(self, optimizer):
        def evaluate():
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            return loss

        return evaluate

    def train(self, optimizer, steps=4):
        for _ in range(steps):
            optimizer.step(self.closure(optimizer))
        return self.vector()

    def vector(self):
        return torch.cat([p.detach().flatten() for p in self.parameters()])


# The formulas, one coordinate at a time, in Python's own numbers.


def steps_of_sgd(x, gradients, lr, momentum=0.0, nesterov=False, dampening=0.0):
    v = None
    for g in gradients:
        v = g if v is None else momentum * v + (1 - dampening) * g
        x = x - lr * (g + momentum * v if nesterov else v)
        yield x


def steps_of_adagrad(x, gradients, lr, eps=1e-10, initial=0.0):
    s = initial
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
    (adagrad, steps_of_adagrad, {"initial": 0.5}),
    (rmsprop, steps_of_rmsprop, {"eps": 0.1, "alpha": 0.8}),
    (rmsprop, steps_of_rmsprop, {"momentum": 0.7, "centered": True}),
    (adam, steps_of_adam, {"eps": 0.1}),
    (adam, steps_of_adam, {"betas": (0.5, 0.7), "amsgrad": True}),
    (adamw, steps_of_adam, {"eps": 0.1}),
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


def test_adamw_decays_apart_from_the_gradient():
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = adamw([{"params": [w], "weight_decay": 0.4}], lr=0.05)
    gradients, got = [0.5, -2.0, 0.1], []
    for g in gradients:
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        got.append(w.item())
    assert got == pytest.approx(list(steps_of_adam(1.0, gradients, 0.05, decay=0.4)), rel=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_decays_weights_unless_told(name):
    """With a gradient of zero no weight moves: PyTorch's own default for AdamW would shrink it."""
    w = torch.ones(3, requires_grad=True)
    optimizer = OPTIMIZERS[name]([w])
    w.grad = torch.zeros(3).to_sparse() if name == "sparse_adam" else torch.zeros(3)
    optimizer.step()
    assert w.tolist() == [1.0, 1.0, 1.0]


class TestWhereTheLectureDiffers:
    @pytest.mark.parametrize("constructor", [adam, adamw, sparse_adam])
    @pytest.mark.parametrize("eps", [1e-8, 0.5])
    def test_adam_s_first_step(self, constructor, eps):
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

    def test_sgd_s_buffer_does_not_hold_the_rate(self):
        """The lecture's heavy ball, x + μ (x − x_old) − t g, agrees only while t is constant."""
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
        """The lecture's two lines on f(x) = x²/2, seen at y = x + μ (x − x_old), the point PyTorch stores."""
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
        """Row 1 is seen at step 1 only. Dense Adam goes on moving it; this one leaves it and its averages."""
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


# The contract.


@variants
def test_is_a_torch_optimizer_that_lowers_the_loss(name, settings):
    problem = Problem(name)
    optimizer = OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings)
    assert isinstance(optimizer, torch.optim.Optimizer)
    before = problem.loss().item()
    problem.train(optimizer, 100)
    assert problem.loss().item() < 0.7 * before


@variants
def test_a_closure_is_evaluated_once_with_gradients_and_its_loss_returned(name, settings):
    problem = Problem(name)
    optimizer = OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings)
    expected = problem.loss().item()
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        return problem.closure(optimizer)()

    assert optimizer.step(closure).item() == expected
    assert calls == [True]


@variants
def test_with_and_without_a_closure_are_one(name, settings):
    a, b = Problem(name), Problem(name)
    first = OPTIMIZERS[name](a.parameters(), lr=0.01, **settings)
    second = OPTIMIZERS[name](b.parameters(), lr=0.01, **settings)
    expected = a.train(first)
    for _ in range(4):
        b.closure(second)()
        second.step()
    assert torch.equal(b.vector(), expected)


@variants
def test_groups_have_their_own_rate(name, settings):
    problem = Problem(name)
    first, second = problem.parameters()
    optimizer = OPTIMIZERS[name]([{"params": [first], "lr": 0.02}, {"params": second}], lr=0.01, **settings)
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.01]
    got = problem.train(optimizer, 1)
    for rate, part in ((0.02, slice(0, 12)), (0.01, slice(12, 24))):
        alone = Problem(name)
        expected = alone.train(OPTIMIZERS[name](alone.parameters(), lr=rate, **settings), 1)
        torch.testing.assert_close(got[part], expected[part], rtol=1e-12, atol=1e-14)


@variants
def test_a_rate_of_zero_moves_nothing_and_a_changed_rate_is_used(name, settings):
    problem = Problem(name)
    optimizer = OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings)
    optimizer.param_groups[0]["lr"] = 0.0
    before = problem.vector()
    assert torch.equal(problem.train(optimizer, 1), before)
    optimizer.param_groups[0]["lr"] = 0.01
    assert not torch.equal(problem.train(optimizer, 1), before)


@variants
def test_missing_gradients_leave_a_parameter_alone(name, settings):
    problem = Problem(name)
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([*problem.parameters(), unused], lr=0.01, **settings)
    got = problem.train(optimizer)
    assert unused.tolist() == [1.0, 1.0]
    alone = Problem(name)
    expected = alone.train(OPTIMIZERS[name](alone.parameters(), lr=0.01, **settings))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@variants
def test_no_gradient_at_all_is_no_step(name, settings):
    problem = Problem(name)
    before = problem.vector()
    OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings).step()
    assert torch.equal(problem.vector(), before)


@variants
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_state_goes_on_to_the_same_bits(name, settings, dtype):
    """Through torch.save and torch.load(weights_only=True), into an optimizer built with other settings."""
    straight = Problem(name, dtype)
    expected = straight.train(OPTIMIZERS[name](straight.parameters(), lr=0.01, **settings), 6)

    problem = Problem(name, dtype)
    optimizer = OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings)
    problem.train(optimizer, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    restored = OPTIMIZERS[name](problem.parameters(), lr=0.5)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(problem.train(restored, 3), expected)


@variants
def test_without_its_state_it_goes_elsewhere(name, settings):
    """The control of the test above: a state that is dropped does change the outcome, where there is one."""
    straight, problem = Problem(name), Problem(name)
    expected = straight.train(OPTIMIZERS[name](straight.parameters(), lr=0.01, **settings), 6)
    problem.train(OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings), 3)
    got = problem.train(OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings), 3)
    stateless = name == "sgd" and not settings
    assert torch.equal(got, expected) == stateless


@variants
def test_parameters_may_come_as_a_generator_or_with_names(name, settings):
    problem, other = Problem(name), Problem(name)
    expected = problem.train(OPTIMIZERS[name](problem.parameters(), lr=0.01, **settings))
    generator = (p for p in other.parameters())
    got = other.train(OPTIMIZERS[name]([{"params": generator}], lr=0.01, **settings))
    assert torch.equal(got, expected)
    named = Problem(name)
    got = named.train(OPTIMIZERS[name](named.tables.named_parameters(), lr=0.01, **settings))
    assert torch.equal(got, expected)


def test_groups_given_are_not_changed():
    w = nn.Parameter(torch.ones(1))
    group = {"params": iter([w]), "lr": 0.5}
    adam([group])
    assert set(group) == {"params", "lr"}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_equals_plain(name, dtype):
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    results = []
    for fused in (True, False):
        problem = Problem(name, dtype)
        optimizer = OPTIMIZERS[name](problem.parameters(), lr=0.01, fused=fused)
        assert bool(optimizer.defaults["fused"]) is fused
        results.append(problem.train(optimizer, 20))
    torch.testing.assert_close(*results, **tolerance)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float32, True), (torch.float64, True), (torch.bfloat16, True), (torch.float16, False)],
)
def test_fused_is_decided_from_the_parameters(name, dtype, expected):
    w = nn.Parameter(torch.ones(2, dtype=dtype))
    assert bool(OPTIMIZERS[name]([w]).defaults["fused"]) is expected
    assert bool(OPTIMIZERS[name]([{"params": [w]}]).defaults["fused"]) is expected
    mixed = [nn.Parameter(torch.ones(2)), w]
    assert bool(OPTIMIZERS[name](mixed).defaults["fused"]) is expected


@pytest.mark.parametrize("name", FUSED)
def test_the_fused_step_runs_in_bfloat16(name):
    w = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = OPTIMIZERS[name]([w], lr=0.1)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert (w < 1).all()


BAD = [
    *[(name, {"lr": -0.1}) for name in OPTIMIZERS],
    ("sgd", {"momentum": -0.1}),
    ("sgd", {"nesterov": True}),
    ("sgd", {"nesterov": True, "momentum": 0.9, "dampening": 0.5}),
    ("adagrad", {"eps": -1.0}),
    ("adagrad", {"initial": -1.0}),
    ("rmsprop", {"alpha": -0.1}),
    ("rmsprop", {"eps": -1.0}),
    *[(name, {"betas": (1.0, 0.9)}) for name in ("adam", "adamw", "adamax", "sparse_adam")],
    *[(name, {"betas": (0.9, -0.1)}) for name in ("adam", "adamw", "adamax", "sparse_adam")],
    *[(name, {"eps": -1.0}) for name in ("adam", "adamw", "adamax", "sparse_adam")],
]


@pytest.mark.parametrize(("name", "settings"), BAD)
def test_bad_settings_are_refused(name, settings):
    with pytest.raises(UserError, match=name.replace("_", "")):
        OPTIMIZERS[name]([nn.Parameter(torch.ones(1))], **settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_bad_parameters_are_refused(name):
    w = nn.Parameter(torch.ones(1))
    for params, words in (
        ([], "empty parameter list"),
        ([3.0], "optimize Tensors"),
        ([w * 2], "non-leaf"),
        ([{"params": [w]}, {"params": [w]}], "more than one parameter group"),
        ([{"lr": 0.1}], "needs the key 'params'"),
    ):
        with pytest.raises(UserError, match=words):
            OPTIMIZERS[name](params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_has_a_card(name):
    found = card(OPTIMIZERS[name])
    assert found is not None
    assert found.row in {"D3", "D6"}
    assert found.formula
