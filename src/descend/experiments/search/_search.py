"""The search driver: trains the trials of a strategy, records each one, and refits the winner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from descend.api import train
from descend.arguments import integer
from descend.data.training_data import DataOptions, TrainingData, accepts_data_options
from descend.errors import Interrupted, TrainingError, UserError, did_you_mean
from descend.experiments.objective import MetricChoice, Objective, choose_objective, measuring
from descend.experiments.search import page
from descend.experiments.search.defaults import default_space
from descend.experiments.search.halving import Bracket, HalvingScheduler, budget, make_brackets
from descend.experiments.search.journal import Journal, create_journal, resume_journal
from descend.experiments.search.result import SearchResult, trials_table
from descend.experiments.search.space import Point, Space
from descend.experiments.search.strategies import METHODS, Method, explore, make_strategy
from descend.experiments.search.trial import Trial, best_trial, trial_from_run
from descend.experiments.search.validation import validate_space
from descend.interface import option, resume_advice, setting
from descend.many import EngineChoice, Watcher, train_many
from descend.process import locks_out, undisturbed
from descend.recipe import Recipe
from descend.runs.folder import is_finished, is_started
from descend.runs.plan import Plan, Planner, as_recipe, choose_device
from descend.runs.run import Run, load

__all__ = ["search"]

WINNER_FOLDER = "best"
"""Name of the winner's run folder, within the search folder."""


