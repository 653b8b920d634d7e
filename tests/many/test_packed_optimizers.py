"""Optimizers in packs: what is evaluated, and which have no packed form."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import descend
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because
from descend.optim import OPTIMIZERS, lookahead, sam


def recipe(**optimizer: Any) -> descend.Recipe:
    return descend.Recipe.of(
        {
            "model": {"hidden": [8], "dropout": 0.0},
            "optimizer": optimizer,
            "stop": {"max_epochs": 4, "patience": "none"},
            "engine": {"threads": 1},
        }
    )


@pytest.mark.parametrize("name", ["schedule_free_adamw", "prodigy", "lion"])
def test_what_is_kept_and_evaluated_is_that_of_solo_runs(name: str) -> None:
    """Of the schedule-free method the averages, on the validation rows and at the end."""
    lrs = {"schedule_free_adamw": (0.01, 0.03), "prodigy": (0.5, 1.0), "lion": (1e-3, 3e-3)}[name]
    recipes = [recipe(name=name, lr=lr) for lr in lrs]
    runs = descend.train_many(recipes, "iris", engine="packed")
    for run, each in zip(runs, recipes, strict=True):
        assert run.environment["engine"]["name"] == "packed"
        solo = descend.train("iris", each)
        for own, expected in zip(run.history, solo.history, strict=True):
            assert own["validation"]["loss"] == pytest.approx(expected["validation"]["loss"], rel=1e-4)
        for key, tensor in solo.model.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[key], tensor, rtol=1e-3, atol=1e-5)


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2, 2))]


@pytest.mark.parametrize("name", ["nadam", "radam", "lion", "schedule_free_adamw", "prodigy", "adam", "sgd"])
def test_elementwise_optimizers_are_packed(name: str) -> None:
    assert not optimizer_cannot_be_packed_because(OPTIMIZERS[name](weights()))


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (OPTIMIZERS["adafactor"](weights()), "adafactor averages over rows and columns"),
        (OPTIMIZERS["muon"](weights()), "the optimizer Muon has no packed form"),
        (sam(OPTIMIZERS["adam"](weights())), "the optimizer SAM has no packed form"),
        (lookahead(OPTIMIZERS["adam"](weights())), "the optimizer Lookahead has no packed form"),
        (torch.optim.NAdam(weights(), weight_decay=0.1), "a weight decay that is not that of the recipe"),
        (torch.optim.Adam(weights(), weight_decay=0.1), "a weight decay that is not that of the recipe"),
        (torch.optim.AdamW(weights()), "a weight decay that is not that of the recipe"),
    ],
)
def test_others_have_a_reason(optimizer: torch.optim.Optimizer, reason: str) -> None:
    assert optimizer_cannot_be_packed_because(optimizer).startswith(reason)


def test_a_weight_decay_of_an_import_path_is_not_ignored() -> None:
    """It belongs to the optimizer, not to the recipe, and a pack knows only that of the recipe."""
    recipes = [recipe(name="torch.optim.Adam", weight_decay=decay, lr=0.01) for decay in (0.5, 1.0)]
    runs = descend.train_many(recipes, "iris")
    for run, each in zip(runs, recipes, strict=True):
        solo = descend.train("iris", each)
        for key, tensor in solo.model.state_dict().items():
            assert torch.equal(run.model.state_dict()[key], tensor)
