"""The comparison driver: tunes every variant, runs it over fresh seeds, and tests the differences."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from descend.errors import Interrupted, Problem, RecipeError, UserError, did_you_mean
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
from descend.experiments.comparison.variants import Variant, variants_of
from descend.many import Watcher, train_many
from descend.many.train_members import EngineChoice
from descend.metrics import METRICS, main_metric
from descend.recipe import Recipe
from descend.recipe.build import build_loss, build_model, build_optimizer, build_output
from descend.recipe.defaults import facts_of
from descend.recipe.toml import path_of
from descend.runs.environment import describe_environment
from descend.runs.plan import Parts, Plan, Planner, as_recipe
from descend.runs.run import Run

__all__ = ["compare"]

DEFAULT_TUNE = 8
"""Default number of learning rates tried for each variant."""


def compare(
    data: Any,
    vary: Mapping[str, Iterable[Any]],
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    seeds: int = 5,
    tune: int | None = None,
    rates: tuple[float, float] = (1e-4, 1.0),
    goal: float | None = None,
    metric: str | None = None,
    tests: bool = True,
    level: float = 0.95,
    seed: int = 0,
    target: str | Sequence[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    validation: Any = None,
    test: Any = None,
    sample_weight: Any = None,
    engine: EngineChoice = "auto",
    watchers: Sequence[Progress] = (),
    allow_imports: bool = False,
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
        metric: the metric to compare by: "loss" or a metric of the task; None for the task's main metric.
        tests: whether to test differences, which requires at least two seeds.
        level: confidence level of the intervals, in (0, 1).
        seed: seed of the split and of the tuning runs; the final runs use the seeds after it.
        target: the column to predict, or several.
        out: a folder for the report, the results and the final runs; None saves nothing.
        resume: continue the comparison in ``out``, which was stopped or killed. The results are those of an
            uninterrupted comparison; all other arguments must be unchanged. ``seconds`` then counts from the resumption.
        device: shorthand for the recipe's ``engine.device``.
        validation: validation data, in place of a part of ``data``.
        test: test data, used by the final runs only, in place of a part of ``data``.
        sample_weight: a weight for each row of ``data``.
        engine: as for :func:`descend.train_many`.
        watchers: receive the phases, epochs and ends of the runs.
        allow_imports: whether a recipe file may contain import paths.

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
    n_rates = _n_rates(tune, variants)
    _check_numbers(seeds, tests, rates, level)
    folder = None if out is None else Path(out)
    if folder is None and resume:
        raise UserError("resume=True requires out=<comparison folder>")
    if folder is not None and not resume:
        check_free(folder)
    arguments = {
        "target": target,
        "device": device,
        "validation": validation,
        "test": test,
        "sample_weight": sample_weight,
        "allow_imports": allow_imports,
    }
    plans = _plan_all(Planner(data, **arguments), variants, seed)
    conditions = Conditions(
        data=plans[0].source.name,
        task=plans[0].prepared.schema.task,
        metric=_check_metric(metric, plans),
        part=_scored_part(plans),
        rows=dict(plans[0].prepared.schema.rows),
        seed=seed,
        seeds=range(seed + 1, seed + 1 + seeds),
        rates=log_uniform(n_rates, *rates, seed) if n_rates else [],
        bounds=rates,
        level=level,
        tested=tests,
    )
    if folder is not None:
        settings = _settings(conditions, variants, plans, goal)
        (check_resumable if resume else start)(folder, settings)
    trainer = _Trainer(
        data, variants, _parts(plans), {**arguments, "engine": engine}, watchers, folder, resume
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


def _n_rates(tune: int | None, variants: Sequence[Variant]) -> int:
    """Number of learning rates to try for each variant."""
    lr_is_set = any(variant.sets_lr for variant in variants)
    if tune is None:
        return 0 if lr_is_set else DEFAULT_TUNE
    if tune < 0:
        raise UserError(f"tune: expected a number of learning rates, 0 or more; got {tune}")
    if tune and lr_is_set:
        raise UserError(
            "optimizer.lr is set, so there is no learning rate to tune: remove it from recipe and variants, or omit "
            "--tune (tune=)"
        )
    return tune


def _check_numbers(seeds: int, tests: bool, rates: tuple[float, float], level: float) -> None:
    if seeds < 1:
        raise UserError(f"seeds: expected a number of runs, 1 or more; got {seeds}")
    if seeds < 2 and tests:
        raise UserError(
            "tests require at least two seeds, since one does not show the variation by chance: --seeds 5 (seeds=5), "
            "or --no-tests (tests=False)"
        )
    low, high = rates
    if not (0 < low < high and math.isfinite(high)):
        raise UserError(f"rates: expected two ascending numbers above 0, got {low:g} and {high:g}")
    if not 0 < level < 1:
        raise UserError(f"level: expected a number between 0 and 1, got {level:g}")


def _plan_all(planner: Planner, variants: Sequence[Variant], seed: int) -> list[Plan]:
    """Plan every variant, and report the problems of all at once."""
    plans: list[Plan] = []
    problems: list[Problem] = []
    for variant in variants:
        try:
            plan = planner.plan(variant.recipe, seed)
            _build(plan)
            plans.append(plan)
        except RecipeError as error:
            problems += [problem.of(variant.name) for problem in error.problems]
    if problems:
        raise RecipeError(problems)
    return plans


def _build(plan: Plan) -> None:
    """Build the parts of a training and discard them, so that misfits are reported before anything is trained."""
    facts = facts_of(plan.prepared.schema)
    loss = build_loss(plan.recipe, facts, build_output(plan.recipe, facts))
    build_optimizer(plan.recipe, build_model(plan.recipe, facts, plan.seed), loss=loss)


def _scored_rows(plan: Plan) -> tuple[Any, ...]:
    prepared = plan.prepared
    return tuple(tuple(getattr(prepared, part).rows.tolist()) for part in ("validation", "test"))


def _scored_part(plans: Sequence[Plan]) -> str:
    """The part of the data that the final score is measured on.

    Raises:
        UserError: the variants have different validation or test rows, or there are no validation rows.
    """
    first = plans[0].prepared
    if not len(first.validation):
        raise UserError(
            "there are no validation rows, which are needed to select learning rates and to set the target; keep "
            "data.validation above 0"
        )
    tasks = {
        (plan.prepared.schema.task, plan.prepared.schema.target_names, plan.prepared.schema.classes)
        for plan in plans
    }
    distinct = {id(plan.prepared): plan for plan in plans}.values()
    if len(tasks) > 1 or len({_scored_rows(plan) for plan in distinct}) > 1:
        raise UserError(
            "the variants are not measured on the same rows and targets, so their scores cannot be compared; do not "
            "vary data.target, data.task, data.validation, data.test, data.split, data.groups, or anything they "
            "depend on"
        )
    return "test" if len(first.test) else "validation"


def _check_metric(requested: str | None, plans: Sequence[Plan]) -> str:
    task = plans[0].prepared.schema.task
    if requested is None:
        return main_metric(task)
    known = ["loss", *METRICS[task]]
    if requested not in known:
        raise UserError(f"unknown metric '{requested}' for {task}; {did_you_mean(requested, known)}")
    if requested == "loss":
        losses = {
            (repr(path_of(plan.recipe.loss["name"])), repr(plan.recipe.model["output"])) for plan in plans
        }
        if len(losses) > 1:
            raise UserError(
                "the variants have different losses, whose values cannot be compared; compare by a metric: "
                + ", ".join(METRICS[task])
            )
    return requested


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
        data: Any,
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
        except Interrupted:
            advice = "" if self._folder is None else f"; continue with --resume --out {self._folder}"
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
