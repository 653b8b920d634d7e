"""The HTML report of a comparison, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from descend.errors import UserError
from descend.experiments.comparison.charts import final_scores, learning_curves, lr_curves
from descend.experiments.comparison.formatting import (
    good_rates_text,
    interval_text,
    lr_text,
    missing_cost_text,
    p_value,
    score_text,
)
from descend.experiments.comparison.outcome import TOLERANCE
from descend.experiments.comparison.results import ComparisonResults
from descend.experiments.comparison.summary import summarize
from descend.report import write_page
from descend.report.document import document
from descend.report.formatting import (
    ENVIRONMENT_LABELS,
    NO_BREAK,
    TASKS,
    amount,
    count,
    duration,
    metric,
)
from descend.report.highlight import toml
from descend.report.markup import Child, Html, element, join
from descend.report.parts import code, facts, figure_box, fold, navigation, section, table

__all__ = ["render", "write"]

_SECTIONS = {
    "results": "Results",
    "tests": "Tests",
    "learning": "Learning curves",
    "rates": "Learning rates",
    "method": "Method",
    "reproduce": "Reproduce",
    "environment": "Environment",
}


def write(results: ComparisonResults) -> Path:
    """Write ``report.html`` into the comparison folder. The file is complete or absent.

    Raises:
        UserError: the comparison has no folder.
        RunError: the file cannot be written.
    """
    if results.path is None:
        raise UserError("this comparison was not saved; specify a folder: compare(..., out=<folder>)")
    return write_page(results.path / "report.html", render(results))


def render(results: ComparisonResults) -> str:
    """Return the report as one HTML document."""
    body = join(
        [
            _results_section(results),
            _tests_section(results),
            _learning_section(results),
            _rates_section(results),
            _method_section(results),
            _reproduce_section(results),
            _environment_section(results),
        ]
    )
    title = f"Comparison on {results.conditions.data}"
    return document(
        title,
        navigation=navigation(_SECTIONS, body),
        opening=_opening(results, title),
        body=body,
    )


def _opening(results: ComparisonResults, title: str) -> Html:
    conditions = results.conditions
    task = TASKS.get(conditions.task, conditions.task)
    diverged = [outcome.name for outcome in results.outcomes if outcome.failed]
    warning = None
    if diverged:
        heading = f"Diverged: {'; '.join(diverged)}."
        warning = element(
            "div",
            element("strong", heading),
            element("p", _first_message(results, diverged[0])),
            class_="warning",
        )
    tiles: list[tuple[str, Child]] = [
        ("Variants", count(len(results.outcomes))),
        ("Seeds per variant", count(len(conditions.seeds))),
        ("Learning rates tried", count(len(conditions.rates)) if conditions.rates else "none"),
        (f"Target {metric(conditions.metric)}", score_text(conditions.metric, results.target)),
        ("Total time", duration(results.seconds)),
    ]
    return join(
        [
            element("p", f"{task[:1].upper()}{task[1:]}", class_="eyebrow"),
            element("h1", title, class_="long" if len(title) > 32 else None),
            warning,
            element("p", summarize(results), class_="lead"),
            facts(tiles, class_="tiles"),
        ]
    )


def _first_message(results: ComparisonResults, name: str) -> str:
    """The message of the first run of a variant that has one."""
    outcome = results[name]
    return next((run.message for run in (*outcome.runs, *outcome.tuning) if run.message), "")


def _results_section(results: ComparisonResults) -> Html:
    conditions = results.conditions
    rows: list[list[Child]] = []
    for outcome in results.outcomes:
        cost = outcome.to_target
        rows.append(
            [
                outcome.name,
                lr_text(outcome),
                score_text(conditions.metric, outcome.mean),
                interval_text(outcome),
                *(
                    [missing_cost_text(outcome)] * 3
                    if cost is None
                    else [duration(cost.seconds), count(cost.steps), count(cost.gradients)]
                ),
                f"{sum(one is not None for one in outcome.target_costs)} of {len(conditions.seeds)}",
            ]
        )
    head: list[Child] = [
        "variant",
        "learning rate",
        f"mean {conditions.part} {metric(conditions.metric)}",
        f"{100 * conditions.level:g}{NO_BREAK}% interval",
        "time to target",
        "steps",
        "gradients",
        "target reached",
    ]
    note = (
        f"The target is a validation {metric(conditions.metric)} of {score_text(conditions.metric, results.target)}. "
        "Time, steps and gradients (of single batches) are medians over seeds; a run that does not reach the target "
        "counts as infinitely expensive. The interval covers the randomness of training (initial weights, order of "
        "rows), not that of the choice of test rows."
    )
    if results.engine != "loop":
        note += f" The runs were trained together (engine: {results.engine}), so their times are those of the whole group."
    chart = final_scores(results.outcomes)
    figure = element("div", figure_box(chart), class_="figures") if chart else None
    return section(
        "results",
        _SECTIONS["results"],
        table("Results by variant", head, rows, numeric=range(1, 8)),
        element("p", note, class_="note"),
        figure,
        fold("Scores by seed", _seeds_table(results)),
    )


def _seeds_table(results: ComparisonResults) -> Child:
    conditions = results.conditions
    head: list[Child] = ["variant", *[f"seed {seed}" for seed in conditions.seeds]]
    rows: list[list[Child]] = [
        [outcome.name, *[score_text(conditions.metric, score, "diverged") for score in outcome.scores]]
        for outcome in results.outcomes
    ]
    return table("Final scores by seed", head, rows, numeric=range(1, len(head)))


def _tests_section(results: ComparisonResults) -> Html:
    if not results.tests:
        return Html("")
    conditions = results.conditions
    rows: list[list[Child]] = [
        [
            f"{test.first} − {test.second}",
            score_text(conditions.metric, test.difference),
            p_value(test.p),
            p_value(test.adjusted),
            p_value(test.sign_flips),
            count(test.pairs),
        ]
        for test in sorted(results.tests, key=lambda test: (test.p is None, test.p or 0.0))
    ]
    head: list[Child] = ["difference", "mean", "p", "p (Holm)", "p (sign flips)", "pairs"]
    smallest = f"{2.0 ** (1 - len(conditions.seeds)):.3g}"
    n_tests = len(results.tests)
    note = (
        "p: two-sided paired t-test on the differences of equal seeds. It assumes that the differences are normally "
        f"distributed, and is the only test here with power for few seeds. p (Holm): corrected for {n_tests} "
        f"test{'s' if n_tests > 1 else ''}; draw conclusions from this column. p (sign flips): a permutation test "
        f"without a distributional assumption; with {len(conditions.seeds)} seeds it cannot fall below {smallest}."
    )
    return section(
        "tests",
        _SECTIONS["tests"],
        table("Paired tests", head, rows, numeric=range(1, 6), tall=len(rows) > 12),
        element("p", note, class_="note"),
    )


def _learning_section(results: ComparisonResults) -> Html:
    names = dict.fromkeys([results.conditions.metric, "loss"])
    figures = [
        figure
        for name in names
        if (figure := learning_curves(results.outcomes, name, f"curve-{name}")) is not None
    ]
    if not figures:
        return Html("")
    boxes = element("div", [figure_box(figure) for figure in figures], class_="figures")
    return section("learning", _SECTIONS["learning"], boxes)


def _rates_section(results: ComparisonResults) -> Html:
    chart = lr_curves(results.outcomes)
    if chart is None:
        return Html("")
    rows: list[list[Child]] = [
        [
            outcome.name,
            amount(outcome.lr, 3),
            good_rates_text(outcome),
            "at the edge of the range" if outcome.at_edge else "",
        ]
        for outcome in results.outcomes
        if outcome.curve
    ]
    low, high = results.conditions.bounds
    explanation = (
        "Sensitivity to the learning rate: a learning rate is good if its validation score is within "
        f"{100 * TOLERANCE:g}{NO_BREAK}% of the variant's best. The learning rates are spaced evenly on a logarithmic scale from "
        f"{low:g} to {high:g}, so the share of good ones shows how wide the good range is. If the best one is at the "
        "edge, a better one may lie outside: widen the range (--rates)."
    )
    head: list[Child] = ["variant", "best learning rate", "good learning rates", "remark"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return section(
        "rates",
        _SECTIONS["rates"],
        element("p", explanation),
        element("div", figure_box(chart), class_="figures"),
        element("h3", "Sensitivity"),
        table("Sensitivity to the learning rate", head, rows, numeric=[1, 2]),
    )


def _method_section(results: ComparisonResults) -> Html:
    conditions = results.conditions
    rows = ", ".join(
        f"{count(number)} {'training' if part == 'train' else part}"
        for part, number in conditions.rows.items()
        if number
    )
    low, high = conditions.bounds
    tuning = (
        f"{count(len(conditions.rates))} learning rates, the same for all variants, quasi-random and log-uniform in "
        f"[{low:g}, {high:g}]; one run each, selected by the validation {metric(conditions.metric)}, then by the lower "
        "loss"
        if conditions.rates
        else "none: the learning rates are those of the recipe or of the variants"
    )
    first, last = conditions.seeds[0], conditions.seeds[-1]
    final = f"seeds {first} to {last}" if first != last else f"seed {first}"
    pairs: list[tuple[str, Child]] = [
        ("Rows", f"{rows}; one split (seed {conditions.seed}) for all runs"),
        ("Tuning", tuning),
        (
            "Final runs",
            f"{final}, none of which was used for tuning; only these runs are measured on the {conditions.part} rows"
            if conditions.part == "test"
            else f"{final}; there are no test rows, so the scores are those of the validation rows, which also "
            "selected the weights, and are biased upwards",
        ),
        (
            "Pairs",
            "runs of equal seed share the order of rows, and the initial weights if the networks are the same",
        ),
        (
            "Target",
            "the median of the best validation scores of the first variant's final runs, unless specified (--goal); "
            "checked at the end of each epoch",
        ),
        ("Gradients", "one gradient of the loss on one batch counts as 1"),
        ("Engine", results.engine),
    ]
    recipes: list[Child] = [
        [
            element("h3", outcome.name),
            code(f"recipe-{index}", toml(outcome.variant.recipe.to_toml()), "recipe"),
        ]
        for index, outcome in enumerate(results.outcomes)
    ]
    return section("method", _SECTIONS["method"], facts(pairs), fold("Recipes as specified", recipes))


def _reproduce_section(results: ComparisonResults) -> Html:
    command = str(results.environment.get("command", ""))
    if not command:
        return Html("")
    return section(
        "reproduce", _SECTIONS["reproduce"], code("command-text", command, "the command", wrap=True)
    )


def _environment_section(results: ComparisonResults) -> Html:
    names: Sequence[str] = ("descend", "torch", "python", "numpy", "platform", "cpu", "cores", "started")
    pairs = [
        (ENVIRONMENT_LABELS.get(name, name), str(results.environment[name]))
        for name in names
        if name in results.environment
    ]
    return section("environment", _SECTIONS["environment"], facts(pairs))
