"""The HTML report of a comparison: text, figures, and rendering in a browser."""

import math
import random
import re
from dataclasses import replace

import pytest

from descend.experiments.comparison import Comparison
from descend.experiments.comparison.charts import final_scores, learning_curves, lr_curves
from descend.experiments.comparison.outcome import Conditions, Outcome, median_best_score
from descend.experiments.comparison.page import render
from descend.experiments.comparison.results import pairwise_tests
from descend.experiments.comparison.summary import summarize
from descend.experiments.comparison.trials import Trial
from descend.experiments.comparison.variants import variants_of
from descend.recipe import Recipe
from descend.report.marks import Line

RATES = [0.001, 0.01, 0.1, 1.0]
CONDITIONS = Conditions(
    "<digits>", "multiclass", "accuracy", "test", {"train": 60, "validation": 20, "test": 20}, 0, range(1, 6),
    RATES, (1e-4, 1.0), 0.95, True,
)  # fmt: skip


def trial(top, epochs, *, lr=0.1, failed=False):
    values = [top * (1 - math.exp(-epoch / 3)) for epoch in range(1, epochs + 1)]
    history = [
        {"epoch": at, "step": 10 * at, "seconds": 0.1 * at, "validation": {"accuracy": one, "loss": 1 - one}}
        for at, one in enumerate(values, start=1)
    ]
    last = {"accuracy": values[-1], "loss": 1 - values[-1]}
    parts = {} if failed else {"validation": last, "test": last}
    return Trial(1, lr, failed, "it diverged" if failed else "", parts, history)


def comparison(variants=2, failed=()):
    """Variants of which each is slightly better than the one before; those in ``failed`` diverged."""
    rng = random.Random(0)
    all_variants = variants_of(Recipe(), {"model.dropout": [place / 20 for place in range(variants)]})
    outcomes = []
    for place, variant in enumerate(all_variants):
        top = 0.7 + 0.2 * place / variants
        diverged = place in failed
        tuning = [trial(top - abs(math.log10(lr) + 2) / 10, 8, lr=lr, failed=diverged) for lr in RATES]
        runs = [trial(top + rng.gauss(0, 0.01), 8 + seed) for seed in range(5)]
        outcomes.append(
            Outcome(
                variant,
                None if diverged else 0.01,
                not diverged,
                tuning,
                [] if diverged else runs,
                CONDITIONS,
            )
        )
    goal = median_best_score(outcomes[0].runs, "accuracy")
    outcomes = [replace(outcome, target=goal) for outcome in outcomes]
    return Comparison(
        outcomes, pairwise_tests(outcomes), CONDITIONS, goal, 12.3, {"command": "descend compare <x>"}
    )


class TestFigures:
    def test_learning_curves_show_the_median_and_stopped_runs_keep_their_value(self):
        first = comparison().outcomes[0]
        runs = [trial(0.6, 2), trial(0.9, 3), trial(0.8, 3)]
        figure = learning_curves([replace(first, runs=runs)], "accuracy", "x")
        band, line = figure.marks
        at = [run.history for run in runs]
        assert line.y[0] == pytest.approx(at[2][0]["validation"]["accuracy"], rel=1e-4)
        assert line.y[2] == pytest.approx(at[2][2]["validation"]["accuracy"], rel=1e-4)
        assert band.y[2] == pytest.approx(at[0][1]["validation"]["accuracy"], rel=1e-4)  # the lowest, stopped
        assert band.y[3] == pytest.approx(
            at[1][2]["validation"]["accuracy"], rel=1e-4
        )  # the highest, backwards

    def test_the_selected_learning_rate_has_a_ring_and_diverged_runs_a_gap(self):
        first = comparison().outcomes[0]
        tuning = [*first.tuning[:3], trial(0.5, 3, lr=1.0, failed=True)]
        line, dots, ring = lr_curves([replace(first, tuning=tuning)]).marks
        assert line.x == dots.x == RATES
        assert line.y[3] is None
        assert (ring.x, ring.y, ring.look) == ([0.01], [line.y[1]], "ring")

    def test_final_scores_have_dots_and_an_interval(self):
        first = comparison().outcomes[0]
        dots, mean = final_scores([first]).marks
        assert list(dots.x) == first.valid_scores
        assert (mean.low, mean.high) == first.interval
        assert mean.center == first.mean

    def test_no_figures_if_all_runs_failed(self):
        failed = comparison(failed=(0, 1)).outcomes
        assert learning_curves(failed, "accuracy", "x") is None
        assert final_scores(failed) is None

    def test_more_variants_than_colors_differ_in_their_dashes(self):
        figure = learning_curves(comparison(14).outcomes, "loss", "x")
        lines = [(mark.color, mark.dash) for mark in figure.marks if isinstance(mark, Line)]
        assert len(set(lines)) == 14


class TestPage:
    def test_text_from_data_is_escaped(self):
        page = render(comparison())
        assert "<digits>" not in page
        assert "Comparison on &lt;digits&gt;" in page
        assert "descend compare &lt;x&gt;" in page

    def test_has_its_sections(self):
        page = render(comparison())
        sections = re.findall(r'<section id="(\w+)"', page)
        assert sections == ["results", "tests", "learning", "rates", "method", "reproduce"]

    def test_some_variants_diverged(self):
        page = render(comparison(3, failed=(1,)))
        assert "Diverged: dropout=0.05." in page
        assert "it diverged" in page

    def test_all_variants_diverged(self):
        assert "there is nothing to compare" in render(comparison(failed=(0, 1)))


class TestSummary:
    def test_significant_difference(self):
        text = summarize(comparison()).replace("\N{NO-BREAK SPACE}", " ")
        assert text.startswith("dropout=0.05 has the highest mean test accuracy, ")
        assert "The difference from dropout=0.0 is significant (Holm, 5 %)." in text

    def test_difference_that_is_not_significant(self):
        results = comparison()
        same = [replace(outcome, runs=results.outcomes[0].runs) for outcome in results.outcomes]
        text = summarize(replace(results, outcomes=same, tests=pairwise_tests(same)))
        assert "its difference from the other variants is not significant" in text

    def test_target_not_reached(self):
        results = comparison()
        far = [replace(outcome, target=2.0) for outcome in results.outcomes]
        assert "No variant reached the target in more than half of its runs." in summarize(
            replace(results, outcomes=far, target=2.0)
        )


@pytest.mark.browser
@pytest.mark.parametrize(("variants", "failed", "figures"), [(2, (), 4), (14, (3,), 4), (2, (0, 1), 1)])
def test_in_a_browser(browser, tmp_path, variants, failed, figures):
    path = tmp_path / "report.html"
    path.write_text(render(comparison(variants, failed)), encoding="utf-8")
    with browser.open(path, width=360, phone=True, dark=True) as page:
        assert page.value("document.querySelectorAll('.plot > svg[role=img]').length") == figures
        assert page.value("document.documentElement.scrollWidth") <= 360
        page.view(1280)
        assert page.value("document.documentElement.scrollWidth") <= 1280
        assert page.console() == []
        assert page.requests() == []
