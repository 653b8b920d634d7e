"""Tests of L-BFGS against conjugate gradients, SciPy and BFGS, of its pairs on batches with dropout, and the contract."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from tests.support.descents import Descent, Quadratic, draw, logistic
from tests.support.optimizer_contract import Case, Contract
from tests.support.smooth import rosenbrock
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import descend
from descend.errors import UserError
from descend.linalg import Pairs, conjugate_gradient, flat
from descend.optim import LBFGS, Rows, bfgs, lbfgs

CASES = [
    Case("lbfgs", lr=0.1, evaluations=None, needs_closure=True, separable=False),
    Case("lbfgs", {"line_search": "armijo", "history_size": 3}, lr=0.1, evaluations=None, needs_closure=True, separable=False),
    Case("lbfgs", {"line_search": "none", "max_iter": 2}, lr=0.02, evaluations=3, needs_closure=True, separable=False),
]  # fmt: skip

EXACT = {"c2": 1e-10, "c1": 1e-6}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract; the state is the pairs."""


@pytest.mark.parametrize("memory", [1, 4])
def test_with_exact_searches_on_a_quadratic_its_iterates_are_those_of_conjugate_gradients(memory):
    """Nazareth 1979; with one pair as with several."""
    quadratic = Quadratic([1.0, 3.0, 4.0, 10.0, 30.0])
    descent = Descent(lbfgs, quadratic, [0.0] * 5, history_size=memory, **EXACT)
    for count in range(1, 6):
        descent.step()
        expected = conjugate_gradient(lambda v: quadratic.a @ v, -quadratic.b, max_iter=count, tolerance=0.0)
        torch.testing.assert_close(descent.at, expected.step, rtol=1e-5, atol=1e-7)


