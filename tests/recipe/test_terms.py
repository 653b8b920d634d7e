"""What a recipe adds to the loss, and what it holds weights to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from descend.errors import RecipeError
from descend.losses import CrossEntropy
from descend.nn import mlp
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.defaults import Facts
from descend.recipe.resolve import resolve
from descend.recipe.terms import (
    build_constraints,
    build_penalty,
    build_row_penalty,
    build_settle,
    check_batches,
)
from descend.regularization import differentiable_inputs, orthogonality_penalty

FACTS = Facts("table", 60, "multiclass", (4,), 3, 10)
BASE = Recipe(model={"hidden": [8]}, init={"output_gain": 1.0})


def complete(**sections: object) -> Recipe:
    return resolve(BASE.replace(sections), FACTS).recipe


class TestPenalty:
    def test_none_where_nothing_is_asked(self) -> None:
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
        found = penalty()
        settings = dict(kind) if isinstance(kind, dict) else {"name": kind}
        name = settings.pop("name")
        torch.manual_seed(0)
        weights = [model.linear1.weight, model.output.weight]
        expected = 0.5 * orthogonality_penalty(weights, name, **settings)
        torch.testing.assert_close(found.detach(), expected.detach())
        if found.requires_grad:
            found.backward()
        for weight, gradient in zip(weights, torch.autograd.grad(expected, weights), strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-5)

    def test_that_of_a_constraint(self) -> None:
        model = mlp((4,), 3, hidden=(8,))
        recipe = complete(constrain={"orthogonal": {"pattern": "*", "method": "penalty", "strength": 2.0}})
        penalty = build_penalty(recipe, model, build_constraints(recipe, model, 0))
        assert penalty is not None
        exact = orthogonality_penalty([model.linear1.weight, model.output.weight], "so", probes="exact")
        torch.testing.assert_close(penalty(), 2.0 * exact)


class TestRowPenalty:
    def test_none_where_nothing_is_asked(self) -> None:
        assert build_row_penalty(complete(), nn.Linear(2, 2), CrossEntropy()) is None

    def test_its_parts(self) -> None:
        model, x, y = mlp((4,), 3, hidden=(8,)), torch.randn(5, 4), torch.arange(5) % 3
        values = []
        for said in (
            {"jacobian": 0.5},
            {"gradient_penalty": 2.0},
            {"jacobian": 0.5, "gradient_penalty": 2.0},
        ):
            recipe = complete(regularize={**said, "jacobian_projections": "exact"})
            penalty = build_row_penalty(recipe, model, CrossEntropy())
            assert penalty is not None
            inputs = differentiable_inputs(x)
            values.append(penalty(inputs, model(inputs), y))
        torch.testing.assert_close(values[0] + values[1], values[2])
        jacobians = torch.stack([torch.func.jacrev(lambda row: model(row[None])[0])(row) for row in x])
        torch.testing.assert_close(values[0], 0.5 * jacobians.square().sum() / 5)

    def test_a_gradient_without_derivative_is_refused(self) -> None:
        norm = {"name": "decorrelated", "backward": "power_iteration"}
        recipe = complete(model={"norm": norm}, regularize={"jacobian": 0.1})
        with pytest.raises(RecipeError, match=r"\[regularize\] jacobian: .*'norm1'.*backward = 'exact'"):
            build_row_penalty(recipe, build_model(recipe, FACTS, 0), CrossEntropy())


class TestConstraints:
    def test_a_built_model_is_constrained_from_the_start(self) -> None:
        recipe = complete(
            constrain={"orthogonal": "linear*", "norm_ball": {"pattern": "output", "radius": 0.5}}
        )
        model = build_model(recipe, FACTS, 0)
        w = model.linear1.weight
        assert (w.T @ w - torch.eye(4)).abs().max() < 1e-6
        assert (model.output.weight.norm(dim=1) <= 0.5 + 1e-6).all()

    def test_it_is_a_function_of_the_seed_alone(self) -> None:
        recipe = complete(constrain={"orthogonal": "*"})
        states = []
        for outside in (1, 2):
            torch.manual_seed(outside)
            states.append(build_model(recipe, FACTS, 5).state_dict())
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

    def test_a_pattern_that_matches_nothing(self) -> None:
        recipe = complete(constrain={"orthogonal": "linaer*", "simplex": "conv*"})
        with pytest.raises(RecipeError) as caught:
            build_model(recipe, FACTS, 0)
        assert [str(problem) for problem in caught.value.problems] == [
            "[constrain] orthogonal: no weight is called 'linaer*'; there are: linear1.weight, output.weight",
            "[constrain] simplex: no weight is called 'conv*'; there are: linear1.weight, output.weight",
        ]

    @pytest.mark.parametrize(
        ("first", "second"), [("norm_ball", "simplex"), ("orthogonal", "norm_ball"), ("orthogonal", "binary")]
    )
    def test_a_weight_has_one_constraint(self, first: str, second: str) -> None:
        recipe = complete(constrain={first: "*", second: "linear1"})
        with pytest.raises(
            RecipeError, match=r"'linear1.weight' is held by (another constraint|norm_ball already)"
        ):
            build_model(recipe, FACTS, 0)

    def test_weight_decay_leaves_parametrised_weights_alone(self) -> None:
        from descend.regularization import decayed_parameters

        model = build_model(complete(constrain={"orthogonal": "linear*", "norm_ball": "output"}), FACTS, 0)
        decay, rest = decayed_parameters(model)
        assert [id(p) for p in decay] == [id(model.output.weight)]
        assert len(rest) == 3


class TestSaid:
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (3, "orthogonal: expected a string, a list of strings, a table"),
            ({"method": "exponential"}, "orthogonal: expected a pattern of weights' names"),
            ({"pattern": []}, "orthogonal: expected a pattern of weights' names"),
            ({"pattern": "*", "method": "expm"}, 'orthogonal.method: expected "exponential", "cayley" or "penalty"'),
            ({"pattern": "*", "radius": 1.0}, "orthogonal.radius: unknown key of 'orthogonal'"),
        ],
    )  # fmt: skip
    def test_mistakes(self, value: object, message: str) -> None:
        with pytest.raises(RecipeError) as caught:
            Recipe(constrain={"orthogonal": value})
        assert message in str(caught.value)

    def test_in_toml_and_on_the_command_line(self) -> None:
        recipe = Recipe.loads(
            '[constrain]\northogonal = ["linear1", "linear2"]\nnorm_ball = {pattern="output", radius=2}'
        )
        assert recipe.get("constrain.norm_ball") == {"pattern": "output", "radius": 2.0}
        assert Recipe.loads(recipe.to_toml()) == recipe
        said = Recipe().with_assignments(
            ["constrain.orthogonal=linear*", "constrain.norm_ball=output", "constrain.norm_ball.radius=3"]
        )
        assert said.get("constrain.orthogonal") == "linear*"
        assert said.get("constrain.norm_ball") == {"pattern": "output", "radius": 3.0}

    def test_settings_of_an_orthogonality(self) -> None:
        recipe = Recipe(regularize={"orthogonality": {"name": "srip", "iterations": 4}})
        assert recipe.get("regularize.orthogonality") == {"name": "srip", "iterations": 4}
        with pytest.raises(RecipeError, match=r"orthogonality.probes: unknown key of 'mc'"):
            Recipe(regularize={"orthogonality": {"name": "mc", "probes": 4}})
        with pytest.raises(RecipeError, match="no such orthogonality 'sop'; did you mean 'so'"):
            Recipe(regularize={"orthogonality": "sop"})


class TestSettle:
    def test_none_where_nothing_is_held(self) -> None:
        assert build_settle(complete(), nn.Linear(2, 2), []) is None

    def test_averages_take_the_zeros_of_the_last_weights(self) -> None:
        model = nn.Linear(2, 1)
        settle = build_settle(complete(regularize={"l1_prox": 0.1}), model, [])
        assert settle is not None
        settle([torch.tensor([[0.0, 1.0]]), torch.zeros(1)])
        assert model.weight[0, 0] == 0
        assert model.weight[0, 1] != 0
        assert model.bias[0] != 0


class TestBatchesOfOneRow:
    @pytest.mark.parametrize("norm", ["batch", "decorrelated", "iterative"])
    def test_are_refused_where_a_layer_needs_several(self, norm: str) -> None:
        model = mlp((4,), 3, hidden=(8,), norm=norm)
        with pytest.raises(
            RecipeError, match=r"\[data\] batch_size: 'norm1' .* no statistics in a batch of one row"
        ):
            check_batches(model, [4, 1])
        check_batches(model, [4, 2])

    def test_and_only_there(self) -> None:
        check_batches(mlp((4,), 3, hidden=(8,), norm="layer"), [1])
