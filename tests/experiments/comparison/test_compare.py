import importlib
import json

import numpy as np
import pytest
from sklearn.datasets import load_iris

from descend import compare, load, train
from descend.errors import Interrupted, RecipeError, RunError, UserError
from descend.experiments.comparison import compare as module_function
from descend.experiments.comparison.results import pairwise

SMALL = {"model": {"hidden": [8]}, "stop": {"max_epochs": 3}, "engine": {"threads": 1}}
VARY = {"optimizer.name": ["sgd", "adam"]}


class Phases:
    def __init__(self):
        self.phases, self.runs, self.trained = [], [], set()

    def phase(self, name, runs):
        self.phases.append((name, runs))

    def epoch_ended(self, number, record):
        self.trained.add((self.phases[-1][0], number))

    def finished(self, number, run):
        self.runs.append(run)


class Killer(Phases):
    """Ends everything in the second epoch of the third run of a phase."""

    def __init__(self, phase):
        super().__init__()
        self.of = phase

    def epoch_ended(self, number, record):
        if self.phases[-1][0] == self.of and number == 2 and record["epoch"] == 2:
            raise RuntimeError("killed")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    watcher = Phases()
    folder = tmp_path_factory.mktemp("comparison") / "one"
    made = compare("iris", VARY, recipe=SMALL, seeds=3, tune=3, seed=7, out=folder, watchers=[watcher])
    return made, watcher


class TestItIsFair:
    def test_every_variant_tunes_at_the_same_rates(self, found):
        made, watcher = found
        assert watcher.phases == [("tuning", 6), ("final runs", 6)]
        rates = [[trial.lr for trial in outcome.tuning] for outcome in made.outcomes]
        assert rates[0] == rates[1] == list(made.conditions.rates)
        assert {trial.seed for outcome in made.outcomes for trial in outcome.tuning} == {7}

    def test_the_rate_is_the_best_by_validation(self, found):
        made, _ = found
        for outcome in made.outcomes:
            best = max(value for _, value in outcome.curve)
            assert dict(outcome.curve)[outcome.lr] == best
            assert outcome.tuned

    def test_runs_that_tune_do_not_touch_the_test_rows(self, found):
        made, _ = found
        assert all("test" not in trial.metrics for outcome in made.outcomes for trial in outcome.tuning)
        assert all("test" in run.metrics for outcome in made.outcomes for run in outcome.runs)

    def test_final_runs_have_fresh_seeds(self, found):
        made, _ = found
        for outcome in made.outcomes:
            assert [run.seed for run in outcome.runs] == [8, 9, 10]
            assert {run.lr for run in outcome.runs} == {outcome.lr}

    def test_all_runs_have_the_rows_of_one_split(self, found):
        _, watcher = found
        assert len({run.schema.fingerprint for run in watcher.runs}) == 1
        # They are those that training with the comparison's seed has.
        own = train("iris", SMALL, seed=7)
        assert {tuple(run.schema.rows.items()) for run in watcher.runs} == {tuple(own.schema.rows.items())}
        assert all(
            [column.mean for column in run.schema.columns] == [column.mean for column in own.schema.columns]
            for run in watcher.runs
        )

    def test_the_target_is_the_baselines(self, found):
        made, _ = found
        bests = [
            max(record["validation"]["accuracy"] for record in run.history) for run in made.outcomes[0].runs
        ]
        assert made.target == np.median(bests)
        assert made.tests == pairwise(made.outcomes)


