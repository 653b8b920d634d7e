"""Recipes: any input is a recipe or an error with a message, and a recipe round-trips through TOML."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import recipe_strategies as strategies
from tests.support.examples import examples

from descend.errors import RecipeError, UserError
from descend.recipe import Recipe
from descend.recipe.sections import SECTIONS

TEXT = """\
# a comment
optimizer = "sgd"
[model]
name = "mlp"
hidden = [64, 64]
activation = { name = "leaky_relu", negative_slope = 0.2 }
[stop]
patience = "none"
max_epochs = 5
[data.columns]
"a b" = "ignore"
"""


def recipe_or_error(make: Any) -> Recipe | None:
    """Assert that the result is a recipe, or that a UserError with a printable message is raised."""
    try:
        recipe = make()
    except UserError as error:
        assert str(error)
        str(error).encode()
        return None
    assert isinstance(recipe, Recipe)
    return recipe


class TestAnyInput:
    @settings(deadline=None, max_examples=examples(150))
    @given(st.text())
    def test_text(self, text):
        recipe_or_error(lambda: Recipe.loads(text, allow_imports=False))

    @settings(deadline=None, max_examples=examples(150))
    @given(st.data())
    def test_a_recipe_with_an_edit(self, data):
        at = data.draw(st.integers(0, len(TEXT)))
        until = data.draw(st.integers(at, min(at + 5, len(TEXT))))
        put = data.draw(st.one_of(st.text(max_size=3), st.sampled_from(list('[]{}"=.,#\n-\\'))))
        recipe_or_error(lambda: Recipe.loads(TEXT[:at] + put + TEXT[until:], allow_imports=False))

    @pytest.mark.slow
    @settings(deadline=None, max_examples=examples(250))
    @given(
        st.dictionaries(
            st.one_of(strategies.section_names, st.integers()),
            st.one_of(
                strategies.nonsense,
                st.dictionaries(st.one_of(strategies.keys, st.integers()), strategies.nonsense, max_size=4),
            ),
            max_size=4,
        ),
        st.booleans(),
    )
    def test_mappings(self, sections, allow_imports):
        recipe_or_error(lambda: Recipe.of(sections, allow_imports=allow_imports))

    @pytest.mark.slow
    @settings(deadline=None, max_examples=examples(150))
    @given(st.lists(st.tuples(strategies.section_names, strategies.keys, st.text(max_size=8)), max_size=3))
    def test_assignments(self, parts):
        texts = [f"{section}.{key}={value}" for section, key, value in parts]
        recipe_or_error(lambda: Recipe().with_assignments(texts))

    @settings(deadline=None, max_examples=examples(100))
    @given(st.lists(st.text(max_size=12), max_size=3))
    def test_any_strings_as_assignments(self, texts):
        recipe_or_error(lambda: Recipe().with_assignments(texts))

    @pytest.mark.slow
    @settings(deadline=None, max_examples=examples(150))
    @given(
        strategies.valid_sections(),
        st.dictionaries(
            st.builds(
                ".".join,
                st.lists(st.one_of(strategies.section_names, strategies.keys), min_size=1, max_size=3),
            ),
            strategies.nonsense,
            max_size=2,
        ),
    )
    def test_changes_of_a_recipe(self, sections, changes):
        recipe = Recipe.of(sections)
        before = recipe.to_toml()
        recipe_or_error(lambda: recipe.replace(changes))
        assert recipe.to_toml() == before

    @pytest.mark.parametrize(
        "section",
        [
            5,
            None,
            [1],
            "sgd",
            1.5,
            {"name": None},
            {"name": ["sgd"]},
            {"name": {"name": "sgd"}},
            {1: 2},
            {None: 1},
        ],
    )
    @pytest.mark.parametrize("name", list(SECTIONS))
    def test_any_value_of_a_section(self, name, section):
        recipe_or_error(lambda: Recipe.of({name: section}))

    def test_a_file(self, tmp_path):
        path = tmp_path / "r.toml"
        path.write_text(TEXT, encoding="utf-8")
        assert Recipe.load(path) == Recipe.load(str(path)) == Recipe.loads(TEXT)

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"[optimizer", b"\x00"])
    def test_a_file_that_is_not_a_recipe(self, tmp_path, content):
        (tmp_path / "r.toml").write_bytes(content)
        with pytest.raises(UserError, match=r"r\.toml"):
            Recipe.load(tmp_path / "r.toml")

    def test_no_file(self, tmp_path):
        with pytest.raises(UserError, match="no such recipe file"):
            Recipe.load(tmp_path / "r.toml")
        with pytest.raises(UserError, match="is a folder; expected a recipe file in TOML"):
            Recipe.load(tmp_path)
        (tmp_path / "rows.toml").write_bytes(b"\xff")
        with pytest.raises(UserError, match=r"rows\.toml is not UTF-8 text \(byte 0\)"):
            Recipe.load(tmp_path / "rows.toml")
        with pytest.raises(UserError, match=r"no such recipe file: .*did you mean '.*rows\.toml'\?"):
            Recipe.load(tmp_path / "row.toml")

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            (
                "a.toml",
                "[optimizer]\nname = sgd",
                '(at line 2, column 8): name = sgd; strings need quotes: name = "sgd"',
            ),
            ("a.toml", "[optimizer\n", "(at line 1, column 11): [optimizer"),
            ("a.yaml", "optimizer:\n  name: sgd", "optimizer:; a recipe is in TOML, not in YAML or JSON"),
        ],
    )
    def test_a_syntax_error_shows_its_line(self, tmp_path, name, text, words):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as caught:
            Recipe.load(tmp_path / name)
        assert str(caught.value).endswith(words)

    def test_a_key_outside_of_its_section(self):
        for sections in ({"lr": 0.1}, {"max_epochs": 3}):
            (key,) = sections
            with pytest.raises(RecipeError, match=rf"did you mean \[\w+\] {key}\?"):
                Recipe.of(sections)
        with pytest.raises(RecipeError, match="sections are checkpoint, constrain"):
            Recipe.of({"zzzzzz": 1})


class TestToml:
    @pytest.mark.slow
    @settings(deadline=None, max_examples=examples(200))
    @given(strategies.valid_sections())
    def test_a_valid_recipe_round_trips(self, sections):
        recipe = Recipe.of(sections)
        again = Recipe.loads(recipe.to_toml())
        assert again == recipe
        assert hash(again) == hash(recipe)
        assert again.to_toml() == recipe.to_toml()

    @settings(deadline=None, max_examples=examples(50))
    @given(strategies.valid_sections())
    def test_comments_do_not_change_it(self, sections):
        recipe = Recipe.of(sections)
        assert Recipe.loads(recipe.to_toml(dict.fromkeys(recipe.specified(), "why: # \n not"))) == recipe

    def test_format(self):
        recipe = Recipe.loads(TEXT)
        assert recipe.specified() == {
            "optimizer.name": "sgd",
            "model.name": "mlp",
            "model.hidden": (64, 64),
            "model.activation": {"name": "leaky_relu", "negative_slope": 0.2},
            "stop.patience": None,
            "stop.max_epochs": 5,
            "data.columns": {"a b": "ignore"},
        }

    @pytest.mark.parametrize(
        ("key", "value"),
        [("stop.patience", None), ("data.clip", "none"), ("optimizer.fused", None), ("data.target", None),
         ("data.split", None), ("model.norm", "none"), ("gradient.clip_norm", None)],
    )  # fmt: skip
    def test_none_is_a_string(self, key, value):
        section, _, name = key.partition(".")
        recipe = Recipe.of({section: {name: value}})
        assert Recipe.loads(recipe.to_toml()).specified() == {key: value}
        assert Recipe().with_assignments([f"{key}=none"]).specified() == {key: value}

    def test_classes_are_written_as_import_paths(self):
        recipe = Recipe(optimizer=torch.optim.NAdam, model={"activation": torch.nn.Mish})
        again = Recipe.loads(recipe.to_toml())
        assert again.get("optimizer.name") == "torch.optim.nadam:NAdam"
        assert again.get("model.activation") == "torch.nn.modules.activation:Mish"

    def test_numpy_and_torch_scalars_are_converted(self):
        recipe = Recipe(optimizer={"lr": np.float32(0.5)}, stop={"max_epochs": torch.tensor(3)})
        assert recipe.specified() == {"optimizer.lr": 0.5, "stop.max_epochs": 3}
        assert "lr = 0.5\n" in recipe.to_toml()


class TestEquality:
    def test_forms_are_equal(self):
        one = Recipe(optimizer="sgd", model={"hidden": [3]}, stop={"target": 1})
        other = Recipe(optimizer={"name": "sgd"}, model={"hidden": (3,)}, stop={"target": 1.0})
        assert one == other
        assert hash(one) == hash(other)
        assert one != Recipe(optimizer="sgd")

    def test_is_immutable(self):
        recipe = Recipe(optimizer="sgd")
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.optimizer = {}
        with pytest.raises(TypeError):
            recipe.optimizer["lr"] = 1.0

    def test_is_independent_of_its_inputs(self):
        hidden, columns = [3], {"a": "ignore"}
        given: dict[str, Any] = {"hidden": hidden}
        recipe = Recipe(model=given, data={"columns": columns})
        hidden.append(4)
        columns["b"] = "ignore"
        given["dropout"] = 0.5
        assert recipe.specified() == {"data.columns": {"a": "ignore"}, "model.hidden": (3,)}

    @pytest.mark.parametrize(
        "copied", [copy.copy, copy.deepcopy, lambda recipe: pickle.loads(pickle.dumps(recipe))]
    )
    def test_copies(self, copied):
        recipe = Recipe(
            optimizer=torch.optim.NAdam, data={"columns": {"a": "ignore"}}, stop={"patience": None}
        )
        assert copied(recipe) == recipe


class TestReplace:
    def test_a_key_a_name_a_section(self):
        recipe = Recipe(optimizer={"name": "sgd", "lr": 0.1})
        assert recipe.replace({"optimizer.lr": 0.2}).optimizer == {"name": "sgd", "lr": 0.2}
        assert recipe.replace({"optimizer": "adam"}).optimizer == {"name": "adam", "lr": 0.1}
        assert recipe.replace({"optimizer": {"lr": 0.3, "momentum": 0.9}}).optimizer == {
            "name": "sgd",
            "lr": 0.3,
            "momentum": 0.9,
        }
        assert recipe.optimizer == {"name": "sgd", "lr": 0.1}

    def test_a_key_that_the_new_name_does_not_take(self):
        with pytest.raises(RecipeError, match=r"momentum: unknown key of 'adam'"):
            Recipe(optimizer={"name": "sgd", "momentum": 0.9}).replace({"optimizer.name": "adam"})

    def test_within_a_table(self):
        recipe = Recipe(data={"columns": {"a": "ignore"}})
        assert recipe.replace({"data.columns.b": "date"}).get("data.columns") == {"a": "ignore", "b": "date"}
        assert recipe.replace({"data.columns.b.c": "date"}).get("data.columns") == {
            "a": "ignore",
            "b.c": "date",
        }
        assert recipe.get("data.columns") == {"a": "ignore"}

    def test_a_setting_of_a_bare_name(self):
        recipe = Recipe(model={"activation": "elu"}).with_assignments(["model.activation.alpha=2"])
        assert recipe.get("model.activation") == {"name": "elu", "alpha": 2.0}

    @pytest.mark.parametrize("path", ["optimizer.lr.x", "model.hidden.0", "optimizer.name.x"])
    def test_within_a_value_that_is_not_a_table(self, path):
        recipe = Recipe(optimizer={"name": "sgd", "lr": 0.1}, model={"hidden": [3]})
        with pytest.raises(RecipeError, match=rf"{path.split('.')[1]} is not a table of keys"):
            recipe.replace({path: 1})

    @pytest.mark.parametrize("path", ["", ".", "optimizer.", ".lr"])
    def test_invalid_paths(self, path):
        with pytest.raises(RecipeError):
            Recipe().replace({path: 1})


class TestAssignments:
    def test_the_last_one_wins(self):
        assert Recipe().with_assignments(["optimizer.lr=1", "optimizer.lr=0.5"]).get("optimizer.lr") == 0.5

    def test_all_problems_at_once_and_short(self):
        texts = ["lr", "optimizer.lr=two words", "model.hidden=" + "[" * 9000]
        with pytest.raises(RecipeError) as caught:
            Recipe().with_assignments(texts)
        assert [problem.source[:6] for problem in caught.value.problems] == ["--set "] * 3
        assert "--set lr: expected section.key=value" in str(caught.value)
        assert len(str(caught.value)) < 600

    def test_problems_name_the_option(self):
        with pytest.raises(RecipeError, match=r"--set: \[optimizer\] lr: expected a number above 0, got -1"):
            Recipe().with_assignments(["optimizer.lr=-1"])

    def test_import_paths_are_allowed(self):
        recipe = Recipe().with_assignments(["optimizer.name=torch.optim.NAdam"])
        assert recipe.get("optimizer.name") == "torch.optim.NAdam"


def test_get():
    recipe = Recipe(optimizer={"lr": 0.1})
    assert recipe.get("optimizer.lr") == 0.1
    assert recipe.get("optimizer.name") is None
    assert recipe.get("optimizer.name", "x") == "x"


def test_the_fields_are_the_sections():
    assert [each.name for each in dataclasses.fields(Recipe)] == list(SECTIONS)
    assert [name for name, _ in Recipe().items()] == list(SECTIONS)
    assert all(section.about for section in SECTIONS.values())


def test_a_key_with_two_values_is_refused() -> None:
    twice = {"optimizer": {"lr": 0.1}, "optimizer.lr": 0.2}
    for make in (Recipe.of, Recipe().replace):
        with pytest.raises(
            RecipeError, match=r"lr: specified twice, as 0\.1 in 'optimizer' and as 0\.2 in 'optimizer\.lr'"
        ):
            make(twice)
    with pytest.raises(RecipeError, match="name: specified twice"):
        Recipe.of({"optimizer": "sgd", "optimizer.name": "adam"})
    assert Recipe.of({"optimizer": {"lr": 0.1}, "optimizer.lr": 0.1}).get("optimizer.lr") == 0.1
    assert Recipe.of({"model": {"hidden": [8]}, "model.hidden": (8,)}).get("model.hidden") == (8,)


def test_calls_that_differ_from_the_signature() -> None:
    positional: Any = Recipe
    with pytest.raises(TypeError, match=r"Recipe\.of\(\{'optimizer': \{'lr': 0\.1\}\}\)"):
        positional({"optimizer": {"lr": 0.1}})
    with pytest.raises(TypeError, match="no section 'optimiser'; did you mean 'optimizer'"):
        positional(optimiser={"lr": 0.1})
    assert Recipe().replace(optimizer={"lr": 0.1}) == Recipe(optimizer={"lr": 0.1})
    with pytest.raises(TypeError, match="no section 'lr'"):
        Recipe().replace(lr=0.1)
    with pytest.raises(TypeError, match="replace expects a mapping"):
        Recipe().replace(positional())
