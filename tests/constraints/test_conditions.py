"""General constraints, compared with SciPy, closed forms and the KKT conditions."""

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
from descend.constraints.sqp import solve_box_qp
from descend.errors import UserError

DOUBLE = torch.float64


def vector(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=DOUBLE, requires_grad=True)


class Quadratic:
    """A random problem min ½ w·Q w + q·w, A w ≤ b, E w = e; SLSQP finds the active set, a linear system the multipliers."""

    def __init__(self, seed: int, n: int = 5, m: int = 4, k: int = 1) -> None:
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(n, n))
        self.q2, self.q1 = root @ root.T + np.eye(n), rng.normal(size=n) * 3
        self.a, self.b = rng.normal(size=(m, n)), rng.uniform(0.1, 1, size=m)
        self.e2, self.e1 = rng.normal(size=(k, n)), rng.normal(size=k) * 0.1
        reference = scipy.optimize.minimize(
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
        active = self.b - self.a @ reference.x < 1e-6
        # The solution in closed form, given the constraints that are active at SciPy's solution.
        rows = np.concatenate([self.a[active], self.e2])
        size = n + len(rows)
        system = np.zeros((size, size))
        system[:n, :n], system[:n, n:], system[n:, :n] = self.q2, rows.T, rows
        solved = np.linalg.solve(system, np.concatenate([-self.q1, self.b[active], self.e1]))
        self.best = solved[:n]
        np.testing.assert_allclose(self.best, reference.x, atol=1e-5)
        self.multipliers = np.zeros(m)
        self.multipliers[active] = solved[n : n + active.sum()]
        self.free = solved[n + active.sum() :]
        assert (self.multipliers >= -1e-9).all()

    def loss(self, w: torch.Tensor) -> torch.Tensor:
        return 0.5 * w @ torch.tensor(self.q2) @ w + torch.tensor(self.q1) @ w

    def conditions(self, **settings: float) -> list:
        a, b, e2, e1 = (torch.tensor(each) for each in (self.a, self.b, self.e2, self.e1))
        return [inequality(lambda w: a @ w - b, **settings), equality(lambda w: e2 @ w - e1, **settings)]


class TestKKT:
    @pytest.mark.parametrize("seed", range(4))
    def test_is_zero_only_at_the_known_solution(self, seed: int) -> None:
        problem = Quadratic(seed)
        w = vector(*problem.best)
        multipliers = [torch.tensor(problem.multipliers), torch.tensor(problem.free)]

        def residual() -> float:
            return kkt(lambda: problem.loss(w), w, problem.conditions(), multipliers).residual

        assert residual() < 1e-12
        for index in range(5):
            with torch.no_grad():
                w[index] += 0.01
            assert residual() > 1e-3
            with torch.no_grad():
                w[index] -= 0.01
        for each in multipliers:
            for index in range(len(each)):
                each[index] += 0.01
                assert residual() > 1e-4
                each[index] -= 0.01

    def test_each_residual_measures_one_condition(self) -> None:
        conditions = [inequality(lambda w: w - 1), equality(lambda w: 2 * w - 2)]

        def residuals(at: float, *multipliers: float) -> tuple[float, ...]:
            w = vector(at)
            each = kkt(lambda: (w - 2).square().sum(), w, conditions, [vector(m) for m in multipliers])
            return each.stationarity, each.violation, each.complementarity, each.sign

        assert residuals(1.0, 2.0, 0.0) == (0.0, 0.0, 0.0, 0.0)
        assert residuals(1.0, 0.0, 1.0) == (0.0, 0.0, 0.0, 0.0)
        assert residuals(1.0, 0.0, 0.0) == (2.0, 0.0, 0.0, 0.0)
        assert residuals(1.0, -2.0, 2.0) == (0.0, 0.0, 0.0, 2.0)
        assert residuals(0.0, 4.0, 0.0) == (0.0, 2.0, 4.0, 0.0)
        assert residuals(3.0, 0.0, -1.0) == (0.0, 4.0, 0.0, 0.0)

    def test_does_not_change_gradients_and_modes(self) -> None:
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

    def test_multipliers_of_another_shape_are_rejected(self) -> None:
        with pytest.raises(UserError, match="shapes"):
            kkt(lambda: vector(1).sum(), vector(1), [equality(lambda w: w)], [torch.ones(2)])


class TestMinimize:
    @pytest.mark.parametrize("seed", range(6))
    def test_a_quadratic_with_linear_constraints(self, seed: int) -> None:
        problem = Quadratic(seed)
        w = vector(0, 0, 0, 0, 0)
        solution = minimize(problem.loss, w, problem.conditions())
        assert solution.converged
        np.testing.assert_allclose(w.detach(), problem.best, atol=1e-7)
        np.testing.assert_allclose(solution.multipliers[0], problem.multipliers, atol=1e-5)
        np.testing.assert_allclose(solution.multipliers[1], problem.free, atol=1e-5)
        assert kkt(lambda: problem.loss(w), w, problem.conditions(), solution.multipliers).residual <= 1e-7

    def test_rosenbrock_in_a_disk_matches_trust_constr(self) -> None:
        w = vector(-1.2, 1.0)
        solution = minimize(
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
        assert solution.converged
        assert solution.iterations < 60
        np.testing.assert_allclose(w.detach(), expected.x, atol=1e-5)
        assert float(solution.multipliers[0]) == pytest.approx(float(expected.v[0][0]), rel=1e-3)

    def test_norm_constrained_least_squares_matches_its_secular_equation(self) -> None:
        x, y = load_diabetes(return_X_y=True)
        x, y = x / x.std(0), (y - y.mean()) / y.std()
        radius = 0.2

        def ridge(multiplier: float) -> np.ndarray:
            return np.linalg.solve(x.T @ x / len(x) + multiplier * np.eye(10), x.T @ y / len(x))

        expected = scipy.optimize.brentq(lambda m: np.linalg.norm(ridge(m)) - radius, 1e-6, 100, xtol=1e-14)
        model = nn.Linear(10, 1, bias=False, dtype=DOUBLE)
        at, bt = torch.tensor(x), torch.tensor(y)
        solution = minimize(
            lambda model: 0.5 * (model(at)[:, 0] - bt).square().mean(),
            model,
            [inequality(lambda model: 0.5 * (model.weight.square().sum() - radius**2))],
        )
        assert solution.converged
        np.testing.assert_allclose(model.weight.detach()[0], ridge(expected), atol=1e-7)
        assert float(solution.multipliers[0]) == pytest.approx(expected, rel=1e-5)

    def test_full_steps_are_accepted_with_curved_constraints(self) -> None:
        """The Maratos effect: from a point on the circle the good full step increases both F and the violation."""
        w = vector(math.cos(0.7), math.sin(0.7))
        solution = minimize(
            lambda w: 2 * (w.square().sum() - 1) - w[0],
            w,
            [equality(lambda w: w.square().sum() - 1)],
            tolerance=1e-10,
        )
        assert solution.converged
        assert solution.iterations <= 15
        np.testing.assert_allclose(w.detach(), [1.0, 0.0], atol=1e-8)
        assert float(solution.multipliers[0]) == pytest.approx(-1.5, abs=1e-8)

    def test_the_penalty_factor_grows_above_a_large_multiplier(self) -> None:
        w = vector(0.0)
        solution = minimize(lambda w: 1e4 * w.sum(), w, [inequality(lambda w: 2 - w)])
        assert solution.converged
        assert w.item() == pytest.approx(2.0)
        assert float(solution.multipliers[0]) == pytest.approx(1e4)

    def test_dependent_constraints(self) -> None:
        w = vector(0.0, 0.0)
        solution = minimize(
            lambda w: (w - 2).square().sum(),
            w,
            [inequality(lambda w: torch.stack([w.sum() - 1, 2 * w.sum() - 2]))],
        )
        assert solution.converged
        np.testing.assert_allclose(w.detach(), [0.5, 0.5], atol=1e-7)

    def test_infeasible_conditions_do_not_converge(self) -> None:
        w = vector(0.3)
        solution = minimize(lambda w: w.square().sum(), w, [equality(lambda w: w.square() + 1)])
        assert not solution.converged
        assert solution.kkt.violation >= 1.0
        assert math.isfinite(w.item())

    def test_trial_points_with_nan_are_rejected(self) -> None:
        w = vector(3.0)  # the loss is NaN below 0
        solution = minimize(
            lambda w: (w - torch.log(w)).sum() * 10, w, [inequality(lambda w: torch.sqrt(w) - 1.2)]
        )
        assert solution.converged
        assert w.item() == pytest.approx(1.0)

    def test_a_gradient_that_is_not_finite_stops_at_the_last_finite_point(self) -> None:
        w = vector(1.0)
        solution = minimize(
            lambda w: w.sum(), w, [inequality(lambda w: -w.abs().sqrt())]
        )  # not differentiable at 0
        assert math.isfinite(w.item())
        assert math.isfinite(solution.loss)

    def test_without_conditions(self) -> None:
        w = vector(-1.2, 1.0)
        solution = minimize(lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2, w, [])
        assert solution.converged
        np.testing.assert_allclose(w.detach(), [1.0, 1.0], atol=1e-6)

    def test_an_interruption_restores_an_accepted_point(self) -> None:
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
        ("loss", "message"),
        [
            (lambda w: w * 1, "a scalar"),
            (lambda w: 3.0, "a scalar"),
            (lambda w: (w - 2).log().sum(), "not finite"),
        ],
    )
    def test_invalid_losses_are_rejected(self, loss: object, message: str) -> None:
        with pytest.raises(UserError, match=message):
            minimize(loss, vector(0.0, 1.0), [])

    @settings(deadline=None, max_examples=examples(40))
    @given(st.integers(0, 10_000), st.integers(1, 6))
    def test_quadratic_programs_in_a_box(self, seed: int, n: int) -> None:
        """The optimality conditions hold, for singular matrices as well."""
        generator = torch.Generator().manual_seed(seed)
        root = torch.randn(n, max(1, n - seed % 3), generator=generator, dtype=DOUBLE)
        q, linear = root @ root.T, torch.randn(n, generator=generator, dtype=DOUBLE)
        low, high = (
            -torch.rand(n, generator=generator, dtype=DOUBLE),
            torch.rand(n, generator=generator, dtype=DOUBLE),
        )
        z = solve_box_qp(q, linear, low, high)
        gradient = q @ z + linear
        assert ((z >= low) & (z <= high)).all()
        assert (gradient[z > low] <= 1e-8).all()
        assert (gradient[z < high] >= -1e-8).all()


def method_of_multipliers(
    lagrangian: AugmentedLagrangian, loss: object, rounds: int = 60, steps: int = 200, lr: float = 0.02
) -> None:
    """The method of multipliers, with gradient descent with momentum as the inner solver."""
    parameters = (
        [lagrangian.subject]
        if isinstance(lagrangian.subject, torch.Tensor)
        else list(lagrangian.subject.parameters())
    )
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    for _ in range(rounds):
        for _ in range(steps):
            optimizer.zero_grad()
            (loss() + lagrangian.penalty()).backward()
            optimizer.step()
        lagrangian.ascend()


class TestAugmentedLagrangian:
    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [0, 2])
    def test_multipliers_converge_to_the_known_ones(self, seed: int) -> None:
        problem = Quadratic(seed)
        w = vector(0, 0, 0, 0, 0)
        lagrangian = AugmentedLagrangian(w, problem.conditions(penalty=5.0))
        method_of_multipliers(lagrangian, lambda: problem.loss(w), rounds=25, steps=150)
        np.testing.assert_allclose(w.detach(), problem.best, atol=1e-5)
        np.testing.assert_allclose(lagrangian.multipliers[0], problem.multipliers, atol=1e-4)
        np.testing.assert_allclose(lagrangian.multipliers[1], problem.free, atol=1e-4)
        assert lagrangian.residual(lambda: problem.loss(w)).residual < 1e-4

    def test_a_penalty_without_multipliers_does_not_reach_the_solution(self) -> None:
        w = vector(0.0)
        lagrangian = AugmentedLagrangian(w, [inequality(lambda w: 1 - w, penalty=3.0)])
        optimizer = torch.optim.SGD([w], lr=0.1)
        for _ in range(300):
            optimizer.zero_grad()
            (w.square().sum() / 2 + lagrangian.penalty()).backward()
            optimizer.step()
        assert w.item() == pytest.approx(3 / 4)  # w = ρ (1 - w)
        lagrangian.ascend()
        assert lagrangian.multipliers[0].item() == pytest.approx(3 / 4)

    @pytest.mark.slow
    def test_stochastic_gradients_and_a_multiplier_update_per_step(self) -> None:
        """Least squares on mini-batches with a bound on the norm; the multipliers are updated at each step."""
        x, y = load_diabetes(return_X_y=True)
        x, y = torch.tensor(x / x.std(0)), torch.tensor((y - y.mean()) / y.std())
        exact = nn.Linear(10, 1, bias=False, dtype=DOUBLE)

        def bound(model):
            return 0.5 * (model.weight.square().sum() - 0.04)

        solution = minimize(lambda m: 0.5 * (m(x)[:, 0] - y).square().mean(), exact, [inequality(bound)])
        torch.manual_seed(0)
        model = nn.Linear(10, 1, bias=False, dtype=DOUBLE)
        lagrangian = AugmentedLagrangian(model, [inequality(bound, rate=0.05, ascend="step", penalty=2.0)])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        handle = lagrangian.attach(optimizer)
        average = torch.zeros_like(model.weight)
        for step in range(3000):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step / 200)
            rows = torch.randint(len(x), (32,))
            optimizer.zero_grad()
            (0.5 * (model(x[rows])[:, 0] - y[rows]).square().mean() + lagrangian.penalty()).backward()
            optimizer.step()
            if step >= 2000:
                average += model.weight.detach() / 1000
        torch.testing.assert_close(average, exact.weight.detach(), atol=0.02, rtol=0)
        assert lagrangian.multipliers[0].item() == pytest.approx(solution.multipliers[0].item(), rel=0.1)
        handle.remove()
        before = lagrangian.multipliers[0].clone()
        optimizer.step()
        assert torch.equal(lagrangian.multipliers[0], before)

    @pytest.mark.slow
    def test_demographic_parity_of_a_classifier(self) -> None:
        """A classifier whose mean scores on two groups of rows must be nearly equal, compared with minimize."""
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
            scores = model(x)[:, 0].sigmoid()
            return scores[group].mean() - scores[~group].mean()

        torch.manual_seed(0)
        model, exact = (nn.Linear(5, 1, dtype=DOUBLE) for _ in range(2))
        conditions = [
            inequality(lambda m: gap(m) - 0.05, penalty=20.0),
            inequality(lambda m: -gap(m) - 0.05, penalty=20.0),
        ]
        solution = minimize(loss, exact, conditions)
        assert solution.converged
        lagrangian = AugmentedLagrangian(model, conditions)
        method_of_multipliers(lagrangian, lambda: loss(model), rounds=10, steps=100, lr=0.05)
        assert abs(gap(model).item()) == pytest.approx(0.05, abs=1e-3)
        assert loss(model).item() == pytest.approx(solution.loss, abs=1e-3)
        assert lagrangian.residual(lambda: loss(model)).residual < 5e-3
        multipliers = torch.cat([*lagrangian.multipliers])
        torch.testing.assert_close(multipliers, torch.cat(solution.multipliers), atol=0.05, rtol=0.05)

    def test_the_gradient_is_that_of_the_lagrangian_at_the_next_multipliers(self) -> None:
        problem = Quadratic(1)
        w = vector(0.3, -0.2, 0.5, 0.1, 0.9)
        lagrangian = AugmentedLagrangian(w, problem.conditions(penalty=3.0))
        lagrangian.multipliers = [torch.rand(4, dtype=DOUBLE), torch.randn(1, dtype=DOUBLE)]
        (problem.loss(w) + lagrangian.penalty()).backward()
        expected = kkt(lambda: problem.loss(w), w, lagrangian.conditions, lagrangian.estimates()).stationarity
        assert float(w.grad.norm()) == pytest.approx(expected, rel=1e-12)
        estimates = lagrangian.estimates()
        lagrangian.ascend()
        assert all(torch.equal(a, b) for a, b in zip(estimates, lagrangian.multipliers, strict=True))
        assert torch.autograd.gradcheck(
            lambda v: AugmentedLagrangian(v, problem.conditions()).penalty(), (w,)
        )

    def test_the_penalty_grows_while_the_violation_does_not_decrease(self) -> None:
        w = vector(0.0)
        lagrangian = AugmentedLagrangian(
            w, [equality(lambda w: w - 1, growth=3.0), inequality(lambda w: w - 5, growth=3.0)]
        )
        lagrangian.grow()
        lagrangian.grow()
        # The first call has no previous violation to compare with.
        assert [float(each) for each in lagrangian.penalties] == [3.0, 1.0]
        with torch.no_grad():
            w.fill_(0.5)
        lagrangian.grow()
        assert float(lagrangian.penalties[0]) == 3.0
        for _ in range(40):
            lagrangian.grow()
        assert float(lagrangian.penalties[0]) == 1e4

    def test_values_that_are_not_finite_do_not_change_multipliers(self) -> None:
        w = vector(1.0, 1.0)
        lagrangian = AugmentedLagrangian(w, [equality(lambda w: w.log() - 1)])
        with torch.no_grad():
            w[0] = -1.0
        lagrangian.ascend()
        lagrangian.grow()
        assert lagrangian.multipliers[0].tolist() == [0.0, -1.0]
        assert float(lagrangian.penalties[0]) == 1.0

    def test_the_model_is_in_evaluation_mode(self) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
        x = torch.randn(8, 2)
        lagrangian = AugmentedLagrangian(model, [inequality(lambda m: m(x).mean())])
        before = [buffer.clone() for buffer in model.buffers()]
        values = [lagrangian.penalty().item() for _ in range(3)]
        assert len(set(values)) == 1
        assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
        assert all(module.training for module in model.modules())

    @pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
    def test_a_restored_state_continues_to_the_same_bits(self, dtype: torch.dtype) -> None:
        def problem() -> tuple[torch.Tensor, AugmentedLagrangian]:
            w = torch.zeros(3, dtype=dtype, requires_grad=True)
            conditions = [
                equality(lambda w: w.sum() - 1, penalty=0.3),
                inequality(lambda w: 0.4 - w[:2], ascend="step"),
            ]
            return w, AugmentedLagrangian(w, conditions)

        def train(w: torch.Tensor, lagrangian: AugmentedLagrangian, steps: int) -> list[torch.Tensor]:
            optimizer = torch.optim.SGD([w], lr=0.1)
            lagrangian.attach(optimizer)
            for _ in range(steps):
                optimizer.zero_grad()
                (w.square().sum() + lagrangian.penalty()).backward()
                optimizer.step()
                lagrangian.epoch_ended()
            return [w.detach().clone(), *lagrangian.multipliers, *lagrangian.penalties]

        uninterrupted = train(*problem(), 10)
        w, lagrangian = problem()
        train(w, lagrangian, 5)
        file = io.BytesIO()
        torch.save(lagrangian.state_dict(), file)
        file.seek(0)
        restored = AugmentedLagrangian(w, lagrangian.conditions)
        restored.load_state_dict(torch.load(file, weights_only=True))
        assert all(torch.equal(a, b) for a, b in zip(train(w, restored, 5), uninterrupted, strict=True))
        w, lagrangian = problem()
        train(w, lagrangian, 5)
        assert not torch.equal(
            train(w, AugmentedLagrangian(w, lagrangian.conditions), 5)[0], uninterrupted[0]
        )

    def test_the_state_of_other_conditions_is_rejected(self) -> None:
        w = vector(1.0, 2.0)
        state = AugmentedLagrangian(w, [equality(lambda w: w)]).state_dict()
        with pytest.raises(UserError, match="other constraints"):
            AugmentedLagrangian(w, [equality(lambda w: w.sum())]).load_state_dict(state)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda w: 3.0, "expected a tensor with its graph, got a float"),
            (lambda w: w[None], r"real number or a vector.* shape \(1, 2\)"),
            (lambda w: (w > 0).sum(), "a real number"),
            (lambda w: w[:0], "real number or a vector"),
            (lambda w: w.log(), "not finite"),
            (lambda w: (w - w.detach()).sqrt(), "gradient at the initial weights is not finite"),
            (lambda w: w.detach().sum(), "does not depend on the parameters through a graph"),
            (lambda w: torch.ones(2, requires_grad=True).sum(), "does not depend"),
        ],
    )
    def test_invalid_functions_are_rejected(self, function: object, message: str) -> None:
        with pytest.raises(UserError, match=message):
            AugmentedLagrangian(vector(0.0, 1.0), [inequality(function)])

    def test_an_empty_list_of_conditions_is_rejected(self) -> None:
        with pytest.raises(UserError, match="needs at least one condition"):
            AugmentedLagrangian(vector(1.0), [])

    @pytest.mark.parametrize("constructor", [inequality, equality])
    def test_constructors_have_cards(self, constructor: object) -> None:
        assert card(constructor).row == "G8"
