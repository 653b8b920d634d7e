"""TRish against the first-order rule, its radius' continuity, and dense algebra inside the ball."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.optimizer_contract import Case, Contract
from tests.support.smooth import Logistic, Path, quadratic, rosenbrock
from torch import nn
from torch.nn import functional as F

import descend
from descend.errors import UserError
from descend.optim import Rows, TRish, trish
from descend.optim._trish import radius_for

OF_ALL = {"evaluations": None, "needs_closure": True, "separable": False, "stateful": False, "graph": True}
CASES = [
    Case("trish", lr=0.05, **OF_ALL),
    Case("trish", {"gamma1": 1.0, "gamma2": 0.1, "cg_max_iter": 2, "cg_tolerance": 0.1}, lr=0.1, **OF_ALL),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """TRish keeps the contract, and has no state."""


GAMMAS = st.tuples(st.floats(0.01, 10), st.floats(1.01, 100)).map(lambda pair: (pair[0] * pair[1], pair[0]))
ALPHAS = st.floats(1e-3, 10)
SIZES = st.floats(1e-6, 1e4)


class TestRadius:
    @settings(deadline=None)
    @given(SIZES, ALPHAS, GAMMAS)
    def test_is_that_of_the_three_ranges(self, size, alpha, gammas):
        gamma1, gamma2 = gammas
        if size < 1 / gamma1:
            expected = gamma1 * alpha * size
        elif size <= 1 / gamma2:
            expected = alpha
        else:
            expected = gamma2 * alpha * size
        assert radius_for(size, alpha, gamma1, gamma2) == pytest.approx(expected, rel=1e-12)

    @settings(deadline=None)
    @given(SIZES, ALPHAS, GAMMAS, st.floats(1e-9, 1e-3))
    def test_is_continuous_and_never_decreases(self, size, alpha, gammas, change):
        """Lipschitz with γ₁ α, the largest of its three slopes, including both ends of the middle range."""
        for place in (size, 1 / gammas[0], 1 / gammas[1]):
            below, above = (radius_for(place * (1 + by), alpha, *gammas) for by in (-change, change))
            assert 0 <= above - below <= gammas[0] * alpha * 2 * change * place * (1 + 1e-9) + 1e-15 * above

    @pytest.mark.parametrize("gamma1", [1.0, 0.5])
    def test_gamma1_is_above_gamma2(self, gamma1):
        w = torch.ones(1, requires_grad=True)
        with pytest.raises(UserError, match=r"trish: gamma1: expected a number above gamma2 = 1.0, got"):
            trish([w], gamma1=gamma1, gamma2=1.0)


class TestStep:
    @settings(deadline=None, max_examples=examples(40))
    @given(st.floats(0.01, 100), ALPHAS, GAMMAS)
    def test_without_curvature_it_is_the_first_order_rule(self, size, alpha, gammas):
        """x − γ₁ α g, x − α g/‖g‖ or x − γ₂ α g (Curtis, Scheinberg and Shi 2019, algorithm 1)."""
        gamma1, gamma2 = gammas
        g = size * torch.tensor([0.6, -0.8], dtype=torch.float64)
        path = Path(trish, lambda x: g @ x, [1.0, 2.0], lr=alpha, gamma1=gamma1, gamma2=gamma2)
        path.step()
        step = (
            gamma1 * alpha * g
            if size < 1 / gamma1
            else alpha * g / size
            if size <= 1 / gamma2
            else gamma2 * alpha * g
        )
        expected = torch.tensor([1.0, 2.0], dtype=torch.float64) - step
        torch.testing.assert_close(path.x.detach(), expected, rtol=1e-9, atol=1e-12)

    @settings(deadline=None, max_examples=examples(40))
    @given(
        st.lists(st.one_of(st.floats(-20, -0.5), st.floats(0.5, 20)), min_size=1, max_size=6),
        st.integers(0, 100),
        ALPHAS,
        GAMMAS,
    )
    def test_is_never_longer_than_the_radius_and_lowers_the_model(self, eigenvalues, seed, alpha, gammas):
        _, gradient, function = quadratic(eigenvalues, seed)
        settings = {"lr": alpha, "gamma1": gammas[0], "gamma2": gammas[1]}
        path = Path(trish, function, [0.0] * len(eigenvalues), **settings)
        path.step()
        radius = radius_for(float(gradient.norm()), alpha, *gammas)
        assert 0 < float(path.x.detach().norm()) <= radius * (1 + 1e-9)
        assert path.value() < 0  # the model is the function

    def test_is_newtons_where_the_ball_is_large(self):
        matrix, gradient, function = quadratic([1.0, 5.0, 20.0], seed=2)
        path = Path(trish, function, [0.0] * 3, lr=1e3, cg_tolerance=0.0, cg_max_iter=20)
        path.step()
        torch.testing.assert_close(path.x.detach(), torch.linalg.solve(matrix, -gradient), rtol=1e-9, atol=0)

    def test_at_negative_curvature_it_ends_on_the_boundary(self):
        path = Path(trish, lambda x: -(x @ x) / 2, [0.3, -0.4], lr=0.25, gamma1=4.0, gamma2=0.5)
        path.step()
        assert path.x.tolist() == pytest.approx([0.3 * 1.5, -0.4 * 1.5])

    def test_is_accepted_even_if_the_loss_increases(self):
        path = Path(trish, rosenbrock, [-1.2, 1.0], lr=2.0, gamma2=0.4)
        values = [path.value(), *(path.step() and path.value() for _ in range(5))]
        assert any(after > before for before, after in itertools.pairwise(values))
        assert len(set(map(tuple, path.places))) == 6, "a step was not taken"
        assert len(path.evaluated) == 10, "the loss was evaluated to judge a step"

    def test_groups_with_lower_learning_rates_move_less(self):
        """Without curvature, in proportion to their learning rates."""
        a, b = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
        optimizer = trish([{"params": [a], "lr": 0.4}, {"params": [b], "lr": 0.1}])
        optimizer.step(lambda: a.sum() + b.sum())
        torch.testing.assert_close(b.detach() * 4, a.detach())
        assert a[0].item() < 0

    def test_a_nan_gradient_moves_nothing(self):
        path = Path(trish, lambda x: torch.sqrt(x).sum(), [-1.0, 1.0])
        assert math.isnan(path.step())
        assert path.x.tolist() == [-1.0, 1.0]

    def test_a_nan_curvature_moves_nothing(self):
        path = Path(trish, lambda x: x[0] + (x[0] - 1.0).abs() ** 1.5, [1.0])  # F'' is infinite at 1
        path.step()
        assert path.x.tolist() == [1.0]


class TestOnBatches:
    @pytest.mark.slow
    @pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
    def test_finds_the_minimum_of_logistic_regression_with_decreasing_alpha(self, curvature):
        problem = Logistic()
        exact = Logistic()
        newton = descend.optim.newton(exact.model.parameters())
        for _ in range(8):
            newton.step(exact.rows())
        minimum = exact.rows().value()
        optimizer = trish(problem.model.parameters(), curvature=curvature)
        draw = torch.Generator().manual_seed(0)
        for step in range(200):
            optimizer.param_groups[0]["lr"] = 0.5 / (1 + step / 20)
            chosen = torch.randperm(569, generator=draw)[:32]
            optimizer.step(Rows(problem.model, problem.loss, problem.x[chosen], problem.y[chosen]))
        assert minimum < problem.rows().value() < minimum + 0.01

    def test_in_the_middle_range_the_scale_of_the_loss_does_not_matter(self):
        """With small curvature the length of a step is α, whatever the gradient norm."""
        lengths = []
        for scale in (0.5, 1.5):
            model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
            nn.init.zeros_(model.weight)
            x = torch.eye(3, dtype=torch.float64)
            rows = Rows(
                model,
                lambda out, y, s=scale: s * F.l1_loss(out, y),
                x,
                9 * torch.ones(3, 1, dtype=torch.float64),
            )
            trish(model.parameters(), lr=0.1).step(rows)
            lengths.append(float(model.weight.detach().norm()))
        assert lengths == pytest.approx([0.1, 0.1])

    def test_in_a_recipe_it_uses_mini_batches(self, tmp_path):
        recipe = descend.Recipe(
            model={"name": "mlp", "hidden": [8], "dropout": 0.0},
            optimizer={"name": "trish"},
            stop={"max_epochs": 5, "patience": None},
        )
        run = descend.train("iris", recipe, seed=0, out=tmp_path / "run")
        assert run.recipe.data["sampling"] == "epoch"
        losses = [record["train"]["loss"] for record in run.history]
        assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "wrong", [{"gamma1": 0.0}, {"gamma2": -1.0}, {"lr": -1.0}, {"cg_max_iter": 0}, {"cg_tolerance": 2.0}]
)
def test_settings_outside_their_domain_are_refused(wrong):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(UserError, match=f"trish: {next(iter(wrong))}: expected"):
        trish([w], **wrong)
    with pytest.raises(ValueError, match="expected"):
        TRish([w], **wrong)
