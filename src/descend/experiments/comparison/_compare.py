"""The comparison driver: tunes every variant, runs it over fresh seeds, and tests the differences."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Unpack

from descend.data.training_data import DataOptions, TrainingData, accepts_data_options
from descend.errors import Interrupted, UserError
from descend.experiments.comparison.comparison import Comparison
from descend.experiments.comparison.folder import (
    FINAL_RUNS,
    TUNING_RUNS,
    check_free,
    check_resumable,
    finish,
    start,
)
from descend.experiments.comparison.learning_rates import log_uniform
from descend.experiments.comparison.outcome import Conditions, Outcome, best_tuning_run, median_best_score
from descend.experiments.comparison.results import pairwise_tests
from descend.experiments.comparison.trials import Trial, trial_from_run
from descend.experiments.comparison.validation import (
    check_metric,
    check_numbers,
    n_learning_rates,
    plan_variants,
    scored_part,
)
from descend.experiments.comparison.variants import Variant, variants_of
from descend.experiments.objective import MetricChoice, measuring
from descend.interface import resume_advice
from descend.many import EngineChoice, Watcher, train_many
from descend.process import locks_out, undisturbed
from descend.recipe import Recipe
from descend.recipe.toml import path_of
from descend.runs.environment import describe_environment
from descend.runs.plan import Parts, Plan, Planner, as_recipe
from descend.runs.run import Run

__all__ = ["compare"]


@undisturbed
@locks_out("comparison")
@accepts_data_options
def compare(
    data: Any,
    vary: Mapping[str, Iterable[Any]],
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    seeds: int = 5,
    tune: int | None = None,
    rates: tuple[float, float] = (1e-4, 1.0),
    goal: float | None = None,
    metric: MetricChoice | None = None,
    tests: bool = True,
    level: float = 0.95,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    engine: EngineChoice = "auto",
    watchers: Sequence[Progress] = (),
    allow_imports: bool = False,
    **data_options: Unpack[DataOptions],
) -> Comparison:
    """Compare variants of a recipe fairly.

    Each combination of the varied values is a variant. All variants are trained, selected and measured on the same
    rows. Each tunes its learning rate with the same number of runs, at the same learning rates, selected by the
    validation score alone. The best learning rate is then run again with fresh seeds; only these final runs are
    reported, and only they are measured on the test rows. Costs (time, steps, gradients) are measured to a target
    score, by default that of the tuned first variant, the baseline. Differences are tested in pairs of equal seed,
    with Holm's correction for the number of tests.

    Args:
        data: as for :func:`descend.train`.
        vary: for each ``"section.key"``, its values, such as ``{"optimizer.name": ["sgd", "adam"]}``.
        recipe: the settings that all variants share.
        seeds: number of final runs of each variant.
        tune: number of learning rates tried for each variant, quasi-random and log-uniform; 0 uses the recipe's own.
            None means 8, or 0 if the learning rate is set or varied.
        rates: lower and upper bound of the learning rates tried.
        goal: the validation score that costs are measured to; None for the median of the best validation scores of
            the baseline's final runs.
        metric: the metric to compare by: "loss", a metric of the task, or one of your own as ``stop.monitor`` takes it;
            None for the task's main metric, or "rmse" where R² is undefined on the validation or test rows.
        tests: whether to test differences, which requires at least two seeds.
        level: confidence level of the intervals, in (0, 1).
        seed: seed of the split and of the tuning runs; the final runs use the seeds after it.
        out: a folder for the report, the results and the final runs; None saves nothing.
        resume: continue the comparison in ``out``, which was stopped or killed. The results are those of an
            uninterrupted comparison; all other arguments must be unchanged. ``seconds`` then counts from the resumption.
        device: shorthand for the recipe's ``engine.device``.
        engine: as for :func:`descend.train_many`.
        watchers: receive the phases, epochs and ends of the runs.
        allow_imports: whether a recipe file may contain import paths.
        **data_options: ``target``, ``validation``, ``test`` and ``sample_weight``, as in
            :class:`descend.TrainingData`. Only the final runs use the test data.

    Returns:
        The comparison. A variant that diverges is reported as such and does not affect the others.

    Raises:
        UserError: the data or some variants cannot be used; all problems at once, before any training.

    >>> comparison = compare("iris", {"model.activation": ["relu", "tanh"]}, recipe={"stop": {"max_epochs": 2}},
    ...                      seeds=2, tune=0)
    >>> [outcome.name for outcome in comparison.outcomes], len(comparison.tests)
    (['relu', 'tanh'], 1)

    Source: Schneider et al., "DeepOBS: a deep learning optimizer benchmark suite", 2019; Dahl et al., "Benchmarking
    neural network training algorithms" (AlgoPerf), 2023.
    """
    start_time = time.perf_counter()
    base = as_recipe(recipe, allow_imports)
    variants = variants_of(base, vary)
    n_rates = n_learning_rates(tune, variants)
    check_numbers(seeds, tests, rates, level)
    folder = None if out is None else Path(out)
    if folder is None and resume:
        raise UserError("resume=True requires out=<comparison folder>")
    if folder is not None and not resume:
        check_free(folder)
    training_data = TrainingData.of(data, **data_options)
    arguments: dict[str, Any] = {"device": device, "allow_imports": allow_imports}
    planner = Planner(training_data, refits=False, **arguments)
    plans = plan_variants(planner, variants, seed)
    part = scored_part(plans)
    objective = check_metric(metric, plans, part, allow_imports)
    if objective.requested is not None:
        variants = [replace(each, recipe=measuring(each.recipe, objective)) for each in variants]
        plans = plan_variants(planner, variants, seed)
    conditions = Conditions(
        data=plans[0].source.name,
        task=plans[0].prepared.schema.task,
        metric=objective.name,
        part=part,
        rows=dict(plans[0].prepared.schema.rows),
        seed=seed,
        seeds=range(seed + 1, seed + 1 + seeds),
        rates=log_uniform(n_rates, *rates, seed) if n_rates else [],
        bounds=rates,
        level=level,
        tested=tests,
        why=objective.why,
    )
    if folder is not None:
        settings = _settings(conditions, variants, plans, goal)
        (check_resumable if resume else start)(folder, settings)
    trainer = _Trainer(
        training_data, variants, _parts(plans), {**arguments, "engine": engine}, watchers, folder, resume
    )
    tuning = _tuning_runs(trainer, conditions)
    outcomes = _final_runs(trainer, conditions, tuning)
    goal = median_best_score(outcomes[0].runs, conditions.metric) if goal is None else goal
    outcomes = [replace(outcome, target=goal) for outcome in outcomes]
    comparison = Comparison(
        outcomes,
        pairwise_tests(outcomes) if tests else [],
        conditions,
        goal,
        time.perf_counter() - start_time,
        describe_environment(),
        folder,
    )
    if folder is not None:
        _save(comparison, folder)
    return comparison


def _settings(
    conditions: Conditions, variants: Sequence[Variant], plans: Sequence[Plan], goal: float | None
) -> dict[str, Any]:
    """The settings that must be unchanged when the comparison is resumed."""
    return {
        "data": conditions.data,
        "fingerprint": plans[0].prepared.schema.fingerprint,
        "variants": {variant.name: variant.recipe.to_toml() for variant in variants},
        "metric": conditions.metric,
        "seed": conditions.seed,
        "seeds": len(conditions.seeds),
        "rates": list(conditions.rates),
        "goal": goal,
        "level": conditions.level,
        "tests": conditions.tested,
    }


class Progress(Watcher, Protocol):
    """A watcher of the runs of a comparison that is also notified of its phases."""

    def phase(self, name: str, runs: int) -> None:
        """Receive the start of a phase ("tuning" or "final runs") and its number of runs."""


def _parts(plans: Sequence[Plan]) -> list[Parts]:
    """The rows of each variant's split; one object for equal splits, so that the data are prepared once."""
    shared: dict[int, Parts] = {}
    for plan in plans:
        rows_of = {part: getattr(plan.prepared, part).rows for part in ("train", "validation", "test")}
        shared.setdefault(id(plan.prepared), {part: rows for part, rows in rows_of.items() if len(rows)})
    return [shared[id(plan.prepared)] for plan in plans]


