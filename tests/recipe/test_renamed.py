"""Tests that the former names of settings lead to settings that exist."""

import hashlib

import pytest

import descend
from descend.optim import OPTIMIZERS
from descend.param_types import of_constructor
from descend.recipe import Recipe
from descend.recipe.renamed import KEYS, RENAMED, with_current_names
from descend.recipe.sections import SECTIONS


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_current_names_exist_and_former_ones_do_not(name):
    settings = of_constructor(OPTIMIZERS[name], ())
    assert settings.keys() >= set(RENAMED[name].values())
    assert settings.keys().isdisjoint(RENAMED[name])


def test_an_older_recipe_is_read():
    old = {"name": "shampoo", "roots_every": 5, "graft": "adam", "max_size": 100}
    new = {"name": "shampoo", "precondition_frequency": 5, "grafting": "adam", "max_preconditioner_dim": 100}
    assert with_current_names({"optimizer": old}) == {"optimizer": new}
    recipe = Recipe.loads('[optimizer]\nname = "kfac"\ninverses_every = 20\ndecay = 0.9\n')
    assert dict(recipe.optimizer) == {"name": "kfac", "inv_update_steps": 20, "factor_decay": 0.9}


def test_former_names_of_keys():
    for section, names in KEYS.items():
        assert set(SECTIONS[section].settings.__dataclass_fields__) >= set(names.values())
    recipe = Recipe.loads('[init]\nname = "kaiming_normal"\ndraw = 3\n')
    assert dict(recipe.init) == {"name": "kaiming_normal", "sample_index": 3}


def test_the_folder_of_an_older_run_is_loaded(tmp_path):
    run = descend.train(
        "iris", {"stop.max_epochs": 1, "model.hidden": [3], "init.sample_index": 2}, out=tmp_path / "run"
    )
    path = tmp_path / "run" / "recipe.toml"
    text = path.read_text()
    assert "sample_index = 2" in text
    older = text.replace("sample_index = 2", "draw = 2")
    path.write_text(older)
    manifest = tmp_path / "run" / "manifest.json"
    before, after = (hashlib.blake2b(one.encode(), digest_size=16).hexdigest() for one in (text, older))
    assert before in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(before, after))
    loaded = descend.load(tmp_path / "run")
    assert loaded.recipe == run.recipe
    longer = descend.train(None, {"stop.max_epochs": 2}, out=tmp_path / "run", resume=True)
    assert longer.recipe.init["sample_index"] == 2
