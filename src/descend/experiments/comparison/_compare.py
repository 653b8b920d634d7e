"""Comparing variants of a recipe under the same conditions."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from descend.errors import Interrupted, Problem, RecipeError, UserError, did_you_mean
from descend.experiments.comparison.folder import FINAL, TUNING, begin, finish, take_up
from descend.experiments.comparison.learning_rates import log_uniform
from descend.experiments.comparison.results import Comparison, Conditions, Outcome, pairwise, pick, target_of
from descend.experiments.comparison.trials import Trial, trial_of
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
from descend.runs.run import Run, check_unused

__all__ = ["compare"]

TUNED = 8
"""Rates tried for each variant, unless said otherwise."""


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

    Every combination of the varied values is a variant. All are trained, chosen and measured on the same rows. Each
    tunes its learning rate on the same number of runs, at the same rates, chosen by the validation score alone; the
    best is then run again with fresh seeds, and only these runs are reported and touch the test rows. Times are
    measured to a target that the tuned first variant, the baseline, sets. Differences are tested in pairs of equal
    seed, and corrected for the number of tests (Holm).

    Args:
        data: as for :func:`descend.train`.
        vary: for each ``"section.key"`` the values it takes, such as ``{"optimizer.name": ["sgd", "adam"]}``.
        recipe: what all variants have in common.
        seeds: final runs of each variant.
        tune: learning rates tried for each variant, quasi-random and log-uniform; 0 takes the recipe's own. None
            stands for 8, or for 0 where the rate is said or varied itself.
        rates: between which they lie.
        goal: the validation score that times are measured to; None takes the median of the best validation
            scores of the baseline's final runs.
        metric: what variants are judged by: "loss" or a metric of the task; None for the task's main one.
        tests: whether to test differences, which needs two seeds at least.
        level: of the confidence intervals, in (0, 1).
        seed: the split and the tuning runs follow from it; the final runs have the seeds after it.
        target: the column to predict, or several.
        out: a folder for the report, the numbers and the final runs; without it nothing is written.
        resume: go on with the comparison in ``out``, which was stopped or killed: with the same numbers as if it had not
            been. All else must be said as it was. Its ``seconds`` are then those since it was taken up.
        device: shorthand for the recipe's ``engine.device``.
        validation: data that choose when to stop, in place of a part of ``data``.
        test: data touched by the final runs alone, in place of a part of ``data``.
        sample_weight: a weight per row of ``data``.
        engine: as of :func:`descend.train_many`.
        watchers: who watches.
        allow_imports: whether a recipe file may name import paths.

    Returns:
        The comparison. A variant that diverged says so and does not disturb the others.

    Raises:
        UserError: the data or some variants cannot be used; all problems at once, and nothing was trained.

    >>> found = compare("iris", {"model.activation": ["relu", "tanh"]}, recipe={"stop": {"max_epochs": 2}}, seeds=2,
    ...                 tune=0)
    >>> [outcome.name for outcome in found.outcomes], len(found.tests)
    (['relu', 'tanh'], 1)

    Source: Schneider et al., "DeepOBS: a deep learning optimizer benchmark suite", 2019; Dahl et al., "Benchmarking
    neural network training algorithms" (AlgoPerf), 2023.
    """
    began = time.perf_counter()
    base = as_recipe(recipe, allow_imports)
    variants = variants_of(base, vary)
    count = _rates_to_try(tune, variants)
    _check_numbers(seeds, tests, rates, level)
    folder = None if out is None else Path(out)
    if folder is None and resume:
        raise UserError("resume needs the folder of the comparison: give out")
    if folder is not None and not resume:
        check_unused(folder)
    given = {
        "target": target,
        "device": device,
        "validation": validation,
        "test": test,
        "sample_weight": sample_weight,
        "allow_imports": allow_imports,
    }
    plans = _planned(Planner(data, **given), variants, seed)
    how = Conditions(
        data=plans[0].source.name,
        task=plans[0].prepared.schema.task,
        metric=_metric(metric, plans),
        part=_judged_on(plans),
        rows=dict(plans[0].prepared.schema.rows),
        seed=seed,
        seeds=range(seed + 1, seed + 1 + seeds),
        rates=log_uniform(count, *rates, seed) if count else [],
        bounds=rates,
        level=level,
        tested=tests,
    )
    if folder is not None:
        asked = _asked(how, variants, plans, goal)
        (take_up if resume else begin)(folder, asked)
    trainer = _Trainer(data, variants, _parts(plans), {**given, "engine": engine}, watchers, folder, resume)
    tuning = _tuned(trainer, how)
    outcomes = _final(trainer, how, tuning)
    goal = target_of(outcomes[0].runs, how.metric) if goal is None else goal
    outcomes = [replace(outcome, target=goal) for outcome in outcomes]
    found = Comparison(
        outcomes,
        pairwise(outcomes) if tests else [],
        how,
        goal,
        time.perf_counter() - began,
        describe_environment(),
        folder,
    )
    if folder is not None:
        _save(found, folder)
    return found


