"""Losses of a pack and their derivatives equal those of each member."""

from __future__ import annotations

import pytest
import torch

from descend.losses import BinaryCrossEntropy, CrossEntropy, Huber, MeanSquaredError, Squared
from descend.many.pack.losses import PackedLoss, row_losses

CASES = {
    "classes": ([CrossEntropy()] * 3, 5),
    "smoothed classes": ([CrossEntropy(label_smoothing=a) for a in (0.0, 0.1, 1.0)], 5),
    "classes, squared": ([Squared()] * 3, 5),
    "two classes": ([BinaryCrossEntropy()] * 3, 1),
    "smoothed two classes": ([BinaryCrossEntropy(label_smoothing=0.2)] * 3, 1),
    "two classes, squared": ([Squared()] * 3, 1),
    "values": ([MeanSquaredError()] * 3, 2),
    "values, Huber": ([Huber()] * 3, 2),
}


def rows(case: str):
    losses, width = CASES[case]
    rng = torch.Generator().manual_seed(0)
    outputs = 4.0 * torch.randn(3, 7, width, generator=rng, dtype=torch.float64)
    if "values" in case:
        targets = torch.randn(3, 7, width, generator=rng, dtype=torch.float64)
    elif width == 1:
        targets = torch.randint(2, (3, 7), generator=rng).double()
    else:
        targets = torch.randint(width, (3, 7), generator=rng)
    return losses, outputs, targets, torch.rand(3, 7, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_values_and_derivatives_equal_those_of_each_member(case: str, weighted: bool) -> None:
    losses, outputs, targets, weights = rows(case)
    values, derivative = PackedLoss(losses)(outputs, targets, weights if weighted else None)
    for member, loss in enumerate(losses):
        leaf = outputs[member].clone().requires_grad_()
        each = loss.per_sample(leaf, targets[member])
        mean = (each * weights[member]).mean() if weighted else loss(leaf, targets[member])
        (own,) = torch.autograd.grad(mean, leaf)
        torch.testing.assert_close(values[member], mean.detach(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(derivative[member], own, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", [case for case in CASES if "smoothed" not in case])
def test_row_losses_equal_those_of_each_member(case: str) -> None:
    losses, outputs, targets, _ = rows(case)
    packed = row_losses(losses[0], outputs, targets)
    own = torch.stack([losses[0].per_sample(outputs[k], targets[k]) for k in range(3)])
    torch.testing.assert_close(packed, own, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_bits_do_not_depend_on_other_members(case: str) -> None:
    losses, outputs, targets, _ = rows(case)
    outputs = outputs.float()
    targets = targets.float() if targets.is_floating_point() else targets
    values, derivative = PackedLoss(losses)(outputs, targets)
    # Except for the last member's: the last entries of a tensor are computed with other instructions.
    fewer_values, fewer_derivatives = PackedLoss(losses[1:])(outputs[1:], targets[1:])
    assert torch.equal(fewer_values[0], values[1])
    assert torch.equal(fewer_derivatives[0], derivative[1])
    bad = outputs.clone()
    bad[0] = float("nan")
    other_values, other_derivatives = PackedLoss(losses)(bad, targets)
    assert torch.equal(other_values[1:], values[1:])
    assert torch.equal(other_derivatives[1:], derivative[1:])
