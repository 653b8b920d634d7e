"""Optimality conditions on functions and networks with a known spectrum."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.optimize import minimize
from tests.support.examples import examples
from torch import nn
from torch.func import functional_call, hessian

from descend.constraints import equality, inequality
from descend.data.batches import Batch
from descend.errors import UserError
from descend.linalg import flat, views
from descend.losses import CrossEntropy, MeanSquaredError
from descend.training.objective import Objective
from descend.training.optimality import check_optimality


def quadratic(eigenvalues, at=0.0, seed=0):
    """Return ½ x'Hx with this spectrum, its parameters in two tensors, and H."""
    size = len(eigenvalues)
    rng = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64))
    h = rotation @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ rotation.T
    parts = [torch.full((size - 1,), at, dtype=torch.float64), torch.full((1,), at, dtype=torch.float64)]
    parts = [part.requires_grad_() for part in parts]
    return (lambda: flat(parts) @ h @ flat(parts) / 2), parts, h


class TestQuadratics:
    @settings(deadline=None, max_examples=examples(40))
    @given(
        st.lists(st.one_of(st.floats(0.1, 9), st.floats(-9, -0.1)), min_size=2, max_size=12),
        st.integers(0, 99),
    )
    def test_verdict_and_extreme_eigenvalues(self, eigenvalues, seed):
        loss, parts, _ = quadratic(eigenvalues, seed=seed)
        result = check_optimality(loss, parts)
        assert result.verdict == ("minimum" if min(eigenvalues) > 0 else "saddle")
        assert result.smallest == pytest.approx(min(eigenvalues), rel=1e-4)
        assert result.largest == pytest.approx(max(eigenvalues), rel=1e-4)
        assert result.gradient_norm == 0.0

    def test_a_valley_is_not_a_saddle(self):
        loss, parts, _ = quadratic([0.0, 0.0, 1.0, 3.0])
        assert check_optimality(loss, parts).verdict == "minimum"

    @pytest.mark.parametrize("tolerance", [0.9, 1.1])
    def test_the_tolerance_of_the_gradient_norm(self, tolerance):
        loss, parts, h = quadratic([1.0, 2.0, 3.0], at=0.5)
        norm = float((h @ torch.full((3,), 0.5, dtype=torch.float64)).norm())
        result = check_optimality(loss, parts, tolerance=tolerance * norm)
        assert result.gradient_norm == pytest.approx(norm, rel=1e-12)
        assert result.loss == pytest.approx(loss().item())
        assert result.verdict == ("minimum" if tolerance > 1 else "not stationary")

    def test_undecided_until_the_smallest_eigenvalue_is_known(self):
        spectrum = [-0.05, *np.linspace(0.1, 50, 60).tolist()]
        loss, parts, _ = quadratic(spectrum)
        assert check_optimality(loss, parts, limit=3).verdict == "undecided"
        result = check_optimality(loss, parts)
        assert result.verdict == "saddle"
        assert result.products < 61

    def test_a_linear_function_has_no_curvature(self):
        w = torch.ones(2, dtype=torch.float64, requires_grad=True)
        result = check_optimality(lambda: w.sum(), [w])
        assert (result.verdict, result.smallest, result.largest) == ("not stationary", 0.0, 0.0)

    def test_derivatives_that_are_not_finite_raise(self):
        w = torch.zeros(1, requires_grad=True)
        with pytest.raises(UserError, match="finite"):
            check_optimality(lambda: w.sqrt().sum(), [w])


class TestNetworks:
    def objective(self, loss, targets, dropout=0.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(dropout), nn.Linear(4, 3)).double()
        batch = Batch(torch.randn(12, 3, dtype=torch.float64), targets, None)
        return Objective(model, loss, device=torch.device("cpu")).at([batch], 0, 0), batch

    def test_the_spectrum_equals_that_of_the_dense_hessian(self):
        objective, batch = self.objective(CrossEntropy(), torch.arange(12) % 3)
        result = check_optimality(objective.differentiable, objective.parameters)
        names = [name for name, _ in objective.model.named_parameters()]

        def f(w):
            named = dict(zip(names, views(w, objective.parameters), strict=True))
            return nn.functional.cross_entropy(
                functional_call(objective.model, named, (batch.inputs,)), batch.targets
            )

        ends = torch.linalg.eigvalsh(hessian(f)(flat(objective.parameters).detach()))[[0, -1]].tolist()
        assert [result.smallest, result.largest] == pytest.approx(ends, rel=1e-5)
        assert result.verdict == "not stationary"

    def test_zero_weights_are_a_saddle(self):
        targets = torch.randn(12, 3, dtype=torch.float64)
        objective, _ = self.objective(MeanSquaredError(), targets - targets.mean(0))
        with torch.no_grad():
            for p in objective.parameters:
                p.zero_()
        assert check_optimality(objective.differentiable, objective.parameters).verdict == "saddle"

    def test_weights_gradients_and_random_state_are_unchanged(self):
        objective, _ = self.objective(CrossEntropy(), torch.arange(12) % 3, dropout=0.5)
        before = flat(objective.parameters).detach()
        state = torch.get_rng_state()
        first = check_optimality(objective.differentiable, objective.parameters)
        assert torch.equal(flat(objective.parameters), before)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(p.grad is None for p in objective.parameters)
        assert check_optimality(objective.differentiable, objective.parameters) == first


