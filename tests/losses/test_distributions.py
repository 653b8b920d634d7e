"""Losses of predicted distributions against SciPy's probabilities, scikit-learn's models, limits and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import PoissonRegressor, QuantileRegressor
from sklearn.metrics import mean_pinball_loss

from descend.errors import UserError
from descend.losses import LOSSES, Focal, Gaussian, KullbackLeibler, Loss, NegativeBinomial, Poisson, Quantile
from descend.losses.likelihoods import LIKELIHOODS
from descend.nn.ensemble import Ensemble
from descend.nn.outputs import OUTPUTS, GaussianMean, MiddleQuantile, NegativeBinomialMean, positive

Z = torch.linspace(-3.0, 4.0, 8, dtype=torch.float64).unsqueeze(1)
Y = torch.tensor([0.0, 1.0, 0.0, 3.0, 2.0, 12.0, 30.0, 61.0], dtype=torch.float64).unsqueeze(1)


def both(raw: float) -> torch.Tensor:
    return torch.cat([Z, torch.full_like(Z, raw)], 1)


class TestProbabilities:
    def test_poisson(self) -> None:
        expected = -stats.poisson.logpmf(Y[:, 0].numpy(), np.exp(Z[:, 0].numpy()))
        np.testing.assert_allclose(Poisson().per_sample(Z, Y).numpy(), expected, rtol=1e-12)

    @pytest.mark.parametrize("a", [0.01, 0.7, 5.0])
    def test_negative_binomial(self, a: float) -> None:
        mean = np.exp(Z[:, 0].numpy())
        expected = -stats.nbinom.logpmf(Y[:, 0].numpy(), 1 / a, 1 / (1 + a * mean))
        got = NegativeBinomial(dispersion=a).per_sample(Z, Y).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-10)

    @pytest.mark.parametrize("raw", [-4.0, 0.0, 3.0])
    def test_learned_dispersion(self, raw: float) -> None:
        a = positive(torch.tensor(raw, dtype=torch.float64)).item()
        torch.testing.assert_close(
            NegativeBinomial().per_sample(both(raw), Y), NegativeBinomial(dispersion=a).per_sample(Z, Y)
        )

    @pytest.mark.parametrize("raw", [-4.0, 0.0, 3.0])
    def test_gaussian(self, raw: float) -> None:
        deviation = math.sqrt(positive(torch.tensor(raw, dtype=torch.float64)).item())
        expected = -stats.norm.logpdf(Y[:, 0].numpy(), Z[:, 0].numpy(), deviation)
        np.testing.assert_allclose(Gaussian().per_sample(both(raw), Y).numpy(), expected, rtol=1e-12)

    @pytest.mark.parametrize("level", [0.1, 0.5, 0.95])
    def test_quantile(self, level: float) -> None:
        expected = mean_pinball_loss(Y.numpy(), Z.numpy(), alpha=level)
        assert Quantile(level=level)(Z, Y).item() == pytest.approx(expected, rel=1e-12)

    def test_large_counts_in_single_precision(self) -> None:
        """The terms of the loss are of size 1e7, their sum is 8: in single precision alone, the error would be about 1."""
        y = torch.tensor([[1e6]])
        z = torch.log(y)
        expected = -stats.poisson.logpmf(1e6, math.exp(z.double().item()))
        assert Poisson()(z, y).item() == pytest.approx(expected, rel=1e-5)
        assert NegativeBinomial(dispersion=1e-6)(z, y).item() == pytest.approx(
            -stats.nbinom.logpmf(1e6, 1e6, 1 / (1 + 1e-6 * math.exp(z.double().item()))), rel=1e-4
        )

    def test_without_dispersion_it_is_poisson(self) -> None:
        torch.testing.assert_close(
            NegativeBinomial(dispersion=1e-8)(Z, Y), Poisson()(Z, Y), rtol=1e-5, atol=0
        )

    @pytest.mark.parametrize("loss", [Poisson(), NegativeBinomial(dispersion=0.3)])
    def test_probabilities_of_all_counts_sum_to_one(self, loss: Loss) -> None:
        counts = torch.arange(2000, dtype=torch.float64).unsqueeze(1)
        probabilities = torch.exp(-loss.per_sample(torch.full_like(counts, 1.7), counts))
        assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-9)

    @pytest.mark.parametrize("size", [-200.0, 80.0])
    def test_extreme_outputs_have_finite_gradients(self, size: float) -> None:
        for loss, width in ((Gaussian(), 2), (NegativeBinomial(), 2), (Focal(), 3), (Focal(gamma=0.5), 3)):
            z = torch.full((4, width), size)
            z[:, 1] = -size
            z.requires_grad_()
            targets = torch.tensor([0, 1, 2, 1]) if width == 3 else torch.ones(4, 1)
            loss(z, targets).backward()
            assert z.grad is not None
            assert z.grad.isfinite().all(), loss


class TestLogitsNearTheLargestNumber:
    @pytest.mark.parametrize(
        "loss", [KullbackLeibler(), *(Focal(gamma=g) for g in (0.0, 0.5, 1.0, 2.0, 3.0))]
    )
    def test_classes(self, loss: Loss) -> None:
        """A certain row has the loss 0 and no gradient; one that is certainly wrong has the loss and slope of -log p."""
        z = torch.tensor([[3e38, -3e38], [3e38, 0.0]], requires_grad=True)
        certain = loss.per_sample(z, torch.tensor([0, 0]))
        torch.testing.assert_close(certain, torch.zeros(2))
        torch.testing.assert_close(torch.autograd.grad(certain.sum(), z)[0], torch.zeros(2, 2))
        wrong = loss.per_sample(z, torch.tensor([1, 1]))
        assert wrong.tolist() == [math.inf, pytest.approx(3e38)]
        (slope,) = torch.autograd.grad(wrong.sum(), z)
        torch.testing.assert_close(slope, torch.tensor([[1.0, -1.0], [1.0, -1.0]]))

    @pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
    def test_two_values(self, gamma: float) -> None:
        z = torch.tensor([[3e38], [-3e38]], requires_grad=True)
        wrong = Focal(gamma=gamma).per_sample(z, torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(wrong, torch.full((2,), 3e38))
        torch.testing.assert_close(torch.autograd.grad(wrong.sum(), z)[0], torch.tensor([[1.0], [-1.0]]))

    def test_the_smallest_variance(self) -> None:
        z = torch.tensor([[1e13, -200.0]], requires_grad=True)
        Gaussian()(z, torch.zeros(1, 1)).backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()


class TestMinimizers:
    """Linear models fitted by the loss are those of scikit-learn."""

    @staticmethod
    def fitted(loss: Loss, x: torch.Tensor, y: torch.Tensor, steps: int = 200) -> torch.Tensor:
        weights = torch.zeros(x.shape[1] + 1, 1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights], max_iter=steps, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(x @ weights[1:] + weights[0], y)
            value.backward()
            return value

        optimizer.step(closure)
        return weights.detach()

    def test_poisson_regression(self) -> None:
        generator = np.random.default_rng(0)
        x = generator.normal(size=(300, 3))
        y = generator.poisson(np.exp(0.5 + x @ [0.4, -0.3, 0.1]))
        weights = self.fitted(Poisson(), torch.tensor(x), torch.tensor(y[:, None], dtype=torch.float64))
        reference = PoissonRegressor(alpha=0.0, tol=1e-10, max_iter=1000).fit(x, y)
        np.testing.assert_allclose(weights[1:, 0].numpy(), reference.coef_, atol=1e-5)
        assert weights[0].item() == pytest.approx(reference.intercept_, abs=1e-5)

    def test_quantile_regression(self) -> None:
        """No line does better than that of linear programming."""
        generator = np.random.default_rng(1)
        x = generator.normal(size=(200, 2))
        y = x @ [1.0, -2.0] + generator.gumbel(size=200) * (1 + np.abs(x[:, 0]))
        reference = QuantileRegressor(quantile=0.8, alpha=0.0, solver="highs").fit(x, y)
        loss, targets = Quantile(level=0.8), torch.tensor(y[:, None])
        best = loss(torch.tensor(reference.predict(x)[:, None]), targets).item()
        weights = self.fitted(loss, torch.tensor(x), targets, 500)
        own = loss(torch.tensor(x) @ weights[1:] + weights[0], targets).item()
        assert best <= own + 1e-12
        assert own == pytest.approx(best, rel=0.02)


class TestRefusals:
    @pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
    def test_negative_counts(self, name: str) -> None:
        loss = LOSSES[name]()
        with pytest.raises(
            UserError, match=f"{name} takes counts, targets of at least 0, got -1; use .*loss"
        ):
            loss(torch.zeros(2, loss.blocks), torch.tensor([[3.0], [-1.0]]))

    def test_settings(self) -> None:
        for level in (0.0, 1.0, (0.5, 0.5), ()):
            with pytest.raises(UserError, match="quantile: level must be different numbers between 0 and 1"):
                Quantile(level=level)
        with pytest.raises(UserError, match='dispersion must be above 0 or "learned", got 0'):
            NegativeBinomial(dispersion=0)
        for alpha in (0.0, 1.0, (1.0, -1.0)):
            with pytest.raises(UserError, match="focal: alpha must be"):
                Focal(alpha=alpha)
        with pytest.raises(UserError, match="gamma must be at least 0"):
            Focal(gamma=-1)

    def test_number_of_weights(self) -> None:
        with pytest.raises(UserError, match="a positive number for each of the 3 classes"):
            Focal(alpha=(1.0, 2.0))(torch.zeros(2, 3), torch.tensor([0, 1]))
        with pytest.raises(UserError, match="alpha is one number, the weight of class 1"):
            Focal(alpha=(1.0, 2.0))(torch.zeros(2, 1), torch.tensor([0.0, 1.0]))

    def test_shapes(self) -> None:
        for loss in (Gaussian(), NegativeBinomial(), Quantile(level=(0.1, 0.9))):
            with pytest.raises(UserError, match="the loss takes 2 outputs per target"):
                loss(torch.zeros(3, 1), torch.zeros(3, 1))

    def test_losses_without_a_distribution(self) -> None:
        with pytest.raises(
            UserError, match=r"MeanSquaredError predicts no distribution; train with .*gaussian"
        ):
            LOSSES["mse"]().distribution(Z)


class TestDistributions:
    def test_of_each_loss(self) -> None:
        found = {
            name: set(LOSSES[name]().distribution(both(0.0))) for name in ("gaussian", "negative_binomial")
        }
        assert found == {
            "gaussian": {"mean", "standard_deviation"},
            "negative_binomial": {"mean", "standard_deviation", "dispersion"},
        }
        several = Quantile(level=(0.1, 0.9)).distribution(both(0.5))
        assert {name: each.values[0].item() for name, each in several.items()} == {
            "quantile_0.1": -3.0,
            "quantile_0.9": 0.5,
        }

    def test_moments_are_scipys(self) -> None:
        mean = np.exp(Z[:, 0].numpy())
        poisson = Poisson().distribution(Z)["standard_deviation"].values[:, 0].numpy()
        np.testing.assert_allclose(poisson, stats.poisson.std(mean))
        binomial = NegativeBinomial(dispersion=0.5).distribution(Z)["standard_deviation"].values[:, 0].numpy()
        np.testing.assert_allclose(binomial, stats.nbinom.std(2.0, 1 / (1 + 0.5 * mean)))

    def test_predictions_are_their_center(self) -> None:
        outputs = torch.tensor([[0.3, -1.0, 0.2, 0.9]])
        for name, loss in (("gaussian_mean", Gaussian()), ("negative_binomial_mean", NegativeBinomial())):
            torch.testing.assert_close(OUTPUTS[name]()(outputs), loss.distribution(outputs)["mean"].values)
        levels = (0.9, 0.45)
        middle = MiddleQuantile(levels=levels)(outputs)
        expected = torch.tensor([[0.2, -1.0]])  # the lower one of (0.3, 0.2) and of (-1.0, 0.9)
        assert torch.equal(middle, expected)
        assert torch.equal(middle, Quantile(level=levels).distribution(outputs)["quantile_0.45"].values)


class TestEnsembles:
    """The mean and the variance of a mixture, from the law of total variance."""

    @staticmethod
    def of(raw: list[list[float]], link: str) -> torch.Tensor:
        members = []
        for outputs in raw:
            layer = torch.nn.Linear(1, len(outputs)).double()
            torch.nn.init.zeros_(layer.weight)
            layer.bias.data = torch.tensor(outputs, dtype=torch.float64)
            members.append(layer)
        return Ensemble(members, link)(torch.ones(1, 1, dtype=torch.float64)).detach()

    def test_gaussian(self) -> None:
        raw = [[0.5, 0.1], [2.0, -1.0], [-1.0, 3.0]]
        mean, rest = self.of(raw, "gaussian")[0].tolist()
        means = np.array([each[0] for each in raw])
        variances = positive(torch.tensor([each[1] for each in raw], dtype=torch.float64)).numpy()
        assert mean == pytest.approx(means.mean())
        variance = positive(torch.tensor(rest, dtype=torch.float64)).item()
        assert variance == pytest.approx((variances + means**2).mean() - means.mean() ** 2)
        assert GaussianMean()(self.of(raw, "gaussian")).item() == pytest.approx(means.mean())

    def test_negative_binomial(self) -> None:
        raw = [[0.5, 0.1], [2.0, -1.0]]
        result = self.of(raw, "negative_binomial")
        means = np.exp([each[0] for each in raw])
        a = positive(torch.tensor([each[1] for each in raw], dtype=torch.float64)).numpy()
        assert NegativeBinomialMean()(result).item() == pytest.approx(means.mean())
        deviation = NegativeBinomial().distribution(result)["standard_deviation"].values.item()
        variance = (means + a * means**2 + means**2).mean() - means.mean() ** 2
        assert deviation == pytest.approx(math.sqrt(variance))

    def test_log_link(self) -> None:
        assert self.of([[0.5], [2.0]], "log").exp().item() == pytest.approx(np.exp([0.5, 2.0]).mean())


def test_the_fisher_matrix_of_poisson_is_its_mean() -> None:
    """E[s²] = exp z, which is the second derivative of the loss, estimated from samples."""
    likelihood, z = LIKELIHOODS["poisson"], torch.full((200_000, 1), 1.2)
    s = likelihood.gradient(z, likelihood.sample(z, torch.Generator().manual_seed(0)))
    assert s.mean().item() == pytest.approx(0.0, abs=0.02)
    assert s.square().mean().item() == pytest.approx(math.exp(1.2), rel=0.02)
    one = torch.tensor([[1.2]], dtype=torch.float64, requires_grad=True)
    second = torch.autograd.functional.hessian(lambda x: Poisson()(x, torch.ones_like(x)), one)
    assert second.item() == pytest.approx(math.exp(1.2))
