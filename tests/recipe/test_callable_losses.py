"""Losses by import path: what is passed to them, and which are refused because they were made for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import descend
from descend.errors import RecipeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)
VALUES = 2.0 * X[:, 0] + 5.0
BINARY = (X[:, 0] > 0).astype(int)
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
QUICK: dict[str, Any] = {"stop": {"max_epochs": 2}, "model": {"hidden": [4]}}


def squeezed_outputs(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets).square().mean()


def squeezed_targets(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets.squeeze(1)).square().mean().sqrt()


def brier(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1).sigmoid() - targets).square().mean()


@pytest.mark.parametrize(
    ("loss", "targets"), [(squeezed_outputs, VALUES), (squeezed_targets, VALUES), (brier, BINARY)]
)
def test_a_loss_that_broadcasts_rows_against_rows_is_refused(
    loss: Callable[..., Tensor], targets: Any
) -> None:
    """Outputs (n,) minus targets (n, 1) are n x n differences, whose mean has its minimum at the mean target."""
    with pytest.raises(
        RecipeError, match=r"does not change when the targets are given to other rows: .* \(n, n\)"
    ):
        descend.train((X, targets), {**QUICK, "loss": loss})


def flat(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.flatten() - targets.flatten()).square().mean()


def constant_in_targets(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.square().mean()


def of_any_number(*arguments: Tensor) -> Tensor:
    return (arguments[0] - arguments[1]).square().mean()


@pytest.mark.parametrize("loss", [flat, constant_in_targets, of_any_number])
def test_other_losses_of_rows_are_accepted(loss: Callable[..., Tensor]) -> None:
    run = descend.train((X, VALUES), {**QUICK, "loss": loss})
    assert run.metrics["epochs"] == 2
    if loss is not constant_in_targets:
        expected = descend.train((X, VALUES), {**QUICK, "loss": "mse"})
        assert run.metrics["validation"] == pytest.approx(expected.metrics["validation"], rel=1e-5)


def counts_as_integers(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.exp() - targets.long() * outputs).mean()


def test_a_loss_of_counts_that_converts_targets_to_integers_is_refused() -> None:
    """Standardized targets near 0 become 0, so that every count would have the mean 0."""
    counts = RNG.poisson(np.exp(1.0 + X[:, 0]))
    recipe = {**QUICK, "loss": counts_as_integers, "data": {"task": "regression"}}
    with pytest.raises(RecipeError, match="decreases without bound"):
        descend.train((X, counts), recipe)


def to_number(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs - targets).square().mean())


def test_a_number_is_no_tensor() -> None:
    with pytest.raises(RecipeError, match="returns a float instead of a tensor with one number"):
        descend.train((X, VALUES), {**QUICK, "loss": to_number})


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.functional.cross_entropy])
def test_the_loss_of_a_smoothed_loss_of_pytorch_is_measured_without_smoothing(loss: Any) -> None:
    """As that of descend's own: it is the log-loss of the predictions."""
    quick = {**QUICK, "stop": {"max_epochs": 20}, "optimizer": {"name": "adam", "lr": 0.05}}
    run = descend.train((X, CLASSES), {**quick, "loss": {"name": loss, "label_smoothing": 0.4}})
    own = descend.train((X, CLASSES), {**quick, "loss": {"name": "cross_entropy", "label_smoothing": 0.4}})
    values = run.metrics["validation"]
    assert values["loss"] == pytest.approx(values["log_loss"], rel=1e-5)
    assert abs(values["objective"] - values["loss"]) > 0.02
    assert values == pytest.approx(own.metrics["validation"], rel=1e-4)
