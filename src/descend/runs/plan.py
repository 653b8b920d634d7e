"""What is going to be trained: data read and prepared, recipe resolved, folder checked; nothing written yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descend.augmentation.pipeline import layout_of
from descend.data.prepare import Prepared, prepare
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import PARTS, Source, join
from descend.data.sources import read
from descend.data.split import is_drawn
from descend.errors import Problem, RecipeError, RunError, UserError, message_of
from descend.metrics import METRICS
from descend.recipe import Recipe
from descend.recipe.augment import build_augmentations
from descend.recipe.defaults import facts_of
from descend.recipe.resolve import Resolved, resolve
from descend.recipe.toml import path_of
from descend.files import check_unused, read_json, read_text

__all__ = ["Parts", "Plan", "Planner", "as_recipe", "choose_device", "plan", "plan_run"]


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
    planner = Planner(
        data,
        target=target,
        device=device,
        validation=validation,
        test=test,
        sample_weight=sample_weight,
        allow_imports=allow_imports,
    )
    return planner.plan(recipe, seed)


DRAWN = ("batch_size", "sampling", "shuffle", "augment")
"""Keys of ``[data]`` that say what batches are made of prepared rows."""

Parts = Mapping[str, Any]
"""Row numbers of "train", "validation" and "test"; a number may occur again, and rows may be left out."""


class Planner:
    """Plans of several runs on the same data. What they have in common is read and prepared once.

    Arguments are those of :func:`train`.

    >>> planner = Planner("iris")
    >>> first, second = planner.plan({"optimizer": {"lr": 0.1}}), planner.plan({"optimizer": {"lr": 0.01}})
    >>> first.prepared is second.prepared
    True
    """

    def __init__(
        self,
        data: Any,
        *,
        target: str | Sequence[str] | None = None,
        device: str | None = None,
        validation: Any = None,
        test: Any = None,
        sample_weight: Any = None,
        allow_imports: bool = False,
    ) -> None:
        self._data, self._validation, self._test, self._weights = data, validation, test, sample_weight
        self._said: dict[str, Any] = {} if device is None else {"engine.device": device}
        if target is not None:
            names = (target,) if isinstance(target, str) else tuple(target)
            self._said["data.target"] = names[0] if len(names) == 1 else list(names)
        self._allow_imports = allow_imports
        self._sources: dict[str, Source] = {}
        self._prepared: dict[tuple[str, int], Prepared] = {}
        self._taken: list[tuple[Parts, Source]] = []

    def plan(
        self,
        recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
        seed: int = 0,
        parts: Parts | None = None,
    ) -> Plan:
        """The plan of one run.

        Args:
            recipe: what to train.
            seed: of the run.
            parts: the rows of each part, in place of a split by the recipe; a missing validation part is carved
                from the training rows.
        """
        asked = as_recipe(recipe, self._allow_imports)
        if self._said:
            asked = asked.replace(self._said)
        # Batches are drawn from prepared rows; how does not matter for preparing them.
        said = {key: value for key, value in asked.data.items() if value is not None}
        settings = DataSettings(**{k: v for k, v in said.items() if k not in DRAWN})
        source = self._source(settings)
        if self._validation is not None or self._test is not None:
            validation = settings.validation if self._validation is None else 0.0
            settings = dataclasses.replace(settings, validation=validation, test=0.0)
        if parts is not None:
            source = self._take(source, parts)
        # Where the rows of each part are given, all seeds share them.
        drawn = is_drawn(source.split, settings.validation, settings.test)
        key = (repr((id(source), settings)), seed if drawn else 0)
        if key not in self._prepared:
            self._prepared[key] = prepare(source, settings, seed)
        prepared = self._prepared[key]
        chosen = choose_device(asked.get("engine.device", "auto"))
        resolved = resolve(asked, facts_of(prepared.schema, str(chosen)))
        _check_monitor(resolved.recipe, prepared)
        layout = layout_of(prepared.schema, prepared.preprocess)
        build_augmentations(resolved.recipe, layout, facts_of(prepared.schema))
        return Plan(source, prepared, resolved, seed)

    def resumed(
        self,
        folder: Path,
        recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
        seed: int | None = None,
        parts: Parts | None = None,
    ) -> Plan:
        """The plan of the run that a folder holds, to go on with.

        Args:
            folder: of the run.
            recipe: what is said now; it must not contradict what the run was started with.
            seed: what is said now, or None.
            parts: as it was started with.

        Raises:
            RunError: the folder holds no run that these data and this recipe continue.
        """
        saved, own_seed = _saved_recipe(folder, recipe, self._allow_imports), _saved_seed(folder)
        if seed is not None and seed != own_seed:
            raise RunError(f"the run in {folder} was started with the seed {own_seed}, not {seed}")
        planned = self.plan(saved, own_seed, parts)
        _check_fingerprint(folder, planned.prepared.schema)
        return planned

    def _source(self, settings: DataSettings) -> Source:
        key = repr(settings)
        if key not in self._sources:
            source = read(self._data, settings=settings, weights=self._weights)
            if self._validation is not None or self._test is not None:
                given = (self._validation, self._test)
                source = join(
                    source, *(None if each is None else read(each, settings=settings) for each in given)
                )
            # Most settings do not matter for reading: what was read the same way before serves again.
            alike = (one for one in self._sources.values() if one.fingerprint() == source.fingerprint())
            self._sources[key] = next(alike, source)
        return self._sources[key]

    def _take(self, source: Source, parts: Parts) -> Source:
        for known, taken in self._taken:
            if known is parts:
                return taken
        odd = set(parts) - set(PARTS)
        if odd or "train" not in parts:
            raise UserError(
                f"parts are row numbers of 'train', 'validation' and 'test'; found {sorted(parts)}"
            )
        named = [(part, np.asarray(parts[part], dtype=np.int64)) for part in PARTS if part in parts]
        rows = np.concatenate([numbers for _, numbers in named])
        labels = np.concatenate([np.full(len(numbers), part) for part, numbers in named])
        taken = dataclasses.replace(source.take(rows), split=labels)
        self._taken.append((parts, taken))
        return taken


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
        first = message_of(cause).splitlines()[0]
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
    if not validated and recipe.init["restarts"] > recipe.model["ensemble"]:
        problems.append(
            Problem(
                "init",
                "restarts",
                "there are no validation rows to choose the best by",
                "hold out rows (data.validation)",
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
    planner = Planner(data, allow_imports=allow_imports, **arguments)
    if resume:
        if folder is None:
            raise UserError("resume needs the folder of the run: give out")
        return planner.resumed(folder, recipe)
    if folder is not None:
        check_unused(folder)
    return planner.plan(recipe, seed)


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
    now = as_recipe(recipe, allow_imports).specified()
    before = saved.specified()
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
