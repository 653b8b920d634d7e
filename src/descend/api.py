"""The verbs of the library that train one network: from data and a recipe to a run, and from a stopped run to a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from descend.arguments import as_path
from descend.data.batches import Batches
from descend.data.training_data import DataOptions, TrainingData, accepts_data_options
from descend.errors import DivergedError, RunError, UserError
from descend.files import check_unused
from descend.many.networks import train_networks
from descend.many.progress import networks_shown
from descend.many.refit import REFIT, check_refit, finished_before, refitted
from descend.many.watchers import Watcher
from descend.metrics import main_metric
from descend.process import locked, locks_out, undisturbed
from descend.recipe import Recipe
from descend.recipe.members import expected_networks, networks_per_run
from descend.runs.folder import MANIFEST, check_manifest, is_finished, is_started
from descend.runs.plan import Plan, Planner, as_recipe, plan_run
from descend.runs.recorded_data import recorded_data
from descend.runs.run import Run, load
from descend.runs.session import Session
from descend.training.loop import Observer
from descend.training.notification import as_observers
from descend.training.progress import progress_shown

__all__ = ["execute", "finish", "train"]


@undisturbed
@locks_out("run")
@accepts_data_options
def train(
    data: Any = None,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    refit: bool = False,
    device: str | None = None,
    model: nn.Module | None = None,
    observers: Sequence[Any] = (),
    progress: bool | None = None,
    allow_imports: bool = False,
    **data_options: Unpack[DataOptions],
) -> Run:
    """Train a network on data. Several seeds or recipes at once: :func:`descend.train_many`.

    Args:
        data: a bundled data set ("digits"), a file, a folder of images by class, "package.module:function",
            (X, y), a data frame with ``target``, a torch ``Dataset``, or a :class:`descend.TrainingData`. May be left
            out with ``resume`` if the run was started with a file, a folder or a bundled data set.
        recipe: a :class:`Recipe`, a mapping of its sections, or a TOML file. Keys it leaves out are chosen for
            the data. Default None: everything is chosen. A table is then fitted by an ensemble of different networks, and by
            one network if the recipe specifies anything about the network or its training (``model.preset``).
        seed: the seed of every random number of the run. Default 0.
        out: the run folder. Default None: nothing is written.
        resume: continue the run in ``out`` from its last checkpoint, to the same bits as an uninterrupted run. Data and
            recipe must be those it started with; the recipe may be left out. The keys of ``stop`` (apart from
            ``average``), of ``checkpoint`` and the device may be changed, also in a finished run: training then
            continues as if they had been so from the start, or is refused with the reason. Default False.
        refit: shorthand for the recipe's ``stop.refit``: train again on all rows once the scores on held-out rows are known
            (:mod:`descend.many.refit`). The scores of the run are then those of the first training. Default False: as in
            the recipe.
        device: shorthand for the recipe's ``engine.device``.
        model: a module to train instead of the recipe's, with outputs (n, K). It is trained in place.
        observers: objects with some of the methods ``started(training)``, ``stepped(training)``,
            ``epoch_ended(training, record)`` and ``finished(training)``, or functions of a training and the record of
            an epoch. ``training.request_stop()`` ends training after the current epoch.
        progress: whether to show progress on standard error: a bar in a terminal, else a line every ten seconds and one
            at the end. Default None: only in a terminal or a notebook.
        allow_imports: whether a recipe file may contain import paths, which run code. Default False.
        **data_options: ``target``, ``validation``, ``test`` and ``sample_weight``, as in
            :class:`descend.TrainingData`.

    Returns:
        The run, with the best weights by the monitored value.

    Raises:
        UserError: the data, the recipe or the folder cannot be used; nothing was written.
        DivergedError: a number became NaN or infinite; the last good state was kept.
        ObserverError: an observer raised an exception; a checkpoint was saved if there is a folder.
        Interrupted: Ctrl-C or a signal requested a stop; a checkpoint was saved if there is a folder. Its ``run`` is the
            run with the best weights so far, its ``folder`` the run folder.

    >>> run = train("iris", {"stop": {"max_epochs": 3}}, seed=1)
    >>> run.metrics["epochs"], run.metrics["test"]["accuracy"] > 0.5
    (3, True)
    """
    folder = None if out is None else Path(out)
    observers = as_observers(observers)
    if data is None:
        if not resume or folder is None:
            raise UserError(
                "data: specify what to train on; only resume=True with out=<run folder> can leave it out"
            )
        data = recorded_data(folder, allow_imports=allow_imports)
    plan = plan_run(
        data,
        as_recipe(recipe, allow_imports).replace({"stop.refit": True}) if refit else recipe,
        folder,
        resume=resume,
        seed=seed,
        device=device,
        allow_imports=allow_imports,
        own_model=model is not None,
        ensembles=model is None,
        **data_options,
    )
    arguments: dict[str, Any] = {"resume": resume, "model": model}
    if networks_per_run(plan.recipe) > 1:
        with networks_shown(progress, expected_networks(plan.recipe)) as watchers:
            return execute(plan, folder, observers=observers, watchers=watchers, **arguments)
    with progress_shown(progress, main_metric(plan.prepared.schema.task)) as shown:
        return execute(plan, folder, observers=[*shown, *observers], **arguments)


@undisturbed
def finish(
    folder: str | Path,
    data: Any = None,
    *,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    device: str | None = None,
    model: nn.Module | None = None,
    allow_imports: bool = False,
) -> Run:
    """Finish a run that was stopped, killed or diverged: evaluate its best weights so far, and write it as a result.

    The status of the run is then "stopped". It is loaded, used, exported and reported like any other run, and
    ``train(resume=True)`` continues it from its last checkpoint as before. A finished run is returned as it is.

    Args:
        folder: the run folder.
        data: the data of the run, if they were in memory or have been moved. Default None: as recorded in the folder.
        validation: the validation data of the run, as for :func:`train`; likewise.
        test: the test data of the run, as for :func:`train`; likewise.
        sample_weight: the weights of the rows, if the run was started with any.
        device: the device on which the weights are evaluated. Default None: as in training.
        model: the module of the run, if the recipe cannot build it.
        allow_imports: whether the recipe may import classes by their path, which runs their code. Default False.

    Returns:
        The run with the best weights so far.

    Raises:
        RunError: the folder contains no run, no epoch was completed, or the data are not those of the run.

    >>> import tempfile
    >>> from descend.errors import Interrupted
    >>> def impatient(training, record):
    ...     if record["epoch"] == 2:
    ...         raise KeyboardInterrupt
    >>> folder = tempfile.mkdtemp()
    >>> try:
    ...     train("iris", {"model": {"preset": "quick"}}, out=folder, observers=[impatient])
    ... except Interrupted:
    ...     run = finish(folder)
    >>> run.metrics["status"], run.metrics["epochs"]
    ('stopped', 2)
    """
    path = as_path("folder", folder)
    if is_finished(path) or not is_started(path):
        check_manifest(path)
        return load(path, allow_imports=allow_imports, model=model)
    with locked(path):
        if (path / REFIT / MANIFEST).exists():  # the first training is complete
            (path / REFIT / MANIFEST).replace(path / MANIFEST)
            return load(path, allow_imports=allow_imports, model=model)
        if data is None:
            data = recorded_data(path, allow_imports=allow_imports)
        given = {"validation": validation, "test": test, "sample_weight": sample_weight}
        options: Any = {name: value for name, value in given.items() if value is not None}
        training_data = TrainingData.of(data, **options)
        plan = Planner(training_data, device=device, allow_imports=allow_imports).resumed(path)
        if networks_per_run(plan.recipe) == 1:
            return Session(plan, path, resume=True, model=model).finish_stopped()
        if model is not None:
            raise RunError(
                f"the run in {path} trains several networks, which the recipe builds; leave out model"
            )
        return train_networks(plan, path, resume=True, finishing=True)


def execute(
    plan: Plan,
    folder: Path | None = None,
    *,
    resume: bool = False,
    model: nn.Module | None = None,
    observers: Sequence[Observer] = (),
    batches: Batches | None = None,
    watchers: Sequence[Watcher] = (),
    refits: bool = True,
) -> Run:
    """Train according to a plan; see :func:`train`.

    Args:
        plan: what is trained.
        folder: the run folder, or None.
        resume: continue from the folder's last checkpoint.
        model: a module to train instead of the recipe's.
        observers: objects that are notified of each epoch.
        batches: the training batches, instead of those the plan describes.
        watchers: notified of the epochs and ends of the networks, if the recipe trains several.
        refits: whether the network is trained again on all rows where the recipe has ``stop.refit``. Default True.

    Raises:
        UserError: the recipe trains several networks, which excludes ``model`` and ``batches``.
        DivergedError: a number became NaN or infinite.
        Interrupted: a signal requested a stop.
    """
    with locked(folder):
        if folder is not None and not resume and is_started(folder):
            check_unused(folder)  # another process has used it since the plan was made
        if not refits or not plan.recipe.stop.get("refit"):
            return _execute(plan, folder, resume, model, observers, batches, watchers)
        if model is not None:
            raise UserError(
                "stop.refit trains again from initial weights that the recipe builds; it cannot be used with a model of your own"
            )
        check_refit(plan)
        run = finished_before(plan, folder) if resume else None
        if run is None:
            run = _execute(plan, folder, resume, model, observers, batches, watchers)
        return run if "refit" in run.metrics else refitted(run, plan, folder, observers=observers)


def _execute(
    plan: Plan,
    folder: Path | None,
    resume: bool,
    model: nn.Module | None,
    observers: Sequence[Observer],
    batches: Batches | None,
    watchers: Sequence[Watcher],
) -> Run:
    if networks_per_run(plan.recipe) == 1:
        session = Session(plan, folder, resume=resume, model=model, observers=observers, batches=batches)
        session.advance()
        return session.finish()
    if model is not None or batches is not None:
        raise UserError(
            "init.restarts and model.ensemble train several networks from weights that the recipe initializes; they "
            "cannot be used with a model of your own"
        )
    run = train_networks(plan, folder, resume=resume, observers=observers, watchers=watchers)
    if run.failed:
        raise DivergedError(run.metrics["message"])
    return run
