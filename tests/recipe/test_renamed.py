"""Tests that the former names of settings lead to settings that exist."""

import pytest

from descend.optim import OPTIMIZERS
from descend.param_types import of_constructor
from descend.recipe import Recipe
from descend.recipe.renamed import RENAMED, with_current_names


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_current_names_exist_and_former_ones_do_not(name):
    settings = of_constructor(OPTIMIZERS[name], ())
    assert settings.keys() >= set(RENAMED[name].values())
    assert settings.keys().isdisjoint(RENAMED[name])


def test_an_older_recipe_is_read():
    old = {"name": "shampoo", "roots_every": 5, "graft": "adam", "max_size": 100}
    new = {"name": "shampoo", "precondition_frequency": 5, "grafting": "adam", "max_preconditioner_dim": 100}
    assert with_current_names(old) == new
    recipe = Recipe.loads('[optimizer]\nname = "kfac"\ninverses_every = 20\ndecay = 0.9\n')
    assert dict(recipe.optimizer) == {"name": "kfac", "inv_update_steps": 20, "factor_decay": 0.9}
