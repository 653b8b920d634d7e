"""The report of a comparison: what it says, what it draws, and that it draws it in a browser."""

import math
import random
import re
from dataclasses import replace

import pytest

from descend.experiments.comparison.charts import curves, final_scores, rate_curves
from descend.experiments.comparison.formatting import findings
from descend.experiments.comparison.page import render
from descend.experiments.comparison.results import Comparison, Conditions, Outcome, pairwise, target_of
from descend.experiments.comparison.trials import Trial
from descend.experiments.comparison.variants import variants_of
from descend.recipe import Recipe

RATES = [0.001, 0.01, 0.1, 1.0]
HOW = Conditions(
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


def comparison(variants=2, lost=()):
    """Variants of which each is a little better than the one before; some diverged."""
    drawn = random.Random(0)
    made = variants_of(Recipe(), {"model.dropout": [place / 20 for place in range(variants)]})
    outcomes = []
    for place, variant in enumerate(made):
        top = 0.7 + 0.2 * place / variants
        failed = place in lost
        tuning = [trial(top - abs(math.log10(lr) + 2) / 10, 8, lr=lr, failed=failed) for lr in RATES]
        runs = [trial(top + drawn.gauss(0, 0.01), 8 + seed) for seed in range(5)]
        outcomes.append(
            Outcome(variant, None if failed else 0.01, not failed, tuning, [] if failed else runs, HOW)
        )
    goal = target_of(outcomes[0].runs, "accuracy")
    outcomes = [replace(outcome, target=goal) for outcome in outcomes]
    return Comparison(outcomes, pairwise(outcomes), HOW, goal, 12.3, {"command": "descend compare <x>"})


class TestFigures:
    def test_the_middle_line_is_the_median_over_seeds_and_a_stopped_run_keeps_its_value(self):
        first = comparison().outcomes[0]
        runs = [trial(0.6, 2), trial(0.9, 3), trial(0.8, 3)]
        found = curves([replace(first, runs=runs)], "accuracy", "x")
        band, line = found.data
        at = [run.history for run in runs]
        assert line["y"][0] == pytest.approx(at[2][0]["validation"]["accuracy"], rel=1e-4)
        assert line["y"][2] == pytest.approx(at[2][2]["validation"]["accuracy"], rel=1e-4)
        assert band["y"][2] == pytest.approx(
            at[0][1]["validation"]["accuracy"], rel=1e-4
        )  # the lowest, stopped
        assert band["y"][3] == pytest.approx(
            at[1][2]["validation"]["accuracy"], rel=1e-4
        )  # the highest, backwards

    def test_the_rate_that_was_chosen_has_a_ring_and_what_diverged_a_gap(self):
        first = comparison().outcomes[0]
        tuning = [*first.tuning[:3], trial(0.5, 3, lr=1.0, failed=True)]
        (line,) = rate_curves([replace(first, tuning=tuning)]).data
        assert line["x"] == RATES
        assert line["y"][3] is None
        assert line["marker"]["symbol"] == ["circle", "circle-open", "circle", "circle"]

    def test_scores_are_dots_and_their_interval_a_bar(self):
        first = comparison().outcomes[0]
        dots, mean = final_scores([first]).data
        assert dots["x"] == pytest.approx(first.known, rel=1e-4)
        assert mean["error_x"]["value"] == pytest.approx(first.interval[1] - first.mean)

    def test_there_are_none_of_nothing(self):
        lost = comparison(lost=(0, 1)).outcomes
        assert curves(lost, "accuracy", "x") is None
        assert final_scores(lost) is None

    def test_more_variants_than_colours_differ_in_their_lines(self):
        found = curves(comparison(14).outcomes, "loss", "x")
        lines = [(t["line"]["color"], t["line"]["dash"]) for t in found.data if "dash" in t["line"]]
        assert len(set(lines)) == 14


class TestThePage:
    def test_words_from_data_are_text(self):
        page = render(comparison())
        assert "<digits>" not in page
        assert "Comparison on &lt;digits&gt;" in page
        assert "descend compare &lt;x&gt;" in page

    def test_has_its_sections(self):
        page = render(comparison())
        found = re.findall(r'<section id="(\w+)"', page)
        assert found == ["results", "tests", "learning", "rates", "method", "reproduce"]

    def test_of_variants_that_diverged(self):
        page = render(comparison(3, lost=(1,)))
        assert "Diverged: dropout=0.05." in page
        assert "it diverged" in page

    def test_of_nothing_but_divergence(self):
        assert "there is nothing to compare" in render(comparison(lost=(0, 1)))


class TestFindings:
    def test_say_what_is_more_than_chance(self):
        words = findings(comparison())
        assert words.startswith("dropout=0.05 has the highest mean test accuracy, ")
        assert "The difference from dropout=0.0 is more than chance (Holm, 5 %)." in words

    def test_say_what_may_be_chance(self):
        made = comparison()
        same = [replace(outcome, runs=made.outcomes[0].runs) for outcome in made.outcomes]
        words = findings(replace(made, outcomes=same, tests=pairwise(same)))
        assert "cannot be told from any other" in words

    def test_say_when_nobody_reached_the_target(self):
        made = comparison()
        far = [replace(outcome, target=2.0) for outcome in made.outcomes]
        assert "No variant reached the target in more than half of its runs." in findings(
            replace(made, outcomes=far, target=2.0)
        )


@pytest.mark.browser
@pytest.mark.parametrize(("variants", "lost", "figures"), [(2, (), 4), (14, (3,), 4), (2, (0, 1), 1)])
def test_in_a_browser(browser, tmp_path, variants, lost, figures):
    path = tmp_path / "report.html"
    path.write_text(render(comparison(variants, lost)), encoding="utf-8")
    with browser.open(path, width=360, phone=True, dark=True) as page:
        assert page.value("document.querySelectorAll('.plot .cartesianlayer .subplot.xy').length") == figures
        assert page.value("document.documentElement.scrollWidth") <= 360
        page.view(1280)
        assert page.value("document.documentElement.scrollWidth") <= 1280
        assert page.console() == []
        assert page.requests() == []
