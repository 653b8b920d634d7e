"""What is going to be trained: data read and prepared, recipe resolved, folder checked; nothing written yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from descend.augmentation.pipeline import layout_of
from descend.data.prepare import Prepared, prepare
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import Source, join
from descend.data.sources import read
from descend.errors import Problem, RecipeError, RunError, UserError, words_of
from descend.metrics import METRICS
from descend.recipe import Recipe
from descend.recipe.augment import build_augmentations
from descend.recipe.defaults import facts_of
from descend.recipe.resolve import Resolved, resolve
from descend.recipe.toml import path_of
from descend.run import check_unused, read_json, read_text

__all__ = ["Plan", "as_recipe", "choose_device", "plan", "plan_run"]


@dataclass(frozen=True)
class Plan:
    """What is going to be trained: data read and prepared, recipe resolved. Nothing is written yet."""

    source: Source
    prepared: Prepared
    resolved: Resolved
    seed: int

    @property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return self.resolved.recipe


def as_recipe(recipe: Recipe | Mapping[str, Any] | str | Path | None, allow_imports: bool) -> Recipe:
    """A recipe from whatever stands for one: None, a mapping of sections, a TOML file."""
    if recipe is None:
        return Recipe()
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, (str, Path)):
        return Recipe.load(recipe, allow_imports=allow_imports)
    if not isinstance(recipe, Mapping):
        raise UserError(
            f"a recipe is a Recipe, a mapping of sections or a file; found a {type(recipe).__name__}"
        )
    return Recipe.of(recipe)


def plan(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    allow_imports: bool = False,
) -> Plan:
    """Read and prepare data and resolve the recipe for them, without training; arguments as of :func:`train`."""
    asked = as_recipe(recipe, allow_imports)
    if device is not None:
        asked = asked.replace({"engine.device": device})
    if target is not None:
        names = (target,) if isinstance(target, str) else tuple(target)
        asked = asked.replace({"data.target": names[0] if len(names) == 1 else list(names)})
    settings = DataSettings(**{key: value for key, value in asked.data.items() if value is not None})
    source = read(data, settings=settings, weights=sample_weight)
    if validation is not None or test is not None:
        others = [None if each is None else read(each, settings=settings) for each in (validation, test)]
        source = join(source, *others)
        settings = dataclasses.replace(
            settings,
            validation=settings.validation if validation is None else 0.0,
            test=0.0,
        )
    prepared = prepare(source, settings, seed)
    chosen = choose_device(asked.get("engine.device", "auto"))
    resolved = resolve(asked, facts_of(prepared.schema, str(chosen)))
    _check_monitor(resolved.recipe, prepared)
    layout = layout_of(prepared.schema, prepared.preprocess)
    build_augmentations(resolved.recipe, layout, facts_of(prepared.schema))
    return Plan(source, prepared, resolved, seed)


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" takes CUDA where it is.

    Raises:
        RecipeError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as cause:
        first = words_of(cause).splitlines()[0]
        raise RecipeError([Problem("engine", "device", f"'{name}' cannot be used here: {first}")]) from None
    return device


def _check_monitor(recipe: Recipe, prepared: Prepared) -> None:
    """Combinations that only data and recipe together can refuse."""
    problems: list[Problem] = []
    task, monitor = prepared.schema.task, recipe.stop["monitor"]
    if monitor != "loss" and monitor not in METRICS[task]:
        problems.append(
            Problem(
                "stop",
                "monitor",
                f"no metric '{monitor}' for {task}",
                f"one of: loss, {', '.join(METRICS[task])}",
            )
        )
    validated = len(prepared.validation) > 0
    watches = recipe.schedule.get("monitor") == "validation"
    if not validated and watches:
        problems.append(
            Problem(
                "schedule",
                "monitor",
                "there are no validation rows to watch",
                'use "objective", or hold out rows',
            )
        )
    if not validated and recipe.get("stop.target") is not None:
        problems.append(Problem("stop", "target", "there are no validation rows to reach it on"))
    if problems:
        raise RecipeError(problems)


def plan_run(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    folder: Path | None = None,
    *,
    resume: bool = False,
    seed: int = 0,
    allow_imports: bool = False,
    **arguments: Any,
) -> Plan:
    """The plan of a new run, or, to resume, of the run that a folder holds; the folder is checked first.

    ``folder`` is the run folder, or None; everything else is as in :func:`train`.

    Raises:
        RunError: the folder is in use, or holds no run that these data and this recipe continue.
    """
    if resume:
        if folder is None:
            raise UserError("resume needs the folder of the run: give out")
        recipe, seed = _saved_recipe(folder, recipe, allow_imports), _saved_seed(folder)
    elif folder is not None:
        check_unused(folder)
    planned = plan(data, recipe, seed=seed, allow_imports=allow_imports, **arguments)
    if folder is not None and resume:
        _check_fingerprint(folder, planned.prepared.schema)
    return planned


def _saved_seed(folder: Path) -> int:
    seed = read_json(folder / "environment.json").get("seed")
    if not isinstance(seed, int):
        raise RunError(f"{folder / 'environment.json'} is damaged: it states no seed")
    return seed


def _saved_recipe(
    folder: Path, recipe: Recipe | Mapping[str, Any] | str | Path | None, allow_imports: bool
) -> Recipe:
    """The recipe of an unfinished run, which what is said now must not contradict."""
    if not (folder / "recipe.toml").exists():
        raise RunError(f"nothing to resume in {folder}: it holds no run")
    saved = Recipe.load(folder / "recipe.toml", allow_imports=allow_imports)
    now = as_recipe(recipe, allow_imports).said()
    before = saved.said()
    changed = [
        f"{key}: was {before.get(key)!r}, now {value!r}"
        for key, value in now.items()
        if value != "auto" and path_of(value) != path_of(before.get(key))
    ]
    if changed:
        raise RunError(
            f"the recipe is not the one that the run in {folder} was started with; resume without changes, or "
            "train anew in another folder:\n  " + "\n  ".join(changed)
        )
    return saved


def _check_fingerprint(folder: Path, schema: Schema) -> None:
    saved = Schema.from_json(read_text(folder / "schema.json"), str(folder / "schema.json"))
    if saved.fingerprint != schema.fingerprint:
        raise RunError(
            f"the data are not those that the run in {folder} was started with (fingerprint {schema.fingerprint}, "
            f"was {saved.fingerprint}); resume with the same data, or train anew in another folder"
        )
