"""Newton's method against dense algebra, SciPy and its order of convergence."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.optimizer_contract import Case, Contract
from tests.support.smooth import Logistic, Path, quadratic, rosenbrock
from torch import nn
from torch.nn import functional as F

import descend
from descend.data.batches import Batch
from descend.errors import RecipeError, UserError
from descend.losses import MeanSquaredError
from descend.optim import Newton, Rows, newton
from descend.training.objective import Objective

OF_ALL = {"evaluations": None, "needs_closure": True, "separable": False, "graph": True}
CASES = [
    Case("newton", lr=0.5, stateful=False, **OF_ALL),
    Case("newton", {"cg_tolerance": 0.0, "cg_max_iter": 4}, lr=1.0, stateful=False, **OF_ALL),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """Newton's method keeps the contract, and has no state."""


EIGENVALUES = st.lists(st.floats(0.1, 100), min_size=1, max_size=6)


@settings(deadline=None, max_examples=examples(40))
@given(EIGENVALUES, st.integers(0, 100))
def test_a_quadratic_takes_one_step(eigenvalues, seed):
    matrix, gradient, function = quadratic(eigenvalues, seed)
    path = Path(newton, function, [3.0] * len(eigenvalues), cg_tolerance=0.0, cg_max_iter=40)
    path.step()
    expected = torch.linalg.solve(matrix, -gradient)
    torch.testing.assert_close(path.x.detach(), expected, rtol=1e-8, atol=1e-8)


def test_its_steps_are_those_of_dense_algebra():
    """Damped Newton by numpy.linalg.solve, with the same backtracking, far from the minimum and near it."""
    problem = Logistic()
    nn.init.constant_(problem.model.weight, 3.0)
    w = problem.weights.detach().numpy().copy()
    optimizer = newton(problem.model.parameters(), cg_tolerance=0.0, cg_max_iter=50)
    lengths = []
    for _ in range(6):
        value, slope, hessian = problem.at(w)
        direction, t = np.linalg.solve(hessian, -slope), 1.0
        while problem.at(w + t * direction)[0] > value + 1e-4 * t * slope @ direction:
            t /= 2
        lengths.append(t)
        w = w + t * direction
        assert float(optimizer.step(problem.rows())) == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(problem.weights.detach(), w, rtol=1e-7, atol=1e-9)
    assert lengths[-1] == 1.0
    assert min(lengths) < 1.0, "backtracking was not needed"


class TestAgainstSciPy:
    def test_on_rosenbrocks_valley(self):
        expected = scipy.optimize.minimize(
            scipy.optimize.rosen,
            [-1.2, 1.0],
            jac=scipy.optimize.rosen_der,
            hess=scipy.optimize.rosen_hess,
            method="Newton-CG",
            options={"xtol": 1e-12},
        )
        path = Path(newton, rosenbrock, [-1.2, 1.0])
        path.step(expected.nit)
        assert path.x.tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
        assert expected.x == pytest.approx([1.0, 1.0], abs=1e-6)
        values = [float(rosenbrock(torch.tensor(place))) for place in path.places]
        assert all(after <= before for before, after in itertools.pairwise(values))

    @pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
    def test_on_logistic_regression(self, curvature):
        problem = Logistic()
        expected = scipy.optimize.minimize(
            lambda w: problem.at(w)[0],
            np.zeros(6),
            jac=lambda w: problem.at(w)[1],
            hess=lambda w: problem.at(w)[2],
            method="Newton-CG",
            options={"xtol": 1e-12},
        )
        if curvature == "gauss_newton":
            problem.loss = SeparatePenalty(problem)  # type: ignore[method-assign]  # of this instance
        optimizer = newton(problem.model.parameters(), curvature=curvature)
        for _ in range(12):
            optimizer.step(problem.rows())
        np.testing.assert_allclose(problem.weights.detach(), expected.x, rtol=1e-6, atol=1e-7)


class SeparatePenalty:
    """A model with a penalty in its outputs, since a separate penalty is not part of the Gauss-Newton matrix."""

    def __init__(self, problem):
        count, size = problem.x.shape
        # ‖w‖² as squares of d further outputs, so that it is part of the matrix.
        self.extra = math.sqrt(0.02) * torch.eye(size, dtype=torch.float64)
        problem.x = torch.cat([problem.x, self.extra])
        problem.y = torch.cat([problem.y, torch.zeros(size, dtype=torch.float64)])
        self.count = count

    def __call__(self, outputs, targets):
        own, extra = outputs[: self.count, 0], outputs[self.count :, 0]
        return F.binary_cross_entropy_with_logits(own, targets[: self.count]) + extra.square().sum()


