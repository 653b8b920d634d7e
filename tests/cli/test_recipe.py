import json
import re
import tomllib

import pytest

from descend.recipe import Recipe
from descend.recipe.catalogue import CATALOGUE
from descend.recipe.schema import json_schema
from descend.recipe.sections import SECTIONS, section_parameters
from descend.runs.plan import plan_run


class TestTheDefaultRecipe:
    @pytest.fixture
    def text(self, descend):
        return descend("recipe").out

    @pytest.mark.parametrize("explain", [False, True])
    def test_is_a_recipe_and_is_equivalent_to_none(self, descend, explain):
        text = descend("recipe", *(["--explain"] if explain else [])).out
        given, none = plan_run("iris", Recipe.loads(text)), plan_run("iris")
        assert given.recipe.to_toml() == none.recipe.to_toml()

    def test_every_key_is_there(self, text):
        for section in SECTIONS.values():
            block = text.split(f"\n[{section.name}]")[1].split("\n[")[0]
            for key in section_parameters(section):
                assert re.search(rf"^(# )?{key} = .*  # .", block, re.M), f"{section.name}.{key}"
            for name in CATALOGUE.get(section.name, {}):
                own = set(section_parameters(section, name)) - set(section_parameters(section))
                if own:
                    inner = block.split(f'# name = "{name}"\n')[1].split("\n\n")[0]
                    assert set(re.findall(r"^# (\w+) =", inner, re.M)) == own

    def test_each_commented_part_is_valid_when_uncommented(self, text):
        tried = 0
        for section in CATALOGUE:
            block = text.split(f"\n[{section}]")[1].split("\n[")[0]
            for part in block.split("\n\n")[1:]:
                lines = [line.removeprefix("# ") for line in part.strip().splitlines()]
                Recipe.loads("\n".join([f"[{section}]", *lines]))
                tried += 1
        assert tried > 15

    def test_with_explain_it_describes_each_key(self, descend):
        text = descend("recipe", "--explain").out
        assert "# share of the rows" in text
        assert "hidden layers" in text


class TestForData:
    def test_the_complete_recipe(self, descend):
        result = descend("recipe", "iris", "--set", "optimizer.name=sgd")
        assert (result.status, result.err) == (0, "")
        printed = tomllib.loads(result.out)
        assert printed["optimizer"]["name"] == "sgd"
        assert Recipe.loads(result.out).to_toml() == plan_run("iris", {"optimizer": "sgd"}).recipe.to_toml()
        assert "auto:" not in result.out

    def test_each_choice_with_its_reason(self, descend):
        result = descend("recipe", "--explain", "iris", "--set", "optimizer.name=sgd")
        reasons = plan_run("iris", {"optimizer": "sgd"}).resolved.reasons
        assert len(reasons) > 5
        assert result.out.count("# auto: ") == len(reasons)
        assert "optimizer.name" not in reasons
        assert f"# auto: {reasons['model.name']}" in result.out

    def test_as_json(self, descend):
        answer = descend("recipe", "iris", "--json").json
        assert answer["recipe"]["model"]["name"] == "mlp"
        assert answer["reasons"] == dict(plan_run("iris").resolved.reasons)

    def test_a_target_is_needed_as_in_train(self, descend, houses):
        assert descend("recipe", houses).status == 2
        assert 'target = "band"' in descend("recipe", houses, "--target", "band").out


class TestChecking:
    def test_a_recipe_alone_is_checked_and_printed(self, descend, tmp_path):
        (tmp_path / "mine.toml").write_text('optimizer = "sgd"\n')
        result = descend("recipe", "--recipe", "mine.toml", "--set", "optimizer.lr=0.5")
        assert tomllib.loads(result.out) == {"optimizer": {"name": "sgd", "lr": 0.5}}

    def test_its_problems_name_the_file(self, descend, tmp_path):
        (tmp_path / "mine.toml").write_text("[optimizer]\nlrr = 1\n[stop]\npatience = -1\n")
        result = descend("recipe", "--recipe", "mine.toml")
        assert (result.status, result.out) == (2, "")
        assert result.err.count("mine.toml: [") == 2


class TestSchema:
    def test_is_printed_as_json(self, descend):
        result = descend("recipe", "--schema")
        assert (result.status, result.err) == (0, "")
        assert json.loads(result.out) == json_schema()
        assert descend("recipe", "--schema", "--json").json == json_schema()

    @pytest.mark.parametrize(
        "others",
        [["iris"], ["--set", "optimizer.name=sgd"], ["--explain"], ["--target", "x"], ["--recipe", "x.toml"]],
    )
    def test_describes_every_recipe_and_no_single_one(self, descend, others):
        result = descend("recipe", "--schema", *others)
        assert (result.status, result.out) == (2, "")
        assert "--schema describes every recipe" in result.err
