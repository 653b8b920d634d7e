"""Penalties that a recipe adds to the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from descend.errors import RecipeError
from descend.losses import CrossEntropy
from descend.nn import mlp
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.constraints import build_constraints
from descend.recipe.facts import Facts
from descend.recipe.penalties import build_penalty, build_row_penalty
from descend.recipe.resolve import resolve
from descend.regularization import differentiable_inputs, orthogonality_penalty

FACTS = Facts("table", 60, "multiclass", (4,), 3, 10)
BASE = Recipe(model={"hidden": [8]}, init={"output_gain": 1.0})


def complete(**sections: object) -> Recipe:
    return resolve(BASE.replace(sections), FACTS).recipe


class TestPenalty:
    def test_none_where_none_is_specified(self) -> None:
        assert build_penalty(complete(), nn.Linear(2, 2)) is None
        assert build_penalty(complete(regularize={"l2": 0.1}), nn.BatchNorm1d(3)) is None
        assert build_penalty(complete(regularize={"orthogonality": "so"}), nn.BatchNorm1d(3)) is None

    def test_its_value_and_gradient(self) -> None:
        model = nn.Linear(2, 2)
        penalty = build_penalty(complete(regularize={"l1": 0.5, "l2": 0.25}), model)
        assert penalty is not None
        value = penalty()
        value.backward()
        w = model.weight.detach()
        torch.testing.assert_close(value.detach(), 0.5 * w.abs().sum() + 0.25 * (w * w).sum())
        torch.testing.assert_close(model.weight.grad, 0.5 * w.sign() + 0.5 * w)
        assert model.bias.grad is None

    @pytest.mark.parametrize(
        "kind", ["dso", "mc", {"name": "srip", "iterations": 3}, {"name": "so", "probes": "exact"}]
    )
    def test_orthogonality(self, kind: object) -> None:
        model = mlp((4,), 3, hidden=(8,))
        recipe = complete(regularize={"orthogonality": kind, "orthogonality_strength": 0.5})
        penalty = build_penalty(recipe, model)
        assert penalty is not None
        torch.manual_seed(0)
        value = penalty()
        settings = dict(kind) if isinstance(kind, dict) else {"name": kind}
        name = settings.pop("name")
        torch.manual_seed(0)
        weights = [model.linear1.weight, model.output.weight]
        expected = 0.5 * orthogonality_penalty(weights, name, **settings)
        torch.testing.assert_close(value.detach(), expected.detach())
        if value.requires_grad:
            value.backward()
        for weight, gradient in zip(weights, torch.autograd.grad(expected, weights), strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-5)

    def test_the_penalty_of_a_constraint(self) -> None:
        model: Any = mlp((4,), 3, hidden=(8,))
        recipe = complete(constrain={"orthogonal": {"pattern": "*", "method": "penalty", "strength": 2.0}})
        penalty = build_penalty(recipe, model, build_constraints(recipe, model, 0))
        assert penalty is not None
        exact = orthogonality_penalty([model.linear1.weight, model.output.weight], "so", probes="exact")
        torch.testing.assert_close(penalty(), 2.0 * exact)


class TestRowPenalty:
    def test_none_where_none_is_specified(self) -> None:
        assert build_row_penalty(complete(), nn.Linear(2, 2), CrossEntropy()) is None

    def test_is_the_sum_of_its_parts(self) -> None:
        model, x, y = mlp((4,), 3, hidden=(8,)), torch.randn(5, 4), torch.arange(5) % 3
        values = []
        for specified in (
            {"jacobian": 0.5},
            {"gradient_penalty": 2.0},
            {"jacobian": 0.5, "gradient_penalty": 2.0},
        ):
            recipe = complete(regularize={**specified, "jacobian_projections": "exact"})
            penalty = build_row_penalty(recipe, model, CrossEntropy())
            assert penalty is not None
            inputs = differentiable_inputs(x)
            values.append(penalty(inputs, model(inputs), y))
        torch.testing.assert_close(values[0] + values[1], values[2])
        jacobians = torch.stack([torch.func.jacrev(lambda row: model(row[None])[0])(row) for row in x])
        torch.testing.assert_close(values[0], 0.5 * jacobians.square().sum() / 5)

    def test_a_gradient_without_a_derivative_is_refused(self) -> None:
        norm = {"name": "decorrelated", "backward": "power_iteration"}
        recipe = complete(model={"norm": norm}, regularize={"jacobian": 0.1})
        with pytest.raises(RecipeError, match=r"\[regularize\] jacobian: .*'norm1'.*backward = 'exact'"):
            build_row_penalty(recipe, build_model(recipe, FACTS, 0), CrossEntropy())
