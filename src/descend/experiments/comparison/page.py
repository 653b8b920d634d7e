"""The report of a comparison: one HTML file, in the look of a run's, readable without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from descend.errors import UserError
from descend.experiments.comparison.charts import curves, final_scores, rate_curves
from descend.experiments.comparison.results import TOLERANCE, Comparison
from descend.experiments.comparison.formatting import (
    at_rate,
    findings,
    interval_words,
    p_value,
    reached,
    value,
    within,
)
from descend.report import write_page
from descend.report.document import document
from descend.report.figures import Figure
from descend.report.highlight import toml
from descend.report.markup import Child, Html, element, join
from descend.report.parts import code, facts, figure_box, fold, section, table
from descend.report.formatting import TASKS, amount, count, duration, metric

__all__ = ["render", "write"]

_SECTIONS = {
    "results": "Results",
    "tests": "Tests",
    "learning": "Learning",
    "rates": "Rates",
    "method": "Method",
    "reproduce": "Reproduce",
    "environment": "Environment",
}


def write(found: Comparison) -> Path:
    """Write ``report.html`` into the comparison's folder; complete or absent.

    Raises:
        UserError: there is no folder, or it cannot be written.
    """
    if found.path is None:
        raise UserError("this comparison was not saved; give it a folder: compare(..., out=folder)")
    return write_page(found.path / "report.html", render(found))


def render(found: Comparison) -> str:
    """The report as one HTML document."""
    results, first = _results(found)
    learning, second = _learning(found)
    rates, third = _rates(found)
    body = join(
        [results, _tests(found), learning, rates, _method(found), _reproduce(found), _environment(found)]
    )
    title = f"Comparison on {found.conditions.data}"
    return document(
        title,
        navigation=_navigation(body),
        opening=_opening(found, title),
        body=body,
        figures=[*first, *second, *third],
    )


def _navigation(body: Html) -> Html:
    links = [
        element("li", element("a", name, href=f"#{key}"))
        for key, name in _SECTIONS.items()
        if f'<section id="{key}"' in body
    ]
    return element("ul", links)


def _opening(found: Comparison, title: str) -> Html:
    how = found.conditions
    task = TASKS.get(how.task, how.task)
    lost = [outcome.name for outcome in found.outcomes if outcome.failed]
    trouble = None
    if lost:
        words = f"Diverged: {'; '.join(lost)}."
        trouble = element(
            "div", element("strong", words), element("p", _advice(found, lost[0])), class_="trouble"
        )
    tiles: list[tuple[str, Child]] = [
        ("Variants", count(len(found.outcomes))),
        ("Seeds each", count(len(how.seeds))),
        ("Rates tried each", count(len(how.rates)) if how.rates else "none"),
        ("Target", value(how.metric, found.target)),
        ("Time", duration(found.seconds)),
    ]
    return join(
        [
            element("p", f"{task[:1].upper()}{task[1:]}", class_="eyebrow"),
            element("h1", title, class_="long" if len(title) > 32 else None),
            trouble,
            element("p", findings(found), class_="lead"),
            facts(tiles, class_="tiles"),
        ]
    )


def _advice(found: Comparison, name: str) -> str:
    outcome = found[name]
    return next((run.message for run in (*outcome.runs, *outcome.tuning) if run.message), "")


def _results(found: Comparison) -> tuple[Html, list[Figure]]:
    how = found.conditions
    rows: list[list[Child]] = []
    for outcome in found.outcomes:
        reach = outcome.to_target
        rows.append(
            [
                outcome.name,
                at_rate(outcome),
                value(how.metric, outcome.mean),
                interval_words(outcome),
                *(
                    [reached(outcome)] * 3
                    if reach is None
                    else [duration(reach.seconds), count(reach.steps), count(reach.gradients)]
                ),
                f"{sum(one is not None for one in outcome.reaches)} of {len(how.seeds)}",
            ]
        )
    head: list[Child] = [
        "variant",
        "rate",
        f"{how.part} {metric(how.metric)}",
        f"{100 * how.level:g} % interval",
        "time to target",
        "steps",
        "gradients",
        "reached",
    ]
    note = (
        f"Target: a validation {metric(how.metric)} of {value(how.metric, found.target)}. Time, steps and gradients "
        "(of single batches) are the median over seeds; a run that does not reach the target counts as endless. "
        "The interval tells how far chance in training moves the mean, not what other rows would change."
    )
    if found.engine != "loop":
        note += f" The runs were trained together ({found.engine}): their times are those of the group."
    chart = final_scores(found.outcomes)
    drawn = element("div", figure_box(chart), class_="figures") if chart else None
    shown = section(
        "results",
        "Results",
        table("Results by variant", head, rows, numeric=range(1, 8)),
        element("p", note, class_="note"),
        drawn,
        fold("Every seed", _seeds(found)),
    )
    return shown, [chart] if chart else []


def _seeds(found: Comparison) -> Child:
    how = found.conditions
    head: list[Child] = ["variant", *[f"seed {seed}" for seed in how.seeds]]
    rows: list[list[Child]] = [
        [outcome.name, *[value(how.metric, one, "diverged") for one in outcome.scores]]
        for outcome in found.outcomes
    ]
    return table("Final scores by seed", head, rows, numeric=range(1, len(head)))


def _tests(found: Comparison) -> Html:
    if not found.tests:
        return Html("")
    how = found.conditions
    rows: list[list[Child]] = [
        [
            f"{test.first} − {test.second}",
            value(how.metric, test.difference),
            p_value(test.p),
            p_value(test.adjusted),
            p_value(test.sign_flips),
            count(test.pairs),
        ]
        for test in sorted(found.tests, key=lambda test: (test.p is None, test.p or 0.0))
    ]
    head: list[Child] = ["difference", "mean", "p", "p, Holm", "p, sign flips", "pairs"]
    least = f"{2.0 ** (1 - len(how.seeds)):.3g}"
    note = (
        "p: Student's t test on the differences of equal seeds, two-sided. It assumes that differences are about "
        f"normal, and is the one test that can find something with few seeds. Holm: corrected for {len(found.tests)} "
        f"test{'s' if len(found.tests) > 1 else ''}; read this column. Sign flips: a permutation test that assumes no "
        f"distribution; with {len(how.seeds)} seeds it cannot fall below {least}."
    )
    return section(
        "tests",
        "Tests",
        table("Paired tests", head, rows, numeric=range(1, 6), tall=len(rows) > 12),
        element("p", note, class_="note"),
    )


def _learning(found: Comparison) -> tuple[Html, list[Figure]]:
    names = dict.fromkeys([found.conditions.metric, "loss"])
    figures = [
        figure for name in names if (figure := curves(found.outcomes, name, f"curve-{name}")) is not None
    ]
    if not figures:
        return Html(""), []
    boxes = element("div", [figure_box(figure) for figure in figures], class_="figures")
    return section("learning", "Learning", boxes), figures


def _rates(found: Comparison) -> tuple[Html, list[Figure]]:
    chart = rate_curves(found.outcomes)
    if chart is None:
        return Html(""), []
    rows: list[list[Child]] = [
        [outcome.name, amount(outcome.lr, 3), within(outcome), "at the edge" if outcome.at_edge else ""]
        for outcome in found.outcomes
        if outcome.curve
    ]
    words = (
        f"How much the learning rate matters: the share of the rates tried whose validation score is within "
        f"{100 * TOLERANCE:g} % of the variant's best. Rates are spread evenly on a logarithmic scale from "
        f"{found.conditions.bounds[0]:g} to {found.conditions.bounds[1]:g}, so it is also how wide the good range is "
        "there. Where the best rate is at the edge, a better one may lie beyond: widen the range."
    )
    head: list[Child] = ["variant", "best rate", "good rates", ""]
    return section(
        "rates",
        "Rates",
        element("p", words),
        element("div", figure_box(chart), class_="figures"),
        element("h3", "Good rates"),
        table("Sensitivity to the rate", head, rows, numeric=[1, 2]),
    ), [chart]


def _method(found: Comparison) -> Html:
    how = found.conditions
    rows = ", ".join(f"{count(number)} {part}" for part, number in how.rows.items() if number)
    tuned = (
        f"{count(len(how.rates))} rates each, the same for all, quasi-random and log-uniform in "
        f"[{how.bounds[0]:g}, {how.bounds[1]:g}]; one run a rate; chosen by the validation {metric(how.metric)}, of "
        "equals by the lower loss"
        if how.rates
        else "none: the recipe's rates, or those that are varied"
    )
    pairs: list[tuple[str, Child]] = [
        ("Rows", f"{rows}; one split (seed {how.seed}) for all runs"),
        ("Tuning", tuned),
        (
            "Final runs",
            f"seeds {how.seeds[0]} to {how.seeds[-1]}, none of which tuned; only they touch the {how.part} rows"
            if how.part == "test"
            else f"seeds {how.seeds[0]} to {how.seeds[-1]}; there are no test rows, so scores are those of the "
            "validation rows that chose the weights, and flatter",
        ),
        (
            "Pairs",
            "runs of equal seed share the order of rows, and the initial weights where the network is the same",
        ),
        (
            "Target",
            "the median of the best validation scores of the first variant's final runs, or as asked; noticed at the end "
            "of an epoch",
        ),
        ("Gradients", "one gradient of the loss on one batch counts 1"),
        ("Engine", found.engine),
    ]
    shown: list[Child] = [
        [
            element("h3", outcome.name),
            code(f"recipe-{place}", toml(outcome.variant.recipe.to_toml()), "recipe"),
        ]
        for place, outcome in enumerate(found.outcomes)
    ]
    return section("method", "Method", facts(pairs), fold("The recipes as they were asked for", shown))


def _reproduce(found: Comparison) -> Html:
    command = str(found.environment.get("command", ""))
    if not command:
        return Html("")
    return section("reproduce", "Reproduce", code("command-text", command, "the command", wrap=True))


def _environment(found: Comparison) -> Html:
    names: Sequence[str] = ("descend", "torch", "python", "numpy", "platform", "cpu", "cores", "started")
    pairs = [(name, str(found.environment[name])) for name in names if name in found.environment]
    return section("environment", "Environment", facts(pairs))
