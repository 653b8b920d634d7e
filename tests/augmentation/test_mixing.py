"""Mixtures: targets are mixed exactly like the inputs."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from descend.augmentation import Cutmix, Mixup
from descend.augmentation.mixing import symmetric_beta
from descend.augmentation.pipeline import Pipeline
from descend.data.batches import Batch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 3.0, 50.0])
def test_weights_are_beta_distributed(alpha):
    samples = symmetric_beta(8000, alpha, generator()).numpy()
    low = samples[samples < 0.5]  # near 1, float64 lacks the precision that small shapes need
    assert abs(len(low) - 4000) < 5 * 8000**0.5 / 2

    def fits(shape):
        return stats.kstest(low, lambda x: 2 * stats.beta(shape, shape).cdf(x)).pvalue

    assert fits(alpha) > 1e-4
    assert fits(1.3 * alpha) < 1e-4  # the test can fail


def test_tiny_shapes_give_no_nan():
    samples = symmetric_beta(10_000, 1e-12, generator())
    assert samples.isfinite().all()
    assert abs(float(samples.mean()) - 0.5) < 0.03


class TestMixup:
    def test_inputs_are_mixed_with_the_weights(self):
        rows = torch.randn(40, 3, 4, generator=generator(1))
        mixed = Mixup(alpha=1.0)(rows, generator())
        share = mixed.share.reshape(-1, 1, 1)
        torch.testing.assert_close(mixed.inputs, share * rows + (1 - share) * rows[mixed.partner])
        assert sorted(mixed.partner.tolist()) == list(range(40))

    def test_linear_targets_stay_linear(self):
        """y = w x also holds for mixed rows with mixed targets."""
        rows, weights = torch.randn(30, 5, generator=generator(1)), torch.randn(5, 2, generator=generator(2))
        batch = Pipeline([Mixup(alpha=0.7)])(Batch(rows, rows @ weights, None), 0, 0)
        torch.testing.assert_close(batch.targets, batch.inputs @ weights, rtol=1e-4, atol=1e-5)
        assert not torch.equal(batch.inputs, rows)


class TestCutmix:
    def test_the_weight_is_the_fraction_of_pixels(self):
        images = torch.arange(20.0).reshape(20, 1, 1, 1).expand(20, 2, 7, 10)
        mixed = Cutmix()(images, generator())
        own = (mixed.inputs == images)[:, 0]
        foreign = (mixed.inputs == images[mixed.partner])[:, 0]
        assert (own | foreign).all()
        apart = mixed.partner != torch.arange(20)
        counted = own.flatten(1).sum(1) / 70
        torch.testing.assert_close(mixed.share[apart], counted[apart], rtol=0, atol=1e-6)
        taken = ~own
        assert torch.equal(taken.flatten(1).sum(1), taken.any(2).sum(1) * taken.any(1).sum(1))  # rectangles
        assert (mixed.share > 0).any()
        assert (mixed.share < 1).any()

    def test_all_or_nothing_if_alpha_is_small(self):
        mixed = Cutmix(alpha=1e-6)(torch.rand(400, 1, 8, 8), generator())
        whole = mixed.share == 1
        assert 0.4 < whole.float().mean() < 0.6  # the others lose the part of the rectangle inside the image
        assert (mixed.share[~whole] < 0.76).all()


class TestTargets:
    def batch(self, targets, weights=None):
        return Batch(torch.randn(12, 3, generator=generator(4)), targets, weights)

    def test_classes_become_distributions(self):
        classes = torch.arange(12) % 3
        result = Pipeline([Mixup(alpha=1.0)], classes=3, seed=1)(self.batch(classes), 2, 3)
        assert result.targets.shape == (12, 3)
        torch.testing.assert_close(result.targets.sum(1), torch.ones(12))
        assert result.targets[torch.arange(12), classes].min() > 0
        logits = torch.randn(12, 3, generator=generator(5))
        mixed = Mixup(alpha=1.0)
        # The loss of the mixture is the mixture of the losses, as in the paper.
        seeded = torch.Generator()
        from descend.rng import key

        again = mixed(self.batch(classes).inputs, seeded.manual_seed(key(1, "augment.0.0", 2, 3)))
        one = functional.cross_entropy(logits, classes, reduction="none")
        other = functional.cross_entropy(logits, classes[again.partner], reduction="none")
        expected = (again.share * one + (1 - again.share) * other).mean()
        torch.testing.assert_close(functional.cross_entropy(logits, result.targets), expected)

    def test_binary_targets_become_numbers_between_0_and_1(self):
        result = Pipeline([Mixup(alpha=1.0)])(self.batch(torch.arange(12.0) % 2), 0, 0).targets
        assert result.shape == (12,)
        assert ((result >= 0) & (result <= 1)).all()
        assert ((result > 0) & (result < 1)).any()

    def test_weights_are_mixed_and_the_loss_is_their_sum(self):
        classes, weights = torch.arange(12) % 3, torch.arange(12.0)
        result = Pipeline([Mixup(alpha=1.0)], classes=3, seed=1)(self.batch(classes, weights), 0, 0)
        plain = Pipeline([Mixup(alpha=1.0)], classes=3, seed=1)(self.batch(classes), 0, 0)
        assert torch.equal(result.inputs, plain.inputs)
        logits = torch.randn(12, 3, generator=generator(5))
        total = functional.cross_entropy(logits, result.targets, reduction="none") @ result.weights
        from descend.rng import key

        again = Mixup(alpha=1.0)(
            self.batch(classes).inputs, torch.Generator().manual_seed(key(1, "augment.0.0", 0, 0))
        )
        one = weights * functional.cross_entropy(logits, classes, reduction="none")
        other = weights[again.partner] * functional.cross_entropy(
            logits, classes[again.partner], reduction="none"
        )
        torch.testing.assert_close(total, (again.share * one + (1 - again.share) * other).sum())

    def test_rows_without_weight_give_no_nan(self):
        result = Pipeline([Mixup()], classes=3)(self.batch(torch.arange(12) % 3, torch.zeros(12)), 0, 0)
        assert result.targets.isfinite().all()
        assert (result.weights == 0).all()

    def test_two_mixtures_in_sequence(self):
        images = Batch(torch.rand(12, 1, 4, 4), torch.arange(12) % 3, None)
        result = Pipeline([Mixup(), Cutmix()], classes=3)(images, 0, 0)
        torch.testing.assert_close(result.targets.sum(1), torch.ones(12))
        assert np.isfinite(result.inputs.numpy()).all()
