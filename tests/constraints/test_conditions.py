"""General constraints against SciPy, closed forms and the conditions of Karush, Kuhn and Tucker."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes
from tests.support.examples import examples
from torch import nn

from descend.cards import card
from descend.constraints import AugmentedLagrangian, equality, inequality, kkt, minimize
from descend.constraints.sqp import in_box
from descend.errors import UserError

DOUBLE = torch.float64


def vector(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=DOUBLE, requires_grad=True)


class Quadratic:
    """min ½ w·Q w + q·w with A w ≤ b and E w = e, drawn at random; SciPy's SLSQP solves it, linear algebra gives multipliers."""

    def __init__(self, seed: int, n: int = 5, m: int = 4, k: int = 1) -> None:
        draw = np.random.default_rng(seed)
        root = draw.normal(size=(n, n))
        self.q2, self.q1 = root @ root.T + np.eye(n), draw.normal(size=n) * 3
        self.a, self.b = draw.normal(size=(m, n)), draw.uniform(0.1, 1, size=m)
        self.e2, self.e1 = draw.normal(size=(k, n)), draw.normal(size=k) * 0.1
        found = scipy.optimize.minimize(
            lambda w: 0.5 * w @ self.q2 @ w + self.q1 @ w,
            np.zeros(n),
            jac=lambda w: self.q2 @ w + self.q1,
            method="SLSQP",
            constraints=[
                {"type": "ineq", "fun": lambda w: self.b - self.a @ w, "jac": lambda w: -self.a},
                {"type": "eq", "fun": lambda w: self.e2 @ w - self.e1, "jac": lambda w: self.e2},
            ],
            options={"ftol": 1e-12, "maxiter": 500},
        )
        active = self.b - self.a @ found.x < 1e-6
        # The solution anew, in closed form, on the constraints that SciPy found active.
        rows = np.concatenate([self.a[active], self.e2])
        size = n + len(rows)
        system = np.zeros((size, size))
        system[:n, :n], system[:n, n:], system[n:, :n] = self.q2, rows.T, rows
        solved = np.linalg.solve(system, np.concatenate([-self.q1, self.b[active], self.e1]))
        self.best = solved[:n]
        np.testing.assert_allclose(self.best, found.x, atol=1e-5)
        self.multipliers = np.zeros(m)
        self.multipliers[active] = solved[n : n + active.sum()]
        self.free = solved[n + active.sum() :]
        assert (self.multipliers >= -1e-9).all()

    def loss(self, w: torch.Tensor) -> torch.Tensor:
        return 0.5 * w @ torch.tensor(self.q2) @ w + torch.tensor(self.q1) @ w

    def conditions(self, **chosen: float) -> list:
        a, b, e2, e1 = (torch.tensor(each) for each in (self.a, self.b, self.e2, self.e1))
        return [inequality(lambda w: a @ w - b, **chosen), equality(lambda w: e2 @ w - e1, **chosen)]