def _asked(
    how: Conditions, variants: Sequence[Variant], plans: Sequence[Plan], goal: float | None
) -> dict[str, Any]:
    """What a comparison that goes on must be asked as well."""
    return {
        "data": how.data,
        "fingerprint": plans[0].prepared.schema.fingerprint,
        "variants": {variant.name: variant.recipe.to_toml() for variant in variants},
        "metric": how.metric,
        "seed": how.seed,
        "seeds": len(how.seeds),
        "rates": list(how.rates),
        "goal": goal,
        "level": how.level,
        "tests": how.tested,
    }


class Progress(Watcher, Protocol):
    """Watches a comparison: a watcher of its runs that is told of its phases."""

    def phase(self, name: str, runs: int) -> None:
        """A phase begins ("tuning" or "final runs"), of so many runs."""


def _rates_to_try(tune: int | None, variants: Sequence[Variant]) -> int:
    said = any(variant.says_rate for variant in variants)
    if tune is None:
        return 0 if said else TUNED
    if tune < 0:
        raise UserError(f"tune: a number of rates, 0 or more, was expected; found {tune}")
    if tune and said:
        raise UserError(
            "optimizer.lr is said, so there is no rate to tune: leave it out of recipe and variants, or leave out "
            "--tune (tune=)"
        )
    return tune


def _check_numbers(seeds: int, tests: bool, rates: tuple[float, float], level: float) -> None:
    if seeds < 1:
        raise UserError(f"seeds: a number of runs, 1 or more, was expected; found {seeds}")
    if seeds < 2 and tests:
        raise UserError(
            "tests need at least two seeds, since one says nothing of chance: --seeds 5 (seeds=5), or --no-tests "
            "(tests=False)"
        )
    low, high = rates
    if not (0 < low < high and math.isfinite(high)):
        raise UserError(f"rates: two ascending numbers above 0 were expected; found {low:g} and {high:g}")
    if not 0 < level < 1:
        raise UserError(f"level: a number between 0 and 1 was expected; found {level:g}")


def _planned(planner: Planner, variants: Sequence[Variant], seed: int) -> list[Plan]:
    """A plan for each variant; the problems of all at once."""
    plans: list[Plan] = []
    problems: list[Problem] = []
    for variant in variants:
        try:
            plan = planner.plan(variant.recipe, seed)
            _build(plan)
            plans.append(plan)
        except RecipeError as cause:
            problems += [problem.of(variant.name) for problem in cause.problems]
    if problems:
        raise RecipeError(problems)
    return plans


def _build(plan: Plan) -> None:
    """Build what will train, once and to no use, so that what does not fit is told before others have trained."""
    facts = facts_of(plan.prepared.schema)
    loss = build_loss(plan.recipe, facts, build_output(plan.recipe, facts))
    build_optimizer(plan.recipe, build_model(plan.recipe, facts, plan.seed), loss=loss)


def _rows(plan: Plan) -> tuple[Any, ...]:
    prepared = plan.prepared
    return tuple(tuple(getattr(prepared, part).rows.tolist()) for part in ("validation", "test"))


def _judged_on(plans: Sequence[Plan]) -> str:
    """The part that gives the final score.

    Raises:
        UserError: the variants are not judged on the same rows, or there are none to choose by.
    """
    first = plans[0].prepared
    if not len(first.validation):
        raise UserError(
            "there are no validation rows to choose rates and set the target by; leave data.validation above 0"
        )
    same = {
        (plan.prepared.schema.task, plan.prepared.schema.target_names, plan.prepared.schema.classes)
        for plan in plans
    }
    apart = {id(plan.prepared): plan for plan in plans}.values()
    if len(same) > 1 or len({_rows(plan) for plan in apart}) > 1:
        raise UserError(
            "the variants are not judged on the same rows and targets, so their scores cannot be compared; do not "
            "vary what data.target, data.task, data.validation, data.test, data.split and data.groups decide"
        )
    return "test" if len(first.test) else "validation"