Job = tuple[int, float | None, int]
"""One run to train: index of the variant, learning rate (None for the recipe's own), seed."""


class _Trainer:
    """Trains variants at given learning rates and seeds, on the rows of the common split."""

    def __init__(
        self,
        data: TrainingData,
        variants: Sequence[Variant],
        parts: Sequence[Parts],
        arguments: Mapping[str, Any],
        watchers: Sequence[Progress],
        folder: Path | None,
        resume: bool,
    ) -> None:
        self.variants = variants
        self._folder, self._resume = folder, resume
        self._data, self._parts, self._arguments, self._watchers = data, parts, arguments, watchers

    def __call__(self, phase: str, jobs: Sequence[Job], subfolder: str) -> list[list[Trial]]:
        """Train all jobs together and return the trials of each variant; run folders go into ``subfolder``."""
        trials: list[list[Trial]] = [[] for _ in self.variants]
        if not jobs:
            return trials
        for watcher in self._watchers:
            watcher.phase(phase, len(jobs))
        try:
            runs = self._train(jobs, subfolder, tested=phase != "tuning")
        except (Interrupted, KeyboardInterrupt):
            advice = resume_advice(self._folder)
            raise Interrupted(f"stopped during the {phase}{advice}") from None
        for (index, lr, seed), run in zip(jobs, runs, strict=True):
            trials[index].append(trial_from_run(run, seed, lr))
        return trials

    def _train(self, jobs: Sequence[Job], subfolder: str, *, tested: bool) -> list[Run]:
        return train_many(
            [self.variants[index].with_lr(lr) for index, lr, _ in jobs],
            self._data,
            seeds=[seed for _, _, seed in jobs],
            parts=[self._parts[index] for index, _, _ in jobs],
            out=None if self._folder is None else self._folder / subfolder,
            resume=self._resume,
            watchers=self._watchers,
            progress=False,
            tested=tested,
            **self._arguments,
        )