class TestOrderOfConvergence:
    def test_solved_exactly_the_error_is_squared(self):
        problem = Logistic()
        errors = problem.errors(newton(problem.model.parameters(), cg_tolerance=0.0, cg_max_iter=50), 6)
        pairs = [(a, b) for a, b in itertools.pairwise(errors) if a > 1e-6]
        assert len(pairs) >= 3
        assert all(b <= 2.0 * a**2 for a, b in pairs)

    def test_with_a_decreasing_tolerance_it_is_superlinear(self):
        problem = Logistic()
        errors = problem.errors(newton(problem.model.parameters()), 8)
        ratios = [b / a for a, b in itertools.pairwise(errors) if a > 1e-7]
        assert ratios[-1] < 0.02
        assert ratios[-1] < 0.2 * ratios[0]


def draw_inputs(rows=30, features=4):
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(rows, features, generator=draw, dtype=torch.float64)
    return x, x.sum(1, keepdim=True) + 0.1 * torch.randn(rows, 1, generator=draw, dtype=torch.float64)


class Masked(nn.Module):
    """A linear model with dropout on its inputs: for a given mask the squared error is quadratic, and one step minimizes it."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.4), nn.Linear(4, 1, bias=False, dtype=torch.float64)
        self.masked = []

    def forward(self, x):
        self.masked.append(self.drop(x))
        return self.linear(self.masked[-1])


@pytest.mark.parametrize(
    ("objective", "curvature"),
    [  # a function gives no outputs, which the Gauss-Newton matrix needs
        ("function", "hessian"),
        ("rows", "hessian"),
        ("loop", "hessian"),
        ("rows", "gauss_newton"),
        ("loop", "gauss_newton"),
    ],
)
def test_hessian_and_gradient_are_of_the_same_batch_and_dropout_mask(objective, curvature):
    """Regression: Newton-CG with the Hessian of one batch or mask and the gradient of another."""
    torch.manual_seed(0)
    model = Masked()
    optimizer = newton(model.parameters(), curvature=curvature, cg_tolerance=0.0, cg_max_iter=20)
    whole = Objective(model, MeanSquaredError(), device=torch.device("cpu"))
    for step in range(3):  # a new batch and a new mask in each step
        x, y = draw_inputs(30)
        x, y = x.roll(step, 0)[:20], y.roll(step, 0)[:20]
        model.masked.clear()
        closure = {
            "function": lambda: F.mse_loss(model(x), y),  # noqa: B023 - it is used in this iteration
            "rows": Rows(model, F.mse_loss, x, y),
            "loop": whole.at([Batch(x, y, None)], epoch=0, step=step),
        }[objective]
        optimizer.step(closure)
        masks = model.masked
        assert len(masks) >= 3
        assert all(torch.equal(each, masks[0]) for each in masks)
        expected = torch.linalg.lstsq(masks[0], y).solution[:, 0]
        torch.testing.assert_close(model.linear.weight.detach()[0], expected, rtol=1e-8, atol=1e-10)
    assert len({each.sum().item() for each in masks}) == 1


class TestGaussNewton:
    def test_is_the_classical_method_on_a_nonlinear_fit(self):
        """y = a exp(b x): JᵀJ p = −Jᵀr by numpy.linalg.lstsq."""
        x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
        y = 2.0 * torch.exp(-1.5 * x) + 0.3 * torch.sin(20 * x)

        class Exponential(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.tensor([1.0, 0.5], dtype=torch.float64))

            def forward(self, x):
                return self.w[0] * torch.exp(self.w[1] * x)

        model, w = Exponential(), np.array([1.0, 0.5])
        optimizer = newton(model.parameters(), curvature="gauss_newton", cg_tolerance=0.0, cg_max_iter=20)

        def loss(w):
            return np.mean((w[0] * np.exp(w[1] * x[:, 0].numpy()) - y[:, 0].numpy()) ** 2)

        for _ in range(5):
            e = np.exp(w[1] * x[:, 0].numpy())
            jacobian = np.stack([e, w[0] * x[:, 0].numpy() * e], axis=1)
            p, t = np.linalg.lstsq(jacobian, y[:, 0].numpy() - w[0] * e, rcond=None)[0], 1.0
            slope = 2 * jacobian.T @ (w[0] * e - y[:, 0].numpy()) / 20
            while loss(w + t * p) > loss(w) + 1e-4 * t * slope @ p:
                t /= 2
            w = w + t * p
            optimizer.step(Rows(model, F.mse_loss, x, y))
            np.testing.assert_allclose(model.w.detach(), w, rtol=1e-7)

    def test_a_function_without_outputs_is_refused(self):
        w = torch.ones(2, requires_grad=True)
        with pytest.raises(UserError, match="newton needs the network's outputs"):
            newton([w], curvature="gauss_newton").step(lambda: (w * w).sum())


class TestFailuresOfTheModel:
    def test_at_negative_curvature_the_loss_decreases(self):
        path = Path(newton, lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2, [0.1, 1.0])
        values = [path.step() for _ in range(12)]
        assert all(after <= before for before, after in itertools.pairwise(values))
        assert abs(path.x[0].item()) == pytest.approx(1.0, abs=1e-5)

    def test_a_nan_loss_is_not_a_decrease(self):
        path = Path(newton, lambda x: (x - torch.log(x)).sum(), [8.0])  # t = 1 leads to −48
        path.step()
        assert path.evaluated[2][0] < 0
        assert path.x.item() == pytest.approx(1.0)

    def test_if_no_step_lowers_the_loss_nothing_moves(self):
        path = Path(newton, lambda x: x @ x * 0 + 1 + (x - x.detach()).sum(), [2.0, 3.0])  # a wrong gradient
        path.step()
        assert path.x.tolist() == [2.0, 3.0]

    def test_a_nan_gradient_moves_nothing(self):
        path = Path(newton, lambda x: torch.sqrt(x).sum(), [-1.0, 1.0])
        assert math.isnan(path.step())
        assert path.x.tolist() == [-1.0, 1.0]

    def test_an_exception_restores_the_start(self):
        path = Path(newton, lambda x: (x * x).sum(), [3.0])

        def closure():
            if len(path.evaluated) == 2:
                raise KeyboardInterrupt
            return path.closure()

        with pytest.raises(KeyboardInterrupt):
            path.optimizer.step(closure)
        assert path.x.tolist() == [3.0]


class TestGroupsWithDifferentLearningRates:
    def path(self, lrs, **settings):
        self.matrix, self.gradient, function = quadratic([1.0, 3.0, 9.0, 27.0], seed=4)
        parts = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        groups = [{"params": [part], "lr": lr} for part, lr in zip(parts, lrs, strict=True)]
        newton(groups, **settings).step(lambda: function(torch.cat(parts)))
        return torch.cat(parts).detach()

    def test_solved_exactly_the_step_does_not_depend_on_them(self):
        got = self.path((1.0, 0.25), cg_tolerance=0.0, cg_max_iter=20)
        torch.testing.assert_close(
            got, torch.linalg.solve(self.matrix, -self.gradient), rtol=1e-9, atol=1e-12
        )

    def test_truncated_it_is_proportional_to_them(self):
        got = self.path((1.0, 0.25), cg_max_iter=1)
        shares = torch.tensor([1.0, 1.0, 0.25, 0.25], dtype=torch.float64)
        direction = -shares * self.gradient
        length = -(self.gradient @ direction) / (direction @ self.matrix @ direction)
        torch.testing.assert_close(got, length * direction)

    def test_a_group_with_learning_rate_zero_stays_and_the_step_is_newtons_in_the_others(self):
        got = self.path((1.0, 0.0), cg_tolerance=0.0, cg_max_iter=20)
        expected = torch.linalg.solve(self.matrix[:2, :2], -self.gradient[:2])
        torch.testing.assert_close(got, torch.cat([expected, torch.zeros(2, dtype=torch.float64)]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"c1": 1.0},
        {"rho": 0.0},
        {"lr": -1.0},
        {"cg_tolerance": 1.0},
        {"cg_max_iter": 0},
        {"curvature": "fisher"},
    ],
    ids=str,
)
def test_settings_outside_their_domain_are_refused(wrong):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(UserError, match=f"newton: {next(iter(wrong))}: expected"):
        newton([w], **wrong)
    with pytest.raises(ValueError, match="expected"):
        Newton([w], **wrong)


class TestFromARecipe:
    def recipe(self, name, **changes):
        return descend.Recipe(
            model={"name": "mlp", "hidden": [8], "dropout": 0.0},
            optimizer={"name": name},
            stop={"max_epochs": 6, "patience": None},
            **changes,
        )

    @pytest.mark.slow
    def test_the_loss_of_all_rows_never_increases(self, tmp_path):
        run = descend.train("iris", self.recipe("newton"), seed=0, out=tmp_path / "run")
        losses = [record["train"]["loss"] for record in run.history]
        assert all(after <= before for before, after in itertools.pairwise(losses))
        assert losses[-1] < 0.7 * losses[0]
        assert run.recipe.data["sampling"] == "full"
        assert run.history[-1]["gradients"] > 3 * run.metrics["steps"]

    def test_a_penalty_without_second_derivative_is_refused(self, tmp_path):
        recipe = self.recipe("newton", regularize={"orthogonality": "so", "orthogonality_strength": 0.1})
        with pytest.raises(RecipeError, match="'newton' differentiates twice"):
            descend.train("iris", recipe, out=tmp_path / "run")
