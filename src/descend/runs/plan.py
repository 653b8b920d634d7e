"""The plan of a run: data read and prepared, recipe resolved, folder checked; nothing is written yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from descend.arguments import device_name, kind_of
from descend.augmentation.pipeline import layout_of
from descend.data.overlap import overlap_notes
from descend.data.preparation import Prepared, prepare
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import PARTS, Source, join
from descend.data.sources import read
from descend.data.split import is_random
from descend.data.training_data import DataOptions, TrainingData
from descend.errors import Problem, RecipeError, RunError, UserError
from descend.files import check_unused, read_json, read_text
from descend.interface import option
from descend.recipe import Recipe
from descend.recipe.augment import build_augmentations
from descend.recipe.calibration import build_calibration
from descend.recipe.defaults import CHOOSE
from descend.recipe.distillation import check_distillation
from descend.recipe.facts import facts_of
from descend.recipe.members import resolve_members
from descend.recipe.resolve import Resolved, resolve
from descend.recipe.time_budget import check_time_budget
from descend.runs.augmentation_choice import AugmentationChoices
from descend.runs.data_settings import data_settings
from descend.runs.device import choose_device
from descend.runs.folder import ENVIRONMENT, RECIPE, SCHEMA, is_started, why_unfinished
from descend.runs.monitored import check_monitored
from descend.runs.recorded_data import difference, explained, given_parts, references_of
from descend.runs.resume import amended_recipe

__all__ = ["Parts", "Plan", "Planner", "as_recipe", "choose_device", "plan_run"]


@dataclass(frozen=True)
class Plan:
    """What will be trained: the prepared data, the resolved recipe and the seed.

    ``references`` identify validation and test data that were given, by part; None for data in memory. ``before`` is the
    recipe of a run that continues under a changed one.
    """

    source: Source
    prepared: Prepared
    resolved: Resolved
    seed: int
    references: Mapping[str, str | None] = field(default_factory=dict)
    before: Recipe | None = None

    @property
    def recipe(self) -> Recipe:
        """The complete recipe."""
        return self.resolved.recipe


def as_recipe(recipe: Recipe | Mapping[str, Any] | str | Path | None, allow_imports: bool) -> Recipe:
    """Return a recipe from any form of one: None, a mapping of sections, or the path of a TOML file."""
    if recipe is None:
        return Recipe()
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, (str, Path)):
        if not Path(recipe).suffix and not Path(recipe).exists():
            raise UserError(
                f"no such recipe file: {recipe}; a recipe is a TOML file, a mapping or a Recipe; a column to predict is "
                f"target={str(recipe)!r}"
            )
        return Recipe.load(recipe, allow_imports=allow_imports)
    if not isinstance(recipe, Mapping):
        raise UserError(
            f"recipe: expected a Recipe, a mapping of sections or the path of a file, got {kind_of(recipe)}"
            + ("; pass inputs and targets as one pair: (X, y)" if hasattr(recipe, "__array__") else "")
        )
    return Recipe.of(recipe)


Parts = Mapping[str, Any]
"""The row numbers of "train", "validation" and "test". A row may occur several times, or in no part."""


class Planner:
    """Plans of several runs on the same data, which are read and prepared once.

    Args:
        data: as of :func:`descend.train`.
        device: shorthand for the recipes' ``engine.device``.
        allow_imports: whether recipe files may contain import paths.
        own_model: whether a module that the recipes do not describe is trained. Default False.
        ensembles: whether a recipe that leaves ``model.preset`` to "auto" may train several networks. Default False.
        refits: whether a network may be trained again on all rows (``stop.refit``). Default True.
        **data_options: fields of :class:`descend.TrainingData`.

    >>> planner = Planner("iris")
    >>> first, second = planner.plan({"optimizer": {"lr": 0.1}}), planner.plan({"optimizer": {"lr": 0.01}})
    >>> first.prepared is second.prepared
    True
    """

    def __init__(
        self,
        data: Any,
        *,
        device: str | None = None,
        allow_imports: bool = False,
        own_model: bool = False,
        ensembles: bool = False,
        refits: bool = True,
        **data_options: Unpack[DataOptions],
    ) -> None:
        self._data = TrainingData.of(data, **data_options)
        self._overrides: dict[str, Any] = (
            {} if device is None else {"engine.device": device_name("device", device)}
        )
        if targets := self._data.targets:
            self._overrides["data.target"] = targets[0] if len(targets) == 1 else list(targets)
        self._allow_imports, self._ensembles, self._refits = allow_imports, ensembles, refits
        self._sources: dict[str, Source] = {}
        self._prepared: dict[tuple[str, int], Prepared] = {}
        self._own_model = own_model
        self._augmentations = AugmentationChoices()
        self._taken: list[tuple[Parts, Source]] = []

    def plan(
        self,
        recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
        seed: int = 0,
        parts: Parts | None = None,
    ) -> Plan:
        """Return the plan of one run.

        Args:
            recipe: what to train.
            seed: the seed of the run.
            parts: the rows of each part, instead of a split by the recipe; a missing validation part is split off
                from the training rows.
        """
        requested = as_recipe(recipe, self._allow_imports)
        if self._overrides:
            requested = requested.replace(self._overrides)
        if not self._ensembles and requested.model.get("preset", "auto") == "auto":
            requested = requested.replace({"model.preset": "quick"})
        if requested.get("stop.refit") and not self._refits:
            compared = "networks that are compared with others are not trained again on all rows"
            raise RecipeError([Problem("stop", "refit", compared, "use train with the chosen recipe")])
        settings, why = data_settings(requested)
        source = self._source(settings)
        if self._has_given_parts:
            validation = settings.validation if self._data.validation is None else 0.0
            settings = dataclasses.replace(settings, validation=validation, test=0.0)
        if parts is not None:
            source = self._take(source, parts)
        # A split that is not random is the same for all seeds.
        random_split = is_random(source.split, settings.validation, settings.test)
        key = (repr((id(source), settings, why)), seed if random_split else 0)
        if key not in self._prepared:
            prepared = prepare(source, settings, seed)
            if why:
                schema = dataclasses.replace(prepared.schema, why=why)
                prepared = dataclasses.replace(prepared, schema=schema)
            if source.split is not None and parts is None:  # ``parts`` may contain a row several times
                prepared = dataclasses.replace(
                    prepared, notes=(*prepared.notes, *overlap_notes(prepared, source))
                )
            self._prepared[key] = prepared
        prepared = self._prepared[key]
        chosen = choose_device(requested.get("engine.device", "auto"))
        facts = dataclasses.replace(facts_of(prepared.schema, str(chosen)), own_model=self._own_model)
        resolved = resolve_members(resolve(requested, facts), requested, facts)
        check_time_budget(
            requested, facts, in_memory=not (prepared.train.stored or prepared.train.inputs is None)
        )
        check_distillation(resolved.recipe, facts)
        check_monitored(resolved.recipe, prepared)
        build_calibration(resolved.recipe, facts_of(prepared.schema))
        layout = layout_of(prepared.schema, prepared.preprocess)
        if resolved.recipe.data["augment"] == CHOOSE:
            together, explicit = source.groups is not None, requested.data.get("augment") == CHOOSE
            resolved = self._augmentations.completed(
                resolved, prepared, layout, seed, chosen, together=together, explicit=explicit
            )
        build_augmentations(resolved.recipe, layout, facts_of(prepared.schema))
        return Plan(source, prepared, resolved, seed, references_of(self._data))

    def resumed(
        self,
        folder: Path,
        recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
        seed: int | None = None,
        parts: Parts | None = None,
    ) -> Plan:
        """Return the plan that continues the run in a folder.

        Args:
            folder: the run folder.
            recipe: the recipe specified now, or None. It may change the number of epochs, early stopping, checkpoints
                and the device, and nothing else (:mod:`descend.runs.resume`).
            seed: the seed specified now, or None.
            parts: the parts the run was started with.

        Raises:
            RunError: the folder does not contain a run that these data and this recipe continue.
        """
        if not is_started(folder):
            raise RunError(f"nothing to resume: {why_unfinished(folder)}")
        saved = Recipe.load(folder / RECIPE, allow_imports=self._allow_imports)
        own_seed = _saved_seed(folder)
        if seed is not None and seed != own_seed:
            own = option(f"--seed {own_seed}", f"seed={own_seed}")
            raise RunError(f"the run in {folder} was started with {own}, not {seed}")
        requested = as_recipe(recipe, self._allow_imports).replace(self._overrides)
        amended, changes = amended_recipe(folder, saved, requested)
        self._add_given_parts(folder)
        planned = self._plan_on_same_data(folder, amended, own_seed, parts)
        return dataclasses.replace(planned, before=saved if changes else None)

    def _add_given_parts(self, folder: Path) -> None:
        """Use the validation and test data that the run was started with, where none are specified."""
        known = {"validation": self._data.validation, "test": self._data.test}
        given = given_parts(folder, allow_imports=self._allow_imports, known=known)
        if given:
            self._data = dataclasses.replace(self._data, **given)
            self._sources.clear()

    def _plan_on_same_data(self, folder: Path, recipe: Recipe, seed: int, parts: Parts | None) -> Plan:
        """Return the plan of a run in a folder if the data are those of the run.

        Data that differ are named as the cause of any other problem, such as a task that does not fit them.
        """
        schema = Schema.from_json(read_text(folder / SCHEMA), str(folder / SCHEMA))
        try:
            planned = self.plan(recipe, seed, parts)
        except UserError as cause:
            device = recipe.get("engine.device")
            if isinstance(cause, RecipeError) and [p.key for p in cause.problems] == ["device"]:
                raise RunError(
                    f"the run in {folder} was started on the device '{device}', which is not available here; continue it "
                    f"on the CPU: {option('--device cpu', 'device=' + repr('cpu'))}"
                ) from cause
            problem = explained(folder, schema, self._data, list(self._sources.values()), cause)
            if not problem:
                raise
            raise RunError(f"the data are not those of the run in {folder}: {problem}") from cause
        other = planned.prepared.schema
        if other.fingerprint != schema.fingerprint:
            facts = difference(folder, schema, planned.source, other, planned.references)
            raise RunError(
                f"the data are not those of the run in {folder} (their fingerprints differ): {facts}. Resume with the "
                "same data, or start a new run in another folder"
            )
        return planned

    @property
    def _has_given_parts(self) -> bool:
        return self._data.validation is not None or self._data.test is not None

    def _source(self, settings: DataSettings) -> Source:
        key = repr(settings)
        if key not in self._sources:
            source = read(self._data.source, settings=settings, weights=self._data.sample_weight)
            if self._has_given_parts:
                parts = {"validation": self._data.validation, "test": self._data.test}
                held_out = [
                    None
                    if each is None
                    else read(each, settings=settings, held_out=True, after=source, name=part)
                    for part, each in parts.items()
                ]
                source = join(source, *held_out)
            # Most settings do not change what is read: reuse a source that was read the same way.
            same = (one for one in self._sources.values() if one.fingerprint() == source.fingerprint())
            self._sources[key] = next(same, source)
        return self._sources[key]

    def _take(self, source: Source, parts: Parts) -> Source:
        for known, taken in self._taken:
            if known is parts:
                return taken
        if set(parts) - set(PARTS) or "train" not in parts:
            raise UserError(
                "parts: expected the row numbers of 'train' and optionally 'validation' and 'test', "
                f"got {sorted(parts)}"
            )
        named = [(part, np.asarray(parts[part], dtype=np.int64)) for part in PARTS if part in parts]
        rows = np.concatenate([numbers for _, numbers in named])
        labels = np.concatenate([np.full(len(numbers), part) for part, numbers in named])
        taken = dataclasses.replace(source.take(rows), split=labels)
        self._taken.append((parts, taken))
        return taken


def plan_run(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    folder: Path | None = None,
    *,
    resume: bool = False,
    seed: int = 0,
    device: str | None = None,
    allow_imports: bool = False,
    own_model: bool = False,
    ensembles: bool = True,
    **data_options: Unpack[DataOptions],
) -> Plan:
    """Return the plan of a new run, or, with ``resume``, of the run in a folder; the folder is checked first.

    ``folder`` is the run folder, or None, ``own_model`` and ``ensembles`` are as for :class:`Planner`, the latter with the
    default True; all other arguments are those of :func:`descend.train`.

    Raises:
        RunError: the folder is in use, or does not contain a run that these data and this recipe continue.
    """
    planner = Planner(
        data,
        device=device,
        allow_imports=allow_imports,
        own_model=own_model,
        ensembles=ensembles,
        **data_options,
    )
    if resume:
        if folder is None:
            raise UserError("resume=True requires out=<run folder>")
        return planner.resumed(folder, recipe, seed or None)  # 0, the default, keeps the seed of the run
    if folder is not None:
        check_unused(folder)
    return planner.plan(recipe, seed)


def _saved_seed(folder: Path) -> int:
    seed = read_json(folder / ENVIRONMENT).get("seed")
    if not isinstance(seed, int):
        raise RunError(f"{folder / ENVIRONMENT} is damaged: it contains no seed")
    return seed
