"""The conditions of optimality on functions and networks whose spectrum is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, hessian

from descend.data.batches import Batch
from descend.errors import UserError
from descend.linalg import flat, views
from descend.losses import CrossEntropy, MeanSquaredError
from descend.training.objective import Objective
from descend.training.optimality import optimality


def quadratic(eigenvalues, at=0.0, seed=0):
    """½ x'Hx with this spectrum, and its parameters in two tensors."""
    size = len(eigenvalues)
    draw = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))
    h = rotation @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ rotation.T
    parts = [torch.full((size - 1,), at, dtype=torch.float64), torch.full((1,), at, dtype=torch.float64)]
    parts = [part.requires_grad_() for part in parts]
    return (lambda: flat(parts) @ h @ flat(parts) / 2), parts, h


class TestOfQuadratics:
    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(st.one_of(st.floats(0.1, 9), st.floats(-9, -0.1)), min_size=2, max_size=12),
        st.integers(0, 99),
    )
    def test_minimum_or_saddle_and_the_ends_of_the_spectrum(self, eigenvalues, seed):
        loss, parts, _ = quadratic(eigenvalues, seed=seed)
        found = optimality(loss, parts)
        assert found.verdict == ("minimum" if min(eigenvalues) > 0 else "saddle")
        assert found.smallest == pytest.approx(min(eigenvalues), rel=1e-4)
        assert found.largest == pytest.approx(max(eigenvalues), rel=1e-4)
        assert found.gradient_norm == 0.0

    def test_a_valley_is_no_saddle(self):
        loss, parts, _ = quadratic([0.0, 0.0, 1.0, 3.0])
        assert optimality(loss, parts).verdict == "minimum"

    @pytest.mark.parametrize("tolerance", [0.9, 1.1])
    def test_stationary_by_the_gradients_norm(self, tolerance):
        loss, parts, h = quadratic([1.0, 2.0, 3.0], at=0.5)
        norm = float((h @ torch.full((3,), 0.5, dtype=torch.float64)).norm())
        found = optimality(loss, parts, tolerance=tolerance * norm)
        assert found.gradient_norm == pytest.approx(norm, rel=1e-12)
        assert found.loss == pytest.approx(loss().item())
        assert found.verdict == ("minimum" if tolerance > 1 else "not stationary")

    def test_undecided_until_the_smallest_eigenvalue_is_known(self):
        spectrum = [-0.05, *np.linspace(0.1, 50, 60).tolist()]
        loss, parts, _ = quadratic(spectrum)
        assert optimality(loss, parts, limit=3).verdict == "undecided"
        found = optimality(loss, parts)
        assert found.verdict == "saddle"
        assert found.products < 61

    def test_a_linear_function_has_no_curvature(self):
        w = torch.ones(2, dtype=torch.float64, requires_grad=True)
        found = optimality(lambda: w.sum(), [w])
        assert (found.verdict, found.smallest, found.largest) == ("not stationary", 0.0, 0.0)

    def test_no_finite_derivative_is_an_error(self):
        w = torch.zeros(1, requires_grad=True)
        with pytest.raises(UserError, match="finite"):
            optimality(lambda: w.sqrt().sum(), [w])


class TestOfNetworks:
    def objective(self, loss, targets, dropout=0.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(dropout), nn.Linear(4, 3)).double()
        batch = Batch(torch.randn(12, 3, dtype=torch.float64), targets, None)
        return Objective(model, loss, device=torch.device("cpu")).at([batch], 0, 0), batch

    def test_the_spectrum_is_the_dense_hessians(self):
        objective, batch = self.objective(CrossEntropy(), torch.arange(12) % 3)
        found = optimality(objective.differentiable, objective.parameters)
        names = [name for name, _ in objective.model.named_parameters()]

        def f(w):
            named = dict(zip(names, views(w, objective.parameters), strict=True))
            return nn.functional.cross_entropy(
                functional_call(objective.model, named, (batch.inputs,)), batch.targets
            )

        ends = torch.linalg.eigvalsh(hessian(f)(flat(objective.parameters).detach()))[[0, -1]].tolist()
        assert [found.smallest, found.largest] == pytest.approx(ends, rel=1e-5)
        assert found.verdict == "not stationary"

    def test_all_weights_zero_is_the_saddle_it_is_known_for(self):
        targets = torch.randn(12, 3, dtype=torch.float64)
        objective, _ = self.objective(MeanSquaredError(), targets - targets.mean(0))
        with torch.no_grad():
            for p in objective.parameters:
                p.zero_()
        assert optimality(objective.differentiable, objective.parameters).verdict == "saddle"

    def test_nothing_is_touched(self):
        objective, _ = self.objective(CrossEntropy(), torch.arange(12) % 3, dropout=0.5)
        before = flat(objective.parameters).detach()
        state = torch.get_rng_state()
        first = optimality(objective.differentiable, objective.parameters)
        assert torch.equal(flat(objective.parameters), before)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(p.grad is None for p in objective.parameters)
        assert optimality(objective.differentiable, objective.parameters) == first
