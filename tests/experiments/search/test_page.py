"""The HTML report of a search, as text and in a browser."""

from __future__ import annotations

import re

import pytest
from tests.support import chromium

from descend.experiments.search import Trial, search
from descend.experiments.search.figures import best_so_far, parallel_coordinates
from descend.experiments.search.page import render, write
from descend.report.marks import Line

RECIPE = {
    "stop": {"max_epochs": 3},
    "engine": {"threads": 1},
    "optimizer": {"name": "sgd"},
}
SPACE = {
    "optimizer.lr": [1e-5, 0.01, 0.1, 0.3, 1e30],
    "model.activation": ["relu", "tanh"],
    "optimizer.momentum": {"uniform": [0.5, 0.9], "levels": 2, "when": {"optimizer.lr": [0.1]}},
}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "iris"
    return search("iris", RECIPE, space=SPACE, trials=20, method="grid", out=folder, engine="loop")


@pytest.mark.slow
def test_numbers(result):
    page = render(result)
    assert len(result.trials) == 12
    assert "Grid search tried 12 configurations of 3 keys" in page
    assert f"Trial {result.winner.number + 1} was the best" in page
    assert page.count("<td>diverged</td>") == 2
    assert page.count('<th scope="row">') >= 12
    assert "http" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL).replace(
        "http-equiv", ""
    ).replace("http://www.w3.org/2000/svg", "")


@pytest.mark.slow
def test_best_so_far_is_monotonic(result):
    line, dots = best_so_far(result.trials, result.metric).marks
    assert line.y == sorted(line.y)
    assert line.y[-1] == result.winner.score
    assert len(dots.x) == len(dots.texts) == 10  # two diverged


def test_parallel_coordinates_show_each_trial_once(result):
    lines = [
        mark
        for mark in parallel_coordinates(result.trials, result.space, result.metric).marks
        if isinstance(mark, Line)
    ]
    assert len(lines) == len(result.trials)
    assert sum(line.color == "validation" for line in lines) == 1
    assert sum(line.dash == "dot" for line in lines) == 2
    gaps = [line.y[2] is None for line in lines]  # momentum is active at one learning rate only
    assert sum(gaps) == sum("optimizer.momentum" not in trial.values for trial in result.trials)
    assert lines[-1].color == "validation"
    assert lines[-1].y[-1] == 1.0


def test_only_the_best_of_many_trials_are_drawn(result):
    trials = [Trial(n, result.trials[0].values, "finished", n / 300) for n in range(300)]
    figure = parallel_coordinates(trials, result.space, "accuracy")
    assert sum(isinstance(mark, Line) for mark in figure.marks) == 200
    assert "best 200 of 300" in figure.note


@pytest.mark.slow
def test_text_from_the_data_is_escaped(result):
    import dataclasses

    trials = tuple(
        dataclasses.replace(trial, values={**trial.values, "model.activation": "tanh"})
        for trial in result.trials
    )
    best = result.best
    best.environment["data"]["name"], original = "<script>alert(1)</script>", best.environment["data"]["name"]
    try:
        page = render(dataclasses.replace(result, trials=trials))
    finally:
        best.environment["data"]["name"] = original
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(("width", "phone", "dark"), [(1200, False, False), (360, True, True)])
def test_in_a_browser(result, width, phone, dark):
    program = chromium.find()
    if program is None:
        pytest.skip("chromium is not installed")
    path = write(result)
    with (
        chromium.running(program) as browser,
        browser.open(path, width=width, phone=phone, dark=dark) as page,
    ):
        plots = page.value("document.querySelectorAll('.plot').length")
        assert plots >= 2
        assert page.value("document.querySelectorAll('.plot > svg[role=img]').length") == plots
        assert page.value("document.documentElement.scrollWidth <= innerWidth")
        assert page.console() == []
        assert page.requests() == []
