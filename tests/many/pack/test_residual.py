"""Residual blocks in packs of stacked layers."""

from __future__ import annotations

import pytest
import torch
from tests.support.packs import assert_equal_solo, stacked
from torch import nn

from descend import train_many
from descend.many.pack import stack
from descend.many.pack.gradients import chain_of
from descend.nn import Residual


def mlps(*settings, optimizer="adam"):
    return [
        {
            "model": {"hidden": [16, 16, 16], "residual": True, **each},
            "optimizer": {"name": optimizer, "lr": 0.1 if optimizer == "sgd" else 1e-2},
        }
        for each in settings
    ]


class TestMemberEqualsItsSoloRun:
    # The gradient of a bias before a norm is 0 up to rounding, which Adam in float32 would amplify to full steps.
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("dtype", "optimizer"), [(torch.float32, "sgd"), (torch.float64, "adam")], ids=["float32", "float64"]
    )
    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param([{}, {}, {}], id="plain"),
            pytest.param([{"dropout": p} for p in (0.0, 0.2, 0.5)], id="dropout rates"),
            pytest.param([{"norm": "batch", "dropout": 0.1}] * 3, id="batch norm"),
            pytest.param([{"activation": each} for each in ("relu", "softplus", "tanh")], id="activations"),
            pytest.param(
                [
                    {"hidden": [h] * 3, "activation": "softplus", "dropout": 0.2, "norm": "batch"}
                    for h in (16, 12, 9)
                ],
                id="widths",
            ),
        ],
    )
    def test_with_settings_that_differ(self, settings, dtype, optimizer):
        assert_equal_solo(mlps(*settings, optimizer=optimizer), stacked, dtype=dtype)

    @pytest.mark.slow
    def test_after_another_was_dropped(self):
        assert_equal_solo(mlps({}, {"dropout": 0.3}, {}), stacked, drop=0, dtype=torch.float64)

    @pytest.mark.slow
    def test_with_gradient_accumulation(self):
        recipes = [{**each, "gradient": {"accumulate": 2}} for each in mlps({}, {})]
        assert_equal_solo(recipes, stacked, dtype=torch.float64)


def nested():
    inner = Residual(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
    return nn.Sequential(
        Residual(nn.Sequential(nn.Tanh(), inner, nn.Linear(4, 4), Residual(nn.Linear(4, 4)))), nn.Linear(4, 2)
    ).double()


def test_gradients_of_nested_blocks():
    models = [nested() for _ in range(3)]
    stacked_models = stack(models)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    for one in (stacked_models, stacked_models.select([0, 1, 2])):
        gradients = [torch.empty_like(entry.tensor) for entry in one.entries]
        chain = chain_of(one, gradients)
        y, saved = chain.forward(x)
        packed = chain.backward(torch.ones_like(y), saved)
        for member, model in enumerate(models):
            solo = model(x[member])
            torch.testing.assert_close(y[member], solo)
            expected = torch.autograd.grad(solo.sum(), list(model.parameters()))
            for gradient, own in zip(packed, expected, strict=True):
                torch.testing.assert_close(gradient[member], own)


def test_names_equal_those_of_the_plain_module():
    models = [nested() for _ in range(2)]
    state = stack(models).state(1)
    assert set(state) == set(models[1].state_dict())
    assert all(torch.equal(state[name], t) for name, t in models[1].state_dict().items())


def test_selection_does_not_share_branches():
    whole = stack([nested() for _ in range(3)])
    fewer = whole.select([2, 0])
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    assert torch.equal(fewer(x[[2, 0]]), whole(x)[[2, 0]])
    originals = {id(layer) for layer in whole.network.modules()}
    assert not originals & {id(layer) for layer in fewer.network.modules() if not list(layer.children())} - {
        id(layer) for layer in whole.network.modules() if isinstance(layer, nn.Tanh)
    }


def test_train_many_packs_them():
    recipes = [{**each, "stop": {"max_epochs": 2}} for each in mlps({}, {"dropout": 0.2})]
    runs = train_many(recipes, "iris", engine="packed")
    assert [run.environment["engine"]["name"] for run in runs] == ["packed", "packed"]
