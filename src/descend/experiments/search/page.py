"""The report of a search: one HTML file, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from descend.experiments.search.figures import course, importances, parallel, value_text
from descend.experiments.search.importance import FEWEST, TELLING, Importance, importance
from descend.experiments.search.result import SearchResult
from descend.report.document import document
from descend.report.figures import Figure
from descend.report.highlight import toml
from descend.report.markup import Child, Html, element, join
from descend.report.parts import code, facts, figure_box, section, table
from descend.report.formatting import amount, count, duration, metric, score
from descend.training.state import write_atomically

__all__ = ["render", "write"]

_SECTIONS = {
    "search": "Search",
    "trials": "Trials",
    "winner": "Winner",
    "space": "Space",
    "reproduce": "Reproduce",
}

_METHODS = {
    "random": "random search",
    "quasi_random": "quasi-random search",
    "grid": "a grid",
    "tpe": "TPE",
    "halving": "successive halving",
}


def write(result: SearchResult) -> Path:
    """Write ``report.html`` into the folder of a search; the file is complete or absent."""
    assert result.path is not None
    path = result.path / "report.html"
    write_atomically(path, render(result).encode("utf-8", "xmlcharrefreplace"))
    return path


def render(result: SearchResult) -> str:
    """The report of a search as one HTML document."""
    name = str((result.best.environment.get("data") or {}).get("name") or "search")
    found = importance(result.trials, result.space, result.metric)
    figures = [course(result.trials, result.metric)]
    if found is not None and found.fit >= TELLING:
        figures.append(importances(found))
    figures.append(parallel(result.trials, result.space, result.metric))
    body = join([*_sections(result, figures, _caveat(found))])
    opening = join(
        [
            element("p", "Hyperparameter search", class_="eyebrow"),
            element("h1", name, class_="long" if len(name) > 32 else None),
            element("p", " ".join(_summary(result)), class_="lead"),
            facts(_tiles(result), class_="tiles"),
        ]
    )
    style = (files("descend.experiments.search") / "page.css").read_text(encoding="utf-8")
    links = [
        element("li", element("a", title, href=f"#{key}"))
        for key, title in _SECTIONS.items()
        if f'<section id="{key}"' in body
    ]
    navigation = element("ul", links)
    return document(
        f"{name}, searched", navigation=navigation, opening=opening, body=body, figures=figures, style=style
    )


def _summary(result: SearchResult) -> Iterator[str]:
    trials, keys = len(result.trials), len(result.space)
    yield (
        f"{count(trials)} configurations of {count(keys)} key{'s' if keys != 1 else ''} were tried by "
        f"{_METHODS[result.method]}, all on the same split and with the same seed, and compared by "
        f"{metric(result.metric)} on the validation rows."
    )
    winner = result.winner
    yield f"Trial {winner.number + 1} was the best, with {score(result.metric, winner.score)}."
    test = result.best.metrics.get("test", {}).get(result.metric)
    if test is not None:
        yield (
            f"Trained anew, it has {score(result.metric, test)} on the test rows, which nothing else has "
            "touched. The validation value of the best of many is a little flattered; this one is not."
        )


def _tiles(result: SearchResult) -> list[tuple[str, Child]]:
    best = result.best.metrics
    measured = best.get("test", {}).get(result.metric)
    diverged = sum(trial.status == "diverged" for trial in result.trials)
    spent, most = result.budget
    lost = element("small", f" ({count(diverged)} diverged)") if diverged else None
    return [
        (
            f"Test {metric(result.metric)}",
            score(result.metric, measured) if measured is not None else None,
        ),
        (f"Validation {metric(result.metric)}", score(result.metric, result.winner.score)),
        ("Trials", [count(len(result.trials)), lost]),
        ("Epochs", [count(spent), element("small", f" (of {count(most)} at most)")]),
    ]


def _caveat(found: Importance | None) -> str | None:
    """Why there is no figure of importance."""
    if found is None:
        return f"Which keys mattered is not shown: that takes at least {FEWEST} trials."
    if found.fit < TELLING:
        return (
            "Which keys mattered is not shown: a forest that knows the values does not predict the rank of held-out "
            f"trials (R² {found.fit:.2f}). More trials would tell."
        )
    return None


def _sections(result: SearchResult, figures: list[Figure], caveat: str | None) -> Iterator[Html]:
    yield section(
        "search",
        "Search",
        element("div", [figure_box(each) for each in figures], class_="figures"),
        element("p", caveat, class_="note") if caveat else None,
    )
    yield section("trials", "Trials", _table(result))
    words = (
        "The winner's recipe with every choice filled in, as it was trained anew: the split and the seed of the "
        "search, to its own end. It is best/recipe.toml; best/report.html is the report of that run."
    )
    yield section(
        "winner",
        "Winner",
        facts([(key, value_text(value)) for key, value in result.winner.values.items()]),
        element("p", words),
        code("recipe-text", toml(result.best.recipe.to_toml()), "the winner's recipe"),
    )
    yield section("space", "Space", code("space-text", toml(result.space.to_toml()), "the space"))
    command = str(result.best.environment.get("command") or "")
    if command:
        yield section("reproduce", "Reproduce", code("command-text", command, "the command", wrap=True))


def _table(result: SearchResult) -> Html:
    """Every trial, the best first."""
    places = {"finished": 0, "dropped": 1, "diverged": 2}
    ranked = sorted(result.trials, key=lambda trial: (places[trial.status], trial.cost(result.metric)))
    head = ["trial", metric(result.metric), "loss", "epochs", "time", "state", *result.space.keys]
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
