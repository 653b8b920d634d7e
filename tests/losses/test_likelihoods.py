"""Likelihoods against their losses: gradients, curvature and frequencies."""

import math

import pytest
import torch
from torch.func import hessian

from descend.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    KullbackLeibler,
    MeanAbsoluteError,
    MeanSquaredError,
    Squared,
    Wasserstein,
)
from descend.losses.likelihoods import LIKELIHOODS, Bernoulli, Categorical, Likelihood, Normal

Z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SHARES = torch.softmax(Z + 1, 1)

WITH = [
    (CrossEntropy(), Z, torch.tensor([0, 2, 1, 1])),
    (CrossEntropy(label_smoothing=0.3), Z, torch.tensor([0, 2, 1, 1])),
    (KullbackLeibler(), Z, SHARES),
    (BinaryCrossEntropy(), Z[:, :1], SHARES[:, 0]),
    (BinaryCrossEntropy(label_smoothing=0.2), Z[:, :1], torch.tensor([0.0, 1.0, 1.0, 0.0]).double()),
    (MeanSquaredError(), Z, SHARES),
    (MeanSquaredError(), Z[:, :1], SHARES[:, :1]),
]
WITHOUT = [MeanAbsoluteError(), Huber(), Squared(), Wasserstein()]


def outcomes(likelihood: Likelihood, z: torch.Tensor):
    """Return all targets of each prediction with their probabilities.

    For a normal distribution these are two points with its first three moments.
    """
    if isinstance(likelihood, Categorical):
        return [(torch.full(z.shape[:-1], k), torch.softmax(z, -1)[..., k]) for k in range(z.shape[-1])]
    if isinstance(likelihood, Bernoulli):
        p = torch.sigmoid(z)
        return [(torch.ones_like(z), p), (torch.zeros_like(z), 1 - p)]
    half = torch.full_like(z, 0.5)
    return [(z + math.sqrt(0.5), half), (z - math.sqrt(0.5), half)]


@pytest.mark.parametrize(("loss", "z", "y"), WITH, ids=lambda each: type(each).__name__)
def test_the_expected_outer_product_of_gradients_is_the_hessian_of_the_mean_loss(loss, z, y):
    likelihood = loss.likelihood
    expected = hessian(lambda z: loss(z, y))(z).reshape(z.numel(), z.numel())
    result = torch.zeros_like(expected)
    mean = torch.zeros_like(z)
    for target, chance in outcomes(likelihood, z):
        slope = likelihood.gradient(z, target)
        if isinstance(likelihood, Categorical):
            chance = chance.unsqueeze(-1)
            result += torch.block_diag(*(torch.outer(s, s) * c for s, c in zip(slope, chance, strict=True)))
        else:
            result += torch.diag((slope.square() * chance).flatten())
        mean += slope * chance
    torch.testing.assert_close(result / likelihood.predictions(z), expected)
    torch.testing.assert_close(mean, torch.zeros_like(z))


@pytest.mark.parametrize(
    ("loss", "z", "y"),
    [
        (CrossEntropy(), Z, torch.tensor([0, 2, 1, 1])),
        (BinaryCrossEntropy(), Z[:, :1], torch.tensor([0.0, 1.0, 1.0, 0.0]).double()),
        (MeanSquaredError(), Z, SHARES),
    ],
    ids=["cross_entropy", "bce", "mse"],
)
def test_gradients_are_those_of_the_loss_times_the_number_of_predictions(loss, z, y):
    leaf = z.clone().requires_grad_()
    loss(leaf, y).backward()
    targets = y.view_as(z) if isinstance(loss, BinaryCrossEntropy) else y
    likelihood = loss.likelihood
    torch.testing.assert_close(likelihood.gradient(z, targets), leaf.grad * likelihood.predictions(z))


def test_losses_without_a_likelihood():
    assert [loss.likelihood for loss in WITHOUT] == [None] * len(WITHOUT)
    assert CrossEntropy().on_probabilities().likelihood is None
    assert BinaryCrossEntropy().on_probabilities().likelihood is None
    assert KullbackLeibler().on_probabilities().likelihood is None


def test_samples_have_the_expected_probabilities_and_moments():
    draw, rows = torch.Generator().manual_seed(1), 40_000
    z = torch.tensor([0.0, 1.0, -2.0, 3.0])
    classes = Categorical().sample(z.expand(rows, 4), draw)
    assert classes.dtype == torch.int64
    shares = torch.bincount(classes, minlength=4) / rows
    assert (shares - torch.softmax(z, 0)).abs().max() < 0.01
    ones = Bernoulli().sample(z.expand(rows, 4), draw)
    assert set(ones.unique().tolist()) == {0.0, 1.0}
    assert (ones.mean(0) - torch.sigmoid(z)).abs().max() < 0.01
    values = Normal().sample(z.expand(rows, 4), draw)
    assert (values.mean(0) - z).abs().max() < 0.02
    assert (values.var(0) - 0.5).abs().max() < 0.02


def test_samples_depend_on_the_generator_only():
    for likelihood in LIKELIHOODS.values():
        samples = []
        for _ in range(2):
            torch.rand(1)
            samples.append(likelihood.sample(Z, torch.Generator().manual_seed(3)))
        assert torch.equal(*samples)


def test_certain_classes_are_always_sampled_and_impossible_ones_never():
    z = torch.tensor([[-1e4, 0.0, -1e4], [-1e4, -1e4, 0.0], [0.0, -1e4, -1e4]]).repeat(5000, 1)
    assert torch.equal(Categorical().sample(z), torch.tensor([1, 2, 0]).repeat(5000))


@pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)
def test_outputs_that_are_not_finite_have_such_gradients_and_raise_no_error(likelihood):
    z = torch.full((2, 3), math.nan)
    assert likelihood.gradient(z, likelihood.sample(z)).isnan().all()


def test_instances_of_a_class_are_equal():
    assert Normal() == LIKELIHOODS["normal"]
    assert len({Normal(), Normal(), Bernoulli()}) == 2
    assert Normal() != Bernoulli()
    assert repr(Categorical()) == "Categorical()"