def test_with_full_memory_it_equals_bfgs():
    """As H0 = γI changes at each step the matrices differ in general, but not for one variable."""
    limited = Descent(lbfgs, lambda x: (x**4 / 4 + x * x).sum(), [2.0])
    full = Descent(bfgs, lambda x: (x**4 / 4 + x * x).sum(), [2.0])
    for _ in range(6):
        limited.step()
        full.step()
        assert limited.at.item() == pytest.approx(full.at.item(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["rosenbrock", "logistic"])
def test_reaches_scipys_minimum_with_as_many_evaluations(name):
    if name == "rosenbrock":
        start, loss = [-1.2, 1.0], rosenbrock

        def both(x):
            return (scipy.optimize.rosen(x), scipy.optimize.rosen_der(x))

    else:
        loss, both = logistic()
        start = [0.0] * 8
    options = {"gtol": 1e-9, "ftol": 0.0, "maxcor": 10}
    expected = scipy.optimize.minimize(both, np.array(start), jac=True, method="L-BFGS-B", options=options)
    descent = Descent(lbfgs, loss, start, max_iter=expected.nit + 5)
    descent.step()
    assert descent.value == pytest.approx(expected.fun, abs=1e-11)
    assert descent.at.tolist() == pytest.approx(expected.x.tolist(), abs=1e-4)
    short = Descent(lbfgs, loss, start, max_iter=expected.nit)
    short.step()
    assert short.evaluations < 1.5 * expected.nfev + 10


@pytest.mark.parametrize("rule", ["armijo", "strong_wolfe"])
def test_never_ascends(rule):
    descent = Descent(lbfgs, rosenbrock, [-1.2, 1.0], line_search=rule)
    values = [descent.step() for _ in range(80)]
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[-1] < 1e-8


@pytest.mark.parametrize("rule", ["armijo", "none"])
def test_every_step_is_a_descent_step_where_the_loss_is_not_convex(rule):
    """Damped pairs keep H positive definite although sᵀy < 0; raw pairs would be discarded, or make it indefinite."""

    def loss(x):
        return (torch.cos(2 * x) + 0.05 * x * x).sum() + 0.3 * x[0] * x[1]

    descent, negative = Descent(lbfgs, loss, [0.1, -0.2, 0.4], line_search=rule, lr=0.2, history_size=4), 0
    for _ in range(20):
        x, before = descent.at, torch.func.grad(loss)(descent.at)
        descent.step()
        s, y = descent.at - x, torch.func.grad(loss)(descent.at) - before
        negative += bool(s @ y < 0)
        pairs = Pairs.of(descent.state)
        assert float(pairs.scaling) > 0
        v = draw(10, 3)
        assert all(float(each @ pairs.inverse_times(each)) > 0 for each in v)
    assert negative > 0


def test_the_damped_pair_of_a_step_is_powells():

    def loss(x):
        return (torch.cos(x)).sum()

    descent = Descent(lbfgs, loss, [0.3, 0.2], line_search="none", lr=0.5)
    x, g = descent.at, torch.func.grad(loss)(descent.at)
    descent.step()
    s, y = descent.at - x, torch.func.grad(loss)(descent.at) - g
    curved = -0.5 * g  # B s after s = -lr H g; with no pair H g is g, as its norm is below 1
    torch.testing.assert_close(s, curved)
    old, new = float(s @ curved), float(s @ y)
    theta = 0.8 * old / (old - new)
    assert new < 0.2 * old
    expected = theta * y + (1 - theta) * curved
    torch.testing.assert_close(descent.state["changes"][0], expected)
    assert float(descent.state["scaling"]) == pytest.approx(float(s @ expected / (expected @ expected)))
    undamped = Descent(lbfgs, loss, [0.3, 0.2], line_search="none", lr=0.5, damping=0.0)
    undamped.step()
    assert bool(Pairs.of(undamped.state).none)


def test_the_damping_uses_the_accepted_step_size():
    """B s = −t g with the t that was taken."""

    def loss(x):
        return (x**4 / 4 - x * x / 2).sum()

    descent = Descent(lbfgs, loss, [0.1], line_search="armijo", lr=28.0)
    x, g = descent.at, torch.func.grad(loss)(descent.at)
    descent.step()
    s, y = descent.at - x, torch.func.grad(loss)(descent.at) - g
    assert float(s / -g) == pytest.approx(28 / 4)  # over the hump twice, and back
    curved = -7 * g
    old, new = float(s @ curved), float(s @ y)
    assert new < 0
    theta = 0.8 * old / (old - new)
    torch.testing.assert_close(descent.state["changes"][0], theta * y + (1 - theta) * curved)


def test_a_masked_direction_yields_no_pair():
    """A missing gradient keeps a coordinate fixed, so that s is not −t H g and B s is unknown."""
    a, b = (torch.tensor([each], dtype=torch.float64, requires_grad=True) for each in (1.0, -2.0))
    optimizer = lbfgs([a, b], lr=0.3, line_search="none")

    def closure(*, with_b=True):
        optimizer.zero_grad()
        loss = (a * a + a * b + 2 * b * b).sum()
        loss.backward()
        if not with_b:
            b.grad = None
        return loss

    for _ in range(3):
        optimizer.step(closure)
    before, held = {name: each.clone() for name, each in optimizer.state[a].items()}, (a.item(), b.item())
    optimizer.step(lambda: closure(with_b=False))
    assert b.item() == held[1]
    assert a.item() != held[0]
    assert all(torch.equal(each, before[name]) for name, each in optimizer.state[a].items())
    optimizer.step(closure)
    assert not torch.equal(optimizer.state[a]["changes"], before["changes"])


class Noisy(nn.Module):
    """A network with dropout and a norm with running averages."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1)
        ).double()

    def forward(self, x):
        return self.layers(x)


def batches(count=4):
    return [(draw(16, 5, seed=each), draw(16, 1, seed=100 + each)) for each in range(count)]


def gradient_at(model, vector, x, y, state):
    """The gradient on rows with the random numbers that follow a state of the generator."""
    copy = Noisy()
    copy.load_state_dict(model.state_dict())
    torch.set_rng_state(state)
    parameters = list(copy.parameters())
    with torch.no_grad():
        for p, part in zip(parameters, vector.split([p.numel() for p in parameters]), strict=True):
            p.copy_(part.view(p.shape))
    nn.functional.mse_loss(copy(x), y).backward()
    return flat([p.grad for p in parameters])


@pytest.mark.parametrize("plain", [True, False], ids=["function", "rows"])
@pytest.mark.parametrize("rule", ["none", "armijo", "strong_wolfe"])
def test_both_gradients_of_a_pair_are_of_the_same_rows_and_the_same_dropout(plain, rule):
    """Curvature pairs must not come from different batches or masks."""
    model = Noisy()
    optimizer = lbfgs(model.parameters(), lr=0.1, line_search=rule, damping=0.0)
    for at, (x, y) in enumerate(batches()):
        torch.manual_seed(at + 7)
        random, start = torch.get_rng_state(), flat([p.detach() for p in model.parameters()])
        rows = Rows(model, nn.functional.mse_loss, x, y)
        optimizer.step((lambda x=x, y=y: nn.functional.mse_loss(model(x), y)) if plain else rows)
        end = flat([p.detach() for p in model.parameters()])
        pairs = optimizer.state[optimizer.all_parameters[0]]
        newest = int(pairs["oldest"]) - 1
        torch.testing.assert_close(pairs["steps"][newest], end - start, rtol=1e-9, atol=1e-12)
        expected = gradient_at(model, end, x, y, random) - gradient_at(model, start, x, y, random)
        torch.testing.assert_close(pairs["changes"][newest], expected, rtol=1e-9, atol=1e-12)
        others = gradient_at(model, end, x, y, torch.get_rng_state()) - gradient_at(
            model, start, x, y, random
        )
        assert (
            torch.dist(others, expected) > 0.1 * expected.norm()
        )  # control: another mask makes a difference


def test_a_pair_on_a_part_of_the_rows():
    """y is computed on the part at both ends, and the step on all rows."""

    class Halves:
        def __init__(self, whole, half):
            self.whole, self.half, self.shares, self.calls = whole, half, [], 0

        def __call__(self):
            self.calls += 1
            x.grad = None
            loss = self.whole(x)
            loss.backward()
            return loss.detach()

        def value(self):
            return self.whole(x.detach())

        def differentiable(self):
            return self.whole(x)

        def linearized(self):
            return self.whole(x), x, None

        def part(self, share, *, nested=False):
            self.shares.append(share)
            self.other = Halves(self.half, self.half)
            return self.other

    x = torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True)
    whole, half = Quadratic([1.0, 2.0]), Quadratic([3.0, 5.0], seed=9)
    optimizer, start = lbfgs([x], lr=0.3, sample_fraction=0.5, line_search="none"), x.detach().clone()
    closure = Halves(whole, half)
    optimizer.step(closure)
    moved = x.detach() - start
    gradient = whole.gradient(start)
    torch.testing.assert_close(moved, -0.3 * gradient / max(1.0, float(gradient.norm())))
    torch.testing.assert_close(optimizer.state[x]["changes"][0], half.a @ moved)
    assert closure.shares == [0.5]
    assert (closure.calls, closure.other.calls) == (1, 2)
    with pytest.raises(UserError, match=r"lbfgs evaluates a subset.*Rows.*sample_fraction=1"):
        lbfgs([x], sample_fraction=0.5).step(lambda: whole(x))


@pytest.mark.parametrize("name", ["lbfgs", "bfgs", "cg", "coordinate_descent", "sqn"])
def test_parameters_may_be_added_later(name):
    """As when layers are unfrozen: the state of fewer coordinates does not interfere."""
    a, b = (torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in ([1.0, 2.0], [3.0]))
    quadratic = Quadratic([1.0, 2.0, 4.0])
    settings = {"lr": 0.05, "update_frequency": 2} if name == "sqn" else {}
    optimizer = getattr(descend.optim, name)([a], **settings)

    def loss():
        return quadratic(torch.cat([a, b]))

    for _ in range(6):
        optimizer.step(loss)
    assert b.tolist() == [3.0]
    between = loss().item()
    optimizer.add_param_group({"params": [b]})
    for _ in range(6):
        optimizer.step(loss)
    assert b.tolist() != [3.0]
    assert loss().item() < between


class Waiting(TorchDispatchMode):
    """Counts operations that return a number to Python."""

    def __init__(self):
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.waits += function.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("rule", "waits"), [("none", 0), ("strong_wolfe", 4)])
def test_a_step_without_a_line_search_does_not_synchronize(rule, waits):
    """With a line search it waits for a loss and a slope at each end, whatever the number of pairs."""
    for memory in (2, 9):
        model = nn.Linear(3, 2)
        optimizer = lbfgs(model.parameters(), lr=0.1, line_search=rule, history_size=memory)
        x, y = torch.randn(8, 3), torch.randn(8, 2)
        for _ in range(4):
            rows = Rows(model, nn.functional.mse_loss, x, y)
            with Waiting() as seen:
                optimizer.step(rows)
            assert seen.waits == waits or (rule != "none" and seen.waits in range(waits, 9, 2))


@pytest.mark.parametrize("rule", ["armijo", "strong_wolfe"])
def test_a_nan_loss_is_rejected(rule):
    descent = Descent(
        lbfgs, lambda x: (x - torch.log(x)).sum(), [8.0, 0.1], lr=100.0, line_search=rule, damping=0.2
    )
    values = [descent.step() for _ in range(30)]
    assert all(math.isfinite(value) for value in values)
    assert descent.at.tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def test_a_nan_batch_leaves_the_parameters_and_resets_the_pairs():
    descent = Descent(lbfgs, rosenbrock, [-1.2, 1.0])
    descent.step(3)
    x, good = descent.at, descent.function
    descent.function = lambda x: (x * torch.nan).sum()
    descent.step()
    assert torch.equal(descent.at, x)
    assert not descent.state
    descent.function = good
    descent.step(60)
    assert descent.value < 1e-8


def test_without_a_line_search_a_nan_pair_is_not_stored():
    descent = Descent(lbfgs, lambda x: torch.sqrt(x - 1).sum(), [1.05], line_search="none", lr=1.0)
    descent.step()
    assert descent.at.item() < 1  # the slope there is not a number
    assert bool(Pairs.of(descent.state).none)


@pytest.mark.parametrize("memory", [1, 5])
def test_the_state_is_two_numbers_per_parameter_and_pair(memory):
    model = nn.Linear(40, 20)
    optimizer = lbfgs(model.parameters(), history_size=memory)
    optimizer.step(lambda: model(torch.ones(3, 40)).square().mean())
    held = sum(each.numel() for each in optimizer.state[model.weight].values())
    assert held == pytest.approx(2 * memory * 820, rel=0.1)
    assert all(isinstance(each, torch.Tensor) for each in optimizer.state[model.weight].values())
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state[model.weight]["oldest"].dtype == torch.int64


@pytest.mark.slow
def test_on_batches_it_fits_a_network_better_than_sgd_with_the_same_gradients():
    x = draw(240, 6)
    y = torch.sin(x[:, :1]) * x[:, 1:2] + x[:, 2:3]
    losses = {}
    for name in ("lbfgs", "sgd"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        optimizer = (
            lbfgs(model.parameters()) if name == "lbfgs" else descend.optim.sgd(model.parameters(), lr=0.1)
        )
        gradients, step = 0.0, 0
        while gradients < 400:
            chosen = torch.randperm(240, generator=torch.Generator().manual_seed(step))[:80]
            rows = Rows(model, nn.functional.mse_loss, x[chosen], y[chosen])
            optimizer.step(rows)
            gradients, step = gradients + rows.gradients, step + 1
        losses[name] = float(nn.functional.mse_loss(model(x), y).detach())
    assert losses["lbfgs"] < 0.5 * losses["sgd"]


@pytest.mark.parametrize(
    "wrong",
    [{"lr": -1.0}, {"c1": 0.0}, {"c2": 1.0}, {"max_iter": 0}, {"history_size": 0}, {"sample_fraction": 0.0}, {"damping": 1.0},
     {"line_search": "wolfe"}],
    ids=lambda each: next(iter(each)),
)  # fmt: skip
def test_settings_outside_their_domain_are_refused(wrong):
    with pytest.raises(UserError, match=f"lbfgs: {next(iter(wrong))}: expected"):
        lbfgs([torch.ones(1, requires_grad=True)], **wrong)


def test_the_class_works_in_a_plain_loop():
    x = torch.ones(2, requires_grad=True)
    settings = {"lr": 1.0, "history_size": 3, "line_search": "armijo", "sample_fraction": 1.0, "damping": 0.2}
    optimizer = LBFGS([x], max_iter=5, c1=1e-4, c2=0.9, **settings)
    optimizer.step(lambda: (x * x).sum())
    assert x.abs().max() < 1e-3


def test_from_a_recipe_it_trains_in_batches(tmp_path):
    recipe = descend.Recipe(
        optimizer={"name": "lbfgs"}, model={"name": "mlp", "hidden": [8]}, stop={"max_epochs": 6}
    )
    run = descend.train("iris", recipe, seed=0, out=tmp_path / "run")
    losses = [record["train"]["loss"] for record in run.history]
    assert losses[-1] < 0.6 * losses[0]
    assert run.recipe.data["sampling"] == "epoch"
    assert run.history[-1]["gradients"] > 1.5 * run.metrics["steps"]
