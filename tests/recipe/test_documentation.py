"""The examples of docs/recipe.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.support.json_schema import satisfies

from descend.recipe import Recipe
from descend.recipe.schema import json_schema
from descend.recipe.sections import SECTIONS

TEXT = (Path(__file__).parents[2] / "docs" / "recipe.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


def test_the_examples_in_python_run():
    for block in blocks("python"):
        names: dict = {}
        exec(compile(block, "docs/recipe.md", "exec"), names)
        assert isinstance(names["recipe"], Recipe)


def test_the_example_in_toml_is_valid():
    example = blocks("toml")[0]
    assert Recipe.loads(example).get("stop.patience") == 5
    assert satisfies(tomllib.loads(example), json_schema(), json_schema())


def test_every_section_is_listed():
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.M) == list(SECTIONS)
