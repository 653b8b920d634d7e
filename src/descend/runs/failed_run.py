"""A run that diverged, loaded from its folder."""

from __future__ import annotations

from pathlib import Path

from descend.data.schema import Schema
from descend.errors import RunError
from descend.files import read_json, read_json_lines, read_text
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.runs.folder import ENVIRONMENT, HISTORY, METRICS, RECIPE, SCHEMA, is_failed
from descend.runs.run import Run

__all__ = ["load_failed"]


def load_failed(folder: Path, *, allow_imports: bool = False) -> Run:
    """Load a run that diverged, with its history and its message; the network has its initial weights.

    Args:
        folder: the run folder.
        allow_imports: whether the recipe may import classes by their path, which runs their code. Default False.

    Raises:
        RunError: the folder does not contain a run that diverged.
    """
    if not is_failed(folder):
        raise RunError(f"{folder} does not contain a run that diverged")
    recipe = Recipe.load(folder / RECIPE, allow_imports=allow_imports)
    schema = Schema.from_json(read_text(folder / SCHEMA), str(folder / SCHEMA))
    environment = read_json(folder / ENVIRONMENT)
    model = build_model(recipe, facts_of(schema), int(environment["seed"]))
    history = read_json_lines(folder / HISTORY) if (folder / HISTORY).exists() else []
    return Run(recipe, {}, schema, model, history, read_json(folder / METRICS), environment, path=folder)
