import math

import pytest
import torch
from scipy import special, stats
from torch import nn
from torch.nn import functional

from descend.cards import card
from descend.errors import UserError
from descend.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Gaussian,
    Huber,
    KullbackLeibler,
    MeanAbsoluteError,
    MeanSquaredError,
    NegativeBinomial,
    Poisson,
    Quantile,
    Squared,
    Wasserstein,
)
from descend.nn.outputs import OUTPUTS, positive

N, T, K = 9, 3, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def distributions(seed=1):
    return torch.softmax(normal(N, K, seed=seed), 1)


CLASSES = torch.tensor([0, 1, 2, 3, 3, 2, 0, 0, 1])
BITS = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1], dtype=torch.float64)
SOFT = torch.rand(N, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
REGRESSION = (normal(N, T), normal(N, T, seed=1))
COUNTS = torch.poisson(3.0 * normal(N, T, seed=3).exp(), generator=torch.Generator().manual_seed(4))
LABELS = (normal(N, T, seed=5) > 0).double()


def negative_binomial(z, y, size):
    """Minus the log-probability of PyTorch's distribution, whose parameters are failures and log-odds."""
    return -torch.distributions.NegativeBinomial(size, logits=z - torch.log(size)).log_prob(y).mean()


def pinball(z, y, level):
    return torch.where(y > z, level * (y - z), (1 - level) * (z - y)).mean()


def focal_of_labels(z, y, gamma, alpha):
    p = torch.sigmoid(z)
    p, weight = torch.where(y == 1, p, 1 - p), alpha * y + (1 - alpha) * (1 - y)
    return (-weight * (1 - p) ** gamma * p.log()).mean()


def focal_of_classes(z, y, gamma, alpha):
    p = torch.softmax(z, 1)[range(len(y)), y]
    return (-torch.tensor(alpha, dtype=z.dtype)[y] * (1 - p) ** gamma * p.log()).mean()


# (loss, outputs, targets, mean loss of PyTorch)
CASES = {
    "mse": (MeanSquaredError(), *REGRESSION, nn.MSELoss()),
    "l1": (MeanAbsoluteError(), *REGRESSION, nn.L1Loss()),
    "huber": (Huber(delta=0.7), *REGRESSION, nn.HuberLoss(delta=0.7)),
    "bce": (BinaryCrossEntropy(), normal(N, 1), BITS, lambda z, y: nn.BCEWithLogitsLoss()(z[:, 0], y)),
    "bce, soft": (BinaryCrossEntropy(), normal(N, 1), SOFT, lambda z, y: nn.BCEWithLogitsLoss()(z[:, 0], y)),
    "bce, smooth": (
        BinaryCrossEntropy(label_smoothing=0.2),
        normal(N, 1),
        BITS,
        lambda z, y: nn.CrossEntropyLoss(label_smoothing=0.2)(torch.cat([0 * z, z], 1), y.long()),
    ),
    "squared, binary": (
        Squared(),
        normal(N, 1),
        BITS,
        lambda z, y: nn.MSELoss()(z[:, 0].sigmoid(), y),
    ),
    "squared, multiclass": (
        Squared(),
        normal(N, K),
        CLASSES,
        lambda z, y: K * nn.MSELoss()(z.softmax(1), functional.one_hot(y, K).double()),
    ),
    "cross_entropy": (CrossEntropy(), normal(N, K), CLASSES, nn.CrossEntropyLoss()),
    "cross_entropy, smooth": (
        CrossEntropy(label_smoothing=0.2),
        normal(N, K),
        CLASSES,
        nn.CrossEntropyLoss(label_smoothing=0.2),
    ),
    "cross_entropy, soft": (CrossEntropy(), normal(N, K), distributions(), nn.CrossEntropyLoss()),
    "kl": (
        KullbackLeibler(),
        normal(N, K),
        distributions(),
        lambda z, q: nn.KLDivLoss(reduction="batchmean")(z.log_softmax(1), q),
    ),
    "wasserstein": (
        Wasserstein(),
        normal(N, K),
        distributions(),
        lambda z, q: torch.tensor(
            [
                stats.wasserstein_distance(range(K), range(K), a, b)
                for a, b in zip(z.detach().softmax(1), q, strict=True)
            ],
            dtype=torch.float64,
        ).mean(),
    ),
    "bce, labels": (BinaryCrossEntropy(), normal(N, T), LABELS, nn.BCEWithLogitsLoss()),
    "squared, labels": (
        Squared().for_task("multi_label"),
        normal(N, T),
        LABELS,
        lambda z, y: nn.MSELoss()(z.sigmoid(), y),
    ),
    "quantile": (Quantile(level=0.2), *REGRESSION, lambda z, y: pinball(z, y, 0.2)),
    "quantile, median": (Quantile(), *REGRESSION, lambda z, y: nn.L1Loss()(z, y) / 2),
    "quantile, several": (
        Quantile(level=(0.1, 0.5, 0.7)),
        normal(N, 3 * T),
        normal(N, T, seed=1),
        lambda z, y: sum(pinball(z[:, i * T : (i + 1) * T], y, t) for i, t in enumerate((0.1, 0.5, 0.7))) / 3,
    ),
    "poisson": (
        Poisson(),
        normal(N, T),
        COUNTS,
        lambda z, y: nn.PoissonNLLLoss()(z, y) + torch.lgamma(y + 1).mean(),
    ),
    "negative_binomial": (
        NegativeBinomial(),
        normal(N, 2 * T),
        COUNTS,
        lambda z, y: negative_binomial(z[:, :T], y, 1 / positive(z[:, T:])),
    ),
    "negative_binomial, set": (
        NegativeBinomial(dispersion=0.4),
        normal(N, T),
        COUNTS,
        lambda z, y: negative_binomial(z, y, torch.tensor(2.5, dtype=torch.float64)),
    ),
    "gaussian": (
        Gaussian(),
        normal(N, 2 * T),
        normal(N, T, seed=1),
        lambda z, y: nn.GaussianNLLLoss(full=True)(z[:, :T], y, positive(z[:, T:])),
    ),
    "focal, binary": (
        Focal(gamma=1.5, alpha=0.3),
        normal(N, 1),
        BITS,
        lambda z, y: focal_of_labels(z[:, 0], y, 1.5, 0.3),
    ),
    "focal, labels": (
        Focal(gamma=0.5, alpha=0.3).for_task("multi_label"),
        normal(N, T),
        LABELS,
        lambda z, y: focal_of_labels(z, y, 0.5, 0.3),
    ),
    "focal, multiclass": (
        Focal(alpha=(1.0, 2.0, 0.5, 1.0)),
        normal(N, K),
        CLASSES,
        lambda z, y: focal_of_classes(z, y, 2.0, (1.0, 2.0, 0.5, 1.0)),
    ),
    "focal, without focus": (Focal(gamma=0.0), normal(N, K), CLASSES, nn.CrossEntropyLoss()),
    "kl, classes": (KullbackLeibler(), normal(N, K), CLASSES, nn.CrossEntropyLoss()),
}


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


def test_every_loss_is_tested_here():
    assert {name.split(",")[0] for name in CASES} == set(LOSSES)


def test_mean_equals_torch(case):
    loss, outputs, targets, reference = case
    torch.testing.assert_close(loss(outputs, targets), reference(outputs, targets), rtol=1e-12, atol=1e-14)


def test_per_sample_is_the_loss_of_one_row(case):
    loss, outputs, targets, reference = case
    got = loss.per_sample(outputs, targets)
    assert got.shape == (N,)
    alone = torch.stack([reference(outputs[i : i + 1], targets[i : i + 1]) for i in range(N)])
    torch.testing.assert_close(got, alone, rtol=1e-12, atol=1e-14)


def test_weights(case):
    loss, outputs, targets, reference = case
    counts = torch.tensor([0, 1, 2, 3, 1, 0, 2, 1, 1])
    repeated = torch.repeat_interleave(torch.arange(N), counts)
    expected = reference(outputs[repeated], targets[repeated])
    for scale in (1.0, 0.01):
        got = loss(outputs, targets, scale * counts.double())
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_gradients(case):
    loss, outputs, targets, _ = case
    z = outputs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), (z,))
    assert torch.autograd.gradcheck(lambda z: loss(z, targets, SOFT), (z,))


