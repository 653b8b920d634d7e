"""What the rules propose for an optimizer with a quadratic model of the loss."""

import pytest

from descend.optim import OPTIMIZERS, TRUNCATED_NEWTON, WHOLE_DATA
from descend.param_types import of_constructor
from descend.recipe import Recipe
from descend.recipe.facts import Facts
from descend.recipe.resolve import resolve

FACTS = Facts("table", 300, "regression", (10,), 1, 60)


def test_the_list_is_that_of_methods_with_curvature_and_iterations():
    settings = {name: of_constructor(make, ("params",)) or {} for name, make in OPTIMIZERS.items()}
    assert {
        name for name, known in settings.items() if {"curvature", "cg_max_iter"} <= set(known)
    } == TRUNCATED_NEWTON


@pytest.mark.parametrize("name", sorted(TRUNCATED_NEWTON))
def test_networks_get_the_gauss_newton_matrix_and_a_reason(name):
    found = resolve(Recipe(optimizer={"name": name}), FACTS)
    assert found.recipe.optimizer["curvature"] == "gauss_newton"
    assert "minimum" in found.reasons["optimizer.curvature"]
    assert found.recipe.optimizer["cg_max_iter"] == (20 if name in WHOLE_DATA else 5)
    assert found.recipe.data["sampling"] == ("full" if name in WHOLE_DATA else "epoch")


def test_specified_settings_are_kept():
    specified = {"name": "newton", "curvature": "hessian", "cg_max_iter": 3}
    assert specified.items() <= resolve(Recipe(optimizer=specified), FACTS).recipe.optimizer.items()


def test_the_learning_rate_is_the_constructors():
    assert resolve(Recipe(optimizer={"name": "newton"}), FACTS).recipe.optimizer["lr"] == 1.0
    assert resolve(Recipe(), FACTS).recipe.optimizer["name"] == "adamw"