@undisturbed
@locks_out("search")
@accepts_data_options
def search(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    space: Space | Mapping[str, Any] | str | Path | None = None,
    trials: int = 64,
    method: Method = "random",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    metric: MetricChoice | None = None,
    batch: int | None = None,
    brackets: int = 1,
    engine: EngineChoice = "auto",
    device: str | None = None,
    watchers: Sequence[Callable[[Journal, int, str], Watcher]] = (),
    allow_imports: bool = False,
    **data_options: Unpack[DataOptions],
) -> SearchResult:
    """Search for the best recipe over a space of configurations.

    All trials share one split of the rows and one seed, so that they differ only in their configuration. They are
    compared by ``metric`` on the validation rows. The winner is then refitted: its recipe is trained again with the
    same split and seed, to its own end. Only the refitted winner is measured on the test rows.

    Args:
        data: as for :func:`descend.train`.
        recipe: the settings that do not vary.
        space: the dimensions to search: a :class:`Space`, a mapping or a TOML file; None for a default space around
            the recipe (:func:`descend.experiments.search.defaults.default_space`).
        trials: maximum number of configurations.
        method: "random"; "quasi_random" (Sobol points); "grid"; "tpe" (Optuna's); "halving" (random points, of which
            only the best continue at each rung, :mod:`descend.experiments.search.halving`).
        seed: seed of the split, of every training, and of the points.
        out: a folder for the search: its records, the winner's run in ``best``, and ``report.html``; None saves
            nothing.
        resume: continue the search in ``out``; completed trials are not repeated.
        metric: the metric to compare trials by: "loss", a metric of the task, or one of your own as ``stop.monitor``
            takes it; None for its main metric, or "rmse" where R² is undefined on the validation rows.
        batch: number of trials trained together; the default depends on the method.
        brackets: number of brackets of successive halving.
        engine: as for :func:`descend.train_many`.
        device: shorthand for ``engine.device``.
        watchers: functions that receive the journal, the number of trials and the metric, and return a watcher of
            the trainings.
        allow_imports: whether a recipe file may contain import paths.
        **data_options: ``target``, ``validation``, ``test`` and ``sample_weight``, as in
            :class:`descend.TrainingData`. Only the refitted winner uses the test data.

    Returns:
        The refitted winner and the records of all trials.

    Raises:
        UserError: the space, the recipe, the data or the folder cannot be used; nothing was trained.
        TrainingError: every trial diverged.
        Interrupted: a signal stopped the search; with ``out``, completed trials are recorded.

    >>> space = {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}
    >>> result = search("iris", {"stop": {"max_epochs": 2}}, space=space, trials=3)
    >>> result.table().shape, result.best.metrics["epochs"]
    ((3, 7), 2)
    """
    folder = None if out is None else Path(out)
    base = as_recipe(recipe, allow_imports)
    training_data = TrainingData.of(data, **data_options)
    arguments: dict[str, Any] = {"device": device, "allow_imports": allow_imports}
    planner = Planner(training_data, refits=False, **arguments)
    _check_positive(trials=trials, batch=batch, brackets=brackets)
    if method not in METHODS:
        raise UserError(f"unknown search method '{method}'; {did_you_mean(str(method), METHODS)}")
    plan = planner.plan(base, seed)
    requested_space = default_space(base, plan.recipe) if space is None else space
    valid_space = validate_space(requested_space, base, planner, seed, halving=method == "halving")
    objective = _objective(metric, plan, allow_imports)
    base, metric_name = measuring(base, objective), objective.name
    strategy = make_strategy(method, valid_space, trials, seed, metric_name)
    batches = _batches(method, strategy.trials, batch or strategy.batch, plan, brackets)
    header = {
        "method": method,
        "trials": trials,
        "seed": seed,
        "metric": metric_name,
        "batch": batch or strategy.batch,
        "brackets": brackets,
        "data": {
            "fingerprint": plan.prepared.schema.fingerprint,
            "name": plan.source.name,
            "reference": plan.source.reference,
            "target": training_data.target
            if training_data.target is None or isinstance(training_data.target, str)
            else list(training_data.target),
        },
        "recipe": base.to_toml(),
        "space": valid_space.to_dict(),
    }
    journal = (resume_journal if resume else create_journal)(folder, header)
    tried = _on_one_thread(base, plan) if engine == "loop" else base
    evaluate = _Evaluator(
        training_data, tried, seed, metric_name, batches, journal, engine, arguments,
        [make_watcher(journal, strategy.trials, metric_name) for make_watcher in watchers],
    )  # fmt: skip
    try:
        records = explore(strategy, evaluate, [_numbers(each) for each in batches], journal.trials)
        ordered = tuple(records[number] for number in sorted(records))
        winner = best_trial(ordered, metric_name)
        if winner is None and any(trial.status == "finished" for trial in ordered):
            other = option("--metric loss", "metric='loss'")
            raise TrainingError(
                f"no trial has a score: {metric_name} is undefined for the predictions of all of them; compare by another "
                f"metric, such as {other}, or train longer"
            )
        if winner is None:
            raise TrainingError(_all_diverged(ordered, valid_space))
        best = _refit(training_data, base, winner, seed, folder, resume, arguments)
    except (Interrupted, KeyboardInterrupt) as error:
        advice = resume_advice(folder)
        raise Interrupted(
            f"stopped after {len(journal.trials)} of {strategy.trials} trials{advice}"
        ) from error
    spent = sum(trial.epochs for trial in ordered)
    max_epochs = int(plan.recipe.stop["max_epochs"])
    most = budget(batches[0], max_epochs) if method == "halving" else max_epochs * len(ordered)
    result = SearchResult(
        best, ordered, valid_space, metric_name, method, (spent, most), folder, objective.why
    )
    if folder is not None:
        page.write(result)
    return result


def _on_one_thread(base: Recipe, plan: Plan) -> Recipe:
    """Return the recipe with one CPU thread, unless it specifies a number.

    A number that is measured for each training could differ after an interruption, and so could the last digits.
    """
    automatic = (
        plan.recipe.engine["threads"] == "auto" and choose_device(plan.recipe.engine["device"]).type == "cpu"
    )
    return base.replace({"engine.threads": 1}) if automatic else base


def _check_positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None:
            integer(name, number, 1)


def _objective(requested: MetricChoice | None, plan: Plan, allow_imports: bool) -> Objective:
    if not len(plan.prepared.validation):
        raise UserError(
            "a search compares trials on validation rows, but there are none: hold out a share of the rows "
            f"({setting('data.validation', 0.2)}), or pass validation data"
        )
    return choose_objective(requested, [plan], ["validation"], allow_imports)