def _metric(asked: str | None, plans: Sequence[Plan]) -> str:
    task = plans[0].prepared.schema.task
    if asked is None:
        return main_metric(task)
    known = ["loss", *METRICS[task]]
    if asked not in known:
        raise UserError(f"no metric '{asked}' for {task}; {did_you_mean(asked, known)}")
    if asked == "loss":
        losses = {
            (repr(path_of(plan.recipe.loss["name"])), repr(plan.recipe.model["output"])) for plan in plans
        }
        if len(losses) > 1:
            raise UserError(
                f"losses of different kinds cannot be compared; judge by a metric: {', '.join(METRICS[task])}"
            )
    return asked


def _parts(plans: Sequence[Plan]) -> list[Parts]:
    """The rows of each variant's split; one object where it is the same, so that it is prepared once."""
    made: dict[int, Parts] = {}
    for plan in plans:
        named = {part: getattr(plan.prepared, part).rows for part in ("train", "validation", "test")}
        made.setdefault(id(plan.prepared), {part: rows for part, rows in named.items() if len(rows)})
    return [made[id(plan.prepared)] for plan in plans]


class _Trainer:
    """Trains variants at rates and seeds, on the rows of the split."""

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

    def __call__(
        self, phase: str, wanted: Sequence[tuple[int, float | None, int]], into: str
    ) -> list[list[Trial]]:
        """The trials of each variant, for (variant's number, rate, seed); ``into`` names the folder of their runs."""
        found: list[list[Trial]] = [[] for _ in self.variants]
        if not wanted:
            return found
        for watcher in self._watchers:
            watcher.phase(phase, len(wanted))
        try:
            runs = self._train(wanted, into, tested=phase != "tuning")
        except Interrupted:
            where = "" if self._folder is None else f"; continue with --resume --out {self._folder}"
            raise Interrupted(f"stopped during the {phase}{where}") from None
        for (number, rate, seed), run in zip(wanted, runs, strict=True):
            found[number].append(trial_of(run, seed, rate))
        return found

    def _train(
        self, wanted: Sequence[tuple[int, float | None, int]], into: str, *, tested: bool
    ) -> list[Run]:
        return train_many(
            [self.variants[number].at(rate) for number, rate, _ in wanted],
            self._data,
            seeds=[seed for _, _, seed in wanted],
            parts=[self._parts[number] for number, _, _ in wanted],
            out=None if self._folder is None else self._folder / into,
            resume=self._resume,
            watchers=self._watchers,
            tested=tested,
            **self._arguments,
        )


def _tuned(trainer: _Trainer, how: Conditions) -> list[list[Trial]]:
    tunable = [number for number, variant in enumerate(trainer.variants) if variant.has_rate]
    wanted = [(number, rate, how.seed) for number in tunable for rate in how.rates]
    # Their folders go when all is done.
    return [[replace(trial, path=None) for trial in own] for own in trainer("tuning", wanted, TUNING)]


def _final(trainer: _Trainer, how: Conditions, tuning: Sequence[Sequence[Trial]]) -> list[Outcome]:
    """The final runs of each variant at its best rate; none of a variant that diverged at every rate."""
    best = [pick(trials, how.metric) for trials in tuning]
    wanted = [
        (number, None if chosen is None else chosen.lr, seed)
        for number, chosen in enumerate(best)
        if chosen is not None or not tuning[number]
        for seed in how.seeds
    ]
    runs = trainer("final runs", wanted, FINAL)
    return [
        Outcome(variant, _rate(variant, chosen), chosen is not None, trials, final, how)
        for variant, chosen, trials, final in zip(trainer.variants, best, tuning, runs, strict=True)
    ]


def _rate(variant: Variant, chosen: Trial | None) -> float | None:
    if chosen is not None:
        return chosen.lr
    said = variant.recipe.get("optimizer.lr")
    return float(said) if isinstance(said, (int, float)) else None


def _save(found: Comparison, folder: Path) -> None:
    """The numbers, the recipes, and the page."""
    content = json.loads(json.dumps(found.to_dict(), default=_plain))
    found.report()
    finish(folder, content | {"environment": found.environment})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, range) else path_of(value) if callable(value) else str(value)
