"""A resolved recipe is complete: specified values, proposals of the rules with reasons, and constructors' defaults."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import recipe_strategies as strategies
from tests.support.examples import examples

from descend.constraints.settings import ConstrainSettings
from descend.data.settings import DataSettings
from descend.errors import RecipeError
from descend.recipe import Recipe
from descend.recipe.catalogue import CATALOGUE
from descend.recipe.defaults import DEFAULTS, FEW_ROWS
from descend.recipe.facts import Facts
from descend.recipe.resolve import Resolved, resolve
from descend.recipe.section_settings import InitSettings, ModelSettings, OptimizerSettings
from descend.recipe.sections import SECTIONS
from descend.regularization.settings import RegularizeSettings
from descend.training.arithmetic import EngineSettings
from descend.training.checkpoint import CheckpointSettings
from descend.training.clipping import GradientSettings
from descend.training.stopping import StopSettings

TABLE = Facts("table", 500, "multiclass", (4,), 3, 80)
SETTINGS = {
    "data": DataSettings,
    "model": ModelSettings,
    "init": InitSettings,
    "gradient": GradientSettings,
    "optimizer": OptimizerSettings,
    "regularize": RegularizeSettings,
    "constrain": ConstrainSettings,
    "stop": StopSettings,
    "checkpoint": CheckpointSettings,
    "engine": EngineSettings,
}


def defaults_of(section: str, name: str | None) -> dict[str, object]:
    """Return the defaults, read from dataclasses and signatures."""
    defaults: dict[str, object] = {}
    if section in SETTINGS:
        settings = SETTINGS[section]()
        defaults = {each.name: getattr(settings, each.name) for each in dataclasses.fields(settings)}
    if section in CATALOGUE:
        parameters = inspect.signature(CATALOGUE[section][name]).parameters.values()
        supplied = SECTIONS[section].context + SECTIONS[section].catalogue_context
        own = DEFAULTS.get((section, name), {})
        defaults |= {
            each.name: own.get(each.name, each.default)
            for each in parameters
            if each.default is not each.empty and each.name not in supplied
        }
    return defaults


def resolved_or_refused(sections: dict[str, dict[str, object]], facts: Facts) -> Resolved | None:
    """Keys of several methods, none of which was named, may fit no method together."""
    try:
        return resolve(Recipe.of(sections), facts)
    except RecipeError as refused:
        for problem in refused.problems:
            assert problem.section in sections
            assert "name" not in sections[problem.section], problem
        return None


class TestAnyRecipeAndData:
    @pytest.mark.slow
    @settings(deadline=None, max_examples=examples(150))
    @given(strategies.valid_sections(), strategies.facts())
    def test_every_value_is_specified_proposed_or_a_default(self, sections, facts):
        resolved = resolved_or_refused(sections, facts)
        if resolved is None:
            return
        specified = Recipe.of(sections).specified()
        for section, values in resolved.recipe.items():
            defaults = defaults_of(section, values.get("name"))
            assert set(values) <= {"name"} | set(defaults)
            for key in defaults:
                path = f"{section}.{key}"
                if path in specified and (specified[path] != "auto" or defaults[key] is None):
                    assert values.get(key) == specified[path]
                    assert path not in resolved.reasons
                elif path in resolved.reasons:
                    assert resolved.reasons[path]
                else:
                    assert values.get(key) == defaults[key]
            if "name" in values:
                name = specified.get(f"{section}.name")
                assert values["name"] == name or (name is None and resolved.reasons[f"{section}.name"])

    @pytest.mark.slow
    @settings(deadline=None, max_examples=examples(100))
    @given(strategies.valid_sections(), strategies.facts())
    def test_round_trips_and_is_idempotent(self, sections, facts):
        resolved = resolved_or_refused(sections, facts)
        if resolved is None:
            return
        assert Recipe.loads(resolved.to_toml()) == resolved.recipe
        again = resolve(resolved.recipe, facts)
        assert again.recipe == resolved.recipe
        assert not {path for path in again.reasons if path not in resolved.reasons}

    @pytest.mark.parametrize(
        ("specified", "value"), [({}, 1.0), ({"clip_norm": None}, None), ({"clip_norm": 5.0}, 5.0)]
    )
    def test_a_specified_none_is_kept(self, specified, value):
        """Also after a round trip through TOML, although the default of the key is None."""
        facts = Facts("table", 100, "regression", (3,), 1, 20)
        resolved = resolve(Recipe(optimizer={"name": "scgd"}, gradient=specified), facts)
        assert resolved.recipe.get("gradient.clip_norm") == value
        assert resolve(Recipe.loads(resolved.to_toml()), facts).recipe == resolved.recipe

    @settings(deadline=None, max_examples=examples(50))
    @given(strategies.facts())
    def test_auto_is_resolved_for_any_data(self, facts):
        resolved = resolve(Recipe(), facts)
        left = [path for path, value in resolved.recipe.specified().items() if value == "auto"]
        # Measured on the machine, read from the images or the file, and a property of the network.
        assert set(left) <= {
            "engine.threads",
            "data.decimal",
            "data.encoding",
            "data.image_size",
            "data.image_white",
            "data.separator",
            "data.sheet",
            "data.text_buckets",
            "model.head",
            "model.pretrained_head",
        }
        assert set(dict(resolved.recipe.items())) == set(SECTIONS)
        text = resolved.to_toml()
        assert text.count("  # auto: ") == len(resolved.reasons)
        assert set(tomllib.loads(text)) == set(SECTIONS) - {"constrain"}  # empty unless specified

    @settings(deadline=None, max_examples=examples(50))
    @given(strategies.facts())
    def test_auto_equals_unspecified(self, facts):
        automatic = {
            f"{section}.{key}": "auto"
            for section, made in SETTINGS.items()
            for key, value in defaults_of(section, next(iter(CATALOGUE.get(section, {})), None)).items()
            if value == "auto" and made
        }
        automatic |= {f"{section}.name": "auto" for section in CATALOGUE} | {"model.activation": "auto"}
        if resolve(Recipe(), facts).recipe.get("model.name") == "image_resnet":
            del automatic["model.activation"]
        assert resolve(Recipe().replace(automatic), facts) == resolve(Recipe(), facts)

    @settings(deadline=None, max_examples=examples(60))
    @given(strategies.facts(), st.sampled_from(sorted(CATALOGUE["optimizer"])))
    def test_a_rule_for_one_method_does_not_apply_to_others(self, facts, name):
        resolved = resolve(Recipe(optimizer=name), facts)
        chosen = resolve(Recipe(), facts).recipe.get("optimizer.name")
        few = not facts.classification and facts.rows < FEW_ROWS
        shares = {"soap": 2, "sgd": 20, "cayley_sgd": 20, "heavy_ball": 20, "nesterov": 20}
        if name in shares and few:  # has a rule of its own
            assert resolved.recipe.get("optimizer.lr") == defaults_of("optimizer", name)["lr"] / shares[name]
            assert "few rows" in resolved.reasons["optimizer.lr"]
        elif name != chosen:
            assert resolved.recipe.get("optimizer.lr") == defaults_of("optimizer", name)["lr"]
            assert "optimizer.lr" not in resolved.reasons


class TestNames:
    def test_without_a_name_the_first_method_that_takes_all_keys(self):
        resolved = resolve(Recipe(optimizer={"momentum": 0.9}), TABLE)
        assert resolved.recipe.get("optimizer.name") == "sgd"
        assert resolved.reasons["optimizer.name"] == "the first method that takes momentum"
        resolved = resolve(Recipe(schedule={"patience": 3}), TABLE)
        assert resolved.recipe.get("schedule.name") == "plateau"

    def test_keys_that_no_single_method_takes(self):
        with pytest.raises(RecipeError) as caught:
            resolve(
                Recipe(optimizer={"momentum": 0.9, "amsgrad": True}, schedule={"beta": 1, "every": 2}), TABLE
            )
        first, second = caught.value.problems
        assert str(first).startswith("[optimizer] momentum: no optimizer takes all of amsgrad, momentum")
        assert str(second).startswith("[schedule] beta: no schedule takes all of beta, every")

    def test_a_model_that_cannot_be_chosen_hides_no_other_problem(self):
        with pytest.raises(RecipeError) as caught:
            resolve(
                Recipe(model={"hidden": [3], "channels": [3]}, loss={"delta": 1, "label_smoothing": 0.1}),
                TABLE,
            )
        assert [problem.section for problem in caught.value.problems] == ["model", "loss"]

    def test_a_column_may_be_named_auto(self):
        for key in ("target", "split", "groups", "weights"):
            resolved = resolve(Recipe(data={key: "auto"}), TABLE)
            assert resolved.recipe.get(f"data.{key}") == "auto"


class TestImportPaths:
    def test_their_defaults_are_their_own(self):
        resolved = resolve(Recipe(optimizer="torch.optim.NAdam"), TABLE)
        own = inspect.signature(torch.optim.NAdam).parameters
        values = resolved.recipe.optimizer
        assert values["lr"] == own["lr"].default == 2e-3
        assert {key: values[key] for key in values if key not in ("name", "groups")} == {
            key: each.default for key, each in own.items() if key != "params" and each.default is not None
        }
        assert not [path for path in resolved.reasons if path.startswith("optimizer.")]

    def test_arguments_without_a_default_are_required(self):
        with pytest.raises(RecipeError) as caught:
            resolve(Recipe(model="torch.nn.Linear"), TABLE)
        assert [(p.key, p.message) for p in caught.value.problems] == [
            ("in_features", "Linear requires a value"),
            ("out_features", "Linear requires a value"),
        ]

    def test_any_keyword_is_passed_on(self):
        def net(inputs, outputs, **settings):
            raise AssertionError

        resolved = resolve(Recipe(model={"name": net, "depth": 3}), TABLE)
        assert resolved.recipe.get("model.depth") == 3

    def test_a_network_by_import_path_keeps_its_initialization(self):
        resolved = resolve(
            Recipe(model={"name": torch.nn.Linear, "in_features": 4, "out_features": 3}), TABLE
        )
        assert (resolved.recipe.get("init.name"), resolved.recipe.get("init.output_gain")) == ("torch", 1.0)


def test_reasons_are_comments():
    text = resolve(Recipe(optimizer="sgd"), TABLE).to_toml()
    assert 'name = "sgd"\n' in text
    assert 'output = "softmax"  # auto: the task is multiclass\n' in text