def _batches(method: str, trials: int, batch: int, plan: Plan, n_brackets: int) -> list[list[Bracket]]:
    """The batches of trials that are trained together, as brackets; only those of successive halving have rungs."""
    if method == "halving":
        return [make_brackets(trials, int(plan.recipe.stop["max_epochs"]), n_brackets)]
    return [[Bracket(range(start, min(start + batch, trials)), ())] for start in range(0, trials, batch)]


def _numbers(brackets: Sequence[Bracket]) -> range:
    return range(brackets[0].numbers.start, brackets[-1].numbers.stop)


@dataclass
class _Evaluator:
    """Trains the points of a batch together, and records each trial as soon as its training ends."""

    data: TrainingData
    base: Recipe
    seed: int
    metric: str
    batches: Sequence[Sequence[Bracket]]
    journal: Journal
    engine: EngineChoice
    arguments: Mapping[str, Any]
    watchers: Sequence[Watcher]

    def __call__(self, points: Mapping[int, Point], index: int) -> dict[int, Trial]:
        numbers, brackets = sorted(points), self.batches[index]
        known = {n: trial for n, trial in self.journal.trials.items() if n in _numbers(brackets)}
        scheduler = HalvingScheduler(brackets, self.metric, numbers, known)
        recorder = _Recorder(self, points, scheduler)
        train_many(
            [self.base.replace(points[number]) for number in numbers],
            self.data,
            seeds=self.seed,
            engine=self.engine,
            rungs=scheduler.rungs,
            survivors=scheduler.survivors if scheduler.rungs else None,
            watchers=[recorder, *self.watchers],
            progress=False,
            tested=False,
            **self.arguments,
        )
        return {number: self.journal.trials[number] for number in numbers}


class _Recorder:
    """Writes the record of each trial whose training has ended."""

    def __init__(
        self, evaluator: _Evaluator, points: Mapping[int, Point], scheduler: HalvingScheduler
    ) -> None:
        self._evaluator, self._points, self._scheduler = evaluator, points, scheduler

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Pass the measurements to the scheduler."""
        self._scheduler.epoch_ended(number, record)

    def finished(self, number: int, run: Run) -> None:
        """Record the trial, unless it was interrupted."""
        if run.metrics.get("status") == "interrupted":
            return
        trial = self._scheduler.numbers[number]
        rungs = self._scheduler.values.get(trial, {})
        self._evaluator.journal.add(
            trial_from_run(trial, self._points[trial], run, self._evaluator.metric, rungs)
        )


def _refit(
    data: TrainingData,
    base: Recipe,
    winner: Trial,
    seed: int,
    folder: Path | None,
    resume: bool,
    arguments: Mapping[str, Any],
) -> Run:
    """Train the winner again with the split and seed of the search, to its own end, and measure it on the test rows."""
    recipe = base.replace(winner.values)
    saving: dict[str, Any] = {}
    if folder is not None:
        path = folder / WINNER_FOLDER
        if resume and is_finished(path):
            return load(path, allow_imports=True)
        started = resume and is_started(path)
        saving = {"out": path, "resume": started}
    run: Run = train(data, recipe, seed=seed, progress=False, **saving, **arguments)
    return run


def _all_diverged(trials: Sequence[Trial], space: Space) -> str:
    import polars as pl

    with pl.Config(tbl_rows=20, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        table = trials_table(trials, space).drop("score", "loss", "seconds")
        advice = ["Try, in this order:"]
        if "optimizer.lr" in space.keys:
            low = space["optimizer.lr"].low
            advice.append(f"  lower learning rates: the space starts at {low:g}")
        else:
            advice.append(f"  a lower learning rate: {setting('optimizer.lr', 1e-4)}")
        advice.append(f"  gradient clipping: {setting('gradient.clip_norm', 1.0)}")
        first = next((trial.message.splitlines()[0] for trial in trials if trial.message), "")
        return "\n".join([f"All {len(trials)} trials diverged. The first: {first}", str(table), *advice])
