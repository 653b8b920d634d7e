"""Trust regions against SciPy's, Steihaug's theorem and Cauchy's point; STRON's growing sample, and saddle points."""

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
from descend.errors import UserError
from descend.losses import MeanSquaredError
from descend.optim import STRON, Rows, TrustRegion, newton, stron, trust_region
from descend.optim._trust_region import next_radius
from descend.training.objective import Objective

OF_ALL = {"evaluations": None, "needs_closure": True, "separable": False, "graph": True}
CASES = [
    Case("trust_region", lr=0.1, **OF_ALL),
    Case("trust_region", {"eta": 0.1, "cg_tolerance": 0.0, "cg_max_iter": 4}, lr=0.05, **OF_ALL),
    Case("stron", lr=0.005, needed={"sample_fraction": 1.0}, **OF_ALL),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """Trust region methods keep the contract; their state is the radius."""


class TestAgainstSciPy:
    def test_its_path_through_rosenbrocks_valley_is_scipys(self):
        """The same method with the same constants: all iterates and all changes of the radius agree."""
        theirs = [np.array([-1.2, 1.0])]
        scipy.optimize.minimize(
            scipy.optimize.rosen,
            theirs[0],
            jac=scipy.optimize.rosen_der,
            hess=scipy.optimize.rosen_hess,
            method="trust-ncg",
            options={"gtol": 1e-6, "eta": 0.15, "initial_trust_radius": 1.0},
            callback=lambda x: theirs.append(x.copy()),
        )
        path = Path(trust_region, rosenbrock, [-1.2, 1.0], eta=0.15, cg_max_iter=10)
        path.step(len(theirs) - 1)
        assert len(theirs) > 15
        np.testing.assert_allclose(path.places, theirs, rtol=1e-6, atol=1e-8)
        assert any(a == b for a, b in itertools.pairwise(path.places)), "no step was rejected"

    @pytest.mark.filterwarnings(
        "ignore:invalid value:RuntimeWarning"
    )  # the precision of SciPy's Krylov method at the minimum
    @pytest.mark.parametrize("method", ["trust-ncg", "trust-krylov"])
    @pytest.mark.parametrize("make", [trust_region, stron])
    def test_on_logistic_regression(self, method, make):
        problem = Logistic()
        expected = scipy.optimize.minimize(
            lambda w: problem.at(w)[0],
            np.zeros(6),
            jac=lambda w: problem.at(w)[1],
            hess=lambda w: problem.at(w)[2],
            method=method,
            options={"gtol": 1e-8},
        )
        optimizer = make(problem.model.parameters())
        for _ in range(30):
            optimizer.step(problem.rows())
        np.testing.assert_allclose(problem.weights.detach(), expected.x, rtol=1e-6, atol=1e-7)

    def test_finds_the_minimum_that_krylovs_method_finds(self):
        expected = scipy.optimize.minimize(
            scipy.optimize.rosen,
            [-1.2, 1.0],
            jac=scipy.optimize.rosen_der,
            hess=scipy.optimize.rosen_hess,
            method="trust-krylov",
            options={"gtol": 1e-8},
        )
        path = Path(trust_region, rosenbrock, [-1.2, 1.0])
        path.step(40)
        assert path.x.tolist() == pytest.approx(expected.x.tolist(), abs=1e-6)


ANY_SIGN = st.lists(st.one_of(st.floats(-20, -0.5), st.floats(0.5, 20)), min_size=2, max_size=8)
RADII = st.floats(0.01, 10)


class TestAStep:
    @settings(deadline=None, max_examples=examples(30))
    @given(st.lists(st.floats(0.1, 100), min_size=1, max_size=6), st.integers(0, 100))
    def test_a_quadratic_with_its_minimum_in_the_ball_takes_one_step(self, eigenvalues, seed):
        matrix, gradient, function = quadratic(eigenvalues, seed)
        path = Path(
            trust_region, function, [3.0] * len(eigenvalues), lr=1e4, cg_tolerance=0.0, cg_max_iter=40
        )
        path.step()
        expected = torch.linalg.solve(matrix, -gradient)
        torch.testing.assert_close(path.x.detach(), expected, rtol=1e-8, atol=1e-8)

    @settings(deadline=None, max_examples=examples(40))
    @given(ANY_SIGN, st.integers(0, 100), RADII, st.sampled_from([trust_region, stron]))
    def test_the_decrease_is_at_least_that_of_the_cauchy_point(self, eigenvalues, seed, radius, make):
        """For a quadratic function the model is the function itself."""
        matrix, gradient, function = quadratic(eigenvalues, seed)
        size, curvature = float(gradient.norm()), float(gradient @ matrix @ gradient)
        first = radius / size if make is stron else radius  # STRON's first radius is lr ‖g‖
        path = Path(
            make,
            function,
            [0.0] * len(eigenvalues),
            lr=first,
            **({"sample_fraction": 1.0} if make is stron else {}),
        )
        path.step()
        tau = 1.0 if curvature <= 0 else min(1.0, size**3 / (radius * curvature))
        cauchy = -float(function(-tau * radius / size * gradient))
        assert -path.value() >= cauchy * (1 - 1e-9)
        assert float(path.x.detach().norm()) <= radius * (1 + 1e-9)

    @settings(deadline=None, max_examples=examples(20))
    @given(ANY_SIGN, st.integers(0, 100), st.floats(0.1, 10))
    def test_strons_steps_grow_with_the_iterations_of_conjugate_gradients(self, eigenvalues, seed, radius):
        _, gradient, function = quadratic(eigenvalues, seed)
        lengths = []
        for limit in range(1, len(eigenvalues) + 1):
            path = Path(
                stron,
                function,
                [0.0] * len(eigenvalues),
                lr=radius / float(gradient.norm()),
                sample_fraction=1.0,
                cg_tolerance=0.0,
                cg_max_iter=limit,
            )
            path.step()
            lengths.append(float(path.x.detach().norm()))
        assert all(after >= before * (1 - 1e-9) for before, after in itertools.pairwise(lengths))

    def test_groups_make_the_ball_an_ellipsoid(self):
        """In y, with x = D^½ y, it is a ball: SciPy's step in y, converted to x."""
        matrix, gradient, function = quadratic([-2.0, 3.0, 9.0, 27.0], seed=4)
        parts = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        optimizer = trust_region([{"params": [parts[0]], "lr": 2.0}, {"params": [parts[1]], "lr": 0.5}])
        optimizer.step(lambda: function(torch.cat(parts)))
        root = torch.tensor([1.0, 1.0, 0.25, 0.25], dtype=torch.float64).sqrt()
        y = torch.cat(parts).detach() / root
        assert float(y.norm()) == pytest.approx(2.0)
        theirs = []
        scipy.optimize.minimize(
            lambda y: float(function(root * torch.tensor(y))),
            np.zeros(4),
            jac=lambda y: (root * gradient + root * (matrix @ (root * torch.tensor(y)))).numpy(),
            hess=lambda y: (root[:, None] * matrix * root).numpy(),
            method="trust-ncg",
            options={"initial_trust_radius": 2.0, "maxiter": 1, "max_trust_radius": 1e3},
            callback=lambda y: theirs.append(y.copy()),
        )
        np.testing.assert_allclose(y, theirs[0], rtol=1e-9)


class TestTheRadius:
    @settings(deadline=None)
    @given(RADII, st.floats(0.001, 1), st.floats(-5, 5), st.booleans())
    def test_lies_in_the_intervals_of_lin_and_more(self, radius, part, ratio, on_boundary):
        """With σ₁ = 1/4, σ₂ = 1/2, σ₃ = 4, as in STRON."""
        length = radius if on_boundary else part * radius
        found = next_radius(radius, length, ratio, on_boundary)
        if ratio <= 0.25:
            assert 0.25 * min(length, radius) <= found <= 0.5 * radius or ratio == 0.25
        elif ratio < 0.75:
            assert 0.25 * radius <= found <= 4 * radius
        else:
            assert radius <= found <= 4 * radius

    def test_a_good_step_to_the_boundary_doubles_it_and_one_inside_does_not(self):
        _, _, function = quadratic([1.0, 1.0])
        path = Path(trust_region, function, [50.0, 0.0], lr=0.5)
        path.step()
        assert path.optimizer.memory["radius"] == 2.0
        path = Path(trust_region, function, [50.0, 0.0], lr=500.0)
        path.step()
        assert path.optimizer.memory["radius"] == 1.0

    def test_it_is_proportional_to_the_learning_rate(self):
        _, _, function = quadratic([1.0, 1.0])
        path = Path(trust_region, function, [50.0, 0.0], lr=0.5)
        path.step()
        path.optimizer.param_groups[0]["lr"] = 0.05
        path.step()
        lengths = [math.dist(a, b) for a, b in itertools.pairwise(path.places)]
        assert lengths == pytest.approx([0.5, 0.1])

    @pytest.mark.parametrize("make", [trust_region, stron])
    def test_it_is_the_only_state(self, make):
        path = Path(make, rosenbrock, [-1.2, 1.0], **({"sample_fraction": 1.0} if make is stron else {}))
        path.step(2)
        (state,) = path.optimizer.state.values()
        assert set(state) == ({"radius"} if make is trust_region else {"radius", "share"})


class TestRejectedSteps:
    @pytest.mark.parametrize("make", [trust_region, stron])
    def test_a_point_with_a_nan_loss_is_rejected(self, make):
        """x − log x from 8: the model's minimum is at −48."""
        settings = {"lr": 100.0} if make is trust_region else {"lr": 100.0, "sample_fraction": 1.0}
        path = Path(make, lambda x: (x - torch.log(x)).sum(), [8.0], **settings)
        path.step()
        assert path.evaluated[-1][0] < 0
        assert path.x.tolist() == [8.0]
        assert path.optimizer.memory["radius"] * path.optimizer.param_groups[0]["lr"] == pytest.approx(56 / 4)
        path.step(14)
        assert path.x.item() == pytest.approx(1.0, abs=1e-6)

    def test_an_increase_of_the_loss_is_rejected(self):
        path = Path(trust_region, lambda x: (torch.cosh(5 * x) - x).sum(), [0.0])
        for _ in range(10):
            before = path.value()
            path.step()
            assert path.value() <= before

    def test_a_nan_gradient_changes_neither_parameters_nor_radius(self):
        path = Path(trust_region, lambda x: torch.sqrt(x).sum(), [-1.0, 1.0])
        assert math.isnan(path.step())
        assert path.x.tolist() == [-1.0, 1.0]
        assert "radius" not in path.optimizer.memory

    def test_rounding_near_the_minimum_does_not_shrink_it(self):
        """The model decreases by 5e-18, but the loss does not; a ratio of zero would reject all further steps."""
        path = Path(trust_region, lambda x: 1e3 + (x**2).sum(), [1e-9, 2e-9], cg_tolerance=0.0)
        path.step(2)
        assert path.optimizer.memory["radius"] == 1.0
        assert path.x.tolist() == pytest.approx([0.0, 0.0], abs=1e-15)


class TestSaddles:
    START = (1.0, 1e-6)

    @staticmethod
    def function(x):
        """A saddle at 0, minima at (0, ±1)."""
        return x[0] ** 2 + x[1] ** 4 / 4 - x[1] ** 2 / 2

    def test_it_follows_the_negative_curvature(self):
        path = Path(trust_region, self.function, self.START)
        path.step(12)
        assert path.x.tolist() == pytest.approx([0.0, 1.0], abs=1e-6)

    def test_a_line_search_takes_longer(self):
        """The control: Newton's method with backtracking follows −g at negative curvature."""
        path = Path(newton, self.function, self.START)
        path.step(12)
        assert abs(path.x[1].item()) < 0.9

    @pytest.mark.parametrize("make", [trust_region, stron])
    def test_stron_stops_conjugate_gradients_at_negative_curvature(self, make):
        """Regression: otherwise they divide by a negative p·Hp, and step uphill."""

        def function(x):
            return -(x @ x) / 2 + (x**4).sum() / 40

        start = torch.tensor([0.3, -0.4], dtype=torch.float64)
        settings = {"lr": 1.0} if make is trust_region else {"lr": 1.0, "sample_fraction": 1.0}
        path = Path(make, function, start.tolist(), **settings)
        gradient = -start + start**3 / 10
        radius = float(gradient.norm()) if make is stron else 1.0
        before = path.value()
        path.step()
        expected = start - radius * gradient / gradient.norm()
        torch.testing.assert_close(path.x.detach(), expected, rtol=1e-9, atol=0)
        assert path.value() < before
        uphill = start + gradient  # where α = g·g/(g·Hg) = −1 leads
        assert float(function(uphill)) > before


class TestGrowingSample:
    @pytest.fixture
    def samples(self, monkeypatch):
        """The rows of all parts of :class:`Rows` that are constructed."""
        inputs, part = [], Rows.part

        def spy(self, *args, **kwargs):
            result = part(self, *args, **kwargs)
            inputs.append(result.inputs)
            return result

        monkeypatch.setattr(Rows, "part", spy)
        return inputs

    def test_contains_the_smaller_ones_until_it_is_all_rows(self, samples):
        problem = Logistic()
        optimizer = stron(problem.model.parameters(), sample_fraction=0.1, sample_growth=1.5)
        for _ in range(8):
            optimizer.step(problem.rows())
        expected = [math.ceil(0.1 * 1.5**step * 569) for step in range(6)]
        assert [len(each) for each in samples] == expected
        assert all(torch.equal(b[: len(a)], a) for a, b in itertools.pairwise(samples))
        assert optimizer.memory["share"] == 1.0

    def test_with_all_rows_the_loss_never_increases(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        x = torch.randn(60, 4)
        y = torch.sin(2 * x[:, :1]) * x[:, 1:2]
        optimizer = stron(model.parameters(), sample_fraction=0.2, sample_growth=1.5)
        losses = []
        for _ in range(25):
            rows = Rows(model, F.mse_loss, x, y)
            optimizer.step(rows)
            losses.append(rows.value().item())
        full = math.ceil(math.log(5) / math.log(1.5))
        assert all(after <= before for before, after in itertools.pairwise(losses[full:]))
        assert losses[-1] < 0.5 * losses[full]

    def test_in_the_loop_the_sample_is_the_same_at_every_step(self):
        """With sampling = "full" a batch has all rows in order, and its part the first rows of one permutation."""
        x = torch.arange(20.0)[:, None]
        objective = Objective(nn.Linear(1, 1), MeanSquaredError(), device=torch.device("cpu"), seed=3)
        held = [
            objective.at([Batch(x, x, None)], epoch, 0).part(share, nested=True)._batches[0].inputs
            for epoch, share in [(0, 0.2), (1, 0.2), (7, 0.5), (9, 1.0)]
        ]
        assert torch.equal(held[0], held[1])
        assert torch.equal(held[2][:4], held[0])
        assert not torch.equal(held[0], x[:4])
        assert torch.equal(held[3].sort(0).values, x)

    def test_the_first_steps_cost_a_fraction(self, tmp_path):
        recipe = descend.Recipe(
            model={"name": "mlp", "hidden": [8], "dropout": 0.0},
            optimizer={"name": "stron", "sample_fraction": 0.1, "cg_max_iter": 5},
            stop={"max_epochs": 3, "patience": None},
        )
        run = descend.train("iris", recipe, seed=0, out=tmp_path / "run")
        assert run.recipe.data["sampling"] == "full"
        assert run.history[0]["gradients"] <= 0.15 * (2 + 2 * 5 + 1)
        assert run.history[2]["gradients"] > run.history[0]["gradients"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"eta": 0.25},
        {"lr": -1.0},
        {"cg_tolerance": -0.1},
        {"cg_max_iter": 0},
        {"sample_fraction": 0.0},
        {"sample_growth": 0.5},
    ],
    ids=str,
)
def test_settings_outside_their_domain_are_refused(wrong):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(UserError, match=f"stron: {next(iter(wrong))}: expected"):
        stron([w], **wrong)
    with pytest.raises(ValueError, match="expected"):
        STRON([w], **wrong)
    if next(iter(wrong)) not in ("sample_fraction", "sample_growth"):
        with pytest.raises(ValueError, match="expected"):
            TrustRegion([w], **wrong)
