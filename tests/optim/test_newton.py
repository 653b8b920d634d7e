"""Newton's method against dense algebra, SciPy and its rate of convergence, with all rows and with some."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from contract import Case, Contract
from hypothesis import given, settings
from hypothesis import strategies as st
from smooth import Logistic, Path, quadratic, rosenbrock
from torch import nn
from torch.nn import functional as F

import descend
from descend.data.batches import Batch
from descend.errors import RecipeError, UserError
from descend.losses import MeanSquaredError
from descend.optim import Newton, Rows, SubsampledNewton, newton, subsampled_newton
from descend.training.objective import Objective

OF_ALL = {"evaluations": None, "needs_closure": True, "separable": False, "graph": True}
CASES = [
    Case("newton", lr=0.5, stateful=False, **OF_ALL),
    Case("newton", {"forcing": 0.0, "limit": 4}, lr=1.0, stateful=False, **OF_ALL),
    Case("subsampled_newton", lr=0.5, stateful=False, plain={"share": 1.0}, **OF_ALL),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """They keep it, though neither has a state to keep while its share is constant."""


EIGENVALUES = st.lists(st.floats(0.1, 100), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(EIGENVALUES, st.integers(0, 100))
def test_a_quadratic_takes_one_step(eigenvalues, seed):
    matrix, gradient, function = quadratic(eigenvalues, seed)
    path = Path(newton, function, [3.0] * len(eigenvalues), forcing=0.0, limit=40)
    path.step()
    expected = torch.linalg.solve(matrix, -gradient)
    torch.testing.assert_close(path.x.detach(), expected, rtol=1e-8, atol=1e-8)


def test_its_steps_are_those_of_dense_algebra():
    """Damped Newton by numpy.linalg.solve, with the same backtracking, far from the minimum and near it."""
    problem = Logistic()
    nn.init.constant_(problem.model.weight, 3.0)
    w = problem.weights.detach().numpy().copy()
    optimizer = newton(problem.model.parameters(), forcing=0.0, limit=50)
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


class TestSciPyAgrees:
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
            problem.loss = PenaltyBeside(problem)
        optimizer = newton(problem.model.parameters(), curvature=curvature)
        for _ in range(12):
            optimizer.step(problem.rows())
        np.testing.assert_allclose(problem.weights.detach(), expected.x, rtol=1e-6, atol=1e-7)


class PenaltyBeside:
    """Of the loss as a function of the outputs alone the Gauss-Newton matrix has no part of a penalty: rows have it."""

    def __init__(self, problem):
        count, size = problem.x.shape
        # ‖w‖² as squares of d further outputs, so that the matrix knows of it.
        self.extra = math.sqrt(0.02) * torch.eye(size, dtype=torch.float64)
        problem.x = torch.cat([problem.x, self.extra])
        problem.y = torch.cat([problem.y, torch.zeros(size, dtype=torch.float64)])
        self.count = count

    def __call__(self, outputs, targets):
        own, extra = outputs[: self.count, 0], outputs[self.count :, 0]
        return F.binary_cross_entropy_with_logits(own, targets[: self.count]) + extra.square().sum()


def errors_of(optimizer, problem, steps):
    """Distances to the minimum, which SciPy's root finder knows to the last digit."""
    w = scipy.optimize.root(
        lambda w: problem.at(w)[1], np.zeros(6), jac=lambda w: problem.at(w)[2], tol=1e-14
    ).x
    found = []
    for _ in range(steps):
        optimizer.step(problem.rows())
        found.append(float(np.linalg.norm(problem.weights.detach().numpy() - w)))
    return found


class TestTheRateOfConvergence:
    def test_solved_exactly_the_error_is_squared(self):
        problem = Logistic()
        errors = errors_of(newton(problem.model.parameters(), forcing=0.0, limit=50), problem, 6)
        pairs = [(a, b) for a, b in itertools.pairwise(errors) if a > 1e-6]
        assert len(pairs) >= 3
        assert all(b <= 2.0 * a**2 for a, b in pairs)

    def test_with_the_forcing_term_it_is_superlinear(self):
        problem = Logistic()
        errors = errors_of(newton(problem.model.parameters()), problem, 8)
        ratios = [b / a for a, b in itertools.pairwise(errors) if a > 1e-7]
        assert ratios[-1] < 0.02
        assert ratios[-1] < 0.2 * ratios[0]