def test_float32_inputs_give_a_float32_scalar(case):
    loss, outputs, targets, _ = case
    targets = targets.float() if targets.is_floating_point() else targets
    for weights in (None, torch.ones(N), torch.ones(N, dtype=torch.float64)):
        got = loss(outputs.float(), targets, weights)
        assert got.dtype == torch.float32
        assert got.shape == ()


def test_weights_of_a_wrong_shape_are_refused(case):
    loss, outputs, targets, _ = case
    with pytest.raises(UserError, match=r"expected weights of shape \(9,\), one per row, got \(9, 1\)"):
        loss(outputs, targets, torch.ones(N, 1))


@pytest.mark.parametrize("name", LOSSES)
def test_declarations(name):
    loss = LOSSES[name]()
    regression = {"mse", "l1", "huber", "quantile", "poisson", "negative_binomial", "gaussian"}
    assert loss.form == ("values" if name in regression else "logits")
    assert loss.tasks <= {"regression", "multi_regression", "binary", "multiclass", "multi_label"}
    assert loss.target_space == ("raw" if name in {"poisson", "negative_binomial"} else "standardized")
    assert loss.output in OUTPUTS
    assert loss.tasks
    assert list(loss.parameters()) == []
    result = card(LOSSES[name])
    assert result is not None
    assert result.row.startswith(("C", "K12"))
    assert result.formula


