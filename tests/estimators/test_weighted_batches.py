"""Batches that sample rows by weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from descend.estimators.weighted_batches import WeightedBatches, samples_per_epoch


def make(weights, samples, *, batch_size=4, **options) -> WeightedBatches:
    rows = torch.arange(len(weights))
    return WeightedBatches(
        rows.float().unsqueeze(1),
        rows,
        torch.tensor(weights),
        batch_size=batch_size,
        samples=samples,
        **options,
    )


def counts(batches: WeightedBatches, epoch: int, n: int) -> np.ndarray:
    return np.bincount(batches.sampled_rows(epoch).numpy(), minlength=n)


def test_integer_weights_are_repetitions():
    weights = [3.0, 1.0, 0.0, 5.0, 2.0]
    batches = make(weights, 11)
    for epoch in range(50):
        assert counts(batches, epoch, 5).tolist() == weights


def test_equal_weights_visit_every_row_once():
    batches = make([1.0] * 100, 100)
    for epoch in range(20):
        assert (counts(batches, epoch, 100) == 1).all()
    assert not torch.equal(batches.sampled_rows(0), batches.sampled_rows(1))


def test_counts_are_within_one_of_their_expectation_and_unbiased():
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=30).astype(np.float32)
    share = weights.astype(float) / weights.astype(float).sum()
    batches = make(weights.tolist(), 64)
    seen = np.array([counts(batches, epoch, 30) for epoch in range(2000)])
    assert (np.abs(seen - 64 * share) < 1.0).all()
    # A count is floor or ceil: its deviation is at most 1/2, that of the mean of 2000 at most 0.012.
    assert np.abs(seen.mean(0) - 64 * share).max() < 5 * 0.5 / np.sqrt(2000)


def test_independent_samples():
    batches = make([1.0, 2.0, 5.0], 800, sampling="with_replacement")
    seen = np.array([counts(batches, epoch, 3) for epoch in range(200)])
    expected = 800 * np.array([1, 2, 5]) / 8
    std = np.sqrt(expected * (1 - expected / 800))
    assert (np.abs(seen.mean(0) - expected) < 5 * std / np.sqrt(200)).all()
    assert np.allclose(seen.std(0), std, rtol=0.2)  # systematic samples would not vary


@pytest.mark.parametrize("accumulate", [1, 3])
def test_an_epoch_can_be_entered_anywhere(accumulate):
    batches = make([1.0, 2.0, 4.0, 1.5], 22, accumulate=accumulate, seed=7)
    whole = list(batches.epoch(3))
    assert len(whole) == batches.steps_per_epoch
    assert [sum(len(b.targets) for b in step) for step in whole] == batches.rows_per_step
    for start in range(len(whole)):
        for step, (one, again) in enumerate(zip(whole[start:], batches.epoch(3, start), strict=True), start):
            for batch, same, rows in zip(one, again, batches.rows(3, step), strict=True):
                assert torch.equal(batch.inputs, same.inputs)
                assert torch.equal(batch.targets, rows)
                assert batch.weights is None
    assert not torch.equal(batches.sampled_rows(3), make([1.0, 2.0, 4.0, 1.5], 22, seed=8).sampled_rows(3))


def test_length_of_an_epoch():
    assert samples_per_epoch(torch.tensor([1.0, 4.0, 6.0])) == 11
    assert samples_per_epoch(torch.tensor([0.25, 1.0, 1.5])) == 11  # scale does not matter
    assert samples_per_epoch(torch.tensor([0.0, 2.0, 2.0])) == 2  # nor do rows without weight
    assert samples_per_epoch(torch.tensor([1.0, 1e9])) == 2000
    assert samples_per_epoch(torch.cat([torch.full((5000,), 100.0), torch.ones(1)])) == 2 * 5001