def draw_inputs(rows=30, features=4):
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(rows, features, generator=draw, dtype=torch.float64)
    return x, x.sum(1, keepdim=True) + 0.1 * torch.randn(rows, 1, generator=draw, dtype=torch.float64)


class Masked(nn.Module):
    """A linear model behind dropout: on each mask its squared error is a quadratic, whose minimum one step finds."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.4), nn.Linear(4, 1, bias=False, dtype=torch.float64)
        self.masked = []

    def forward(self, x):
        self.masked.append(self.drop(x))
        return self.linear(self.masked[-1])


@pytest.mark.parametrize("objective", ["function", "rows", "loop"])
@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
def test_gradient_and_hessian_are_of_one_batch_and_one_dropout_mask(objective, curvature):
    """Regression: Newton-CG whose Hessian is of one batch or mask, and whose gradient is of another."""
    if (objective, curvature) == ("function", "gauss_newton"):
        pytest.skip("a function gives no outputs")
    torch.manual_seed(0)
    model = Masked()
    optimizer = newton(model.parameters(), curvature=curvature, forcing=0.0, limit=20)
    whole = Objective(model, MeanSquaredError(), device=torch.device("cpu"))
    for step in range(3):  # a new batch and a new mask each time
        x, y = draw_inputs(30)
        x, y = x.roll(step, 0)[:20], y.roll(step, 0)[:20]
        model.masked.clear()
        closure = {
            "function": lambda: F.mse_loss(model(x), y),  # noqa: B023
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
        optimizer = newton(model.parameters(), curvature="gauss_newton", forcing=0.0, limit=20)
        loss = lambda w: np.mean((w[0] * np.exp(w[1] * x[:, 0].numpy()) - y[:, 0].numpy()) ** 2)  # noqa: E731
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

    def test_says_what_it_needs(self):
        w = torch.ones(2, requires_grad=True)
        assert newton([w]).needs == {"graph"}
        assert newton([w], curvature="gauss_newton").needs == {"outputs"}
        assert subsampled_newton([w]).needs == {"graph", "part"}
        assert subsampled_newton([w], share=1.0).needs == {"graph"}


class TestWhereTheModelFails:
    def test_negative_curvature_is_left_downhill(self):
        path = Path(newton, lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 + x[1] ** 2, [0.1, 1.0])
        values = [path.step() for _ in range(12)]
        assert all(after <= before for before, after in itertools.pairwise(values))
        assert abs(path.x[0].item()) == pytest.approx(1.0, abs=1e-5)

    def test_a_loss_that_is_no_number_is_no_decrease(self):
        path = Path(newton, lambda x: (x - torch.log(x)).sum(), [8.0])  # t = 1 leads to −48
        path.step()
        assert path.asked[2][0] < 0
        assert path.x.item() == pytest.approx(1.0)

    def test_where_no_step_lowers_the_loss_nothing_moves(self):
        path = Path(
            newton, lambda x: x @ x * 0 + 1 + (x - x.detach()).sum(), [2.0, 3.0]
        )  # a slope that is not there
        path.step()
        assert path.x.tolist() == [2.0, 3.0]

    @pytest.mark.parametrize("make", [newton, subsampled_newton])
    def test_a_gradient_that_is_no_number_moves_nothing(self, make):
        path = Path(
            make, lambda x: torch.sqrt(x).sum(), [-1.0, 1.0], **({} if make is newton else {"share": 1.0})
        )
        assert math.isnan(path.step())
        assert path.x.tolist() == [-1.0, 1.0]

    def test_a_trial_that_fails_leaves_the_start(self):
        path = Path(newton, lambda x: (x * x).sum(), [3.0])

        def closure():
            if len(path.asked) == 2:
                raise KeyboardInterrupt
            return path.closure()

        with pytest.raises(KeyboardInterrupt):
            path.optimizer.step(closure)
        assert path.x.tolist() == [3.0]


def test_a_group_of_a_lower_rate_moves_less():
    """p = −D^½ H⁻¹ D^½ g, by dense algebra."""
    matrix, gradient, function = quadratic([1.0, 3.0, 9.0, 27.0], seed=4)
    parts = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    optimizer = newton(
        [{"params": [parts[0]], "lr": 0.8}, {"params": [parts[1]], "lr": 0.2}], forcing=0.0, limit=20
    )
    optimizer.step(lambda: function(torch.cat(parts)))
    root = torch.tensor([1.0, 1.0, 0.25, 0.25], dtype=torch.float64).sqrt()
    expected = 0.8 * root * torch.linalg.solve(matrix, -root * gradient)
    torch.testing.assert_close(torch.cat(parts).detach(), expected, rtol=1e-9, atol=1e-12)
    held = parts[1].detach().clone()
    optimizer.param_groups[1]["lr"] = 0.0
    optimizer.step(lambda: function(torch.cat(parts)))
    assert torch.equal(parts[1], held)


class TestSubsampled:
    def test_with_all_rows_it_is_newtons(self):
        paths = []
        for make in (newton, lambda p: subsampled_newton(p, share=1.0, damping=0.0, theta=0.5)):
            problem = Logistic()
            optimizer = make(problem.model.parameters())
            paths.append([])
            for _ in range(5):
                optimizer.step(problem.rows())
                paths[-1].append(problem.weights.tolist())
        assert paths[0] == paths[1]

    def test_the_step_is_of_the_samples_curvature_and_the_gradient_of_all_rows(self, monkeypatch):
        problem, samples = Logistic(), []
        part = Rows.part
        monkeypatch.setattr(
            Rows,
            "part",
            lambda self, *args, **kwargs: samples.append(part(self, *args, **kwargs)) or samples[-1],
        )
        optimizer = subsampled_newton(problem.model.parameters(), share=0.2, damping=0.0, theta=0.0, limit=50)
        slope = problem.at(np.zeros(6))[1]
        optimizer.step(problem.rows())
        (sample,) = samples
        assert len(sample.inputs) == math.ceil(0.2 * 569)
        problem.x, problem.y = sample.inputs, sample.targets
        expected = np.linalg.solve(problem.at(np.zeros(6))[2], -slope)
        np.testing.assert_allclose(problem.weights.detach(), expected, rtol=1e-8)

    def test_steps_do_not_change_with_a_change_of_variables(self):
        """X w = (X A) (A⁻¹ w): solved exactly, every iterate is the other's, whatever A does to the condition."""
        draw = torch.Generator().manual_seed(1)
        mix = torch.randn(6, 6, generator=draw, dtype=torch.float64)
        mix = mix @ torch.diag(torch.logspace(0, 2, 6, dtype=torch.float64))
        assert torch.linalg.cond(mix) > 100
        found = []
        for a in (None, mix):
            problem = Logistic(mix=a)
            optimizer = subsampled_newton(
                problem.model.parameters(), share=0.3, damping=0.0, theta=0.0, limit=200
            )
            torch.manual_seed(7)
            found.append([])
            for _ in range(5):
                optimizer.step(problem.rows())
                found[-1].append((problem.back @ problem.weights).tolist())
        np.testing.assert_allclose(found[1], found[0], rtol=1e-5)

    def test_a_growing_sample_converges_superlinearly_and_a_constant_one_linearly(self):
        ratios = {}
        for growth in (1.0, 2.0):
            torch.manual_seed(0)
            problem = Logistic()
            optimizer = subsampled_newton(problem.model.parameters(), share=0.2, growth=growth, theta=0.1)
            errors = errors_of(optimizer, problem, 9)
            ratios[growth] = [b / a for a, b in itertools.pairwise(errors) if a > 1e-7]
        assert all(ratio < 0.8 for ratio in ratios[1.0][2:])
        assert min(ratios[1.0]) > 0.01
        assert ratios[2.0][-1] < 0.01

    @pytest.mark.parametrize("damping", [0.1, 1.0])
    def test_damped_it_takes_no_step_beyond_what_its_sample_sees(self, damping):
        """Thirty parameters and five rows: B is singular, and p = −(B + damping ‖g‖ I)⁻¹ g is at most 1/damping long."""
        draw = torch.Generator().manual_seed(0)
        model = nn.Linear(30, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(model.weight)
        x = torch.randn(50, 30, generator=draw, dtype=torch.float64)
        rows = Rows(model, F.mse_loss, x, 100.0 * torch.randn(50, 1, generator=draw, dtype=torch.float64))
        subsampled_newton(model.parameters(), share=0.1, damping=damping, theta=0.0, limit=100).step(rows)
        assert 0.5 / damping < float(model.weight.norm()) <= 1 / damping * (1 + 1e-9)

    def test_the_share_grows_and_is_remembered(self):
        problem = Logistic()
        optimizer = subsampled_newton(problem.model.parameters(), share=0.2, growth=2.0)
        shares = []
        for _ in range(4):
            optimizer.step(problem.rows())
            shares.append(optimizer.memory["share"])
        assert shares == pytest.approx([0.4, 0.8, 1.0, 1.0])
        assert sum(len(state) for state in optimizer.state.values()) == 1

    def test_a_function_without_parts_is_refused(self):
        w = torch.ones(2, requires_grad=True)
        with pytest.raises(UserError, match="set the share to 1"):
            subsampled_newton([w]).step(lambda: (w * w).sum())


@pytest.mark.parametrize(
    "wrong",
    [{"c": 1.0}, {"rho": 0.0}, {"lr": -1.0}, {"forcing": 1.0}, {"limit": 0}, {"curvature": "fisher"}],
    ids=str,
)
def test_settings_outside_their_domain_are_refused(wrong):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(UserError, match=f"newton: {next(iter(wrong))} must be"):
        newton([w], **wrong)
    with pytest.raises(ValueError, match="must be"):
        Newton([w], **wrong)


@pytest.mark.parametrize(
    "wrong", [{"share": 0.0}, {"share": 1.1}, {"growth": 0.9}, {"theta": -0.1}, {"damping": -0.1}]
)
def test_settings_of_the_sample_are_checked(wrong):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        SubsampledNewton([w], **wrong)


class TestFromARecipe:
    def recipe(self, name, **changes):
        return descend.Recipe(
            model={"name": "mlp", "hidden": [8], "dropout": 0.0},
            optimizer={"name": name},
            stop={"max_epochs": 6, "patience": None},
            **changes,
        )

    def test_the_loss_of_all_rows_never_grows(self, tmp_path):
        run = descend.train("iris", self.recipe("newton"), seed=0, out=tmp_path / "run")
        losses = [record["train"]["loss"] for record in run.history]
        assert all(after <= before for before, after in itertools.pairwise(losses))
        assert losses[-1] < 0.7 * losses[0]
        assert run.recipe.data["sampling"] == "full"
        assert run.history[-1]["gradients"] > 3 * run.metrics["steps"]

    def test_a_sample_costs_its_share(self, tmp_path):
        spent = {}
        for share in (0.1, 1.0):
            recipe = self.recipe("subsampled_newton").replace(
                {"optimizer.share": share, "optimizer.limit": 10}
            )
            run = descend.train("iris", recipe, seed=0, out=tmp_path / str(share))
            spent[share] = run.history[-1]["gradients"]
        assert spent[0.1] < 0.5 * spent[1.0]

    def test_a_penalty_without_second_derivative_is_refused(self, tmp_path):
        recipe = self.recipe("newton", regularize={"orthogonality": "so", "orthogonality_strength": 0.1})
        with pytest.raises(RecipeError, match="'newton' differentiates twice"):
            descend.train("iris", recipe, out=tmp_path / "run")
