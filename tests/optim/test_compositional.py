"""SCGD and ASC-PG against gradient descent, the papers' recursions in NumPy, closed forms and their theorems."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso
from tests.support.examples import examples
from tests.support.optimizer_contract import Case, Contract, saved

import descend
from descend.errors import UserError
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because
from descend.optim import ASCPG, OPTIMIZERS, SCGD, Rows, asc_pg, scgd
from descend.regularization import l1_prox
from descend.runs.plan import plan_run
from descend.runs.session import Session

CASES = [
    Case("scgd", lr=0.05, stateful=False),
    Case("scgd", {"beta": 0.9, "beta_decay": 0.5}, lr=0.05, stateful=False),
    Case("asc_pg", lr=0.05, needs_closure=True, stateful=False),
]
"""With closures that do not call ``average`` both are SGD, which has no state."""

BOTH = ["scgd", "asc_pg"]
DOUBLE = torch.float64


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """With objectives without an inner function; the state of the average is tested below."""


class Affine:
    """F(x) = ½‖A x − b‖², with the inner function g_w(x) = (A + w) x and noise w, in float64."""

    def __init__(self, noise=0.0, seed=0):
        rng = np.random.default_rng(seed)
        self.a = torch.tensor(rng.normal(size=(4, 3)) + 2 * np.eye(4, 3))
        self.b = torch.tensor(rng.normal(size=4))
        self.noise, self.rng = noise, torch.Generator().manual_seed(seed)
        self.x = torch.zeros(3, dtype=DOUBLE, requires_grad=True)
        self.best = torch.linalg.lstsq(self.a, self.b).solution

    def inner(self):
        w = torch.randn(4, 3, generator=self.rng, dtype=DOUBLE)
        return lambda: (self.a + self.noise * w) @ self.x

    def step(self, optimizer):
        inner = self.inner()
        return optimizer.step(lambda: 0.5 * (optimizer.average(inner()) - self.b).square().sum())

    def error(self):
        return float((self.x.detach() - self.best).square().sum())


def gradient_descent(problem, lr, steps):
    """Gradient descent on F, in NumPy."""
    a, b, x = problem.a.numpy(), problem.b.numpy(), np.zeros(3)
    for _ in range(steps):
        x = x - lr * a.T @ (a @ x - b)
    return x


class TestWithoutNoise:
    @pytest.mark.parametrize("name", BOTH)
    def test_with_beta_one_it_is_gradient_descent(self, name):
        problem, plain = Affine(), Affine()
        optimizer, descent = (
            OPTIMIZERS[name]([problem.x], lr=0.05, beta=1.0),
            torch.optim.SGD([plain.x], lr=0.05),
        )
        for _ in range(30):
            problem.step(optimizer)
            descent.zero_grad()
            (0.5 * (plain.a @ plain.x - plain.b).square().sum()).backward()
            descent.step()
        assert name == "asc_pg" or torch.equal(problem.x, plain.x)
        torch.testing.assert_close(problem.x, plain.x, rtol=1e-14, atol=0)
        np.testing.assert_allclose(problem.x.detach(), gradient_descent(problem, 0.05, 30), atol=1e-13)

    @settings(deadline=None, max_examples=examples(25))
    @given(st.floats(0.05, 1.0), st.floats(0, 1))
    def test_extrapolation_removes_the_lag_of_an_affine_inner_function(self, beta, decay):
        problem = Affine()
        optimizer = asc_pg([problem.x], lr=0.05, beta=beta, beta_decay=decay)
        for _ in range(20):
            problem.step(optimizer)
        np.testing.assert_allclose(
            problem.x.detach(), gradient_descent(problem, 0.05, 20), rtol=1e-9, atol=1e-10
        )

    def test_scgd_lags(self):
        problem = Affine()
        optimizer = scgd([problem.x], lr=0.05, beta=0.3)
        for _ in range(20):
            problem.step(optimizer)
        assert np.abs(problem.x.detach().numpy() - gradient_descent(problem, 0.05, 20)).max() > 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "order"), [("scgd", 1), ("asc_pg", 2)])
    def test_the_lag_for_a_nonlinear_function_is_of_first_and_second_order_in_the_step(self, name, order):
        """|y − g(x)| at the same point, reached with half the step size."""
        lags = []
        for steps in (100, 200, 400):
            x = torch.zeros(1, dtype=DOUBLE, requires_grad=True)
            optimizer: Any = OPTIMIZERS[name]([x], lr=1.0 / steps, beta=0.3)
            for _ in range(steps):
                # The derivative of the outer function is 1/g'(x), so x moves by the same amount in each step.
                optimizer.step(
                    lambda x=x, average=optimizer.average: -(average(x.exp()) / x.detach().exp()).sum()
                )
            memory = optimizer.state[x]
            lags.append(abs(float(memory["y"] - (x.detach() - 1.0 / steps).exp())))
        assert math.log2(lags[0] / lags[1]) == pytest.approx(order, abs=0.1)
        assert math.log2(lags[1] / lags[2]) == pytest.approx(order, abs=0.1)


def of_the_paper(name, samples, lrs, shares, b):
    """The recursions of the papers, with samples (A_k) of a linear inner function and f = ½‖y − b‖²."""
    x, y = np.zeros(3), samples[0] @ np.zeros(3)
    for k, (a, lr) in enumerate(zip(samples, lrs, strict=True)):
        if name == "scgd":
            y = (1 - shares[k]) * y + shares[k] * a @ x
            x = x - lr * a.T @ (y - b)
        else:
            new = x - lr * a.T @ (y - b)
            if k + 1 < len(samples):
                share = shares[k + 1]
                z = (1 - 1 / share) * x + new / share
                y = (1 - share) * y + share * samples[k + 1] @ z
            x = new
    return x


@pytest.mark.parametrize("name", BOTH)
def test_with_noise_it_is_the_papers_recursion(name):
    problem = Affine(noise=0.5, seed=3)
    optimizer = OPTIMIZERS[name]([problem.x], lr=0.1, beta=0.8, beta_decay=0.6)
    lrs = [0.1 / k**0.75 for k in range(1, 61)]
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        problem.step(optimizer)
    again = Affine(noise=0.5, seed=3)
    samples = [(again.a + 0.5 * torch.randn(4, 3, generator=again.rng, dtype=DOUBLE)).numpy() for _ in lrs]
    shares = [1.0, *(0.8 * k**-0.6 for k in range(2, 61))]
    expected = of_the_paper(name, samples, lrs, shares, again.b.numpy())
    np.testing.assert_allclose(problem.x.detach(), expected, rtol=1e-10)


def errors(name, shares, marks, problems=40, noise=1.0, **chosen):
    """Mean squared errors of x and y after some steps, for many problems at once: F(x) = ½(g(x) − 1)², g_w(x) = w x, E w = 1."""
    x = torch.full((problems,), 3.0, dtype=DOUBLE, requires_grad=True)
    rng = torch.Generator().manual_seed(0)
    optimizer = (
        torch.optim.SGD([x], lr=1.0) if name == "sgd" else OPTIMIZERS[name]([x], beta_decay=shares, **chosen)
    )
    average = getattr(optimizer, "average", lambda value: value)
    found = []
    for k in range(1, max(marks) + 1):
        optimizer.param_groups[0]["lr"] = 2.0 / (k + 3)
        w = 1 + noise * torch.randn(problems, generator=rng, dtype=DOUBLE)
        optimizer.zero_grad()

        def closure(w=w):
            loss = 0.5 * (average(w * x) - 1).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        if k in marks:
            y = optimizer.state[x].get("y", x.detach())
            found.append((float((x.detach() - 1).square().mean()), float((y - x.detach()).square().mean())))
    return np.array(found)


def exponent(marks, values):
    return np.polyfit(np.log(marks), np.log(values), 1)[0]


class TestConvergence:
    """α_k ~ 1/k on a strongly convex F: E‖x − x*‖² is O(k^(−2/3)) for SCGD and O(k^(−4/5)) for ASC-PG.

    The bound of E‖y − g(x)‖² is met with equality, up to terms that fall slowly: its noise is β/2 of one value's.
    """

    MARKS = (200, 400, 800, 1600)

    @pytest.mark.slow
    @pytest.mark.parametrize(("name", "share"), [("scgd", 2 / 3), ("asc_pg", 4 / 5)])
    def test_errors_decrease_at_the_rate_of_the_theorem(self, name, share):
        found = errors(name, share, self.MARKS, problems=1000, beta=1.0)
        assert exponent(self.MARKS, found[:, 0]) < -share + 0.05
        assert exponent(self.MARKS, found[:, 1]) == pytest.approx(-share, abs=0.12)
        assert found[-1, 0] < 0.01

    @pytest.mark.slow
    def test_sgd_converges_to_another_point(self):
        """It converges to the minimum of E ½(w x − 1)², at 1/(1 + σ²)."""
        found = errors("sgd", 0.0, self.MARKS, problems=400)
        assert found[-1, 0] == pytest.approx(0.25, abs=0.02)

    @pytest.mark.slow
    def test_the_accelerated_method_is_more_accurate(self):
        """Each with the exponents of its paper, with little noise, so that the lag of y dominates."""
        marks = (30, 100, 300)
        slow = errors("scgd", 2 / 3, marks, problems=400, noise=0.2, beta=1.0)[:, 0]
        fast = errors("asc_pg", 4 / 5, marks, problems=400, noise=0.2, beta=1.0)[:, 0]
        assert (fast < slow).all(), (fast, slow)


def few_rows(rows=60, columns=3):
    """Standardized rows and targets of the diabetes data, in float64."""
    x, y = load_diabetes(return_X_y=True)
    x, y = x[:rows, [2, 3, 8]][:, :columns], y[:rows]
    return torch.tensor((x - x.mean(0)) / x.std(0)), torch.tensor((y - y.mean()) / y.std())


class TestDropout:
    """A linear model whose inputs are dropped with probability q: its mean over masks is the model itself."""

    DROPPED = 0.5

    def trained(self, name, batch):
        x, y = few_rows()
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 1, bias=False, dtype=DOUBLE)
        model = torch.nn.Sequential(torch.nn.Dropout(self.DROPPED), layer)
        optimizer = (
            torch.optim.SGD(layer.parameters(), lr=1.0)
            if name == "sgd"
            else OPTIMIZERS[name](layer.parameters(), beta=1.0, beta_decay=0.6)
        )
        average = getattr(optimizer, "average", lambda outputs, rows, total: outputs)
        steps = 2400
        late = torch.zeros_like(layer.weight)
        for k in range(steps):
            optimizer.param_groups[0]["lr"] = 0.3 / (1 + k / 100)
            rows = torch.randperm(len(x))[:batch]

            def loss(outputs, targets, rows=rows):
                return 0.5 * (average(outputs[:, 0], rows, len(x)) - targets).square().mean()

            optimizer.step(Rows(model, loss, x[rows], y[rows]))
            if k >= steps // 2:
                late += layer.weight.detach() / (steps // 2)
        return late[0].numpy()

    def minima(self):
        """Minimizers: least squares for the loss of the mean prediction, ridge regression for the mean loss."""
        x, y = (each.numpy() for each in few_rows())
        gram = x.T @ x
        variance = self.DROPPED / (1 - self.DROPPED) * np.diag(np.diag(gram))
        return np.linalg.solve(gram, x.T @ y), np.linalg.solve(gram + variance, x.T @ y)

    @pytest.mark.slow
    @pytest.mark.parametrize("batch", [60, 20])
    @pytest.mark.parametrize("name", BOTH)
    def test_the_loss_of_the_mean_prediction_is_minimized(self, name, batch):
        found, (least_squares, ridge) = self.trained(name, batch), self.minima()
        apart = np.linalg.norm(least_squares - ridge)
        assert np.linalg.norm(found - least_squares) < 0.2 * apart

    @pytest.mark.slow
    def test_sgd_minimizes_the_mean_loss(self):
        found, (least_squares, ridge) = self.trained("sgd", 60), self.minima()
        assert np.linalg.norm(found - ridge) < 0.1 * np.linalg.norm(least_squares - ridge)


@pytest.mark.slow
def test_the_proximal_step_finds_the_zeros_of_the_lasso():
    """F(x) = 1/(2n) ‖E[A_w] x − b‖² + λ ‖x‖₁ with noisy A_w, against scikit-learn on the mean."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 8))
    b = a @ np.array([2.0, -1.0, 0, 0, 0, 0.5, 0, 0]) + 0.1 * rng.normal(size=50)
    expected = Lasso(alpha=0.2, fit_intercept=False, tol=1e-12).fit(a, b).coef_
    at, bt = torch.tensor(a), torch.tensor(b)
    x = torch.zeros(8, dtype=DOUBLE, requires_grad=True)
    optimizer = asc_pg([x], lr=0.1, beta_decay=0.8, beta=1.0)
    l1_prox(optimizer, [x], 0.2)
    noise = torch.Generator().manual_seed(0)
    for k in range(2000):
        optimizer.param_groups[0]["lr"] = 0.5 / (1 + k / 20)
        w = 0.3 * torch.randn(50, 8, dtype=DOUBLE, generator=noise)
        optimizer.step(lambda w=w: (optimizer.average((at + w) @ x) - bt).square().mean() / 2)
    assert (x.detach().numpy() == 0).tolist() == (expected == 0).tolist()
    np.testing.assert_allclose(x.detach(), expected, atol=0.02)


