"""The Wasserstein loss against SciPy's distance and a linear program, and its derivative."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.special import softmax
from tests.support.examples import examples

import descend
from descend.errors import RecipeError, UserError
from descend.losses.transport import Wasserstein, check_histograms, sinkhorn, wasserstein_1d


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def distributions(n, k, seed=0, sharp=1.0):
    return torch.softmax(sharp * normal(n, k, seed=seed), 1)


def program(p, q, cost):
    """Solve the transport problem as a linear program with SciPy's HiGHS."""
    k, m = cost.shape
    rows = np.zeros((k + m, k * m))
    for i, j in itertools.product(range(k), range(m)):
        rows[i, i * m + j] = rows[k + j, i * m + j] = 1
    result = optimize.linprog(cost.ravel(), A_eq=rows, b_eq=np.concatenate([p, q]), bounds=(0, None))
    assert result.status == 0
    return result.fun


histogram = st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda h: sum(h) > 0.01)


@given(st.data())
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_in_one_dimension_it_equals_scipy(data):
    p = np.array(data.draw(histogram))
    q = np.array(
        data.draw(st.lists(st.floats(0, 1), min_size=len(p), max_size=len(p)).filter(lambda h: sum(h) > 0.01))
    )
    steps = data.draw(st.lists(st.floats(0.01, 5), min_size=len(p) - 1, max_size=len(p) - 1))
    x = np.concatenate([[-1.0], -1.0 + np.cumsum(steps)])
    p, q = p / p.sum(), q / q.sum()
    expected = stats.wasserstein_distance(x, x, p, q)
    got = wasserstein_1d(torch.tensor(p).unsqueeze(0), torch.tensor(q).unsqueeze(0), torch.tensor(x))
    assert got.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    loss = Wasserstein(positions=tuple(x)).on_probabilities()
    assert loss(torch.tensor(p)[None], torch.tensor(q)[None]).item() == pytest.approx(
        expected, rel=1e-10, abs=1e-12
    )


@pytest.mark.parametrize("k", [2, 5, 9])
def test_in_one_dimension_it_equals_the_linear_program(k):
    p, q = distributions(6, k, 1), distributions(6, k, 2)
    x = torch.cumsum(distributions(1, k, 3)[0], 0)
    cost = (x[:, None] - x).abs()
    expected = [program(a, b, cost.numpy()) for a, b in zip(p.numpy(), q.numpy(), strict=True)]
    assert wasserstein_1d(p, q, x).tolist() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_from_logits():
    z, q = normal(7, 5), distributions(7, 5, 1)
    x = np.arange(5)
    expected = [
        stats.wasserstein_distance(x, x, softmax(row), other)
        for row, other in zip(z.numpy(), q.numpy(), strict=True)
    ]
    assert Wasserstein().per_sample(z, q).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_metric():
    p, q, r = (distributions(50, 6, seed) for seed in range(3))
    x = torch.arange(6.0, dtype=torch.float64)

    def d(a, b):
        return wasserstein_1d(a, b, x)

    assert d(p, p).abs().max() == 0
    torch.testing.assert_close(d(p, q), d(q, p))
    assert (d(p, r) <= d(p, q) + d(q, r) + 1e-12).all()
    shifted = torch.cat(
        [torch.zeros(50, 1, dtype=torch.float64), p[:, :5] / p[:, :5].sum(1, keepdim=True)], 1
    )
    straight = torch.cat(
        [p[:, :5] / p[:, :5].sum(1, keepdim=True), torch.zeros(50, 1, dtype=torch.float64)], 1
    )
    torch.testing.assert_close(d(shifted, straight), torch.ones(50, dtype=torch.float64))