def _tuning_runs(trainer: _Trainer, conditions: Conditions) -> list[list[Trial]]:
    """The tuning runs of each variant."""
    tunable = [index for index, variant in enumerate(trainer.variants) if variant.accepts_lr]
    jobs: list[Job] = [(index, lr, conditions.seed) for index in tunable for lr in conditions.rates]
    # Their run folders are deleted at the end, so the records must not refer to them.
    return [[replace(trial, path=None) for trial in own] for own in trainer("tuning", jobs, TUNING_RUNS)]


def _final_runs(
    trainer: _Trainer, conditions: Conditions, tuning: Sequence[Sequence[Trial]]
) -> list[Outcome]:
    """The outcome of each variant, with final runs at its best learning rate; none if all tuning runs diverged."""
    best = [best_tuning_run(trials, conditions.metric) for trials in tuning]
    jobs: list[Job] = [
        (index, None if selected is None else selected.lr, seed)
        for index, selected in enumerate(best)
        if selected is not None or not tuning[index]
        for seed in conditions.seeds
    ]
    runs = trainer("final runs", jobs, FINAL_RUNS)
    return [
        Outcome(variant, _final_lr(variant, selected), selected is not None, trials, final, conditions)
        for variant, selected, trials, final in zip(trainer.variants, best, tuning, runs, strict=True)
    ]


def _final_lr(variant: Variant, selected: Trial | None) -> float | None:
    if selected is not None:
        return selected.lr
    lr = variant.recipe.get("optimizer.lr")
    return float(lr) if isinstance(lr, (int, float)) else None


def _save(comparison: Comparison, folder: Path) -> None:
    """Write the results and the report."""
    content = json.loads(json.dumps(comparison.to_dict(), default=_to_json))
    comparison.report()
    finish(folder, content | {"environment": comparison.environment})


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, range) else path_of(value) if callable(value) else str(value)