class TestAverage:
    def test_weights_of_one_over_k_yield_the_mean(self):
        optimizer = scgd([torch.ones(1, requires_grad=True)], beta=1.0, beta_decay=1.0)
        values = torch.randn(7, 4, dtype=DOUBLE)
        for value in values:
            y = optimizer.average(value)
        torch.testing.assert_close(y, values.mean(0), rtol=1e-12, atol=1e-14)

    def test_each_row_has_its_own_average(self):
        optimizer = scgd([torch.ones(1, requires_grad=True)], beta=0.25)
        optimizer.average(torch.tensor([[1.0], [2.0]]), torch.tensor([3, 0]), 5)
        y = optimizer.average(torch.tensor([[5.0], [7.0]]), torch.tensor([1, 3]), 5)
        assert y.tolist() == [[5.0], [2.5]]  # the first value of row 1; 1 + (7 - 1)/4
        memory = next(iter(optimizer.state.values()))
        assert memory["y"].flatten().tolist() == [2.0, 5.0, 0.0, 2.5, 0.0]
        assert memory["seen"].tolist() == [1, 1, 0, 2, 0]

    def test_a_row_that_occurs_twice_keeps_its_last_value(self):
        optimizer = scgd([torch.ones(1, requires_grad=True)], beta=1.0)
        optimizer.average(torch.arange(6.0), torch.tensor([2, 0, 2, 1, 2, 0]), 3)
        memory = next(iter(optimizer.state.values()))
        assert memory["y"].tolist() == [5.0, 3.0, 4.0]
        assert memory["seen"].tolist() == [1, 1, 1]

    def test_its_derivative_is_that_of_the_value(self):
        w = torch.tensor([2.0], requires_grad=True)
        optimizer = scgd([w], beta=0.5)
        optimizer.average(w * 3)
        y = optimizer.average(w * 5)  # 6 + (10 - 6)/2
        assert y.item() == 8.0
        y.square().sum().backward()
        assert w.grad.item() == 2 * 8 * 5

    @pytest.mark.parametrize("name", BOTH)
    def test_values_of_another_shape_are_refused(self, name):
        optimizer: Any = OPTIMIZERS[name]([torch.ones(1, requires_grad=True)])
        with pytest.raises(UserError, match=r"total number: average\(value, rows, total\)"):
            optimizer.average(torch.ones(2), torch.tensor([0, 1]))
        with pytest.raises(UserError, match="2 rows and 3 indices"):
            optimizer.average(torch.ones(2), torch.tensor([0, 1, 2]), 5)
        optimizer.average(torch.ones(2))
        with pytest.raises(UserError, match=r"shape \(3,\).* average of shape \(2,\)"):
            optimizer.average(torch.ones(3))
        with pytest.raises(UserError, match="rows of 2"):
            optimizer.average(torch.ones(2), torch.tensor([0, 1]), 2)

    @pytest.mark.parametrize("name", BOTH)
    @pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
    def test_a_loaded_state_continues_bit_for_bit(self, name, dtype):
        def problem():
            torch.manual_seed(0)
            model = torch.nn.Sequential(
                torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
            ).to(dtype)
            return model, OPTIMIZERS[name](model.parameters(), lr=0.05, beta_decay=0.3)

        def train(model, optimizer, steps):
            x, y = (each.to(dtype) for each in few_rows())
            for step in steps:
                torch.manual_seed(step)
                rows = torch.randperm(len(x))[:20]
                optimizer.step(
                    lambda rows=rows: (
                        (optimizer.average(model(x[rows])[:, 0], rows, 60) - y[rows]).square().mean()
                    )
                )
            return torch.cat([p.detach().flatten() for p in model.parameters()])

        model, optimizer = problem()
        straight = train(model, optimizer, range(12))
        model, optimizer = problem()
        train(model, optimizer, range(6))
        restored = OPTIMIZERS[name](model.parameters(), lr=3.0)
        restored.load_state_dict(saved(optimizer))
        assert torch.equal(train(model, restored, range(6, 12)), straight)
        model, optimizer = problem()
        train(model, optimizer, range(6))
        assert not torch.equal(
            train(model, OPTIMIZERS[name](model.parameters(), lr=0.05), range(6, 12)), straight
        )

    @pytest.mark.parametrize("name", BOTH)
    def test_it_can_be_reset(self, name):
        w = torch.ones(1, requires_grad=True)
        optimizer: Any = OPTIMIZERS[name]([w])
        for _ in range(3):
            optimizer.step(lambda: optimizer.average(w * torch.ones(2)).sum())
        optimizer.forget()
        optimizer.step(lambda: optimizer.average(w * torch.ones(5)).sum())
        assert optimizer.state[w]["y"].shape == (5,)

    @pytest.mark.parametrize(("name", "numbers"), [("scgd", 60 * 2 + 60), ("asc_pg", 60 * 2 + 60 + 5)])
    def test_memory_is_as_documented(self, name, numbers):
        w = torch.ones(5, requires_grad=True)
        optimizer: Any = OPTIMIZERS[name]([w])
        optimizer.step(lambda: optimizer.average(w.sum() * torch.ones(20, 2), torch.arange(20), 60).sum())
        tensors = [each for each in optimizer.state[w].values() if isinstance(each, torch.Tensor)]
        assert sum(each.numel() for each in tensors) == pytest.approx(numbers, rel=0.1)


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"beta": 1.5}, {"beta_decay": -1.0}, {"lr": -1.0}])
@pytest.mark.parametrize("name", BOTH)
def test_settings_outside_their_domain_are_refused(name, wrong):
    with pytest.raises(UserError, match=f"{name}: {next(iter(wrong))}: expected"):
        OPTIMIZERS[name]([torch.ones(1, requires_grad=True)], **wrong)