class TestSinkhorn:
    COST = (normal(5, 4, seed=8).abs() + 0.1).numpy()

    @pytest.mark.parametrize("epsilon", [0.3, 0.03])
    @pytest.mark.parametrize("sharp", [0.5, 3.0])
    def test_between_the_optimum_and_its_bound(self, epsilon, sharp):
        """W ≤ W_ε ≤ W + ε min(H(p), H(q)): the plan's KL from p qᵀ is a mutual information."""
        p, q = distributions(8, 5, 1, sharp), distributions(8, 4, 2, sharp)
        got = sinkhorn(p, q, torch.tensor(self.COST), epsilon=epsilon, iterations=3000).numpy()
        exact = np.array([program(a, b, self.COST) for a, b in zip(p.numpy(), q.numpy(), strict=True)])
        entropy = np.minimum(stats.entropy(p, axis=1), stats.entropy(q, axis=1))
        assert (got >= exact - 1e-9).all()
        assert (got <= exact + epsilon * entropy + 1e-9).all()
        assert (got > exact + 1e-4 * epsilon).all()  # the regularization has an effect

    @pytest.mark.slow
    def test_it_converges_to_the_optimum(self):
        p, q = distributions(8, 5, 1), distributions(8, 4, 2)
        exact = np.array([program(a, b, self.COST) for a, b in zip(p.numpy(), q.numpy(), strict=True)])
        got = sinkhorn(p, q, torch.tensor(self.COST), epsilon=1e-3, iterations=20_000).numpy()
        np.testing.assert_allclose(got, exact, atol=1.5e-3)

    def test_it_is_the_regularized_optimum(self):
        """Against SciPy's minimizer of <P, C> + ε KL(P ‖ p qᵀ) over 2 × 2 plans, which have one degree of freedom."""
        p, q, cost, epsilon = (
            np.array([0.3, 0.7]),
            np.array([0.6, 0.4]),
            np.array([[0.0, 1.0], [2.0, 0.5]]),
            0.2,
        )

        def value(t):
            plan = np.array([[t, p[0] - t], [q[0] - t, p[1] - q[0] + t]])
            return (plan * cost).sum() + epsilon * (plan * np.log(plan / np.outer(p, q))).sum()

        best = optimize.minimize_scalar(
            value, bounds=(1e-12, 0.3 - 1e-12), method="bounded", options={"xatol": 1e-12}
        )
        got = sinkhorn(
            *(torch.tensor(each) for each in (p[None], q[None], cost)), epsilon=epsilon, iterations=500
        )
        assert got.item() == pytest.approx(best.fun, rel=1e-9)

    def test_against_one_class_it_is_exact(self):
        """All mass moves to this class: Σ p_i C_ik for any ε."""
        p, cost = distributions(4, 5, 1), torch.tensor(self.COST)
        for k in range(4):
            q = torch.zeros(4, 4, dtype=torch.float64)
            q[:, k] = 1
            torch.testing.assert_close(sinkhorn(p, q, cost, epsilon=0.5, iterations=1), p @ cost[:, k])

    @pytest.mark.parametrize("epsilon", [1e-4, 1e-6])
    def test_small_epsilon_does_not_overflow(self, epsilon):
        """exp(−C/ε) underflows to 0 in every floating-point format; its logarithm does not."""
        p, q = distributions(3, 5, 1).float(), distributions(3, 4, 2).float()
        got = sinkhorn(p, q, torch.tensor(self.COST).float(), epsilon=epsilon, iterations=50)
        assert got.isfinite().all()

    def test_empty_bins(self):
        p = torch.tensor([[0.5, 0.0, 0.5]], dtype=torch.float64, requires_grad=True)
        q = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
        value = sinkhorn(p, q, torch.tensor([[0.0, 1, 2], [1, 0, 1], [2, 1, 0]], dtype=torch.float64))
        value.sum().backward()
        assert value.item() == pytest.approx(1.0)
        assert p.grad.isfinite().all()


SQUARES = tuple(tuple(float((i - j) ** 2) for j in range(4)) for i in range(4))


class TestDerivatives:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "loss",
        [
            Wasserstein(),
            Wasserstein(positions=(0.0, 0.5, 3.0, 4.0)),
            Wasserstein(cost=SQUARES, epsilon=0.1, iterations=500),
        ],
        ids=["1-D", "positions", "cost"],
    )
    def test_gradcheck(self, loss):
        z, q = normal(3, 4, seed=4).requires_grad_(), distributions(3, 4, 5)
        assert torch.autograd.gradcheck(lambda z: loss(z, q), (z,))
        assert torch.autograd.gradcheck(lambda z: loss(z, torch.tensor([0, 3, 1])), (z,))

    def test_danskins_derivative_equals_that_of_the_unrolled_iterations(self):
        """Autograd through every iteration against the gradient that is computed without it."""
        p, q, cost = (
            distributions(3, 4, 1),
            distributions(3, 4, 2),
            torch.tensor(SQUARES, dtype=torch.float64),
        )
        z = p.log().requires_grad_()
        f, g = torch.zeros_like(p), torch.zeros_like(q)
        mine = torch.softmax(z, 1)
        for _ in range(400):
            g = -0.5 * torch.logsumexp(mine.log().unsqueeze(2) + (f.unsqueeze(2) - cost) / 0.5, 1)
            f = -0.5 * torch.logsumexp(q.log().unsqueeze(1) + (g.unsqueeze(1) - cost) / 0.5, 2)
        (unrolled,) = torch.autograd.grad(((mine * f).sum(1) + (q * g).sum(1)).sum(), z)
        w = p.log().requires_grad_()
        value = sinkhorn(torch.softmax(w, 1), q, cost, epsilon=0.5, iterations=400)
        (ours,) = torch.autograd.grad(value.sum(), w)
        torch.testing.assert_close(ours, unrolled, rtol=1e-8, atol=1e-10)

    @pytest.mark.slow
    def test_gradient_descent_converges_to_the_target(self):
        z, q = (
            torch.zeros(1, 5, dtype=torch.float64, requires_grad=True),
            torch.tensor([[0.0, 0.1, 0.6, 0.3, 0.0]]),
        )
        optimizer = torch.optim.Adam([z], lr=0.01)
        for _ in range(2000):
            optimizer.zero_grad()
            Wasserstein()(z, q.double()).backward()
            optimizer.step()
        assert Wasserstein()(z, q.double()) < 0.03


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("loss", [Wasserstein(), Wasserstein(cost=SQUARES)], ids=["1-D", "cost"])
def test_on_a_gpu_it_equals_the_cpu(loss):
    z, q = normal(7, 4), distributions(7, 4, 1)
    torch.testing.assert_close(loss(z.cuda(), q.cuda()).cpu(), loss(z, q), rtol=1e-10, atol=1e-12)


