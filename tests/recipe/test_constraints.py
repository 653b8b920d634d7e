"""Constraints of a recipe: their values, and how they are imposed on a model and on averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from descend.errors import RecipeError
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.constraints import build_average_projection
from descend.recipe.facts import Facts
from descend.recipe.resolve import resolve

FACTS = Facts("table", 60, "multiclass", (4,), 3, 10)
BASE = Recipe(model={"hidden": [8]}, init={"output_gain": 1.0})


def complete(**sections: object) -> Recipe:
    return resolve(BASE.replace(sections), FACTS).recipe


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
        with pytest.raises(RecipeError, match=r"'linear1.weight' is already constrained"):
            build_model(recipe, FACTS, 0)

    def test_weight_decay_excludes_parametrized_weights(self) -> None:
        from descend.regularization import decayed_parameters

        model = build_model(complete(constrain={"orthogonal": "linear*", "norm_ball": "output"}), FACTS, 0)
        decay, rest = decayed_parameters(model)
        assert [id(p) for p in decay] == [id(model.output.weight)]
        assert len(rest) == 3


class TestValues:
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
        assigned = Recipe().with_assignments(
            ["constrain.orthogonal=linear*", "constrain.norm_ball=output", "constrain.norm_ball.radius=3"]
        )
        assert assigned.get("constrain.orthogonal") == "linear*"
        assert assigned.get("constrain.norm_ball") == {"pattern": "output", "radius": 3.0}

    def test_settings_of_an_orthogonality(self) -> None:
        recipe = Recipe(regularize={"orthogonality": {"name": "srip", "iterations": 4}})
        assert recipe.get("regularize.orthogonality") == {"name": "srip", "iterations": 4}
        with pytest.raises(RecipeError, match=r"orthogonality.probes: unknown key of 'mc'"):
            Recipe(regularize={"orthogonality": {"name": "mc", "probes": 4}})
        with pytest.raises(RecipeError, match="no such orthogonality 'sop'; did you mean 'so'"):
            Recipe(regularize={"orthogonality": "sop"})


class TestAverageProjection:
    def test_none_without_constraints(self) -> None:
        assert build_average_projection(complete(), nn.Linear(2, 2), []) is None

    def test_averages_take_the_zeros_of_the_last_weights(self) -> None:
        model = nn.Linear(2, 1)
        project = build_average_projection(complete(regularize={"l1_prox": 0.1}), model, [])
        assert project is not None
        project([torch.tensor([[0.0, 1.0]]), torch.zeros(1)])
        assert model.weight[0, 0] == 0
        assert model.weight[0, 1] != 0
        assert model.bias[0] != 0