def test_sparse_gradients_are_refused():
    for kind in (SCGD, ASCPG):
        table = torch.nn.Embedding(3, 1, sparse=True)
        optimizer = kind(table.parameters(), lr=0.1, beta=1.0, beta_decay=0.0)
        with pytest.raises(UserError, match="sparse_adam"):
            optimizer.step(lambda table=table: table(torch.tensor([1])).sum())


class TestFromARecipe:
    def trained(self, name, tmp_path=None, data="iris", **changes):
        recipe = {
            "model": {"name": "mlp", "hidden": [8], "dropout": 0.3},
            "optimizer": {"name": name, "lr": 0.05},
            "gradient": {"clip_norm": 1.0},
            "stop": {"max_epochs": 4, "patience": None},
            "engine": {"threads": 1},
        }
        for path, value in changes.items():
            section, key = path.split("_", 1)
            recipe.setdefault(section, {})[key] = value
        return descend.train(data, recipe, seed=2)

    @pytest.mark.parametrize("name", BOTH)
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_with_beta_one_it_is_sgd(self, name, accumulate):
        plain = self.trained("sgd", gradient_accumulate=accumulate)
        run = self.trained(name, optimizer_beta=1.0, gradient_accumulate=accumulate)
        assert [each["train"]["loss"] for each in run.history] == pytest.approx(
            [each["train"]["loss"] for each in plain.history], rel=1e-5
        )

    @pytest.mark.parametrize("changes", [{}, {"model_norm": "batch"}, {"data_sampling": "with_replacement"}])
    def test_outputs_are_averaged_for_each_row(self, changes):
        one, half = (self.trained("scgd", optimizer_beta=beta, **changes) for beta in (1.0, 0.5))
        losses = [[each["train"]["loss"] for each in run.history] for run in (one, half)]
        if not changes:  # in the first epoch each average is the first outputs of its row
            assert losses[0][0] == losses[1][0]
        assert losses[0][1:] != losses[1][1:]

    @pytest.mark.parametrize("sampling", ["epoch", "with_replacement", "full"])
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_averages_belong_to_the_right_rows(self, sampling, accumulate):
        """With negligible steps the average of each row is the output for that row."""
        planned = plan_run(
            "iris",
            {
                "data": {"sampling": sampling},
                "model": {"name": "mlp", "hidden": [8], "dropout": 0.0},
                "init": {"output_gain": 1.0},
                "optimizer": {"name": "scgd", "lr": 1e-12},
                "gradient": {"accumulate": accumulate},
                "stop": {"max_epochs": 2, "average": 0.0},
                "engine": {"threads": 1},
            },
        )
        launched = Session(planned)
        launched.advance()
        training = launched.training
        (memory,) = [each for each in training.optimizer.state.values() if each]
        with torch.no_grad():
            expected = training.model(planned.prepared.train.inputs)
        seen = memory["seen"] > 0
        assert seen.float().mean() > 0.7
        torch.testing.assert_close(memory["y"][seen], expected[seen])
        assert len(expected.unique(dim=0)) > 50

    @pytest.mark.slow
    def test_gradients_are_clipped_by_default(self):
        recipe = {"optimizer": "scgd", "stop": {"max_epochs": 1}}
        assert descend.train("iris", recipe).recipe.gradient["clip_norm"] == 1.0
        recipe["gradient"] = {"clip_norm": None}
        assert descend.train("iris", recipe).recipe.gradient.get("clip_norm") is None

    def test_the_loss_at_the_extrapolated_point_is_counted(self):
        run = self.trained("asc_pg")
        last = run.history[-1]
        assert last["gradients"] == pytest.approx(last["step"] + (last["step"] - 1) / 3)

    @pytest.mark.parametrize("name", BOTH)
    def test_new_rows_have_new_averages(self, name):
        x, y = load_diabetes(return_X_y=True)
        fitted = descend.Regressor(hidden=(4,), optimizer=name)
        for rows in (slice(0, 100), slice(100, 180), slice(180, 280)):
            fitted.partial_fit(x[rows], y[rows])
        assert np.isfinite(fitted.predict(x)).all()

    @pytest.mark.slow
    def test_weighted_rows_of_an_estimator(self):
        x, y = load_diabetes(return_X_y=True)
        weights = np.random.default_rng(0).uniform(0.5, 3, len(x))
        fitted = descend.Regressor(hidden=(8,), optimizer="scgd", max_epochs=15).fit(
            x, y, sample_weight=weights
        )
        assert fitted.score(x, y) > 0.2

    def test_it_is_not_packed(self):
        assert "no packed form" in optimizer_cannot_be_packed_because(
            scgd([torch.ones(1, requires_grad=True)])
        )
