"""Training of many variants on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, get_args

from descend.data.training_data import DataOptions, accepts_data_options
from descend.errors import Problem, RecipeError, UserError
from descend.files import check_unused
from descend.many.engine_choice import EngineChoice
from descend.many.execution import Survivors, train_members
from descend.many.loop_engine import WorkerChoice, check_workers
from descend.many.planned_member import PlannedMember
from descend.many.progress import networks_shown
from descend.many.restarts import train_restarts
from descend.many.watchers import Watcher, Watchers
from descend.process import locks_out, undisturbed
from descend.recipe import Recipe
from descend.recipe.members import networks_per_run
from descend.runs.folder import is_started
from descend.runs.plan import Parts, Planner
from descend.runs.run import Run
from descend.training.notification import as_observers

__all__ = ["EngineChoice", "Survivors", "Watcher", "train_many"]


@undisturbed
@locks_out("set of runs")
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
    watchers: Sequence[Any] = (),
    observers: Sequence[Any] = (),
    progress: bool | None = None,
    tested: bool = True,
    allow_imports: bool = False,
    **data_options: Unpack[DataOptions],
) -> list[Run]:
    """Train several variants on the same data, packed together where possible.

    A recipe that leaves ``model.preset`` to "auto" trains one network here, so that variants differ in what their
    recipes specify. Each run equals the result of :func:`descend.train` for such a recipe and its seed, up to
    rounding, regardless of the other members. A member that diverges does not affect the others; its run is marked as
    failed (``run.failed``).

    Args:
        recipes: one for each member.
        data: as for :func:`descend.train`.
        seeds: one for all members, or one for each.
        parts: for each member the row numbers of its "train", "validation" and "test" parts (folds, bootstrap
            samples), or None for the split given by its recipe and seed.
        out: a folder for the run folders, which are named by number; None to write nothing.
        resume: continue from the contents of ``out``, to the same bits as without the interruption. The recipes may be
            changed as for :func:`descend.train`.
        device: shorthand for the recipes' ``engine.device``.
        engine: "packed" (stacked modules), "vmap" or "loop" (one after another); "auto" chooses the fastest for each
            group. ``run.environment["engine"]`` contains the engine and the reason for it.
        workers: number of processes, each on one thread, that share the members; 1 for none. "auto" starts one per core
            if this saves time. Members whose process is killed are marked as failed.
        rungs: epochs at whose ends ``survivors`` decides which members continue.
        survivors: called with the epoch of a rung and the runs still training, by number; returns the numbers of those
            that continue. The others are stopped ("dropped") with their best weights so far.
        watchers: objects with at least one of the methods ``epoch_ended(number, record)`` and ``finished(number, run)``,
            or functions of a number and the record of an epoch.
        observers: as for :func:`descend.train`, notified of the events of every training, whose ``number`` is that of the
            member; ``training.request_stop()`` ends this member. The members are then trained in this process.
        progress: whether to show on standard error how many networks have been trained. Default None: only in a terminal
            or a notebook.
        tested: whether the test parts are evaluated; this should be done only once.
        allow_imports: whether recipe files may contain import paths, which run code. Default False.
        **data_options: ``target``, ``validation``, ``test`` and ``sample_weight``, as in
            :class:`descend.TrainingData`.

    Returns:
        The runs, in the order of the recipes.

    Raises:
        UserError: the data or some recipes cannot be used. All problems are reported at once, and nothing is trained.
        ObserverError: an observer or a watcher raised an exception.
        Interrupted: a signal requested to stop.

    >>> runs = train_many([{"optimizer": {"lr": lr}, "stop": {"max_epochs": 2}} for lr in (0.1, 0.01)], "iris")
    >>> [run.metrics["epochs"] for run in runs]
    [2, 2]
    """
    recipes, seen_by = list(recipes), as_observers(observers)
    watching = Watchers(watchers)
    if not recipes:
        raise UserError("train_many needs at least one recipe")
    check_workers(workers)
    _check_choices(engine, rungs)
    seed_of_each = _for_each(seeds, len(recipes), "seeds")
    parts_of_each = [None] * len(recipes) if parts is None else _for_each(list(parts), len(recipes), "parts")
    planner = Planner(data, device=device, allow_imports=allow_imports, refits=False, **data_options)
    folder = None if out is None else Path(out)
    if folder is not None and not resume:
        check_unused(folder)
    members = _plan_members(planner, recipes, seed_of_each, parts_of_each, folder, resume)
    for member in members:
        member.tested, member.observers = tested, seen_by
    several = [member for member in members if networks_per_run(member.plan.recipe) > 1]
    if several and rungs:
        raise UserError("rungs cannot be combined with init.restarts or model.ensemble: remove one of them")
    if any(member.plan.recipe.model.get("preset") == "best" for member in members):
        message = (
            "the preset best is a search that uses its whole time; it cannot be one of several trainings"
        )
        raise RecipeError([Problem("model", "preset", message, _BEST_ADVICE)])
    single = [member for member in members if member not in several]
    with networks_shown(progress, len(members)) as shown:
        watcher = Watchers([*watching.each, *shown])
        train_members(single, watcher, engine, rungs, survivors, folder, resume=resume, workers=workers)
        for member in several:
            member.run = train_restarts(
                member.plan,
                member.folder,
                resume=member.resumed,
                engine=engine,
                tested=tested,
                observers=seen_by,
            )
            watcher.finished(member.number, member.run)
    return [member.run for member in members]


_BEST_ADVICE = "use preset = good or quick here, and train with the preset best on its own"


def _check_choices(engine: Any, rungs: Sequence[Any]) -> None:
    if engine not in get_args(EngineChoice):
        known = ", ".join(f'"{name}"' for name in get_args(EngineChoice))
        raise UserError(f"engine: expected one of {known}, got {engine!r}")
    for epoch in rungs:
        if not isinstance(epoch, int) or epoch < 1:
            raise UserError(f"rungs: expected epochs (integers of at least 1), got {epoch!r}")


def _for_each(values: Any, count: int, name: str) -> list[Any]:
    if isinstance(values, int):
        return [values] * count
    listed = list(values)
    if len(listed) != count:
        raise UserError(f"{name}: expected one for each of the {count} recipes, got {len(listed)}")
    return listed


def _plan_members(
    planner: Planner,
    recipes: Sequence[Any],
    seeds: Sequence[int],
    parts: Sequence[Parts | None],
    folder: Path | None,
    resume: bool,
) -> list[PlannedMember]:
    """Return a member for each recipe.

    Raises:
        RecipeError: with the problems of all recipes.
    """
    members: list[PlannedMember] = []
    problems: list[Problem] = []
    for number, (recipe, seed, own) in enumerate(zip(recipes, seeds, parts, strict=True)):
        path = None if folder is None else folder / f"{number:04d}"
        begun = resume and path is not None and is_started(path)
        try:
            if begun and path is not None:
                plan = planner.resumed(path, recipe, seed, own)
            else:
                plan = planner.plan(recipe, seed, own)
        except RecipeError as cause:
            problems += [problem.of(f"recipe {number}") for problem in cause.problems]
            continue
        member = PlannedMember(number, plan, path, begun)
        if begun and path is not None:
            member.read_engine(path)
        members.append(member)
    if problems:
        raise RecipeError(problems)
    return members
