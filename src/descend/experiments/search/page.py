"""The HTML report of a search, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from descend.experiments.search.figures import (
    best_so_far,
    importance_bars,
    parallel_coordinates,
    value_text,
)
from descend.experiments.search.importance import MIN_FIT, MIN_TRIALS, Importance, permutation_importance
from descend.experiments.search.result import SearchResult
from descend.report import write_page
from descend.report.document import document
from descend.report.formatting import amount, count, duration, metric, score
from descend.report.highlight import toml
from descend.report.marks import Figure
from descend.report.markup import Child, Html, element, join
from descend.report.parts import code, facts, figure_box, navigation, section, table

__all__ = ["render", "write"]

_SECTIONS = {
    "search": "Search",
    "trials": "Trials",
    "winner": "Winner",
    "space": "Space",
    "reproduce": "Reproduce",
}

_METHODS = {
    "random": "Random search",
    "quasi_random": "Quasi-random search",
    "grid": "Grid search",
    "tpe": "The tree-structured Parzen estimator (TPE)",
    "halving": "Successive halving",
}


def write(result: SearchResult) -> Path:
    """Write ``report.html`` into the search folder. The file is complete or absent.

    Raises:
        RunError: the file cannot be written.
    """
    assert result.path is not None
    return write_page(result.path / "report.html", render(result))


def render(result: SearchResult) -> str:
    """Return the report of a search as one HTML document."""
    name = str((result.best.environment.get("data") or {}).get("name") or "search")
    importance = permutation_importance(result.trials, result.space, result.metric)
    figures = [best_so_far(result.trials, result.metric)]
    if importance is not None and importance.fit >= MIN_FIT:
        figures.append(importance_bars(importance))
    figures.append(parallel_coordinates(result.trials, result.space, result.metric))
    body = join([*_sections(result, figures, _importance_note(importance))])
    opening = join(
        [
            element("p", "Hyperparameter search", class_="eyebrow"),
            element("h1", name, class_="long" if len(name) > 32 else None),
            element("p", " ".join(_summary(result)), class_="lead"),
            facts(_tiles(result), class_="tiles"),
        ]
    )
    style = (files("descend.experiments.search") / "page.css").read_text(encoding="utf-8")
    return document(
        f"{name}, hyperparameter search",
        navigation=navigation(_SECTIONS, body),
        opening=opening,
        body=body,
        style=style,
    )


def _summary(result: SearchResult) -> Iterator[str]:
    trials, keys = len(result.trials), len(result.space)
    yield (
        f"{_METHODS[result.method]} tried {count(trials)} configuration{'s' if trials != 1 else ''} of {count(keys)} "
        f"key{'s' if keys != 1 else ''}, all with the same split and seed, and compared them by "
        f"{metric(result.metric)} on the validation rows."
    )
    winner = result.winner
    yield f"Trial {winner.number + 1} was the best, with {score(result.metric, winner.score)}."
    test = result.best.metrics.get("test", {}).get(result.metric)
    if test is not None:
        yield (
            f"Refitted, it reaches {score(result.metric, test)} on the test rows, which were not used for anything "
            "else. The validation score of the best of many trials is biased upwards; the test score is not."
        )


def _tiles(result: SearchResult) -> list[tuple[str, Child]]:
    best = result.best.metrics
    test = best.get("test", {}).get(result.metric)
    diverged = sum(trial.status == "diverged" for trial in result.trials)
    spent, most = result.budget
    suffix = element("small", f" ({count(diverged)} diverged)") if diverged else None
    return [
        (
            f"Test {metric(result.metric)}",
            score(result.metric, test) if test is not None else None,
        ),
        (f"Validation {metric(result.metric)}", score(result.metric, result.winner.score)),
        ("Trials", [count(len(result.trials)), suffix]),
        ("Epochs", [count(spent), element("small", f" (of at most {count(most)})")]),
    ]


def _importance_note(importance: Importance | None) -> str | None:
    """Why the importance of the keys is not shown."""
    if importance is None:
        return f"The importance of the keys is not shown: it needs at least {MIN_TRIALS} trials."
    if importance.fit < MIN_FIT:
        return (
            "The importance of the keys is not shown: a random forest cannot predict the rank of held-out trials from "
            f"their values (R² {importance.fit:.2f}). More trials may help."
        )
    return None


def _sections(result: SearchResult, figures: list[Figure], note: str | None) -> Iterator[Html]:
    yield section(
        "search",
        "Search",
        element("div", [figure_box(each) for each in figures], class_="figures"),
        element("p", note, class_="note") if note else None,
    )
    yield section("trials", "Trials", _trials_table(result))
    explanation = (
        "The complete recipe of the winner, as it was refitted: with the split and seed of the search, to its own end. "
        "It is saved as best/recipe.toml; best/report.html is the report of this run."
    )
    yield section(
        "winner",
        "Winner",
        facts([(key, value_text(value)) for key, value in result.winner.values.items()]),
        element("p", explanation),
        code("recipe-text", toml(result.best.recipe.to_toml()), "the winner's recipe"),
    )
    yield section("space", "Space", code("space-text", toml(result.space.to_toml()), "the space"))
    command = str(result.best.environment.get("command") or "")
    if command:
        yield section("reproduce", "Reproduce", code("command-text", command, "the command", wrap=True))


def _trials_table(result: SearchResult) -> Html:
    """All trials, the best first."""
    order = {"finished": 0, "dropped": 1, "diverged": 2}
    ranked = sorted(result.trials, key=lambda trial: (order[trial.status], trial.rank_key(result.metric)))
    head = ["trial", metric(result.metric), "loss", "epochs", "time", "status", *result.space.keys]
    rows = [
        [
            count(trial.number + 1),
            score(result.metric, trial.score),
            amount(trial.loss),
            count(trial.epochs),
            duration(trial.seconds),
            trial.status,
            *(value_text(trial.values.get(key)) for key in result.space.keys),
        ]
        for trial in ranked
    ]
    if result.metric == "loss":
        head, rows = head[:2] + head[3:], [row[:2] + row[3:] for row in rows]
    numbers = range(1, len(head) - len(result.space) - 1)
    return table("All trials, the best first", head, rows, numeric=numbers, tall=True)