class TestRefusals:
    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            ([[0.5, 0.6]], r"row 0 sums to 1\.1: divide it by its sum"),
            ([[0.5, 0.5], [0.0, 0.0]], "row 1 is empty"),
            ([[1.5, -0.5]], "row 0 has an entry that is negative"),
            ([[math.nan, 1.0]], "negative or NaN"),
        ],
    )
    def test_targets_that_are_not_distributions(self, targets, message):
        for loss in (Wasserstein(), Wasserstein(cost=((0.0, 1.0), (1.0, 0.0)))):
            with pytest.raises(UserError, match=message):
                loss(torch.zeros(len(targets), 2), torch.tensor(targets))
            with pytest.raises(UserError, match=message):
                loss.trust(torch.tensor(targets))

    def test_no_bins(self):
        with pytest.raises(UserError, match="K >= 1 bins"):
            check_histograms(torch.zeros(3, 0))
        with pytest.raises(UserError, match="K >= 1 bins"):
            Wasserstein()(torch.zeros(3, 0), torch.zeros(3, 0))

    def test_outputs_that_are_not_distributions(self):
        loss = Wasserstein().on_probabilities()
        with pytest.raises(UserError, match="the outputs must be distributions; row 0 sums to 3"):
            loss(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"positions": (0.0, 0.0)}, "positions must be increasing"),
            ({"positions": (0.0,)}, "positions must be increasing"),
            ({"cost": ((0.0, 1.0),)}, "K rows of K numbers"),
            ({"cost": ((0.0, -1.0), (1.0, 0.0))}, "0 or more"),
            ({"cost": ((0.0, 0.0), (0.0, 0.0))}, "not all 0"),
            ({"cost": ()}, "K rows"),
            ({"cost": ((0.0, 1.0), (1.0, 0.0)), "positions": (0.0, 1.0)}, "not both"),
            ({"epsilon": 0.0}, "epsilon must be above 0"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(UserError, match=message):
            Wasserstein(**arguments)

    def test_another_number_of_classes(self):
        with pytest.raises(UserError, match="positions is for 2 classes, but the outputs have 3"):
            Wasserstein(positions=(0.0, 1.0))(torch.zeros(1, 3), torch.tensor([0]))
        with pytest.raises(UserError, match="cost is for 2 classes, but the outputs have 3"):
            Wasserstein(cost=((0.0, 1.0), (1.0, 0.0)))(torch.zeros(1, 3), torch.tensor([0]))

    def test_shapes(self):
        with pytest.raises(UserError, match="must be equal"):
            Wasserstein()(torch.zeros(2, 3), torch.full((2, 2), 0.5))


QUICK = {
    "model": {"hidden": [32]},
    "optimizer": {"lr": 0.01},
    "stop": {"max_epochs": 40},
    "engine": {"threads": 1, "device": "cpu"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        {"name": "wasserstein"},
        {
            "name": "wasserstein",
            "cost": [[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]],
            "iterations": 20,
        },
    ],
    ids=["1-D", "cost"],
)
def test_a_recipe_trains_with_it(loss, tmp_path):
    run = descend.train("iris", {**QUICK, "loss": loss}, seed=0, out=tmp_path / "run")
    assert run.metrics["test"]["accuracy"] > 0.85
    again = descend.load(tmp_path / "run")
    assert again.recipe == run.recipe
    assert again.evaluate("iris") == run.evaluate("iris")


def test_a_recipe_for_another_number_of_classes_is_refused():
    with pytest.raises(RecipeError, match=r"\[loss\]: .*is for 2 classes, but the outputs have 3"):
        descend.train("iris", {**QUICK, "loss": {"name": "wasserstein", "positions": [0.0, 1.0]}})


def test_it_is_for_classes():
    with pytest.raises(RecipeError, match="does not fit the task regression"):
        descend.train("diabetes", {**QUICK, "loss": "wasserstein"})