class TestClosedForms:
    """Values computed without PyTorch."""

    def test_binary_cross_entropy_by_hand(self):
        """At ŷ = 0.8: −log 0.8 for y = 1 and −log 0.2 for y = 0; both are positive, and minimal at ŷ = y."""
        z = torch.tensor([special.logit(0.8)] * 2, dtype=torch.float64)
        got = BinaryCrossEntropy().per_sample(z, torch.tensor([1.0, 0.0], dtype=torch.float64))
        assert got.tolist() == pytest.approx([-math.log(0.8), -math.log(0.2)], rel=1e-12)

    def test_binary_cross_entropy_is_minimal_at_the_target(self):
        y = torch.tensor([0.3], dtype=torch.float64)
        z = torch.tensor([special.logit(0.3)], dtype=torch.float64, requires_grad=True)
        BinaryCrossEntropy()(z, y).backward()
        assert z.grad.abs() < 1e-15

    @pytest.mark.parametrize("z", [-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4])
    @pytest.mark.parametrize("y", [0.0, 0.25, 1.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_binary_cross_entropy_is_stable(self, z, y, dtype):
        logit = torch.tensor([[z]], dtype=dtype, requires_grad=True)
        loss = BinaryCrossEntropy()(logit, torch.tensor([y], dtype=dtype))
        loss.backward()
        exact = -y * special.log_expit(z) - (1 - y) * special.log_expit(-z)
        rounding = 4 * torch.finfo(dtype).eps  # relative to z, and to 1
        assert loss.item() == pytest.approx(exact, rel=rounding, abs=rounding * max(1.0, abs(z)))
        assert logit.grad.item() == pytest.approx(special.expit(z) - y, rel=rounding, abs=rounding)

    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_cross_entropy_is_stable(self, scale):
        z = (scale * normal(N, K)).requires_grad_()
        loss = CrossEntropy()(z, CLASSES)
        loss.backward()
        exact = special.logsumexp(z.detach().numpy(), axis=1) - z.detach().numpy()[range(N), CLASSES]
        assert loss.item() == pytest.approx(exact.mean(), rel=1e-12)
        assert z.grad.isfinite().all()

    @pytest.mark.parametrize("r", [-3.0, -0.5, 0.0, 0.5, 2.0])
    def test_huber(self, r):
        expected = r * r / 2 if abs(r) <= 0.5 else 0.5 * (abs(r) - 0.25)
        got = Huber(delta=0.5)(torch.tensor([[r]]), torch.tensor([[0.0]]))
        assert got.item() == pytest.approx(expected)

    def test_kl_pairs(self):
        """KL((½,½) ‖ (¼,¾)) = ½ log 2 + ½ log ⅔; KL((1,0) ‖ (p,1−p)) = −log p; KL(q ‖ q) = 0."""
        q = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]], dtype=torch.float64)
        p = torch.tensor([[0.25, 0.75]] * 3, dtype=torch.float64)
        expected = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(4), 0.0]
        assert KullbackLeibler().per_sample(p.log(), q).tolist() == pytest.approx(expected, abs=1e-15)
        on_probabilities = KullbackLeibler().on_probabilities()
        assert on_probabilities.per_sample(p, q).tolist() == pytest.approx(expected, abs=1e-15)

    def test_kl_is_cross_entropy_minus_the_entropy_of_the_targets(self):
        z, q = normal(N, K), distributions()
        entropy = -(q * q.log()).sum(1)
        torch.testing.assert_close(
            KullbackLeibler().per_sample(z, q),
            CrossEntropy().per_sample(z, q) - entropy,
            rtol=1e-12,
            atol=1e-14,
        )

    def test_squared_of_two_classes_is_twice_the_binary_form(self):
        z = normal(N, 1)
        two = torch.cat([torch.zeros_like(z), z], 1)
        torch.testing.assert_close(Squared()(two, BITS.long()), 2 * Squared()(z, BITS))


