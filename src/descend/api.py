"""The verbs of the library that train one network: from data and a recipe to a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from descend.data.batches import Batches
from descend.data.training_data import DataOptions, accepts_data_options
from descend.errors import DivergedError, UserError
from descend.files import check_unused
from descend.many.restarts import networks_per_run, train_restarts
from descend.process import locked, locks_out
from descend.recipe import Recipe
from descend.runs.folder import is_started
from descend.runs.plan import Plan, plan_run
from descend.runs.run import Run
from descend.runs.session import Session
from descend.training.loop import Observer

__all__ = ["execute", "train"]


@locks_out("run")
@accepts_data_options
def train(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    allow_imports: bool = False,
    **data_options: Unpack[DataOptions],
) -> Run:
    """Train a network on data. Several seeds or recipes at once: :func:`descend.train_many`.

    Args:
        data: a bundled data set ("digits"), a file, a folder of images by class, "package.module:function",
            (X, y), a data frame with ``target``, a torch ``Dataset``, or a :class:`descend.TrainingData`.
        recipe: a :class:`Recipe`, a mapping of its sections, or a TOML file. Keys it leaves out are chosen for
            the data. Default None: everything is chosen.
        seed: the seed of every random number of the run. Default 0.
        out: the run folder. Default None: nothing is written.
        resume: continue the run in ``out`` from its last checkpoint, to the same bits as an uninterrupted run.
            Data and recipe must be those it started with; the recipe may be left out. Default False.
        device: shorthand for the recipe's ``engine.device``.
        model: a module to train instead of the recipe's, with outputs (n, K). It is trained in place.
        observers: objects that are notified of each epoch (:class:`descend.training.loop.Observer`).
        allow_imports: whether a recipe file may contain import paths, which run code. Default False.
        **data_options: ``target``, ``validation``, ``test`` and ``sample_weight``, as in
            :class:`descend.TrainingData`.

    Returns:
        The run, with the best weights by the monitored value.

    Raises:
        UserError: the data, the recipe or the folder cannot be used; nothing was written.
        DivergedError: a number became NaN or infinite; the last good state was kept.
        Interrupted: a signal requested a stop; a checkpoint was saved if there is a folder.

    >>> run = train("iris", {"stop": {"max_epochs": 3}}, seed=1)
    >>> sorted(run.metrics["test"])
    ['accuracy', 'balanced_accuracy', 'loss']
    """
    folder = None if out is None else Path(out)
    plan = plan_run(
        data,
        recipe,
        folder,
        resume=resume,
        seed=seed,
        device=device,
        allow_imports=allow_imports,
        **data_options,
    )
    return execute(plan, folder, resume=resume, model=model, observers=observers)


def execute(
    plan: Plan,
    folder: Path | None = None,
    *,
    resume: bool = False,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    batches: Batches | None = None,
) -> Run:
    """Train according to a plan; see :func:`train`.

    Args:
        plan: what is trained.
        folder: the run folder, or None.
        resume: continue from the folder's last checkpoint.
        model: a module to train instead of the recipe's.
        observers: objects that are notified of each epoch.
        batches: the training batches, instead of those the plan describes.

    Raises:
        UserError: the recipe trains several networks, which excludes ``model``, ``batches`` and ``observers``.
        DivergedError: a number became NaN or infinite.
        Interrupted: a signal requested a stop.
    """
    with locked(folder):
        if folder is not None and not resume and is_started(folder):
            check_unused(folder)  # another process has used it since the plan was made
        return _execute(plan, folder, resume, model, observers, batches)


def _execute(
    plan: Plan,
    folder: Path | None,
    resume: bool,
    model: nn.Module | None,
    observers: Sequence[Observer],
    batches: Batches | None,
) -> Run:
    if networks_per_run(plan.recipe) == 1:
        session = Session(plan, folder, resume=resume, model=model, observers=observers, batches=batches)
        session.advance()
        return session.finish()
    if model is not None or batches is not None:
        raise UserError(
            "init.restarts and model.ensemble train several networks from weights that the recipe initialises; they "
            "cannot be used with a model of your own, nor in the scikit-learn estimators"
        )
    if observers:
        raise UserError(
            "init.restarts and model.ensemble train several networks, and an observer watches one"
        )
    run = train_restarts(plan, folder, resume=resume)
    if run.failed:
        raise DivergedError(run.metrics["message"])
    return run
