"""``pos_weight`` of the binary cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import descend
from descend.errors import RecipeError, UserError
from descend.losses import BinaryCrossEntropy

RANDOM = np.random.default_rng(3)
Z = torch.from_numpy(RANDOM.normal(size=(12, 3)) * 3)
Y = torch.from_numpy((RANDOM.random((12, 3)) < 0.3).astype(float))


@pytest.mark.parametrize("weight", [4.0, (4.0, 0.5, 1.0)])
def test_equals_that_of_pytorch(weight: Any) -> None:
    loss = BinaryCrossEntropy(pos_weight=weight)
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight, dtype=torch.float64))
    first, second = Z.clone().requires_grad_(), Z.clone().requires_grad_()
    values = loss(first, Y), reference(second, Y)
    torch.testing.assert_close(*values, rtol=1e-14, atol=0)
    for value in values:
        value.backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-13, atol=0)
    of_probabilities = loss.on_probabilities()(Z.sigmoid(), Y)
    torch.testing.assert_close(of_probabilities, values[0].detach(), rtol=1e-10, atol=0)


def test_label_smoothing_of_probabilities_and_logits() -> None:
    loss = BinaryCrossEntropy(pos_weight=3.0, label_smoothing=0.2)
    smooth = Y[:, 0] * 0.8 + 0.1
    p = Z[:, 0].sigmoid()
    expected = (-3 * smooth * p.log() - (1 - smooth) * (1 - p).log()).mean()
    torch.testing.assert_close(loss(Z[:, :1], Y[:, 0]), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.on_probabilities()(p, Y[:, 0]), expected, rtol=1e-10, atol=0)
    assert loss.unsmoothed().pos_weight == 3.0


def test_it_is_no_likelihood() -> None:
    assert BinaryCrossEntropy().likelihood is not None
    assert BinaryCrossEntropy(pos_weight=2.0).likelihood is None


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan"), (1.0, 0.0), ()])
def test_weights_that_are_not_positive(weight: Any) -> None:
    with pytest.raises(UserError, match="pos_weight must be a positive number"):
        BinaryCrossEntropy(pos_weight=weight)


def test_training_of_labels_and_packs() -> None:
    inputs = RANDOM.normal(size=(80, 2))
    labels = np.column_stack([inputs[:, 0] > 1, inputs[:, 1] > 1])
    base = {"model.hidden": (4,), "stop.max_epochs": 8, "optimizer.lr": 0.05}
    recipes = [{**base, "loss.pos_weight": weight} for weight in ((8.0, 1.0), (1.0, 8.0))]
    first, second = (descend.train((inputs, labels), recipe) for recipe in recipes)
    shares = first.predict_proba(inputs).mean(0) - second.predict_proba(inputs).mean(0)
    assert shares[0] > 0.1
    assert shares[1] < -0.1
    twice = [{**recipes[0], "optimizer.lr": lr} for lr in (0.05, 0.02)]
    packed = descend.train_many(twice, (inputs, labels), engine="packed", progress=False)
    np.testing.assert_allclose(packed[0].predict_proba(inputs), first.predict_proba(inputs), atol=2e-5)
    with pytest.raises(RecipeError, match="one for each of the 2 targets, got 3"):
        descend.train((inputs, labels), {"loss.pos_weight": (1.0, 1.0, 1.0)})
    with pytest.raises(RecipeError, match=r"\[loss\] pos_weight: expected a number above 0"):
        descend.Recipe.of({"loss.pos_weight": -2})


@pytest.mark.parametrize("engine", ["packed", "loop"])
def test_one_label_is_a_binary_target(engine: Any) -> None:
    inputs = RANDOM.normal(size=(60, 2))
    targets = (inputs[:, 0] > 1).astype(int)
    recipe = {"loss.pos_weight": 6.0, "model.hidden": (4,), "stop.max_epochs": 5, "optimizer.lr": 0.05}
    weighted, plain = descend.train_many(
        [recipe, {**recipe, "loss.pos_weight": 1.0}], (inputs, targets), engine=engine, progress=False
    )
    assert weighted.predict_proba(inputs)[:, 1].mean() > plain.predict_proba(inputs)[:, 1].mean() + 0.01
