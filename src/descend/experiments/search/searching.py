"""The search: trials by a strategy, trained together, recorded one by one; then the winner, trained anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.api import train
from descend.errors import Interrupted, TrainingError, UserError, did_you_mean
from descend.experiments.search import halving
from descend.experiments.search import journal as journals
from descend.experiments.search.check import checked
from descend.experiments.search.default import default_space
from descend.experiments.search.halving import Bracket, Race
from descend.experiments.search.journal import Journal
from descend.experiments.search.result import SearchResult, table_of
from descend.experiments.search.space import Point, Space
from descend.experiments.search.strategies import METHODS, Method, explore, strategy
from descend.experiments.search.trial import Trial, best_of, trial_of
from descend.many import EngineChoice, Watcher, train_many
from descend.metrics import METRICS, main_metric
from descend.recipe import Recipe
from descend.runs.plan import Plan, Planner, as_recipe
from descend.runs.run import Run, load

__all__ = ["search"]

BEST = "best"
"""The winner's run folder, within the search's."""


def search(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    space: Space | Mapping[str, Any] | str | Path | None = None,
    trials: int = 64,
    method: Method = "random",
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    metric: str | None = None,
    batch: int | None = None,
    brackets: int = 1,
    engine: EngineChoice = "auto",
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    watchers: Sequence[Callable[[Journal, int, str], Watcher]] = (),
    allow_imports: bool = False,
) -> SearchResult:
    """Search for the best recipe.

    All trials share one split of the rows and one seed, so that what differs between them is the configuration.
    They are compared by ``metric`` on the validation rows; the test rows are measured once, for the winner, which
    is trained anew by its recipe: the same split and seed, to its own end.

    Args:
        data: as for :func:`descend.train`.
        recipe: what does not vary.
        space: what does: a :class:`Space`, a mapping or a TOML file; without one, a default space around the
            recipe (:func:`descend.experiments.search.default.default_space`).
        trials: how many configurations, at most.
        method: "random"; "quasi_random" (Sobol points); "grid"; "tpe" (Optuna's); "halving" (random points, of which
            rungs let the best go on, :mod:`descend.experiments.search.halving`).
        target: the column to predict.
        seed: of the split, of every training, and of the points.
        out: a folder for the search: its records, the winner's run in ``best``, and a report.
        resume: continue the search in ``out``; finished trials are not repeated.
        metric: by which trials are compared: "loss" or a metric of the task, whose main one is the default.
        batch: how many trials are trained together; the default depends on the method.
        brackets: of halving.
        engine: as for :func:`descend.train_many`.
        device: shorthand for ``engine.device``.
        validation: data that compare trials, in place of a part of ``data``.
        test: data for the winner, in place of a part of ``data``.
        sample_weight: a weight per row of ``data``.
        watchers: each is called with the journal, the number of trials and the metric, and gives a watcher of
            trainings.
        allow_imports: whether a recipe file may name import paths.

    Raises:
        UserError: the space, the recipe, the data or the folder cannot be used; nothing was trained.
        TrainingError: every trial diverged.
        Interrupted: a signal asked to stop; with ``out``, what is done is recorded.

    >>> space = {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}
    >>> found = search("iris", {"stop": {"max_epochs": 2}}, space=space, trials=3)
    >>> found.table().shape, found.best.metrics["epochs"]
    ((3, 7), 2)
    """
    folder = None if out is None else Path(out)
    base = as_recipe(recipe, allow_imports)
    planner = Planner(
        data,
        target=target,
        device=device,
        validation=validation,
        test=test,
        sample_weight=sample_weight,
        allow_imports=allow_imports,
    )
    _check_numbers(trials=trials, batch=batch, brackets=brackets)
    if method not in METHODS:
        raise UserError(f"no such method of search '{method}'; {did_you_mean(str(method), METHODS)}")
    planned = planner.plan(base, seed)
    varied = default_space(base, planned.recipe) if space is None else space
    searched = checked(varied, base, planner, seed, halving=method == "halving")
    measure = _metric(metric, planned)
    asked = strategy(method, searched, trials, seed, measure)
    blocks = _blocks(method, asked.trials, batch or asked.batch, planned, brackets)
    header = {
        "method": method,
        "trials": trials,
        "seed": seed,
        "metric": measure,
        "batch": batch or asked.batch,
        "brackets": brackets,
        "data": {
            "fingerprint": planned.prepared.schema.fingerprint,
            "name": planned.source.name,
            "reference": planned.source.reference,
            "target": target if target is None or isinstance(target, str) else list(target),
        },
        "recipe": base.to_toml(),
        "space": searched.asked(),
    }
    journal = (journals.resumed if resume else journals.begun)(folder, header)
    arguments: dict[str, Any] = {
        "target": target,
        "device": device,
        "validation": validation,
        "test": test,
        "sample_weight": sample_weight,
        "allow_imports": allow_imports,
    }
    trainer = _Trainer(
        data, base, seed, measure, blocks, journal, engine, arguments,
        [each(journal, asked.trials, measure) for each in watchers],
    )  # fmt: skip
    try:
        done = explore(asked, trainer, [_numbers(block) for block in blocks], journal.trials)
        listed = tuple(done[number] for number in sorted(done))
        winner = best_of(listed, measure)
        if winner is None:
            raise TrainingError(_all_diverged(listed, searched))
        best = _refitted(data, base, winner, seed, folder, resume, arguments)
    except (Interrupted, KeyboardInterrupt) as stop:
        where = f"; continue with --resume --out {folder}" if folder is not None else ""
        raise Interrupted(f"stopped after {len(journal.trials)} of {asked.trials} trials{where}") from stop
    spent = sum(trial.epochs for trial in listed)
    whole = int(planned.recipe.stop["max_epochs"])
    most = halving.budget(blocks[0], whole) if method == "halving" else whole * len(listed)
    return SearchResult(best, listed, searched, measure, method, (spent, most), folder)


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise UserError(f"{name} must be a whole number >= 1, found {number!r}")


def _metric(asked: str | None, planned: Plan) -> str:
    task = planned.prepared.schema.task
    if not len(planned.prepared.validation):
        raise UserError(
            "a search compares trials on validation rows, and there are none: hold out a share of the rows "
            "(--set data.validation=0.2), or give data for it"
        )
    known = ("loss", *METRICS[task])
    if asked is not None and asked not in known:
        raise UserError(f"no metric '{asked}' for {task}; {did_you_mean(asked, known)}")
    return asked or main_metric(task)


def _blocks(method: str, trials: int, batch: int, planned: Plan, count: int) -> list[list[Bracket]]:
    """The blocks in which trials are trained together, as brackets; only those of successive halving have rungs."""
    if method == "halving":
        return [halving.brackets(trials, int(planned.recipe.stop["max_epochs"]), count)]
    return [[Bracket(range(start, min(start + batch, trials)), ())] for start in range(0, trials, batch)]


def _numbers(block: Sequence[Bracket]) -> range:
    return range(block[0].numbers.start, block[-1].numbers.stop)


@dataclass
class _Trainer:
    """Evaluates points by training them together; each record is written when its training ends."""

    data: Any
    base: Recipe
    seed: int
    metric: str
    blocks: Sequence[Sequence[Bracket]]
    journal: Journal
    engine: EngineChoice
    arguments: Mapping[str, Any]
    watchers: Sequence[Watcher]

    def __call__(self, points: Mapping[int, Point], place: int) -> dict[int, Trial]:
        numbers, block = sorted(points), self.blocks[place]
        known = {n: trial for n, trial in self.journal.trials.items() if n in _numbers(block)}
        race = Race(block, self.metric, numbers, known)
        recorder = _Recorder(self, points, race)
        train_many(
            [self.base.replace(points[number]) for number in numbers],
            self.data,
            seeds=self.seed,
            engine=self.engine,
            rungs=race.rungs,
            survivors=race.survivors if race.rungs else None,
            watchers=[recorder, *self.watchers],
            tested=False,
            **self.arguments,
        )
        return {number: self.journal.trials[number] for number in numbers}


class _Recorder:
    """Writes the record of each trial whose training has ended."""

    def __init__(self, trainer: _Trainer, points: Mapping[int, Point], race: Race) -> None:
        self._trainer, self._points, self._race = trainer, points, race

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Tell the race how its members do."""
        self._race.epoch_ended(number, record)

    def finished(self, number: int, run: Run) -> None:
        """Record the trial, unless it was interrupted."""
        if run.metrics.get("status") == "interrupted":
            return
        trial = self._race.numbers[number]
        rungs = self._race.values.get(trial, {})
        self._trainer.journal.add(trial_of(trial, self._points[trial], run, self._trainer.metric, rungs))