class TestKKT:
    @pytest.mark.parametrize("seed", range(4))
    def test_is_zero_at_the_known_solution_and_nowhere_near(self, seed: int) -> None:
        problem = Quadratic(seed)
        w = vector(*problem.best)
        right = [torch.tensor(problem.multipliers), torch.tensor(problem.free)]

        def residual() -> float:
            return kkt(lambda: problem.loss(w), w, problem.conditions(), right).residual

        assert residual() < 1e-12
        for place in range(5):
            with torch.no_grad():
                w[place] += 0.01
            assert residual() > 1e-3
            with torch.no_grad():
                w[place] -= 0.01
        for each in right:
            for place in range(len(each)):
                each[place] += 0.01
                assert residual() > 1e-4
                each[place] -= 0.01

    def test_says_which_condition_fails(self) -> None:
        conditions = [inequality(lambda w: w - 1), equality(lambda w: 2 * w - 2)]

        def found(at: float, *multipliers: float) -> tuple[float, ...]:
            w = vector(at)
            each = kkt(lambda: (w - 2).square().sum(), w, conditions, [vector(m) for m in multipliers])
            return each.stationarity, each.violation, each.complementarity, each.sign

        assert found(1.0, 2.0, 0.0) == (0.0, 0.0, 0.0, 0.0)
        assert found(1.0, 0.0, 1.0) == (0.0, 0.0, 0.0, 0.0)
        assert found(1.0, 0.0, 0.0) == (2.0, 0.0, 0.0, 0.0)
        assert found(1.0, -2.0, 2.0) == (0.0, 0.0, 0.0, 2.0)
        assert found(0.0, 4.0, 0.0) == (0.0, 2.0, 4.0, 0.0)
        assert found(3.0, 0.0, -1.0) == (0.0, 4.0, 0.0, 0.0)

    def test_leaves_gradients_modes_and_parameters(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        model[0].weight.grad = torch.ones(2, 2)
        kkt(
            lambda: model[0].weight.square().sum(),
            model,
            [equality(lambda m: m[0].bias.sum())],
            [torch.ones(1)],
        )
        assert model.training
        assert model[1].training
        assert torch.equal(model[0].weight.grad, torch.ones(2, 2))

    def test_multipliers_that_do_not_fit(self) -> None:
        with pytest.raises(UserError, match="shapes"):
            kkt(lambda: vector(1).sum(), vector(1), [equality(lambda w: w)], [torch.ones(2)])


class TestMinimize:
    @pytest.mark.parametrize("seed", range(6))
    def test_a_quadratic_with_linear_constraints(self, seed: int) -> None:
        problem = Quadratic(seed)
        w = vector(0, 0, 0, 0, 0)
        found = minimize(problem.loss, w, problem.conditions())
        assert found.converged
        np.testing.assert_allclose(w.detach(), problem.best, atol=1e-7)
        np.testing.assert_allclose(found.multipliers[0], problem.multipliers, atol=1e-5)
        np.testing.assert_allclose(found.multipliers[1], problem.free, atol=1e-5)
        assert kkt(lambda: problem.loss(w), w, problem.conditions(), found.multipliers).residual <= 1e-7

    def test_rosenbrock_in_a_disk_as_trust_constr_finds_it(self) -> None:
        w = vector(-1.2, 1.0)
        found = minimize(
            lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2,
            w,
            [inequality(lambda w: w.square().sum() - 1)],
            tolerance=1e-9,
        )
        disk = scipy.optimize.NonlinearConstraint(lambda w: w @ w, -np.inf, 1.0, jac=lambda w: 2 * w[None])
        expected = scipy.optimize.minimize(
            scipy.optimize.rosen,
            [0.0, 0.0],
            jac=scipy.optimize.rosen_der,
            hess=scipy.optimize.rosen_hess,
            method="trust-constr",
            constraints=[disk],
            options={"gtol": 1e-10, "xtol": 1e-12, "maxiter": 2000},
        )
        assert found.converged
        assert found.iterations < 60
        np.testing.assert_allclose(w.detach(), expected.x, atol=1e-5)
        assert float(found.multipliers[0]) == pytest.approx(float(expected.v[0][0]), rel=1e-3)

    def test_norm_constrained_least_squares_by_its_secular_equation(self) -> None:
        x, y = load_diabetes(return_X_y=True)
        x, y = x / x.std(0), (y - y.mean()) / y.std()
        radius = 0.2

        def ridge(multiplier: float) -> np.ndarray:
            return np.linalg.solve(x.T @ x / len(x) + multiplier * np.eye(10), x.T @ y / len(x))

        right = scipy.optimize.brentq(lambda m: np.linalg.norm(ridge(m)) - radius, 1e-6, 100, xtol=1e-14)
        model = nn.Linear(10, 1, bias=False, dtype=DOUBLE)
        at, bt = torch.tensor(x), torch.tensor(y)
        found = minimize(
            lambda model: 0.5 * (model(at)[:, 0] - bt).square().mean(),
            model,
            [inequality(lambda model: 0.5 * (model.weight.square().sum() - radius**2))],
        )
        assert found.converged
        np.testing.assert_allclose(model.weight.detach()[0], ridge(right), atol=1e-7)
        assert float(found.multipliers[0]) == pytest.approx(right, rel=1e-5)

    def test_full_steps_are_not_refused_by_curved_constraints(self) -> None:
        """Maratos' example: from a point on the circle the good full step raises both F and the violation."""
        w = vector(math.cos(0.7), math.sin(0.7))
        found = minimize(
            lambda w: 2 * (w.square().sum() - 1) - w[0],
            w,
            [equality(lambda w: w.square().sum() - 1)],
            tolerance=1e-10,
        )
        assert found.converged
        assert found.iterations <= 15
        np.testing.assert_allclose(w.detach(), [1.0, 0.0], atol=1e-8)
        assert float(found.multipliers[0]) == pytest.approx(-1.5, abs=1e-8)

    def test_the_penalty_rises_above_a_large_multiplier(self) -> None:
        w = vector(0.0)
        found = minimize(lambda w: 1e4 * w.sum(), w, [inequality(lambda w: 2 - w)])
        assert found.converged
        assert w.item() == pytest.approx(2.0)
        assert float(found.multipliers[0]) == pytest.approx(1e4)

    def test_dependent_constraints(self) -> None:
        w = vector(0.0, 0.0)
        found = minimize(
            lambda w: (w - 2).square().sum(),
            w,
            [inequality(lambda w: torch.stack([w.sum() - 1, 2 * w.sum() - 2]))],
        )
        assert found.converged
        np.testing.assert_allclose(w.detach(), [0.5, 0.5], atol=1e-7)

    def test_what_cannot_be_met_is_said_so(self) -> None:
        w = vector(0.3)
        found = minimize(lambda w: w.square().sum(), w, [equality(lambda w: w.square() + 1)])
        assert not found.converged
        assert found.kkt.violation >= 1.0
        assert math.isfinite(w.item())

    def test_trial_points_that_are_no_numbers_are_refused(self) -> None:
        w = vector(3.0)  # steps beyond 0 give NaN
        found = minimize(
            lambda w: (w - torch.log(w)).sum() * 10, w, [inequality(lambda w: torch.sqrt(w) - 1.2)]
        )
        assert found.converged
        assert w.item() == pytest.approx(1.0)

    def test_a_derivative_that_is_no_number_ends_it_where_there_was_one(self) -> None:
        w = vector(1.0)
        found = minimize(lambda w: w.sum(), w, [inequality(lambda w: -w.abs().sqrt())])  # no slope at 0
        assert math.isfinite(w.item())
        assert math.isfinite(found.loss)

    def test_without_conditions_it_is_bfgs(self) -> None:
        w = vector(-1.2, 1.0)
        found = minimize(lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, w, [])
        assert found.converged
        np.testing.assert_allclose(w.detach(), [1.0, 1.0], atol=1e-6)

    def test_an_interruption_leaves_a_point_that_was_accepted(self) -> None:
        w, calls = vector(2.0), []

        def loss(w: torch.Tensor) -> torch.Tensor:
            calls.append(w.item())
            if len(calls) == 2:
                raise KeyboardInterrupt
            return w.square().sum()

        with pytest.raises(KeyboardInterrupt):
            minimize(loss, w, [])
        assert w.item() == 2.0
        assert calls[1] != 2.0

    @pytest.mark.parametrize(
        ("loss", "words"),
        [
            (lambda w: w * 1, "one number"),
            (lambda w: 3.0, "one number"),
            (lambda w: (w - 2).log().sum(), "not finite"),
        ],
    )
    def test_losses_that_are_none(self, loss: object, words: str) -> None:
        with pytest.raises(UserError, match=words):
            minimize(loss, vector(0.0, 1.0), [])

    @settings(deadline=None, max_examples=examples(40))
    @given(st.integers(0, 10_000), st.integers(1, 6))
    def test_quadratic_programs_in_a_box(self, seed: int, n: int) -> None:
        """Against the conditions of optimality, for singular matrices as well."""
        draw = torch.Generator().manual_seed(seed)
        root = torch.randn(n, max(1, n - seed % 3), generator=draw, dtype=DOUBLE)
        q, linear = root @ root.T, torch.randn(n, generator=draw, dtype=DOUBLE)
        low, high = -torch.rand(n, generator=draw, dtype=DOUBLE), torch.rand(n, generator=draw, dtype=DOUBLE)
        z = in_box(q, linear, low, high)
        slope = q @ z + linear
        assert ((z >= low) & (z <= high)).all()
        assert (slope[z > low] <= 1e-8).all()
        assert (slope[z < high] >= -1e-8).all()


def settled(
    held: AugmentedLagrangian, loss: object, rounds: int = 60, steps: int = 200, rate: float = 0.02
) -> None:
    """The method of multipliers with plain gradient descent inside."""
    parameters = [held.subject] if isinstance(held.subject, torch.Tensor) else list(held.subject.parameters())
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    for _ in range(rounds):
        for _ in range(steps):
            optimizer.zero_grad()
            (loss() + held.penalty()).backward()
            optimizer.step()
        held.ascend()


class TestAugmentedLagrangian:
    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [0, 2])
    def test_multipliers_come_to_the_known_ones(self, seed: int) -> None:
        problem = Quadratic(seed)
        w = vector(0, 0, 0, 0, 0)
        held = AugmentedLagrangian(w, problem.conditions(penalty=5.0))
        settled(held, lambda: problem.loss(w), rounds=25, steps=150)
        np.testing.assert_allclose(w.detach(), problem.best, atol=1e-5)
        np.testing.assert_allclose(held.multipliers[0], problem.multipliers, atol=1e-4)
        np.testing.assert_allclose(held.multipliers[1], problem.free, atol=1e-4)
        assert held.residual(lambda: problem.loss(w)).residual < 1e-4

    def test_a_penalty_alone_stays_away(self) -> None:
        w = vector(0.0)
        held = AugmentedLagrangian(w, [inequality(lambda w: 1 - w, penalty=3.0)])
        optimizer = torch.optim.SGD([w], lr=0.1)
        for _ in range(300):
            optimizer.zero_grad()
            (w.square().sum() / 2 + held.penalty()).backward()
            optimizer.step()
        assert w.item() == pytest.approx(3 / 4)  # w = ρ (1 - w)
        held.ascend()
        assert held.multipliers[0].item() == pytest.approx(3 / 4)

    @pytest.mark.slow
    def test_noisy_gradients_of_the_loss_and_a_step_each_time(self) -> None:
        """Least squares from batches with a bounded norm, multipliers rising at each step."""
        x, y = load_diabetes(return_X_y=True)
        x, y = torch.tensor(x / x.std(0)), torch.tensor((y - y.mean()) / y.std())
        exact = nn.Linear(10, 1, bias=False, dtype=DOUBLE)

        def bound(model):
            return 0.5 * (model.weight.square().sum() - 0.04)

        found = minimize(lambda m: 0.5 * (m(x)[:, 0] - y).square().mean(), exact, [inequality(bound)])
        torch.manual_seed(0)
        model = nn.Linear(10, 1, bias=False, dtype=DOUBLE)
        held = AugmentedLagrangian(model, [inequality(bound, rate=0.05, ascend="step", penalty=2.0)])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        handle = held.follow(optimizer)
        late = torch.zeros_like(model.weight)
        for step in range(3000):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step / 200)
            rows = torch.randint(len(x), (32,))
            optimizer.zero_grad()
            (0.5 * (model(x[rows])[:, 0] - y[rows]).square().mean() + held.penalty()).backward()
            optimizer.step()
            if step >= 2000:
                late += model.weight.detach() / 1000
        torch.testing.assert_close(late, exact.weight.detach(), atol=0.02, rtol=0)
        assert held.multipliers[0].item() == pytest.approx(found.multipliers[0].item(), rel=0.1)
        handle.remove()
        before = held.multipliers[0].clone()
        optimizer.step()
        assert torch.equal(held.multipliers[0], before)

    @pytest.mark.slow
    def test_a_rate_of_positives_that_groups_share(self) -> None:
        """A classifier whose mean score is to be the same for two groups of rows, against minimize."""
        rows, labels = load_breast_cancer(return_X_y=True)
        x = torch.tensor((rows - rows.mean(0)) / rows.std(0))[:300, :5]
        y = torch.tensor(labels[:300], dtype=DOUBLE)
        group = x[:, 1] > 0

        def loss(model: nn.Module) -> torch.Tensor:
            scores = model(x)[:, 0]
            return nn.functional.binary_cross_entropy_with_logits(scores, y) + 0.01 * sum(
                p.square().sum() for p in model.parameters()
            )

        def gap(model: nn.Module) -> torch.Tensor:
            share = model(x)[:, 0].sigmoid()
            return share[group].mean() - share[~group].mean()

        torch.manual_seed(0)
        model, exact = (nn.Linear(5, 1, dtype=DOUBLE) for _ in range(2))
        fair = [
            inequality(lambda m: gap(m) - 0.05, penalty=20.0),
            inequality(lambda m: -gap(m) - 0.05, penalty=20.0),
        ]
        found = minimize(loss, exact, fair)
        assert found.converged
        held = AugmentedLagrangian(model, fair)
        settled(held, lambda: loss(model), rounds=10, steps=100, rate=0.05)
        assert abs(gap(model).item()) == pytest.approx(0.05, abs=1e-3)
        assert loss(model).item() == pytest.approx(found.loss, abs=1e-3)
        assert held.residual(lambda: loss(model)).residual < 5e-3
        multipliers = torch.cat([*held.multipliers])
        torch.testing.assert_close(multipliers, torch.cat(found.multipliers), atol=0.05, rtol=0.05)

    def test_its_gradient_is_that_of_the_lagrangian_at_the_next_multipliers(self) -> None:
        problem = Quadratic(1)
        w = vector(0.3, -0.2, 0.5, 0.1, 0.9)
        held = AugmentedLagrangian(w, problem.conditions(penalty=3.0))
        held.multipliers = [torch.rand(4, dtype=DOUBLE), torch.randn(1, dtype=DOUBLE)]
        (problem.loss(w) + held.penalty()).backward()
        expected = kkt(lambda: problem.loss(w), w, held.conditions, held.estimates()).stationarity
        assert float(w.grad.norm()) == pytest.approx(expected, rel=1e-12)
        estimates = held.estimates()
        held.ascend()
        assert all(torch.equal(a, b) for a, b in zip(estimates, held.multipliers, strict=True))
        assert torch.autograd.gradcheck(
            lambda v: AugmentedLagrangian(v, problem.conditions()).penalty(), (w,)
        )

    def test_the_penalty_grows_while_the_violation_does_not_fall(self) -> None:
        w = vector(0.0)
        held = AugmentedLagrangian(
            w, [equality(lambda w: w - 1, growth=3.0), inequality(lambda w: w - 5, growth=3.0)]
        )
        held.grow()
        held.grow()
        assert [float(each) for each in held.penalties] == [
            3.0,
            1.0,
        ]  # the first call has nothing to compare with
        with torch.no_grad():
            w.fill_(0.5)
        held.grow()
        assert float(held.penalties[0]) == 3.0
        for _ in range(40):
            held.grow()
        assert float(held.penalties[0]) == 1e4

    def test_values_that_are_no_numbers_move_no_multiplier(self) -> None:
        w = vector(1.0, 1.0)
        held = AugmentedLagrangian(w, [equality(lambda w: w.log() - 1)])
        with torch.no_grad():
            w[0] = -1.0
        held.ascend()
        held.grow()
        assert held.multipliers[0].tolist() == [0.0, -1.0]
        assert float(held.penalties[0]) == 1.0

    def test_the_model_is_seen_as_it_predicts(self) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
        x = torch.randn(8, 2)
        held = AugmentedLagrangian(model, [inequality(lambda m: m(x).mean())])
        before = [buffer.clone() for buffer in model.buffers()]
        values = [held.penalty().item() for _ in range(3)]
        assert len(set(values)) == 1
        assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
        assert all(module.training for module in model.modules())

    @pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
    def test_its_state_goes_on_to_the_same_bits(self, dtype: torch.dtype) -> None:
        def problem() -> tuple[torch.Tensor, AugmentedLagrangian]:
            w = torch.zeros(3, dtype=dtype, requires_grad=True)
            conditions = [
                equality(lambda w: w.sum() - 1, penalty=0.3),
                inequality(lambda w: 0.4 - w[:2], ascend="step"),
            ]
            return w, AugmentedLagrangian(w, conditions)

        def train(w: torch.Tensor, held: AugmentedLagrangian, steps: int) -> list[torch.Tensor]:
            optimizer = torch.optim.SGD([w], lr=0.1)
            held.follow(optimizer)
            for _ in range(steps):
                optimizer.zero_grad()
                (w.square().sum() + held.penalty()).backward()
                optimizer.step()
                held.epoch_ended()
            return [w.detach().clone(), *held.multipliers, *held.penalties]

        straight = train(*problem(), 10)
        w, held = problem()
        train(w, held, 5)
        file = io.BytesIO()
        torch.save(held.state_dict(), file)
        file.seek(0)
        restored = AugmentedLagrangian(w, held.conditions)
        restored.load_state_dict(torch.load(file, weights_only=True))
        assert all(torch.equal(a, b) for a, b in zip(train(w, restored, 5), straight, strict=True))
        w, held = problem()
        train(w, held, 5)
        assert not torch.equal(train(w, AugmentedLagrangian(w, held.conditions), 5)[0], straight[0])

    def test_the_state_of_other_conditions_is_refused(self) -> None:
        w = vector(1.0, 2.0)
        state = AugmentedLagrangian(w, [equality(lambda w: w)]).state_dict()
        with pytest.raises(UserError, match="other constraints"):
            AugmentedLagrangian(w, [equality(lambda w: w.sum())]).load_state_dict(state)

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda w: 3.0, "expected a tensor with its graph, found a float"),
            (lambda w: w[None], r"real number or a vector.* shape \(1, 2\)"),
            (lambda w: (w > 0).sum(), "a real number"),
            (lambda w: w[:0], "real number or a vector"),
            (lambda w: w.log(), "not finite"),
            (lambda w: (w - w.detach()).sqrt(), "derivative is not finite"),
            (lambda w: w.detach().sum(), "does not depend on the parameters by a graph"),
            (lambda w: torch.ones(2, requires_grad=True).sum(), "does not depend"),
        ],
    )
    def test_functions_that_give_no_condition(self, function: object, words: str) -> None:
        with pytest.raises(UserError, match=words):
            AugmentedLagrangian(vector(0.0, 1.0), [inequality(function)])

    def test_no_condition(self) -> None:
        with pytest.raises(UserError, match="needs a condition"):
            AugmentedLagrangian(vector(1.0), [])

    @pytest.mark.parametrize("make", [inequality, equality])
    def test_have_cards(self, make: object) -> None:
        assert card(make).row == "G8"
