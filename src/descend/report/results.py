"""The sections about how well the network does: scores, confusion or agreement, the worst mistakes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from descend.report.curves import learning
from descend.report.figures import Figure, agreement, confusion, errors
from descend.report.markup import Child, Html, element
from descend.report.parts import figure_box, fold, section, table
from descend.report.run_files import PARTS, RunFiles, items, mapping, number, text
from descend.report.formatting import NO_BREAK, amount, count, metric, score

__all__ = ["learning_section", "mistakes_section", "results_section"]

_MAX_DRAWN_CLASSES = 200
_MAX_POINTS = 8000
_TARGETS_SHOWN = 6
_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*")


def learning_section(run: RunFiles) -> tuple[Html, list[Figure]]:
    """Learning curves, and their numbers as a table."""
    main = run.main_metric
    loss_name = text(mapping(run.settings.get("loss")).get("name")) or "loss"
    figures = learning(
        run.epochs,
        run.best_epoch,
        loss=(run.series("train", "loss"), run.series("validation", "loss")),
        loss_name=loss_name.replace("_", " "),
        main=main,
        scores=(run.series("train", main), run.series("validation", main)),
        rate=run.series("lr"),
        gradient=run.series("gradient_norm"),
        seconds=run.seconds,
        violation=run.series("constraints", "violation"),
        residual=run.series("constraints", "kkt"),
    )
    if not figures:
        words = "No epoch was completed, so there are no learning curves."
        return section("learning", "Learning", element("p", words)), []
    hint = (
        "The training loss is the objective as it was minimised, with dropout, label smoothing and penalties; the "
        "validation loss is measured without them and may lie below it. Drag across a figure to enlarge a part of "
        "it; double-click to see all again."
    )
    return section(
        "learning",
        "Learning",
        element("p", hint, class_="note hint"),
        element("div", [figure_box(figure) for figure in figures], class_="figures"),
        fold("The numbers behind these curves", _history_table(run)),
    ), figures


def _history_table(run: RunFiles, limit: int = 200) -> Child:
    every = max(1, math.ceil(len(run.history) / limit))
    rows = sorted({*range(0, len(run.history), every), len(run.history) - 1})
    if run.best_epoch in run.epochs:
        rows = sorted({*rows, run.epochs.index(run.best_epoch or 0)})
    main = run.main_metric

    def column(write: Callable[[float | None], str], values: Sequence[float | None]) -> list[str]:
        return [write(values[row]) for row in rows]

    columns = {
        "epoch": [count(run.epochs[row]) for row in rows],
        "training loss": column(amount, run.series("train", "loss")),
        "validation loss": column(amount, run.series("validation", "loss")),
        f"validation {metric(main)}": column(
            lambda value: score(main, value), run.series("validation", main)
        ),
        "learning rate": column(amount, run.series("lr")),
        "gradient norm": column(amount, run.series("gradient_norm")),
        "seconds": column(lambda value: amount(value, 3), run.seconds),
        "": ["kept" if run.epochs[row] == run.best_epoch else "" for row in rows],
    }
    note = None
    if every > 1:
        note = element(
            "p",
            f"Every {every}th epoch of {count(len(run.history))}; all are in history.jsonl.",
            class_="note",
        )
    shown = table(
        "Learning curves by epoch",
        list(columns),
        zip(*columns.values(), strict=True),
        numeric=range(1, 7),
        tall=True,
    )
    return [note, shown]


def results_section(run: RunFiles) -> tuple[Html, list[Figure]]:
    """Scores by part; then the confusion matrix, or predicted against true values."""
    part = text(run.evaluation.get("part")) or "test"
    body, figures = _classes(run, part) if "confusion" in run.evaluation else _targets(run, part)
    return section("results", "Results", _scores(run), _constraints(run), body), figures


def _scores(run: RunFiles) -> Child:
    parts = [part for part in PARTS if mapping(run.metrics.get(part))]
    names = list(dict.fromkeys(name for part in parts for name in mapping(run.metrics.get(part))))
    if not names:
        return None
    names.sort(key=lambda name: (name != run.main_metric, name == "loss"))
    return table(
        "Scores by part of the data",
        ["", *("training" if part == "train" else part for part in parts)],
        [[metric(name), *(score(name, run.score(part, name)) for part in parts)] for name in names],
        numeric=range(1, len(parts) + 1),
    )


_CONDITIONS: Mapping[str, str] = {
    "kkt": "KKT residual, the largest of these",
    "stationarity": "gradient of the Lagrangian",
    "violation": "violation",
    "complementarity": "multiplier times slack",
    "sign": "multipliers below zero",
}


def _constraints(run: RunFiles) -> Child:
    """How well the weights meet the conditions that a solution under constraints does."""
    found = mapping(run.metrics.get("constraints"))
    rows = [[words, amount(number(found.get(key)))] for key, words in _CONDITIONS.items() if key in found]
    if not rows:
        return None
    met = "are met to the tolerance asked for" if found.get("feasible") is True else "are not met"
    note = f"The constraints {met}. All of these are zero at a solution; they are measured on all training rows, without dropout."
    return [
        element("h3", "Constraints"),
        element("p", note, class_="note"),
        table("Conditions of optimality under constraints", ["", "residual"], rows, numeric=[1]),
    ]


def _classes(run: RunFiles, part: str) -> tuple[Child, list[Figure]]:
    names, counts = run.confusion
    if not names:
        return None, []
    figures = (
        [confusion(names, counts, f"Rows of the {part} part.")] if len(names) <= _MAX_DRAWN_CLASSES else []
    )
    too_fine = f"A matrix of {count(len(names))} classes is too fine to draw; the tables tell the most of it."
    left = figure_box(figures[0]) if figures else element("p", too_fine)
    right = [_confused(names, counts), _by_class(names, counts)]
    return element("div", element("div", left), element("div", right), class_="pair"), figures


def _confused(names: Sequence[str], counts: Sequence[Sequence[float]], limit: int = 8) -> Child:
    pairs = [(cell, i, j) for i, row in enumerate(counts) for j, cell in enumerate(row) if i != j and cell]
    title = element("h3", "Most frequent mistakes")
    if not pairs:
        return [title, element("p", "None: every row is on the diagonal.")]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [
        [names[i], names[j], count(cell), score("accuracy", cell / sum(counts[i]))]
        for cell, i, j in pairs[:limit]
    ]
    head = ["true", "predicted", "rows", "of the class"]
    return [title, table("Most frequent mistakes", head, rows, numeric=(2, 3))]


def _by_class(names: Sequence[str], counts: Sequence[Sequence[float]]) -> Child:
    told = [sum(row[place] for row in counts) for place in range(len(names))]
    rows: list[tuple[float, list[Child]]] = []
    for place, name in enumerate(names):
        hit, support = counts[place][place], sum(counts[place])
        recall = hit / support if support else None
        precision = hit / told[place] if told[place] else None
        both = 2 * hit / (support + told[place]) if support + told[place] else None
        cells = [score("accuracy", value) for value in (precision, recall, both)]
        rows.append((both if both is not None else 2.0, [name, count(support), *cells]))
    order = ""
    if len(names) > 12:
        rows.sort(key=lambda row: row[0])
        order = ", the weakest first"
    head = ["class", "rows", "precision", "recall", "F1"]
    shown = table("Scores by class", head, [cells for _, cells in rows], numeric=range(1, 5), tall=True)
    return [element("h3", "By class" + order), shown]


def _targets(run: RunFiles, part: str) -> tuple[Child, list[Figure]]:
    found = {text(name): _pair(value) for name, value in mapping(run.evaluation.get("scatter")).items()}
    pairs = {name: pair for name, pair in found.items() if pair[0]}
    if not pairs:
        return None, []
    limit = max(200, _MAX_POINTS // len(pairs))
    figures = [
        agreement(
            f"target-{place}",
            name if len(pairs) > 1 else "Predicted against true",
            true,
            predicted,
            min(2000, limit),
        )
        for place, (name, (true, predicted)) in enumerate(pairs.items())
    ]
    if len(pairs) == 1:
        figures.append(errors("errors", *next(iter(pairs.values()))))
    boxes = [figure_box(figure) for figure in figures]
    more = boxes[_TARGETS_SHOWN:]
    words = f"Each point is a row of the {part} part; on the dashed line the prediction is the true value."
    return [
        element("h3", "Predicted against true") if len(pairs) > 1 else None,
        element("p", words, class_="note"),
        _by_target(pairs) if len(pairs) > 1 else None,
        element("div", boxes[:_TARGETS_SHOWN], class_="figures"),
        fold(f"{len(more)} more targets", element("div", more, class_="figures")) if more else None,
    ], figures


def _pair(value: object) -> tuple[list[float], list[float]]:
    """True and predicted values, without the points where either is not a finite number."""
    both = mapping(value)
    points = [
        (number(true), number(predicted))
        for true, predicted in zip(items(both.get("true")), items(both.get("predicted")), strict=False)
    ]
    known = [(true, predicted) for true, predicted in points if true is not None and predicted is not None]
    return [true for true, _ in known], [predicted for _, predicted in known]


def _by_target(pairs: Mapping[str, tuple[list[float], list[float]]]) -> Child:
    rows = []
    for name, (true, predicted) in pairs.items():
        errors = [guess - value for value, guess in zip(true, predicted, strict=True)]
        mean = math.fsum(true) / len(true)
        spread = math.fsum((value - mean) ** 2 for value in true)
        squared = math.fsum(error * error for error in errors)
        r2 = 1 - squared / spread if spread else None
        absolute = math.fsum(map(abs, errors)) / len(errors)
        rows.append([name, score("r2", r2), amount(absolute), amount(math.sqrt(squared / len(errors)))])
    head = ["target", metric("r2"), metric("mae"), metric("rmse")]
    caption = "Scores by target, over the points drawn or listed"
    return table(caption, head, rows, numeric=range(1, 4), tall=True)


def mistakes_section(run: RunFiles) -> Html:
    """The rows with the largest losses, as pictures or as a table of their values."""
    worst = [mapping(row) for row in items(run.evaluation.get("worst"))]
    if not worst:
        return Html("")
    part = text(run.evaluation.get("part")) or "test"
    words = (
        f"The rows of the {part} part that were predicted worst, by their loss. They show what the network "
        "finds hard, and are the first place to look for wrong labels and damaged values."
    )
    pictured = any(_IMAGE.fullmatch(text(row.get("image"))) for row in worst)
    body = element("ul", [_card(row) for row in worst], class_="cards") if pictured else _worst_table(worst)
    return section("mistakes", "Worst mistakes", element("p", words), body)


def _card(row: Mapping[str, Any]) -> Html:
    true, predicted = _value(row.get("true")), _value(row.get("predicted"))
    source = text(row.get("image"))
    picture = None
    if _IMAGE.fullmatch(source):
        picture = element(
            "img", src=source, alt=f"row {text(row.get('row'))}: true {true}, predicted {predicted}"
        )
    sure = number(row.get("probability"))
    return element(
        "li",
        element("div", picture, class_="frame"),
        element("p", "true ", element("strong", true)),
        element(
            "p",
            "predicted ",
            element("strong", predicted),
            f" ({100 * sure:.0f}{NO_BREAK}%)" if sure is not None else None,
        ),
        element("p", f"row {text(row.get('row'))}, loss {amount(number(row.get('loss')), 3)}", class_="note"),
    )


def _worst_table(worst: Sequence[Mapping[str, Any]]) -> Html:
    names = list(dict.fromkeys(text(name) for row in worst for name in mapping(row.get("values"))))
    sure = any(number(row.get("probability")) is not None for row in worst)
    head = ["row", "true", "predicted", *(["probability"] if sure else []), "loss", *names]
    rows: list[list[Child]] = []
    for row in worst:
        values = mapping(row.get("values"))
        probability = [score("accuracy", number(row.get("probability")))] if sure else []
        lead = [text(row.get("row")), _value(row.get("true")), _value(row.get("predicted")), *probability]
        rows.append(
            [*lead, amount(number(row.get("loss")), 3), *(_value(values.get(name)) for name in names)]
        )
    digits = {place for place, name in enumerate(names) if all(_numeric(row, name) for row in worst)}
    numeric = {len(head) - len(names) + place for place in digits} | {len(head) - len(names) - 1, 3}
    if all(isinstance(row.get("true"), float) for row in worst):
        numeric |= {1, 2}
    return table("Worst mistakes", head, rows, numeric=numeric)


def _numeric(row: Mapping[str, Any], name: str) -> bool:
    value = mapping(row.get("values")).get(name)
    return value is None or number(value) is not None


def _value(value: object) -> str:
    """A value as it should be read: numbers to five digits, lists joined, anything else as it is."""
    if isinstance(value, Mapping):
        return ", ".join(f"{text(key)}: {_value(inner)}" for key, inner in value.items())
    if items(value):
        return ", ".join(map(_value, items(value)))
    if isinstance(value, float):
        return amount(number(value), 5)
    return amount(None) if value is None else text(value)
