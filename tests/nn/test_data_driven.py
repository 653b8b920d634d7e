"""Data-driven initialization: hidden units of variance 1, and biases inside the range of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import descend
from descend.errors import RecipeError, UserError
from descend.many import train_many
from descend.nn import init, mlp

RECIPE: dict[str, Any] = {
    "model": {"hidden": [16, 16]},
    "init": {"name": "data_driven", "output_gain": 0.5},
    "stop": {"max_epochs": 2},
    "engine": {"threads": 1},
}


def fitted(points: int = 5, hidden: tuple[int, ...] = (300, 200)) -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    x = 4.0 + torch.randn(500, 3) @ torch.tensor([[3.0, 0, 0], [1, 0.2, 0], [0, 0, 5]])
    model = mlp((3,), 1, hidden=hidden, activation="relu")
    scheme = init.data_driven(points=points)
    init.initialize(model, scheme, generator=torch.Generator().manual_seed(1))
    scheme.fit(model, x, torch.Generator().manual_seed(2))
    return model, x


def test_each_hidden_unit_has_variance_one_on_the_rows() -> None:
    model, x = fitted()
    for name in ("linear1", "linear2"):
        x = model.get_submodule(name)(x)
        torch.testing.assert_close(x.std(0, correction=0), torch.ones(x.shape[1]), rtol=1e-4, atol=1e-4)
        x = torch.relu(x)


def test_directions_are_those_of_normal_weights() -> None:
    model, _ = fitted()
    weight = model.get_parameter("linear1.weight").detach()
    assert torch.nn.functional.normalize(weight, dim=1).mean(0).abs().max() < 0.1


def test_biases_are_convex_combinations_of_the_outputs() -> None:
    model, x = fitted()
    weight, bias = (model.get_parameter(f"linear1.{name}") for name in ("weight", "bias"))
    z, points = x @ weight.t(), -bias
    assert bool((points >= z.min(0).values).all() and (points <= z.max(0).values).all())
    # The mean of P points with uniform shares on the simplex has the variance 2/(P + 1) of one point.
    deviation = (points - z.mean(0)).detach()
    assert deviation.square().mean().item() == pytest.approx(2 / 6, rel=0.2)
    single, x = fitted(points=1)
    weight, bias = (single.get_parameter(f"linear1.{name}") for name in ("weight", "bias"))
    nearest = (x @ weight.t() + bias).abs().min(0).values
    assert nearest.max() < 1e-5


def test_a_run_starts_from_it_and_its_prediction_is_the_mean() -> None:
    seen = {}

    class First:
        def started(self, training: Any) -> None:
            seen.update({name: p.detach().clone() for name, p in training.model.named_parameters()})

    run = descend.train("diabetes", {**RECIPE, "init": {"name": "data_driven"}}, observers=[First()], seed=1)
    assert not seen["output.weight"].any()
    assert seen["linear1.bias"].all()
    again = descend.train("diabetes", {**RECIPE, "init": {"name": "data_driven"}}, seed=1)
    assert all(torch.equal(t, again.model.state_dict()[name]) for name, t in run.model.state_dict().items())
    assert run.history[0]["train"]["loss"] < 1.5


def test_members_of_a_pack_start_like_solo_runs() -> None:
    runs = train_many([RECIPE, RECIPE], "diabetes", seeds=[1, 2], engine="packed")
    for seed, run in zip((1, 2), runs, strict=True):
        solo = descend.train("diabetes", RECIPE, seed=seed)
        for name, tensor in solo.model.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def test_embedded_numbers_and_dead_units() -> None:
    run = descend.train(
        "diabetes", {**RECIPE, "model": {"hidden": [8], "number_embedding": "piecewise_linear"}}
    )
    assert np.isfinite(run.metrics["test"]["r2"])
    model = mlp((2,), 1, hidden=(4,))
    init.data_driven().fit(model, torch.ones(9, 2), torch.Generator().manual_seed(0))
    assert all(p.isfinite().all() for p in model.parameters())


def test_layers_and_data_that_cannot_be_fitted() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(2, 2)), nn.Linear(2, 1))
    with pytest.raises(UserError, match="the weight of '0' is computed from other tensors"):
        init.data_driven().fit(model, torch.ones(3, 2), torch.Generator())

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, at: int) -> Any:
            return torch.tensor([at / 60, at % 7.0]), float(at % 5)

    with pytest.raises(RecipeError, match="these are loaded one by one"):
        descend.train(Rows(), RECIPE)
