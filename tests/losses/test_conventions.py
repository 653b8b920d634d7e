"""Losses by import path: each gets what it takes, so that training is that of the loss of the catalogue; others are refused."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import descend
from descend.errors import RecipeError, UserError
from descend.losses.conventions import _FUNCTIONS, CONVENTIONS, convention_of
from descend.losses.functions import constructor_of

X = np.random.default_rng(0).normal(size=(160, 3))
COUNTS = np.random.default_rng(1).poisson(np.exp(3 + 0.5 * X[:, 0])).astype(float)
BITS = (X[:, 0] + X[:, 1] > 0).astype(int)
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
LABELS = np.column_stack([X[:, 0] > 0, X[:, 1] > 0.3]).astype(int)

DATA: dict[str, tuple[Any, dict[str, Any]]] = {
    "regression": ((X, X[:, 0] * 50 + 1000), {}),
    "counts": ((X, COUNTS), {"task": "regression"}),
    "binary": ((X, BITS), {}),
    "multiclass": ((X, CLASSES), {}),
    "multi_label": ((X, LABELS), {}),
}


def trained(data: str, loss: Any, **model: Any) -> descend.Run:
    rows, section = DATA[data]
    return descend.train(
        rows,
        {
            "data": section,
            "loss": loss,
            "model": {"hidden": [6], **model},
            "stop": {"max_epochs": 3},
            "engine": {"threads": 1},
            "optimizer": {"lr": 0.01},
        },
    )


@pytest.mark.parametrize(
    ("data", "loss", "own"),
    [
        ("regression", "torch.nn.MSELoss", "mse"),
        ("regression", "torch.nn.functional.mse_loss", "mse"),
        ("regression", F.l1_loss, "l1"),
        ("regression", {"name": F.huber_loss, "delta": 0.5}, {"name": "huber", "delta": 0.5}),
        ("regression", {"name": "torch.nn.SmoothL1Loss"}, {"name": "huber", "delta": 1.0}),
        ("counts", "torch.nn.PoissonNLLLoss", "poisson"),
        ("counts", {"name": nn.PoissonNLLLoss, "log_input": False, "eps": 1e-30}, "poisson"),
        ("counts", "torch.nn.functional.poisson_nll_loss", "poisson"),
        ("counts", {"name": F.poisson_nll_loss, "log_input": False, "eps": 1e-30}, "poisson"),
        ("regression", "torch.nn.GaussianNLLLoss", "gaussian"),
        ("regression", F.gaussian_nll_loss, "gaussian"),
        ("binary", "torch.nn.BCELoss", {"name": "bce", "label_smoothing": 0.0}),
        ("binary", F.binary_cross_entropy, {"name": "bce", "label_smoothing": 0.0}),
        ("binary", "torch.nn.BCEWithLogitsLoss", {"name": "bce", "label_smoothing": 0.0}),
        ("binary", "torch.nn.SoftMarginLoss", {"name": "bce", "label_smoothing": 0.0}),
        ("binary", F.soft_margin_loss, {"name": "bce", "label_smoothing": 0.0}),
        ("multi_label", "torch.nn.BCELoss", "bce"),
        ("multi_label", "torch.nn.MultiLabelSoftMarginLoss", "bce"),
        ("multi_label", F.binary_cross_entropy_with_logits, "bce"),
        ("multiclass", "torch.nn.NLLLoss", {"name": "cross_entropy", "label_smoothing": 0.0}),
        ("multiclass", F.nll_loss, {"name": "cross_entropy", "label_smoothing": 0.0}),
        ("multiclass", {"name": nn.KLDivLoss, "reduction": "batchmean"}, "kl"),
        (
            "multiclass",
            {"name": nn.CrossEntropyLoss, "label_smoothing": 0.1},
            {"name": "cross_entropy", "label_smoothing": 0.1},
        ),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", str(value)),
)
def test_training_is_that_of_the_catalogue(data: str, loss: Any, own: Any) -> None:
    runs = [trained(data, each) for each in (loss, own)]
    predictions = [
        run.predict(X) if data in ("regression", "counts") else run.predict_proba(X) for run in runs
    ]
    spread = predictions[1].std()
    assert spread > 0
    np.testing.assert_allclose(predictions[0], predictions[1], atol=2e-3 * spread)


class Declared(nn.Module):
    """The mean squared error of targets in their own units."""

    target_space = "raw"

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert 500 < targets.mean() < 1500
        return (outputs - targets).square().mean()


def on_probabilities(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of probabilities."""
    return -(targets * outputs.log() + (1 - targets) * (1 - outputs).log()).mean()


