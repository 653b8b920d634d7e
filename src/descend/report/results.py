"""The sections on learning and performance: learning curves, scores, confusion matrix, worst mistakes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from descend.data.quantities import shown_quantities
from descend.report.curves import learning_curves
from descend.report.figures import confusion_matrix, error_histogram, predicted_against_true
from descend.report.formatting import NO_BREAK, NONE, amount, count, label, metric, score
from descend.report.markup import Child, Html, element
from descend.report.parts import figure_box, fold, section, table
from descend.report.refit_note import refit_note
from descend.report.run_files import PARTS, RunFiles, items, mapping, number, text

__all__ = ["learning_section", "mistakes_section", "results_section"]

_MAX_CLASSES = 200
"""Largest confusion matrix that is drawn."""

_MAX_POINTS = 3000
"""Largest number of points of all targets together."""

_MAX_OPEN_TARGETS = 6
"""Number of targets whose figures are not collapsed."""

_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*")


def learning_section(run: RunFiles) -> Html:
    """Return the section with the learning curves and their numbers."""
    main = run.main_metric
    loss_name = text(mapping(run.settings.get("loss")).get("name")) or "loss"
    figures = learning_curves(
        run.epochs,
        run.best_epoch,
        loss=(run.series("train", "loss"), run.series("validation", "loss")),
        loss_name=loss_name.replace("_", " "),
        main=main,
        scores=(run.series("train", main), run.series("validation", main)),
        lr=run.series("lr"),
        gradient=run.series("gradient_norm"),
        seconds=run.seconds,
        violation=run.series("constraints", "violation"),
        residual=run.series("constraints", "kkt"),
    )
    if not figures:
        message = "No epoch was completed, so there are no learning curves."
        return section("learning", "Learning curves", element("p", message))
    explanation = (
        "The training loss is the minimized objective, including dropout, label smoothing and penalties; the "
        "validation loss is measured without them and may be lower."
    )
    if run.standardized:
        explanation += " Losses are those of standardized targets."
    return section(
        "learning",
        "Learning curves",
        element("p", explanation, class_="note"),
        element("div", [figure_box(figure) for figure in figures], class_="figures"),
        fold("Numbers by epoch", _history_table(run)),
    )


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
            f"One in {every} of {count(len(run.history))} epochs; history.jsonl contains all.",
            class_="note",
        )
    history = table(
        "Learning curves by epoch",
        list(columns),
        zip(*columns.values(), strict=True),
        numeric=range(1, 7),
        tall=True,
    )
    return [note, history]


def results_section(run: RunFiles) -> Html:
    """Return the section with the scores and the confusion matrix or predictions."""
    part = text(run.evaluation.get("part")) or "test"
    body: Child
    if "labels" in run.evaluation:
        body = _by_label(run)
    elif "confusion" in run.evaluation:
        body = _classification(run, part)
    else:
        body = _regression(run, part)
    return section("results", "Results", _scores(run), _constraints(run), body)


def _scores(run: RunFiles) -> Child:
    parts = [part for part in PARTS if mapping(run.metrics.get(part))]
    names = list(dict.fromkeys(name for part in parts for name in mapping(run.metrics.get(part))))
    if not names:
        return None
    names.sort(key=lambda name: (name != run.main_metric, name == "loss"))
    scores = table(
        "Scores by part of the data",
        ["", *("training" if part == "train" else part for part in parts)],
        [[metric(name), *(score(name, run.score(part, name)) for part in parts)] for name in names],
        numeric=range(1, len(parts) + 1),
    )
    notes = []
    if any(name not in mapping(run.metrics.get(part)) for part in parts for name in names):
        notes.append(f"A metric that was not measured on a part of the data has {NONE} there.")
    if run.standardized:
        notes.append("The loss is that of standardized targets; errors are in the units of the target.")
    if refit := refit_note(run.metrics):
        notes.append(refit)
    if any(
        name in mapping(run.metrics.get(part)) and run.score(part, name) is None
        for part in parts
        for name in names
    ):
        notes.append(
            f"{NONE} marks a metric that is undefined on these rows, for example because a class has no row or the "
            "targets do not vary."
        )
    return [scores, *(element("p", note, class_="note") for note in notes)]


_KKT_CONDITIONS: Mapping[str, str] = {
    "kkt": "KKT residual (the largest of the following)",
    "stationarity": "stationarity: gradient of the Lagrangian",
    "violation": "feasibility: violation of the constraints",
    "complementarity": "complementarity: multiplier times slack",
    "sign": "sign: multipliers below zero",
}


def _constraints(run: RunFiles) -> Child:
    """The residuals of the KKT conditions."""
    residuals = mapping(run.metrics.get("constraints"))
    rows = [
        [label, amount(number(residuals.get(key)))]
        for key, label in _KKT_CONDITIONS.items()
        if key in residuals
    ]
    if not rows:
        return None
    met = "are met within the tolerance" if residuals.get("feasible") is True else "are not met"
    note = (
        f"The constraints {met}. The residuals of the KKT conditions are zero at a solution; they are measured on all "
        "training rows, without dropout."
    )
    return [
        element("h3", "Constraints"),
        element("p", note, class_="note"),
        table("KKT conditions", ["condition", "residual"], rows, numeric=[1]),
    ]


def _classification(run: RunFiles, part: str) -> Child:
    names, counts = run.confusion
    if not names:
        return None
    names = [label(name) for name in names]
    left: Html
    if len(names) <= _MAX_CLASSES:
        left = figure_box(confusion_matrix(names, counts, f"Counts of {part} rows."))
    else:
        too_large = f"The confusion matrix of {count(len(names))} classes is too large to draw; see the tables instead."
        left = element("p", too_large)
    right = [_frequent_mistakes(names, counts), _by_class(names, counts)]
    return element("div", element("div", left), element("div", right), class_="pair")


def _frequent_mistakes(names: Sequence[str], counts: Sequence[Sequence[float]], limit: int = 8) -> Child:
    pairs = [(cell, i, j) for i, row in enumerate(counts) for j, cell in enumerate(row) if i != j and cell]
    title = element("h3", "Most frequent mistakes")
    if not pairs:
        return [title, element("p", "None: all rows were predicted correctly.")]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [
        [names[i], names[j], count(cell), score("accuracy", cell / sum(counts[i]))]
        for cell, i, j in pairs[:limit]
    ]
    head = ["true", "predicted", "rows", "share of class"]
    return [title, table("Most frequent mistakes", head, rows, numeric=(2, 3))]


def _by_class(names: Sequence[str], counts: Sequence[Sequence[float]]) -> Child:
    predicted = [sum(row[index] for row in counts) for index in range(len(names))]
    rows: list[tuple[float, list[Child]]] = []
    for index, name in enumerate(names):
        hits, support = counts[index][index], sum(counts[index])
        recall = hits / support if support else None
        precision = hits / predicted[index] if predicted[index] else None
        f1 = 2 * hits / (support + predicted[index]) if support + predicted[index] else None
        cells = [score("accuracy", value) for value in (precision, recall, f1)]
        rows.append((f1 if f1 is not None else 2.0, [name, count(support), *cells]))
    order = ""
    if len(names) > 12:
        rows.sort(key=lambda row: row[0])
        order = ", the lowest F1 first"
    head = ["class", "rows", "precision", "recall", "F1"]
    scores = table("Scores by class", head, [cells for _, cells in rows], numeric=range(1, 5), tall=True)
    return [element("h3", "Scores by class" + order), scores]


def _by_label(run: RunFiles) -> Child:
    """Return a table of the scores of each label."""
    rows: list[list[Child]] = []
    for each in map(mapping, items(run.evaluation.get("labels"))):
        hits, false, missed = (int(number(each.get(key)) or 0) for key in ("hits", "false", "missed"))
        precision = hits / (hits + false) if hits + false else None
        recall = hits / (hits + missed) if hits + missed else None
        f1 = 2 * hits / (2 * hits + false + missed) if hits + false + missed else None
        cells = [score("accuracy", value) for value in (precision, recall, f1)]
        rows.append([text(each.get("name")), count(hits + missed), count(hits + false), *cells])
    head = ["label", "rows", "predicted", "precision", "recall", "F1"]
    scores = table("Scores by label", head, rows, numeric=range(1, 6), tall=True)
    return [element("h3", "Scores by label"), scores]


def _regression(run: RunFiles, part: str) -> Child:
    scatter = {text(name): _pair(value) for name, value in mapping(run.evaluation.get("scatter")).items()}
    pairs = {name: pair for name, pair in scatter.items() if pair[0]}
    if not pairs:
        return None
    limit = max(200, _MAX_POINTS // len(pairs))
    figures = [
        predicted_against_true(
            f"target-{index}",
            name if len(pairs) > 1 else "Predicted against true",
            true,
            predicted,
            min(1000, limit),
        )
        for index, (name, (true, predicted)) in enumerate(pairs.items())
    ]
    if len(pairs) == 1:
        figures.append(error_histogram("errors", *next(iter(pairs.values()))))
    boxes = [figure_box(figure) for figure in figures]
    more = boxes[_MAX_OPEN_TARGETS:]
    explanation = f"Each point is one {part} row; on the dashed line, the prediction equals the true value."
    return [
        element("h3", "Predicted against true") if len(pairs) > 1 else None,
        element("p", explanation, class_="note"),
        _by_target(pairs) if len(pairs) > 1 else None,
        element("div", boxes[:_MAX_OPEN_TARGETS], class_="figures"),
        fold(f"{len(more)} more targets", element("div", more, class_="figures")) if more else None,
    ]


def _pair(value: object) -> tuple[list[float], list[float]]:
    """True and predicted values, without the points where either is not a finite number."""
    table = mapping(value)
    points = [
        (number(true), number(predicted))
        for true, predicted in zip(items(table.get("true")), items(table.get("predicted")), strict=False)
    ]
    finite = [(true, predicted) for true, predicted in points if true is not None and predicted is not None]
    return [true for true, _ in finite], [predicted for _, predicted in finite]


def _by_target(pairs: Mapping[str, tuple[list[float], list[float]]]) -> Child:
    rows = []
    for name, (true, predicted) in pairs.items():
        errors = [prediction - value for value, prediction in zip(true, predicted, strict=True)]
        mean = math.fsum(true) / len(true)
        total_squares = math.fsum((value - mean) ** 2 for value in true)
        residual_squares = math.fsum(error * error for error in errors)
        r2 = 1 - residual_squares / total_squares if total_squares else None
        mae = math.fsum(map(abs, errors)) / len(errors)
        rmse = math.sqrt(residual_squares / len(errors))
        rows.append([name, score("r2", r2), amount(mae), amount(rmse)])
    head = ["target", metric("r2"), metric("mae"), metric("rmse")]
    return table("Scores by target, on the points shown", head, rows, numeric=range(1, 4), tall=True)


def mistakes_section(run: RunFiles) -> Html:
    """Return the section with the rows of largest loss, as images or as a table of their values."""
    worst = [mapping(row) for row in items(run.evaluation.get("worst"))]
    if not worst:
        return Html("")
    part = text(run.evaluation.get("part")) or "test"
    explanation = (
        f"The {part} rows with the largest loss. They show what is difficult for the network, and are the first place "
        "to look for wrong labels and corrupted values."
    )
    has_images = any(_IMAGE.fullmatch(text(row.get("image"))) for row in worst)
    body = element("ul", [_card(row) for row in worst], class_="cards") if has_images else _worst_table(worst)
    return section("mistakes", "Worst mistakes", element("p", explanation), body)


def _card(row: Mapping[str, Any]) -> Html:
    true, predicted = _value(row.get("true")), _value(row.get("predicted"))
    source = text(row.get("image"))
    image = None
    if _IMAGE.fullmatch(source):
        image = element(
            "img", src=source, alt=f"row {text(row.get('row'))}: true {true}, predicted {predicted}"
        )
    probability = number(row.get("probability"))
    return element(
        "li",
        element("div", image, class_="frame"),
        element("p", "true ", element("strong", true)),
        element(
            "p",
            "predicted ",
            element("strong", predicted),
            f" ({100 * probability:.0f}{NO_BREAK}%)" if probability is not None else None,
        ),
        element("p", f"row {text(row.get('row'))}, loss {amount(number(row.get('loss')), 3)}", class_="note"),
    )


def _worst_table(worst: Sequence[Mapping[str, Any]]) -> Html:
    names = list(dict.fromkeys(text(name) for row in worst for name in mapping(row.get("values"))))
    has_probability = any(number(row.get("probability")) is not None for row in worst)
    head = ["row", "true", "predicted", *(["probability"] if has_probability else []), "loss", *names]
    columns = [[mapping(row.get("values")).get(name) for row in worst] for name in names]
    targets = [row.get(key) for row in worst for key in ("true", "predicted")]
    spreads = [_spread(column) for column in columns]
    rows: list[list[Child]] = []
    for index, row in enumerate(worst):
        probability = [score("accuracy", number(row.get("probability")))] if has_probability else []
        pair = [_value(row.get(key), _spread(targets)) for key in ("true", "predicted")]
        values = [_cell(column[index], spread) for column, spread in zip(columns, spreads, strict=True)]
        rows.append([text(row.get("row")), *pair, *probability, amount(number(row.get("loss")), 3), *values])
    number_columns = {index for index, name in enumerate(names) if all(_numeric(row, name) for row in worst)}
    numeric = {len(head) - len(names) + index for index in number_columns} | {len(head) - len(names) - 1, 3}
    if all(isinstance(row.get("true"), float) for row in worst):
        numeric |= {1, 2}
    return table("Worst mistakes", head, rows, numeric=numeric)


def _numeric(row: Mapping[str, Any], name: str) -> bool:
    value = mapping(row.get("values")).get(name)
    return value is None or number(value) is not None


def _cell(value: object, spread: float) -> Child:
    """A value of the data in a table: a short one on one line, a long text in a wide column."""
    if isinstance(value, str):
        return element("div", value, class_="whole" if len(value) <= 20 else "prose")
    return _value(value, spread)


def _spread(values: Sequence[object]) -> float:
    """The difference between the largest and the smallest number."""
    numbers = [known for value in values if (known := number(value)) is not None]
    return max(numbers, default=0.0) - min(numbers, default=0.0)


def _value(value: object, spread: float = 0.0) -> str:
    """Format a value: numbers to five digits, or to more if they are close together; lists joined; labels unchanged."""
    if isinstance(value, Mapping):
        return ", ".join(f"{text(key)}: {_value(inner)}" for key, inner in value.items())
    if items(value):
        return ", ".join(map(_value, items(value)))
    if isinstance(value, float):
        known = number(value)
        return amount(None) if known is None else shown_quantities("numeric", [known], 5, spread)[0]
    return amount(None) if value is None else label(text(value))