def _refitted(
    data: Any,
    base: Recipe,
    winner: Trial,
    seed: int,
    folder: Path | None,
    resume: bool,
    arguments: Mapping[str, Any],
) -> Run:
    """The winner trained anew: its recipe, the search's split and seed, to its own end, with the test part."""
    recipe = base.replace(winner.values)
    kept: dict[str, Any] = {}
    if folder is not None:
        path = folder / BEST
        if resume and (path / "manifest.json").exists():
            return load(path, allow_imports=True)
        begun = resume and (path / "recipe.toml").exists() and (path / "environment.json").exists()
        kept = {"out": path, "resume": begun}
    refitted: Run = train(data, recipe, seed=seed, **kept, **arguments)
    return refitted


def _all_diverged(trials: Sequence[Trial], space: Space) -> str:
    import polars as pl

    with pl.Config(tbl_rows=20, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        shown = table_of(trials, space).drop("score", "loss", "seconds")
        advice = ["What helps, in this order:"]
        if "optimizer.lr" in space.keys:
            advice.append(f"  lower rates: the space begins at {space['optimizer.lr'].low:g}")
        else:
            advice.append("  a lower rate: --set optimizer.lr=1e-4")
        advice.append("  limited gradients: --set gradient.clip_norm=1.0")
        first = next((trial.message.splitlines()[0] for trial in trials if trial.message), "")
        return "\n".join([f"All {len(trials)} trials diverged. The first: {first}", str(shown), *advice])