def poisson(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The Poisson loss of logarithms of the mean."""
    return (outputs.exp() - targets * outputs).mean()


def log_likelihood(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The negative log-likelihood of log-probabilities."""
    return -outputs.gather(1, targets.unsqueeze(1)).mean()


def brier(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The squared error of probabilities."""
    return (outputs - targets).square().mean()


def declaring(function: Any, **declared: str) -> Any:
    @functools.wraps(function)
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = function(outputs, targets)
        return value

    for name, value in declared.items():
        setattr(loss, name, value)
    return loss


class TestDeclarations:
    def test_targets_in_their_own_units(self) -> None:
        """Training starts from the mean, so predictions of targets near 1000 are not near 0 after a few steps."""
        run = trained("regression", Declared)
        assert run.recipe.data["target_scale"] == "none"
        assert 950 < run.predict(X).mean() < 1050

    def test_a_setting_of_the_recipe(self) -> None:
        seen: list[float] = []

        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            seen.append(float(targets.mean()))
            return (outputs - targets).square().mean()

        recipe = {"loss": loss, "stop": {"max_epochs": 1}, "model": {"hidden": [4]}}
        descend.train(DATA["regression"][0], recipe)
        assert max(map(abs, seen)) < 5
        seen.clear()
        descend.train(DATA["regression"][0], recipe | {"data": {"target_scale": "none"}})
        assert max(seen) > 900

    def test_a_declared_function_equals_the_loss_of_the_catalogue(self) -> None:
        smooth = {"name": "bce", "label_smoothing": 0.0}
        for data, loss, own in [
            ("binary", declaring(on_probabilities, output_form="probabilities"), smooth),
            ("binary", declaring(brier, output_form="probabilities"), "squared"),
            (
                "multiclass",
                declaring(log_likelihood, output_form="log_probabilities"),
                {"name": "cross_entropy", "label_smoothing": 0.0},
            ),
        ]:
            first, second = (trained(data, each).predict_proba(X) for each in (loss, own))
            np.testing.assert_allclose(first, second, atol=1e-4)

    def test_counts_with_a_log_link(self) -> None:
        loss = declaring(poisson, target_space="raw")
        own = trained("counts", "poisson").predict(X)
        np.testing.assert_allclose(trained("counts", loss, output="exp").predict(X), own, rtol=1e-3)

    @pytest.mark.parametrize(
        ("data", "function", "message"),
        [
            (
                "binary",
                on_probabilities,
                "the loss returns nan for raw outputs from -2 to 2, which are logits",
            ),
            ("binary", brier, "larger for confident correct logits of size 8"),
            ("multi_label", brier, "larger for confident correct logits of size 8"),
            (
                "multiclass",
                log_likelihood,
                "decreases without bound as the logit of the correct class increases",
            ),
            ("counts", poisson, "it was made for other targets or outputs; set target_space = 'raw'"),
        ],
    )
    def test_without_a_declaration_it_is_refused(self, data: str, function: Any, message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            trained(data, function)

    def test_unknown_declarations(self) -> None:
        for name in ("output_form", "target_space"):
            with pytest.raises(UserError, match=f"{name}: expected one of"):
                convention_of(declaring(brier, **{name: "percent"}))

    def test_a_standard_scale_contradicts_raw_targets(self) -> None:
        with pytest.raises(RecipeError, match="'standard' does not fit the loss poisson"):
            descend.train(
                DATA["counts"][0],
                {"data": {"task": "regression", "target_scale": "standard"}, "loss": "poisson"},
            )


def test_the_order_of_the_arguments_follows_their_names() -> None:
    def loss(y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(y_pred, y_true)

    own = trained("binary", {"name": "bce", "label_smoothing": 0.0}).predict_proba(X)
    np.testing.assert_allclose(trained("binary", loss).predict_proba(X), own, atol=1e-4)


def test_an_undeclared_loss_of_counts_with_settings_of_the_recipe() -> None:
    recipe = {
        "data": {"task": "regression", "target_scale": "none"}, "loss": poisson, "model": {"hidden": [6], "output": "exp"},
        "stop": {"max_epochs": 3}, "engine": {"threads": 1}, "optimizer": {"lr": 0.01},
    }  # fmt: skip
    own = trained("counts", "poisson").predict(X)
    np.testing.assert_allclose(descend.train((X, COUNTS), recipe).predict(X), own, rtol=1e-3)
    with pytest.raises(
        RecipeError, match="'exp' predicts positive numbers, but standardized targets are also negative"
    ):
        descend.train((X, COUNTS), recipe | {"data": {"task": "regression"}})


class Learned(nn.Module):
    """A loss with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (self.weight * (outputs - targets).square()).mean()


def of_arrays(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A loss without a gradient."""
    return torch.tensor(((outputs - targets).detach().numpy() ** 2).mean())


class TestRefusals:
    def test_a_loss_with_parameters(self) -> None:
        with pytest.raises(RecipeError, match="Learned has parameters of its own, which are not trained"):
            trained("regression", Learned)

    def test_a_loss_without_a_gradient(self) -> None:
        with pytest.raises(RecipeError, match="the loss has no gradient: it converts tensors to numbers"):
            trained("regression", of_arrays)

    @pytest.mark.parametrize("name", [name for name, each in CONVENTIONS.items() if not each.tasks])
    @pytest.mark.parametrize("data", ["regression", "binary", "multiclass"])
    def test_losses_of_other_problems(self, name: str, data: str) -> None:
        if name == "AdaptiveLogSoftmaxWithLoss":
            return  # it has settings without defaults, and is refused for that
        with pytest.raises(
            RecipeError, match=r"cannot be used: it.*; use \{'loss.name': '|its targets are lists"
        ):
            trained(data, f"torch.nn.{name}")

    @pytest.mark.parametrize("function", sorted(_FUNCTIONS))
    @pytest.mark.parametrize("data", ["regression", "binary", "multiclass", "multi_label"])
    def test_functions_train_or_are_refused(self, function: str, data: str) -> None:
        known = CONVENTIONS[_FUNCTIONS[function]]
        if data not in known.tasks and known.target_space != "raw":  # targets of counts are numbers
            with pytest.raises(RecipeError, match=r"cannot be used: .*; use \{'loss.name': '"):
                trained(data, f"torch.nn.functional.{function}")

    def test_negative_counts(self) -> None:
        for loss in ("poisson", "torch.nn.PoissonNLLLoss", "negative_binomial"):
            with pytest.raises(UserError, match="takes counts, targets of at least 0, got -"):
                descend.train((X, X[:, 0]), {"loss": loss})

    def test_a_sum_over_rows(self) -> None:
        with pytest.raises(
            RecipeError, match="returns the sum over rows: it doubles when the rows are repeated"
        ):
            trained("regression", {"name": "torch.nn.MSELoss", "reduction": "sum"})

    def test_objects_with_settings(self) -> None:
        for loss, name in (
            (nn.HuberLoss(delta=3.0), "HuberLoss"),
            (functools.partial(F.huber_loss, delta=3.0), "huber_loss"),
        ):
            with pytest.raises(
                RecipeError, match=f'a recipe stores the name and the settings: loss={{"name": {name}'
            ):
                trained("regression", loss)

    def test_an_output_that_the_loss_does_not_take(self) -> None:
        with pytest.raises(RecipeError, match="'exp' does not fit the task regression with the loss mse"):
            trained("regression", "mse", output="exp")
        with pytest.raises(RecipeError, match="takes logits, which the output activation Sine does not have"):
            trained("binary", "torch.nn.BCEWithLogitsLoss", output="sine")


def test_the_settings_of_a_function() -> None:
    constructor = constructor_of(F.huber_loss)
    assert "delta" in descend.recipe.Recipe(loss={"name": F.huber_loss, "delta": 2.0}).loss
    with pytest.raises(RecipeError, match="unknown key of"):
        descend.recipe.Recipe(loss={"name": "torch.nn.functional.huber_loss", "delat": 2.0})
    assert constructor(delta=2.0)(torch.tensor([[3.0]]), torch.tensor([[0.0]])).item() == 4.0


def test_every_function_and_class_exists() -> None:
    assert all(hasattr(nn, name) for name in CONVENTIONS)
    assert all(hasattr(F, name) for name in _FUNCTIONS)