class TestLabelSmoothing:
    @pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.05, 0.2])
    def test_epsilon_per_wrong_class_equals_alpha_of_torch(self, epsilon):
        """ε for each wrong class and 1 − (K−1) ε for the right one is α = K ε."""
        z = normal(N, K)
        q = torch.full((N, K), epsilon, dtype=torch.float64)
        q[range(N), CLASSES] = 1 - (K - 1) * epsilon
        expected = -(q * torch.log_softmax(z, 1)).sum(1)
        got = CrossEntropy(label_smoothing=K * epsilon).per_sample(z, CLASSES)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)

    def test_it_is_minimal_at_the_smoothed_target(self):
        q = torch.tensor([[0.05, 0.85, 0.05, 0.05]], dtype=torch.float64)
        z = q.log().requires_grad_()
        CrossEntropy(label_smoothing=0.2)(z, torch.tensor([1])).backward()
        assert z.grad.abs().max() < 1e-15

    @pytest.mark.parametrize("loss", [CrossEntropy, BinaryCrossEntropy])
    @pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
    def test_values_outside_the_unit_interval_are_refused(self, loss, alpha):
        with pytest.raises(UserError, match=rf"{loss.__name__}: label_smoothing must be in \[0, 1\]"):
            loss(label_smoothing=alpha)

    @pytest.mark.parametrize("smooth", ["bce, smooth", "cross_entropy, smooth"])
    def test_it_is_not_part_of_the_evaluation_loss(self, smooth):
        loss, outputs, targets, _ = CASES[smooth]
        plain = CASES[smooth.split(",")[0]][3](outputs, targets)
        torch.testing.assert_close(loss.unsmoothed()(outputs, targets), plain)
        assert loss.label_smoothing == 0.2
        assert loss.on_probabilities().unsmoothed().form == "probabilities"

    def test_other_losses_have_none(self):
        assert all(isinstance(loss.unsmoothed(), type(loss)) for loss, *_ in CASES.values())


