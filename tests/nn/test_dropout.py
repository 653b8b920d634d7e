"""The masks of dropout: their distribution, their independence, and what they are a function of."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from descend.data.batches import Batch
from descend.losses import CrossEntropy, MeanSquaredError
from descend.nn import Dropout, mlp
from descend.nn.masks import LEVELS, Bits, Masks, kept_levels
from descend.training.objective import Objective

CPU = torch.device("cpu")


def kept(
    masks: Masks, epoch: int, step: int, p: float, calls: int = 1, shape: tuple[int, ...] = (64, 32)
) -> Tensor:
    """Return the masks (calls, …) of a step as 0 and 1."""
    masks.begin(epoch, step)
    noise = [masks.noise(shape, p, torch.float32) for _ in range(calls)]
    assert all(each is not None for each in noise)
    return torch.stack([each for each in noise if each is not None]).ne(0.0).float()


@given(st.floats(0.0, 1.0))
def test_the_probability_is_within_half_a_level(p: float) -> None:
    assert abs(kept_levels(p) / LEVELS - (1.0 - p)) <= 2.0**-17


def test_integers_are_uniform() -> None:
    bits = Bits().seeded(b"a seed of 24 bytes......", 2**18)
    for values in (
        bits.astype(int) + LEVELS // 2 >> 8,
        bits.view(np.uint8)[::2],
    ):  # both halves of an integer
        assert stats.chisquare(np.bincount(values, minlength=256)).pvalue > 1e-3


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_counts_of_dropped_units_are_binomial(p: float) -> None:
    masks = Masks(7)
    counts = torch.stack([kept(masks, 0, step, p)[0] for step in range(64)]).eq(0).sum((1, 2)).numpy()
    rows = torch.stack([kept(masks, 1, step, p)[0] for step in range(64)]).eq(0).sum(2).flatten().numpy()
    for observed, units in ((counts, 64 * 32), (rows, 32)):
        z = (observed - units * p) / math.sqrt(units * p * (1 - p))
        assert abs(z.mean()) * math.sqrt(len(z)) < 3.3
        dispersion = (z**2).sum()  # chi-square with len(z) degrees of freedom
        assert 1e-3 < stats.chi2.cdf(dispersion, len(z)) < 1 - 1e-3
    ends = stats.binom.ppf([0.2, 0.4, 0.6, 0.8], 32, p)
    expected = np.diff([0.0, *stats.binom.cdf(ends, 32, p), 1.0]) * len(rows)
    observed = np.bincount(np.searchsorted(ends, rows), minlength=5)
    assert (
        stats.chisquare(
            observed[expected > 5],
            expected[expected > 5] * observed[expected > 5].sum() / expected[expected > 5].sum(),
        ).pvalue
        > 1e-3
    )


def correlation(one: Tensor, other: Tensor) -> float:
    """Return the correlation in units of its standard deviation under independence."""
    a, b = one.flatten() - one.mean(), other.flatten() - other.mean()
    return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt()) * math.sqrt(len(a))


def test_masks_are_uncorrelated_between_units_steps_epochs_calls_and_seeds() -> None:
    masks = Masks(3)
    steps = [kept(masks, 0, step, 0.3, calls=2, shape=(128, 64)) for step in range(8)]
    pairs = [(a, b) for a, b in pairwise(steps)]
    pairs += [(one[0], one[1]) for one in steps]  # two layers
    pairs += [(one, kept(Masks(4), 0, step, 0.3, 2, (128, 64))) for step, one in enumerate(steps)]  # members
    pairs += [(one, kept(masks, 1, step, 0.3, 2, (128, 64))) for step, one in enumerate(steps)]
    pairs += [(one.flatten()[:-lag], one.flatten()[lag:]) for one in steps for lag in (1, 2, 3, 4, 64)]
    values = np.array([correlation(a, b) for a, b in pairs])
    assert abs(values).max() < 4.0
    assert 1e-3 < stats.chi2.cdf((values**2).sum(), len(values)) < 1 - 1e-3


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.sampled_from([1, 5])), max_size=12))
def test_a_step_has_the_same_masks_in_any_order_of_steps(visits: list[tuple[int, int, int]]) -> None:
    """Whatever was sampled before, and with whatever shapes: chunks of steps are an implementation detail."""
    shapes = [(5, 3), (5, 1030)]
    used = Masks(1)
    for epoch, step, rows in visits:
        fresh = Masks(1)
        for masks in (used, fresh):
            masks.begin(epoch, step)
        for _, width in shapes:
            own, expected = (masks.noise((rows, width), 0.2, torch.float64) for masks in (used, fresh))
            assert own is not None
            assert expected is not None
            assert torch.equal(own, expected)


def test_consecutive_steps_equal_single_ones_over_epochs() -> None:
    used = Masks(5)
    for epoch in range(3):
        for step in range(9):
            rows = 7 if step == 8 else 64
            used.begin(epoch, step)
            own = [used.noise((rows, width), 0.2, torch.float32) for width in (16, 1024, 33)]
            alone = Masks(5)
            alone.begin(epoch, step)
            for mask, width in zip(own, (16, 1024, 33), strict=True):
                expected = alone.noise((rows, width), 0.2, torch.float32)
                assert mask is not None
                assert expected is not None
                assert torch.equal(mask, expected)


class TestDropout:
    def test_scales_by_the_probability_of_the_mask(self) -> None:
        torch.manual_seed(0)
        y = Dropout(0.1)(torch.ones(100, 100, dtype=torch.float64))
        assert y.unique().tolist() == [0.0, float(np.float32(LEVELS / 58982))]

    @pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0), (1e-6, 1.0)])
    def test_extremes(self, p: float, expected: float) -> None:
        assert torch.equal(Dropout(p)(torch.ones(9, 3)), torch.full((9, 3), expected))

    def test_is_the_identity_in_evaluation_mode(self) -> None:
        x = torch.randn(4, 3)
        assert Dropout(0.5).eval()(x) is x

    def test_outside_of_a_training_depends_on_the_generator_of_torch(self) -> None:
        layer, x = Dropout(0.5), torch.ones(20, 20)
        torch.manual_seed(4)
        first, second = layer(x), layer(x)
        torch.manual_seed(4)
        assert torch.equal(layer(x), first)
        assert not torch.equal(first, second)

    def test_the_gradient_is_the_mask(self) -> None:
        x = torch.ones(6, 5, requires_grad=True)
        y = Dropout(0.5)(x)
        y.sum().backward()
        assert torch.equal(x.grad, y.detach())

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_keeps_the_dtype(self, dtype: torch.dtype) -> None:
        assert Dropout(0.5)(torch.ones(3, dtype=dtype)).dtype is dtype


class TestObjective:
    """A step of a training has one mask, however it is evaluated."""

    @staticmethod
    def make(seed: int = 0) -> tuple[nn.Module, Objective, list[Batch]]:
        torch.manual_seed(0)
        model = mlp((6,), 3, hidden=(16, 8), dropout=0.4).train()
        rows = [Batch(torch.randn(n, 6), torch.randint(3, (n,)), None) for n in (8, 5)]
        return model, Objective(model, CrossEntropy(), device=CPU, seed=seed), rows

    def test_evaluations_of_a_step_agree(self) -> None:
        model, objective, batches = self.make()
        loss = objective.at(batches, 2, 3)()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        torch.testing.assert_close(objective.value(), loss)
        torch.testing.assert_close(objective.differentiable().detach(), loss)
        handle = model.register_forward_hook(lambda *_: None)  # the chain gives way to autograd
        torch.testing.assert_close(objective(), loss)
        handle.remove()
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        assert Masks.current() is None

    def test_another_step_epoch_or_seed_has_another_mask(self) -> None:
        _, objective, batches = self.make()
        losses = {float(objective.at(batches, epoch, step).value()) for epoch in (0, 1) for step in (0, 1, 2)}
        losses.add(float(self.make(seed=1)[1].at(batches, 0, 0).value()))
        assert len(losses) == 7

    def test_torch_s_generator_is_neither_used_nor_needed(self) -> None:
        _, objective, batches = self.make()
        torch.manual_seed(11)
        expected = torch.rand(3)
        torch.manual_seed(11)
        objective.at(batches, 0, 0)()
        assert torch.equal(torch.rand(3), expected)

    def test_a_graph_that_outlives_its_masks_is_refused(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), Dropout(0.5), nn.Linear(4, 1))
        objective = Objective(model, MeanSquaredError(), device=CPU)
        batch = [Batch(torch.ones(4, 3), torch.zeros(4, 1), None)]
        for step in range(3):
            objective.at(batch, 0, step).value()
        loss = objective.at(batch, 0, 3).differentiable()
        for step in range(4, 9):
            objective.at(batch, 5, step).value()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