class TestWhatItLeaves:
    def test_a_folder(self, found):
        made, _ = found
        content = json.loads((made.path / "comparison.json").read_text())
        assert [variant["name"] for variant in content["variants"]] == ["sgd", "adam"]
        assert content["engine"] == made.engine != "none"
        assert content["seconds"] > 0
        assert content["conditions"]["seeds"] == [8, 9, 10]
        page = (made.path / "report.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert "Comparison on iris" in page

    def test_the_final_runs(self, found):
        made, _ = found
        for outcome in made.outcomes:
            for run, score in zip(outcome.runs, outcome.scores, strict=True):
                assert load(run.path).metrics["test"]["accuracy"] == score

    def test_no_folder_unless_asked(self):
        made = module_function("iris", VARY, recipe=SMALL, seeds=2, tune=0)
        assert made.path is None
        with pytest.raises(UserError, match="not saved"):
            made.report()

    def test_the_same_again(self, found):
        made, _ = found
        again = compare("iris", VARY, recipe=SMALL, seeds=3, tune=3, seed=7)
        assert [outcome.scores for outcome in again.outcomes] == [outcome.scores for outcome in made.outcomes]
        assert [outcome.lr for outcome in again.outcomes] == [outcome.lr for outcome in made.outcomes]


class TestDivergence:
    def test_of_one_variant_does_not_stop_the_others(self, tmp_path):
        recipe = {**SMALL, "optimizer": {"name": "sgd"}}
        made = compare("iris", {"optimizer.lr": [0.1, 1e30]}, recipe=recipe, seeds=2, out=tmp_path / "one")
        good, lost = made.outcomes
        assert not made.failed
        assert (good.failed, lost.failed) == (False, True)
        assert lost.scores == [None, None]
        assert made.tests[0].p is None
        assert "Diverged: lr=1e+30" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")

    def test_at_every_rate(self, tmp_path):
        recipe = {**SMALL, "optimizer": {"name": "sgd"}, "gradient": {}}
        made = compare(
            "iris", {"model.activation": ["relu", "tanh"]}, recipe=recipe, seeds=2, tune=2, rates=(1e29, 1e30),
            out=tmp_path / "one",
        )  # fmt: skip
        assert made.failed
        assert [len(outcome.runs) for outcome in made.outcomes] == [0, 0]
        assert made.target is None
        assert "nothing to compare" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")


class TestRates:
    def test_are_not_tuned_where_they_are_said(self):
        made = compare("iris", {"optimizer.lr": [0.1, 0.01]}, recipe=SMALL, seeds=2)
        assert [(outcome.lr, outcome.tuned, outcome.curve) for outcome in made.outcomes] == [
            (0.1, False, []),
            (0.01, False, []),
        ]

    def test_cannot_be_both_said_and_tuned(self):
        with pytest.raises(UserError, match="no rate to tune"):
            compare("iris", VARY, recipe={**SMALL, "optimizer": {"lr": 0.1}}, tune=4)

    def test_of_a_goal_of_ones_own(self):
        made = compare("iris", VARY, recipe=SMALL, seeds=2, tune=0, goal=2.0)
        assert made.target == 2.0
        assert [outcome.to_target for outcome in made.outcomes] == [None, None]


def test_restarts_and_ensembles_are_variants_like_any(tmp_path):
    made = compare("iris", {"model.ensemble": [1, 2]}, recipe=SMALL, seeds=2, tune=0, out=tmp_path / "one")
    assert [outcome.runs[0].networks for outcome in made.outcomes] == [1, 2]
    assert load(made.outcomes[1].runs[0].path).metrics["members"]["kept"] in ([0, 1], [1, 0])


def test_parts_that_are_given_are_used():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    train_rows, validation, test = np.split(rows, [90, 120])
    made = compare(
        (X[train_rows], y[train_rows]), VARY, recipe=SMALL, seeds=2, tune=2,
        validation=(X[validation], y[validation]), test=(X[test], y[test]),
    )  # fmt: skip
    assert made.conditions.rows == {"train": 90, "validation": 30, "test": 30}
    assert all(score * 30 == pytest.approx(round(score * 30)) for score in made.outcomes[0].scores)


def test_without_test_rows_the_validation_rows_are_judged_by():
    made = compare("diabetes", VARY, recipe={**SMALL, "data": {"test": 0.0}}, seeds=2, tune=0)
    assert (made.conditions.part, made.conditions.metric) == ("validation", "r2")
    assert made.outcomes[0].scores == [run.metrics["validation"]["r2"] for run in made.outcomes[0].runs]


def test_stopped_by_a_signal(monkeypatch):
    def stop(*_, **__):
        raise Interrupted("stopped in epoch 1 after 3 steps")

    monkeypatch.setattr(
        importlib.import_module("descend.experiments.comparison._compare"), "train_many", stop
    )
    with pytest.raises(Interrupted, match=r"^stopped during the tuning$"):
        compare("iris", VARY, recipe=SMALL)


ASKED = {"recipe": SMALL, "seeds": 2, "tune": 2, "seed": 7}


class TestResume:
    """One that was stopped goes on: to the same numbers, and no finished run is trained again."""

    @pytest.mark.parametrize("phase", ["tuning", "final runs"])
    @pytest.mark.parametrize("engine", ["loop", "packed"])
    def test_to_the_same_numbers(self, phase, engine, tmp_path):
        whole = compare("iris", VARY, **ASKED, engine=engine)
        with pytest.raises(RuntimeError, match="killed"):
            compare("iris", VARY, **ASKED, engine=engine, out=tmp_path / "one", watchers=[Killer(phase)])
        watcher = Phases()
        again = {**ASKED, "out": tmp_path / "one", "resume": True}
        found = compare("iris", VARY, **again, engine=engine, watchers=[watcher])
        assert [outcome.lr for outcome in found.outcomes] == [outcome.lr for outcome in whole.outcomes]
        assert [outcome.scores for outcome in found.outcomes] == [
            outcome.scores for outcome in whole.outcomes
        ]
        for mine, theirs in zip(found.outcomes, whole.outcomes, strict=True):
            assert mine.curve == theirs.curve
            for one, other in zip(mine.runs, theirs.runs, strict=True):
                losses = [[record["train"]["loss"] for record in trial.history] for trial in (one, other)]
                assert losses[0] == losses[1]
        assert ("tuning", 0) not in watcher.trained
        assert (phase, 0) not in watcher.trained
        assert (phase, 2) in watcher.trained
        assert not (tmp_path / "one" / "tuning").exists()
        assert (tmp_path / "one" / "report.html").exists()
        with pytest.raises(RunError, match="the comparison is done"):
            compare("iris", VARY, **again, engine=engine)

    def test_what_was_asked_must_be_asked_again(self, tmp_path):
        with pytest.raises(RuntimeError, match="killed"):
            compare("iris", VARY, **ASKED, out=tmp_path / "one", watchers=[Killer("tuning")])
        again = {**ASKED, "out": tmp_path / "one", "resume": True}
        with pytest.raises(RunError, match=r"seeds: was 2, now 3"):
            compare("iris", VARY, **again | {"seeds": 3})
        with pytest.raises(RunError, match=r"variants\.rmsprop: was not there"):
            compare("iris", {"optimizer.name": ["sgd", "adam", "rmsprop"]}, **again)
        with pytest.raises(RunError, match="holds no comparison"):
            compare("iris", VARY, **again | {"out": tmp_path / "other"})
        with pytest.raises(UserError, match="give out"):
            compare("iris", VARY, **again | {"out": None})


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"seeds": 1}, "two seeds"),
            ({"seeds": 0, "tests": False}, "1 or more"),
            ({"tune": -1}, "0 or more"),
            ({"rates": (1.0, 0.1)}, "ascending"),
            ({"level": 95}, "between 0 and 1"),
            ({"metric": "acuracy"}, "did you mean 'accuracy'"),
            ({"vary": {"data.validation": [0.1, 0.2]}}, "same rows"),
            ({"recipe": {"data": {"validation": 0.0}}}, "no validation rows"),
        ],
    )
    def test_are_told_before_anything_is_trained(self, arguments, words, tmp_path):
        given = {"vary": VARY, "recipe": SMALL, **arguments}
        with pytest.raises(UserError, match=words):
            compare("iris", given.pop("vary"), out=tmp_path / "one", **given)
        assert not (tmp_path / "one").exists()

    def test_losses_of_different_kinds(self):
        with pytest.raises(UserError, match="judge by a metric: r2"):
            compare("diabetes", {"loss.name": ["mse", "l1"]}, recipe=SMALL, metric="loss")

    def test_problems_with_the_data_of_all_variants(self):
        with pytest.raises(RecipeError) as caught:
            compare("iris", {"loss.name": ["mse", "l1"], "model.dropout": [0.0, 0.1]}, recipe=SMALL)
        assert len(caught.value.problems) == 4

    def test_one_seed_without_tests(self):
        made = compare("iris", VARY, recipe=SMALL, seeds=1, tune=0, tests=False)
        assert made.tests == []
        assert made.outcomes[0].interval is None