class TestUnderConstraints:
    """Quadratics whose solutions follow from a linear system, or are computed by SciPy."""

    A = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, -1.0, 2.0]], dtype=torch.float64)
    B = torch.tensor([1.0, -0.5], dtype=torch.float64)

    def at_solution(self, h, g):
        """Return the point and the multipliers of min ½ w'Hw + g'w with A w = b."""
        size, count = len(h), len(self.A)
        system = torch.zeros(size + count, size + count, dtype=torch.float64)
        system[:size, :size], system[:size, size:], system[size:, :size] = h, self.A.T, self.A
        solution = torch.linalg.solve(system, torch.cat([-g, self.B]))
        return solution[:size].clone().requires_grad_(), solution[size:]

    @pytest.mark.parametrize(("curvature", "verdict"), [(5.0, "minimum"), (-5.0, "saddle")])
    def test_equalities(self, curvature, verdict):
        """Only the curvature along the constraints matters; across them it may have either sign."""
        along = torch.from_numpy(null_space(self.A.numpy()))
        across = self.A.T @ torch.linalg.inv(self.A @ self.A.T) @ self.A
        mixed = along @ torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64) @ self.A
        tangential = along @ torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64)) @ along.T
        h = curvature * tangential - curvature * across + mixed + mixed.T
        w, multipliers = self.at_solution(h, torch.arange(4, dtype=torch.float64))

        def loss():
            return w @ h @ w / 2 + torch.arange(4, dtype=torch.float64) @ w

        result = check_optimality(loss, [w], subject=w, conditions=[equality(lambda w: self.A @ w - self.B)])
        assert result.verdict == verdict
        assert result.gradient_norm < 1e-9
        assert result.multipliers[0] == pytest.approx(multipliers.tolist(), rel=1e-8)
        restricted = np.linalg.eigvalsh((along.T @ h @ along).numpy())
        assert (result.smallest, result.largest) == pytest.approx((restricted[0], restricted[-1]), rel=1e-6)
        assert result.constraints.residual < 1e-9
        assert (
            check_optimality(loss, [w]).verdict == "not stationary"
        )  # F itself decreases across the constraints

    @pytest.mark.parametrize("seed", range(4))
    def test_inequalities_against_slsqp(self, seed):
        rng = np.random.default_rng(seed)
        root, target = rng.normal(size=(5, 5)), 2 * rng.normal(size=5)
        h = root @ root.T + np.eye(5)
        solution = minimize(
            lambda w: (w - target) @ h @ (w - target) / 2,
            np.zeros(5),
            jac=lambda w: h @ (w - target),
            constraints={"type": "ineq", "fun": lambda w: np.array([1 - w @ w, 0.4 - w[0], 9.0 - w[1]])},
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 500},
        )
        w = torch.from_numpy(solution.x).requires_grad_()
        of_h, of_target = torch.from_numpy(h), torch.from_numpy(target)
        conditions = [
            inequality(lambda w: w @ w - 1),
            inequality(lambda w: torch.stack([w[0] - 0.4, w[1] - 9.0])),
        ]

        def optimality_at(w):
            return check_optimality(
                lambda: (w - of_target) @ of_h @ (w - of_target) / 2, [w], subject=w, conditions=conditions
            )

        result = optimality_at(w)
        assert result.verdict == "minimum"
        assert result.gradient_norm < 1e-5
        (of_ball,), (of_first, of_second) = result.multipliers
        assert of_ball > 0
        assert of_first >= 0
        assert of_second == 0
        # Inside the ball no constraint is active, so the gradient does not vanish; outside, the point is infeasible.
        assert optimality_at((0.9 * w.detach()).requires_grad_()).verdict == "not stationary"
        assert optimality_at((1.1 * w.detach()).requires_grad_()).verdict == "infeasible"

    def test_a_multiplier_of_the_wrong_sign_does_not_help(self):
        """At w = 1 the loss (w − 0.5)² decreases inwards, so the constraint w ≤ 1 does not make it stationary."""
        w = torch.ones(1, dtype=torch.float64, requires_grad=True)
        result = check_optimality(
            lambda: (w - 0.5).square().sum(), [w], subject=w, conditions=[inequality(lambda w: w - 1)]
        )
        assert result.verdict == "not stationary"
        assert result.multipliers[0] == pytest.approx((0.0,), abs=1e-12)
        assert result.gradient_norm == pytest.approx(1.0)

    def test_a_vertex_has_no_tangent_directions(self):
        w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        result = check_optimality(
            lambda: -w.square().sum() - w.sum(), [w], subject=w, conditions=[inequality(lambda w: w)]
        )
        assert (result.verdict, result.products, result.smallest) == ("minimum", 0, 0.0)
        assert result.multipliers[0] == pytest.approx((1.0, 1.0))

    def test_an_inactive_constraint_changes_nothing(self):
        loss, parts, _ = quadratic([1.0, 2.0, 5.0], at=0.3)
        far = [inequality(lambda parts: parts[0].sum() - 99)]
        free, constrained = (
            check_optimality(loss, parts),
            check_optimality(loss, parts, subject=parts, conditions=far),
        )
        assert (constrained.gradient_norm, constrained.verdict) == (free.gradient_norm, free.verdict)
        assert (constrained.smallest, constrained.largest) == pytest.approx(
            (free.smallest, free.largest), rel=1e-9
        )
