"""Training many variants: grouped, each group by the engine that suits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, get_args

from descend.data.training_data import DataOptions, accepts_data_options
from descend.errors import Problem, RecipeError, UserError
from descend.files import check_unused
from descend.many.loop_engine import WorkerChoice, check_workers
from descend.many.member import Member, Watcher, Watchers
from descend.many.restarts import copies, train_restarts
from descend.many.train_members import EngineChoice, Survivors, train_members
from descend.recipe import Recipe
from descend.runs.plan import Parts, Planner
from descend.runs.run import Run

__all__ = ["EngineChoice", "Survivors", "Watcher", "train_many"]


@accepts_data_options
def train_many(
    recipes: Sequence[Recipe | Mapping[str, Any] | str | Path | None],
    data: Any,
    *,
    seeds: int | Sequence[int] = 0,
    parts: Sequence[Parts | None] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    engine: EngineChoice = "auto",
    workers: WorkerChoice = "auto",
    rungs: Sequence[int] = (),
    survivors: Survivors | None = None,
    watchers: Sequence[Watcher] = (),
    tested: bool = True,
    allow_imports: bool = False,
    **data_options: Unpack[DataOptions],
) -> list[Run]:
    """Train several variants on the same data, together where they can ride together.

    Each run is what :func:`descend.train` would give for its recipe and seed, up to rounding, whatever it was
    trained with. A member that diverges does not disturb the others: its run says so (``run.failed``).

    Args:
        recipes: one for each member.
        data: as for :func:`descend.train`.
        seeds: one for all members, or one for each.
        parts: for each member the row numbers of its "train", "validation" and "test" parts (folds, bootstrap
            samples), or None for a split by its recipe and seed.
        out: a folder for the run folders, which are named by number; without it nothing is written.
        resume: continue what is in ``out``, to the same bits as if it had not stopped.
        device: shorthand for the recipes' ``engine.device``.
        engine: "packed" (stacked modules), "vmap", "loop" (one after another); "auto" takes for each group what is
            fastest. ``run.environment["engine"]`` says which ran, and why.
        workers: processes, each on one thread, that share the members, as packs or one after another; 1 for none. "auto"
            starts one a core where the work is worth it. Members whose process is killed are failed ones.
        rungs: epochs at the end of which ``survivors`` is asked who goes on.
        survivors: called with a rung's epoch and the runs that have reached it and go on, by number; gives the
            numbers of those that continue. The others are stopped ("dropped") with their best weights so far.
        watchers: who watches.
        tested: whether the test parts are measured; they should be touched once.
        allow_imports: whether recipe files may contain import paths, which run code. Default False.
        **data_options: ``target``, ``validation``, ``test`` and ``sample_weight``, as in
            :class:`descend.TrainingData`.

    Returns:
        The runs, in the order of the recipes.

    Raises:
        UserError: the data or some recipes cannot be used; all problems at once, and nothing was trained.

    >>> runs = train_many([{"optimizer": {"lr": lr}, "stop": {"max_epochs": 2}} for lr in (0.1, 0.01)], "iris")
    >>> [run.metrics["epochs"] for run in runs]
    [2, 2]
    """
    recipes = list(recipes)
    if not recipes:
        raise UserError("train_many needs at least one recipe")
    check_workers(workers)
    _check_choices(engine, rungs)
    each_seed = _for_each(seeds, len(recipes), "seeds")
    each_parts = [None] * len(recipes) if parts is None else _for_each(list(parts), len(recipes), "parts")
    planner = Planner(data, device=device, allow_imports=allow_imports, **data_options)
    folder = None if out is None else Path(out)
    if folder is not None and not resume:
        check_unused(folder)
    members = _planned(planner, recipes, each_seed, each_parts, folder, resume)
    for member in members:
        member.tested = tested
    watcher = Watchers(list(watchers))
    several = [member for member in members if copies(member.plan.recipe) > 1]
    if several and rungs:
        raise UserError(
            "init.restarts and model.ensemble cannot be stopped at rungs: leave out one or the other"
        )
    single = [member for member in members if member not in several]
    train_members(single, watcher, engine, rungs, survivors, folder, resume=resume, workers=workers)
    for member in several:
        member.run = train_restarts(
            member.plan, member.folder, resume=member.resumed, engine=engine, tested=tested
        )
        watcher.finished(member.number, member.run)
    return [member.run for member in members]


def _check_choices(engine: Any, rungs: Sequence[Any]) -> None:
    if engine not in get_args(EngineChoice):
        known = ", ".join(f'"{name}"' for name in get_args(EngineChoice))
        raise UserError(f"engine: one of {known} was expected, found {engine!r}")
    for epoch in rungs:
        if not isinstance(epoch, int) or epoch < 1:
            raise UserError(f"rungs: numbers of epochs, 1 or more, were expected, found {epoch!r}")


def _for_each(values: Any, count: int, name: str) -> list[Any]:
    if isinstance(values, int):
        return [values] * count
    listed = list(values)
    if len(listed) != count:
        raise UserError(f"{name}: one for each of the {count} recipes was expected, found {len(listed)}")
    return listed


def _planned(
    planner: Planner,
    recipes: Sequence[Any],
    seeds: Sequence[int],
    parts: Sequence[Parts | None],
    folder: Path | None,
    resume: bool,
) -> list[Member]:
    """A member for each recipe; the problems of all recipes at once."""
    members: list[Member] = []
    problems: list[Problem] = []
    for number, (recipe, seed, own) in enumerate(zip(recipes, seeds, parts, strict=True)):
        path = None if folder is None else folder / f"{number:04d}"
        begun = resume and path is not None and (path / "recipe.toml").exists()
        try:
            if begun and path is not None:
                plan = planner.resumed(path, recipe, seed, own)
            else:
                plan = planner.plan(recipe, seed, own)
        except RecipeError as cause:
            problems += [problem.of(f"recipe {number}") for problem in cause.problems]
            continue
        member = Member(number, plan, path, begun)
        if begun and path is not None:
            member.take_up(path)
        members.append(member)
    if problems:
        raise RecipeError(problems)
    return members
