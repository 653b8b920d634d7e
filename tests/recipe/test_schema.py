"""The JSON Schema of a recipe: it accepts what a recipe accepts, and describes every key."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import recipe_strategies as strategies
from tests.support.examples import examples
from tests.support.json_schema import satisfies

from descend.errors import RecipeError
from descend.recipe import Recipe
from descend.recipe.catalogue import CATALOGUE, CHOICES
from descend.recipe.docstrings import about_arguments
from descend.recipe.schema import json_schema
from descend.recipe.sections import SECTIONS, section_parameters

SCHEMA = json_schema()


def accepted(sections: object) -> bool:
    return satisfies(sections, SCHEMA, SCHEMA)


def table_of(section: str, name: str) -> dict:
    """The schema of a section's table in which a method is chosen."""
    tables = SCHEMA["properties"][section]["anyOf"][-1]["oneOf"]
    return next(each for each in tables if each["properties"]["name"].get("const") == name)


class TestAgreement:
    @given(strategies.valid_sections())
    @settings(deadline=None, max_examples=examples(150))
    def test_every_valid_recipe_satisfies_it(self, sections):
        text = Recipe.of(sections).to_toml()
        assert accepted(tomllib.loads(text))

    @given(st.data())
    @settings(deadline=None, max_examples=examples(300))
    def test_a_value_is_accepted_by_both_or_by_neither(self, data):
        section = data.draw(st.sampled_from(sorted(SECTIONS)))
        method = data.draw(st.sampled_from(["auto", *CATALOGUE.get(section, {})]))
        parameters = section_parameters(SECTIONS[section], method) or {}
        key = data.draw(st.sampled_from([*sorted(parameters), "patiense"]))
        value = data.draw(
            st.sampled_from(
                [-1, 0, 1, 3, -0.5, 0.25, 1.5, 1e9, True, False, "", "none", "auto", "relu", "flip", "exact",
                 "torch.nn:ReLU", [], [1], [0.5, 0.9], [0.5, 2.5], ["relu"], ["flip", "none"], {}, {"name": "relu"},
                 {"name": "leaky_relu", "negative_slope": 0.5}, {"name": "leaky_relu", "negative_slope": -0.5},
                 {"name": "flip", "horizontl": 0.5}, {"pattern": "*"}, {"pattern": []}, {"function": "math:sqrt"},
                 {"pattern": "*", "radius": -1.0}, {"a": "ignore"}, {"a": 0.5}]
            )
        )  # fmt: skip
        sections = {section: {"name": method, key: value} if section in CATALOGUE else {key: value}}
        try:
            Recipe.of(sections)
        except RecipeError as error:
            # What a constructor refuses although every value is in its domain, a schema cannot say.
            if any(problem.key for problem in error.problems):
                assert not accepted(sections)
        else:
            assert accepted(sections)

    @pytest.mark.parametrize("section", CATALOGUE)
    def test_a_name_alone(self, section):
        assert all(accepted({section: name}) for name in [*CATALOGUE[section], "auto", "torch.nn:ReLU"])
        assert not accepted({section: "adm"})
        assert not accepted({section: 3})

    def test_import_paths_take_any_key(self):
        assert accepted({"optimizer": {"name": "torch.optim.NAdam", "momentum_decay": 0.1}})
        assert accepted({"model": {"activation": {"name": "torch.nn:ELU", "alpha": 0.5}}})
        assert not accepted({"optimizer": {"name": "torch.optim.NAdam", "groups": 3}})

    @pytest.mark.parametrize("sections", [{"optimiser": {}}, {"stop": {"patiense": 5}}, {"stop": 3}])
    def test_what_no_recipe_has(self, sections):
        assert not accepted(sections)


class TestContent:
    def test_it_is_json_of_draft_2020_12(self):
        assert json.loads(json.dumps(SCHEMA)) == SCHEMA
        assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def test_every_section_and_method_is_described(self):
        assert list(SCHEMA["properties"]) == list(SECTIONS)
        assert all(SCHEMA["properties"][name]["description"] for name in SECTIONS)
        for section, family in CATALOGUE.items():
            for name in family:
                assert table_of(section, name)["properties"]["name"]["description"]

    def test_every_key_has_its_domain_default_and_description(self):
        lr = table_of("optimizer", "adam")["properties"]["lr"]
        assert lr["type"] == "number"
        assert (lr["exclusiveMinimum"], lr["default"]) == (0, 0.001)
        assert lr["description"]
        for section in SECTIONS.values():
            for name, constructor in CATALOGUE.get(section.name, {"": None}).items():
                table = table_of(section.name, name) if name else SCHEMA["properties"][section.name]
                parameters = section_parameters(section, name or None)
                assert set(parameters) <= set(table["properties"])
                documented = about_arguments(constructor) if constructor else {}
                for key in parameters:
                    described = table["properties"][key]
                    assert "default" in described
                    assert key not in documented or described["description"] == documented[key]

    def test_defaults_satisfy_their_own_schema(self):
        for section in SECTIONS.values():
            for name in CATALOGUE.get(section.name, {"": None}):
                table = table_of(section.name, name) if name else SCHEMA["properties"][section.name]
                for key, described in table["properties"].items():
                    if "default" in described:
                        assert satisfies(described["default"], described, SCHEMA), f"{section.name}.{key}"

    def test_every_definition_is_used(self):
        text = json.dumps(SCHEMA)
        assert set(SCHEMA["$defs"]) == {"import_path", *(f"{section}.{key}" for section, key in CHOICES)}
        assert all(f'"#/$defs/{name}"' in text for name in SCHEMA["$defs"])