class TestOnProbabilities:
    @pytest.mark.parametrize("name", ["bce", "bce, soft", "bce, smooth", "squared, binary"])
    def test_binary_losses_agree_with_their_logit_form(self, name):
        loss, z, y, _ = CASES[name]
        other = loss.on_probabilities()
        assert other.form == "probabilities"
        assert loss.form == "logits"
        torch.testing.assert_close(other(OUTPUTS["sigmoid"]()(z), y), loss(z, y), rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize(
        "name",
        [
            "squared, multiclass",
            "cross_entropy",
            "cross_entropy, smooth",
            "cross_entropy, soft",
            "kl",
            "kl, classes",
        ],
    )
    def test_multiclass_losses_agree_with_their_logit_form(self, name):
        loss, z, y, _ = CASES[name]
        other = loss.on_probabilities()
        p = OUTPUTS["softmax"]()(z)
        torch.testing.assert_close(other(p, y), loss(z, y), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(other(p, y, SOFT), loss(z, y, SOFT), rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("name", ["bce", "squared, binary"])
    def test_the_sine_trains(self, name):
        loss, z, y, _ = CASES[name]
        other, sine = loss.on_probabilities(), OUTPUTS["sine"]()
        z = z.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda z: other(sine(z), y), (z,))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_zero_probabilities_give_finite_values_and_gradients(self, dtype):
        p = torch.tensor([[0.0, 1.0]], dtype=dtype)
        for loss in (CrossEntropy(), KullbackLeibler(), Squared()):
            q = p.clone().requires_grad_()
            value = loss.on_probabilities()(q, torch.tensor([0]))
            value.backward()
            assert value.isfinite()
            assert value > 0.9
            assert q.grad.isfinite().all()
        one = torch.zeros(1, 1, dtype=dtype, requires_grad=True)
        value = BinaryCrossEntropy().on_probabilities()(one, torch.ones(1, dtype=dtype))
        value.backward()
        assert value.isfinite()
        assert one.grad.isfinite().all()

    def test_losses_of_values_have_no_such_form(self):
        with pytest.raises(UserError, match="not of probabilities"):
            MeanSquaredError().on_probabilities()


class TestRefusals:
    @pytest.mark.parametrize("invalid", [-0.1, 1.5, math.nan])
    @pytest.mark.parametrize(
        "loss", [BinaryCrossEntropy(), BinaryCrossEntropy().on_probabilities(), Squared()]
    )
    def test_binary_targets_outside_the_unit_interval(self, loss, invalid):
        outputs = torch.full((2, 1), 0.5)
        with pytest.raises(UserError, match=r"must be in \[0, 1\], got"):
            loss(outputs, torch.tensor([1.0, invalid]))
        with pytest.raises(UserError, match=r"must be in \[0, 1\], got"):
            loss(outputs, torch.tensor([1.0, invalid]), torch.ones(2))

    @pytest.mark.parametrize("invalid", [[0.5, 0.6], [-0.5, 1.5]])
    def test_kl_targets_that_are_not_distributions(self, invalid):
        with pytest.raises(UserError, match="must be a distribution"):
            KullbackLeibler()(torch.zeros(1, 2), torch.tensor([invalid]))

    @pytest.mark.parametrize("invalid", [-100, -1, 4])
    @pytest.mark.parametrize(
        "loss",
        [
            CrossEntropy(),
            CrossEntropy(label_smoothing=0.1),
            CrossEntropy().on_probabilities(),
            KullbackLeibler(),
            Squared(),
            Wasserstein(),
        ],
    )
    def test_class_indices_out_of_range(self, loss, invalid):
        """PyTorch's cross-entropy silently leaves out rows of the class -100."""
        outputs, targets = distributions().float()[:2], torch.tensor([0, invalid])
        message = f"class indices from 0 to 3, the last of 4 outputs; got {invalid}"
        for call in (loss, loss.per_sample, lambda z, y: loss(z, y, torch.ones(2))):
            with pytest.raises(UserError, match=message):
                call(outputs, targets)
        assert loss(outputs, torch.tensor([0, 3])).isfinite()

    def test_trusted_targets_are_checked_once(self):
        loss = BinaryCrossEntropy()
        with pytest.raises(UserError):
            loss.trust(torch.tensor([2.0]))
        loss.trust(BITS)
        assert loss(torch.zeros(1, 1), torch.tensor([2.0])).isfinite()
        with pytest.raises(UserError):
            BinaryCrossEntropy()(torch.zeros(1, 1), torch.tensor([2.0]))

    @pytest.mark.parametrize("loss", [MeanSquaredError(), MeanAbsoluteError(), Huber()])
    def test_shapes_are_not_broadcast(self, loss):
        with pytest.raises(UserError, match=r"\(4, 1\) and targets \(4,\)"):
            loss(torch.zeros(4, 1), torch.zeros(4))

    @pytest.mark.parametrize("targets", [torch.zeros(3), torch.zeros(4, 1)])
    def test_binary_shapes(self, targets):
        with pytest.raises(UserError, match="binary outputs must have shape"):
            BinaryCrossEntropy()(torch.zeros(4, 1), targets)

    def test_delta(self):
        with pytest.raises(UserError, match="delta must be above 0"):
            Huber(delta=0.0)
