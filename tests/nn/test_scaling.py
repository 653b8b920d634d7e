"""Scaling layers and parametric activations: their formulas, in the multilayer perceptron, alone and in packs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import descend
from descend.errors import UserError
from descend.many import train_many
from descend.nn import ParametricActivation, Scaling, mlp
from descend.regularization import decayed_parameters

MODEL: dict[str, Any] = {
    "hidden": [8, 8],
    "scaling_layer": True,
    "parametric_activation": True,
    "activation": "selu",
}
RECIPE: dict[str, Any] = {"model": MODEL, "stop": {"max_epochs": 3}, "engine": {"threads": 1}}


def test_they_are_their_formulas() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 3, dtype=torch.float64)
    scaling, parametric = Scaling(3).double(), ParametricActivation(nn.SELU(), 3).double()
    assert torch.equal(scaling(x), x)
    assert torch.allclose(parametric(x), torch.selu(x), rtol=1e-15)
    share = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)
    for layer in (scaling, parametric):
        layer.weight.data.copy_(share)
    assert torch.equal(scaling(x), x * share)
    torch.testing.assert_close(parametric(x), (1 - share) * x + share * torch.selu(x))
    assert torch.autograd.gradcheck(parametric, (x.requires_grad_(),))


def test_the_perceptron_has_them() -> None:
    model = mlp((3,), 2, hidden=(4, 5), activation="tanh", scaling_layer=True, parametric_activation=True)
    plain = mlp((3,), 2, hidden=(4, 5), activation="tanh")
    assert [name for name, _ in model.named_children()] == ["scale", *dict(plain.named_children())]
    plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
    x = torch.randn(6, 3)
    torch.testing.assert_close(model(x), plain(x))
    decayed = {id(p) for p in decayed_parameters(model)[0]}
    assert {name for name, p in model.named_parameters() if id(p) in decayed} == {
        "linear1.weight", "linear2.weight", "output.weight"
    }  # fmt: skip


def test_maxout_has_no_parametric_form() -> None:
    with pytest.raises(UserError, match="maxout has several inputs"):
        mlp((3,), 2, activation="maxout", parametric_activation=True)
    with pytest.raises(UserError, match="PReLU has its own"):
        mlp((3,), 2, activation=nn.PReLU, parametric_activation=True)


@pytest.mark.parametrize("engine", ["packed", "vmap", "loop"])
def test_a_pack_trains_like_solo_runs(engine: Any) -> None:
    recipes = [{**RECIPE, "optimizer": {"lr": lr}} for lr in (1e-3, 1e-2)]
    runs = train_many(recipes, "diabetes", seeds=3, engine=engine)
    for recipe, run in zip(recipes, runs, strict=True):
        assert run.environment["engine"]["name"] == engine
        solo = descend.train("diabetes", recipe, seed=3)
        for name, tensor in solo.model.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
        assert all(
            not torch.equal(p, torch.ones_like(p)) for name, p in run.model.named_parameters() if p.dim() == 1
        )


def test_their_learning_rates_have_factors() -> None:
    class Rates:
        def stepped(self, training: Any) -> None:
            groups = training.optimizer.param_groups
            self.of = {id(p): group["lr"] / groups[0]["lr"] for group in groups for p in group["params"]}
            self.names = {name: self.of[id(p)] for name, p in training.model.named_parameters()}

    rates = Rates()
    groups = {"scale": 6.0, "act*.weight": 0.1, "*bias": 0.2}
    descend.train("diabetes", {**RECIPE, "optimizer": {"groups": groups}}, observers=[rates])
    assert rates.names == pytest.approx(
        {
            "scale.weight": 6.0, "linear1.weight": 1, "linear1.bias": 0.2, "act1.weight": 0.1, "linear2.weight": 1,
            "linear2.bias": 0.2, "act2.weight": 0.1, "output.weight": 1, "output.bias": 0.2,
        }
    )  # fmt: skip
