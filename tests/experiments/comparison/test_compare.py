import importlib
import json

import numpy as np
import pytest
from sklearn.datasets import load_iris

from descend import compare, load, train
from descend.errors import Interrupted, RecipeError, RunError, UserError
from descend.experiments.comparison.results import pairwise_tests

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
    """Raises an exception in the second epoch of the third run of a phase."""

    def __init__(self, phase):
        super().__init__()
        self.target_phase = phase

    def epoch_ended(self, number, record):
        if self.phases[-1][0] == self.target_phase and number == 2 and record["epoch"] == 2:
            raise RuntimeError("killed")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    watcher = Phases()
    folder = tmp_path_factory.mktemp("comparison") / "one"
    comparison = compare("iris", VARY, recipe=SMALL, seeds=3, tune=3, seed=7, out=folder, watchers=[watcher])
    return comparison, watcher


class TestFairness:
    @pytest.mark.slow
    def test_all_variants_try_the_same_learning_rates(self, compared):
        comparison, watcher = compared
        assert watcher.phases == [("tuning", 6), ("final runs", 6)]
        rates = [[trial.lr for trial in outcome.tuning] for outcome in comparison.outcomes]
        assert rates[0] == rates[1] == list(comparison.conditions.rates)
        assert {trial.seed for outcome in comparison.outcomes for trial in outcome.tuning} == {7}

    def test_the_best_learning_rate_by_validation_score_is_selected(self, compared):
        comparison, _ = compared
        for outcome in comparison.outcomes:
            best = max(value for _, value in outcome.curve)
            assert dict(outcome.curve)[outcome.lr] == best
            assert outcome.tuned

    def test_tuning_runs_do_not_use_the_test_rows(self, compared):
        comparison, _ = compared
        assert all("test" not in trial.metrics for outcome in comparison.outcomes for trial in outcome.tuning)
        assert all("test" in run.metrics for outcome in comparison.outcomes for run in outcome.runs)

    def test_final_runs_have_fresh_seeds(self, compared):
        comparison, _ = compared
        for outcome in comparison.outcomes:
            assert [run.seed for run in outcome.runs] == [8, 9, 10]
            assert {run.lr for run in outcome.runs} == {outcome.lr}

    def test_all_runs_share_one_split(self, compared):
        _, watcher = compared
        assert len({run.schema.fingerprint for run in watcher.runs}) == 1
        # It is the split of a single training with the comparison's seed.
        own = train("iris", SMALL, seed=7)
        assert {tuple(run.schema.rows.items()) for run in watcher.runs} == {tuple(own.schema.rows.items())}
        assert all(
            [column.mean for column in run.schema.columns] == [column.mean for column in own.schema.columns]
            for run in watcher.runs
        )

    def test_the_target_is_that_of_the_baseline(self, compared):
        comparison, _ = compared
        bests = [
            max(record["validation"]["accuracy"] for record in run.history)
            for run in comparison.outcomes[0].runs
        ]
        assert comparison.target == np.median(bests)
        assert comparison.tests == pairwise_tests(comparison.outcomes)


class TestFolder:
    def test_results_and_report(self, compared):
        comparison, _ = compared
        content = json.loads((comparison.path / "comparison.json").read_text())
        assert [variant["name"] for variant in content["variants"]] == ["sgd", "adam"]
        assert content["engine"] == comparison.engine != "none"
        assert content["seconds"] > 0
        assert content["conditions"]["seeds"] == [8, 9, 10]
        page = (comparison.path / "report.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert "Comparison on iris" in page

    def test_the_final_runs(self, compared):
        comparison, _ = compared
        for outcome in comparison.outcomes:
            for run, score in zip(outcome.runs, outcome.scores, strict=True):
                assert load(run.path).metrics["test"]["accuracy"] == score

    def test_nothing_is_saved_without_a_folder(self):
        comparison = compare("iris", VARY, recipe=SMALL, seeds=2, tune=0)
        assert comparison.path is None
        with pytest.raises(UserError, match="not saved"):
            comparison.report()

    def test_the_result_is_reproducible(self, compared):
        comparison, _ = compared
        again = compare("iris", VARY, recipe=SMALL, seeds=3, tune=3, seed=7)
        assert [outcome.scores for outcome in again.outcomes] == [
            outcome.scores for outcome in comparison.outcomes
        ]
        assert [outcome.lr for outcome in again.outcomes] == [outcome.lr for outcome in comparison.outcomes]


class TestDivergence:
    def test_one_variant_diverges(self, tmp_path):
        recipe = {**SMALL, "optimizer": {"name": "sgd"}}
        comparison = compare(
            "iris", {"optimizer.lr": [0.1, 1e30]}, recipe=recipe, seeds=2, out=tmp_path / "one"
        )
        good, diverged = comparison.outcomes
        assert not comparison.failed
        assert (good.failed, diverged.failed) == (False, True)
        assert diverged.scores == [None, None]
        assert comparison.tests[0].p is None
        assert "Diverged: lr=1e+30" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")

    def test_every_learning_rate_diverges(self, tmp_path):
        recipe = {**SMALL, "optimizer": {"name": "sgd"}, "gradient": {}}
        comparison = compare(
            "iris", {"model.activation": ["relu", "tanh"]}, recipe=recipe, seeds=2, tune=2, rates=(1e29, 1e30),
            out=tmp_path / "one",
        )  # fmt: skip
        assert comparison.failed
        assert [len(outcome.runs) for outcome in comparison.outcomes] == [0, 0]
        assert comparison.target is None
        assert "nothing to compare" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")


class TestLearningRates:
    def test_are_not_tuned_if_set(self):
        comparison = compare("iris", {"optimizer.lr": [0.1, 0.01]}, recipe=SMALL, seeds=2)
        assert [(outcome.lr, outcome.tuned, outcome.curve) for outcome in comparison.outcomes] == [
            (0.1, False, []),
            (0.01, False, []),
        ]

    def test_cannot_be_both_set_and_tuned(self):
        with pytest.raises(UserError, match="no learning rate to tune"):
            compare("iris", VARY, recipe={**SMALL, "optimizer": {"lr": 0.1}}, tune=4)

    def test_explicit_goal(self):
        comparison = compare("iris", VARY, recipe=SMALL, seeds=2, tune=0, goal=2.0)
        assert comparison.target == 2.0
        assert [outcome.to_target for outcome in comparison.outcomes] == [None, None]


def test_restarts_and_ensembles_can_be_varied(tmp_path):
    comparison = compare(
        "iris", {"model.ensemble": [1, 2]}, recipe=SMALL, seeds=2, tune=0, out=tmp_path / "one"
    )
    assert [outcome.runs[0].networks for outcome in comparison.outcomes] == [1, 2]
    assert load(comparison.outcomes[1].runs[0].path).metrics["members"]["kept"] in ([0, 1], [1, 0])


def test_separate_validation_and_test_data():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    train_rows, validation, test = np.split(rows, [90, 120])
    comparison = compare(
        (X[train_rows], y[train_rows]), VARY, recipe=SMALL, seeds=2, tune=2,
        validation=(X[validation], y[validation]), test=(X[test], y[test]),
    )  # fmt: skip
    assert comparison.conditions.rows == {"train": 90, "validation": 30, "test": 30}
    assert all(score * 30 == pytest.approx(round(score * 30)) for score in comparison.outcomes[0].scores)


def test_without_test_rows_the_validation_score_is_compared():
    comparison = compare("diabetes", VARY, recipe={**SMALL, "data": {"test": 0.0}}, seeds=2, tune=0)
    assert (comparison.conditions.part, comparison.conditions.metric) == ("validation", "r2")
    assert comparison.outcomes[0].scores == [
        run.metrics["validation"]["r2"] for run in comparison.outcomes[0].runs
    ]


def test_interruption(monkeypatch):
    def stop(*_, **__):
        raise Interrupted("stopped in epoch 1 after 3 steps")

    monkeypatch.setattr(
        importlib.import_module("descend.experiments.comparison._compare"), "train_many", stop
    )
    with pytest.raises(Interrupted, match=r"^stopped during the tuning$"):
        compare("iris", VARY, recipe=SMALL)


ARGUMENTS = {"recipe": SMALL, "seeds": 2, "tune": 2, "seed": 7}


class TestResume:
    """A resumed comparison has the same results as an uninterrupted one, and trains no finished run again."""

    @pytest.mark.slow
    @pytest.mark.parametrize("phase", ["tuning", "final runs"])
    @pytest.mark.parametrize("engine", ["loop", "packed"])
    def test_resumes_to_the_same_results(self, phase, engine, tmp_path):
        uninterrupted = compare("iris", VARY, **ARGUMENTS, engine=engine)
        with pytest.raises(RuntimeError, match="killed"):
            compare("iris", VARY, **ARGUMENTS, engine=engine, out=tmp_path / "one", watchers=[Killer(phase)])
        watcher = Phases()
        again = {**ARGUMENTS, "out": tmp_path / "one", "resume": True}
        resumed = compare("iris", VARY, **again, engine=engine, watchers=[watcher])
        assert [outcome.lr for outcome in resumed.outcomes] == [
            outcome.lr for outcome in uninterrupted.outcomes
        ]
        assert [outcome.scores for outcome in resumed.outcomes] == [
            outcome.scores for outcome in uninterrupted.outcomes
        ]
        for mine, theirs in zip(resumed.outcomes, uninterrupted.outcomes, strict=True):
            assert mine.curve == theirs.curve
            for one, other in zip(mine.runs, theirs.runs, strict=True):
                losses = [[record["train"]["loss"] for record in trial.history] for trial in (one, other)]
                assert losses[0] == losses[1]
        assert ("tuning", 0) not in watcher.trained
        assert (phase, 0) not in watcher.trained
        assert (phase, 2) in watcher.trained
        assert not (tmp_path / "one" / "tuning").exists()
        assert (tmp_path / "one" / "report.html").exists()
        with pytest.raises(RunError, match="the comparison is finished"):
            compare("iris", VARY, **again, engine=engine)

    def test_other_settings_are_refused(self, tmp_path):
        with pytest.raises(RuntimeError, match="killed"):
            compare("iris", VARY, **ARGUMENTS, out=tmp_path / "one", watchers=[Killer("tuning")])
        again = {**ARGUMENTS, "out": tmp_path / "one", "resume": True}
        with pytest.raises(RunError, match=r"seeds: was 2, now 3"):
            compare("iris", VARY, **again | {"seeds": 3})
        with pytest.raises(RunError, match=r"variants\.rmsprop: was absent"):
            compare("iris", {"optimizer.name": ["sgd", "adam", "rmsprop"]}, **again)
        with pytest.raises(RunError, match="contains no comparison"):
            compare("iris", VARY, **again | {"out": tmp_path / "other"})
        with pytest.raises(UserError, match="resume=True requires out"):
            compare("iris", VARY, **again | {"out": None})


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"seeds": 1}, "two seeds"),
            ({"seeds": 0, "tests": False}, "seeds: expected an integer >= 1, got 0"),
            ({"tune": -1}, "tune: expected an integer >= 0, got -1"),
            ({"rates": (1.0, 0.1)}, "two ascending numbers"),
            ({"level": 95}, "between 0 and 1"),
            ({"metric": "acuracy"}, "did you mean 'accuracy'"),
            ({"vary": {"data.validation": [0.1, 0.2]}}, "same rows"),
            ({"recipe": {"data": {"validation": 0.0}}}, "no validation rows"),
        ],
    )
    def test_are_reported_before_anything_is_trained(self, arguments, message, tmp_path):
        all_arguments = {"vary": VARY, "recipe": SMALL, **arguments}
        with pytest.raises(UserError, match=message):
            compare("iris", all_arguments.pop("vary"), out=tmp_path / "one", **all_arguments)
        assert not (tmp_path / "one").exists()

    def test_different_losses_cannot_be_compared(self):
        with pytest.raises(UserError, match="compare by a metric: r2"):
            compare("diabetes", {"loss.name": ["mse", "l1"]}, recipe=SMALL, metric="loss")

    def test_problems_of_all_variants_at_once(self):
        with pytest.raises(RecipeError) as caught:
            compare("iris", {"loss.name": ["mse", "l1"], "model.dropout": [0.0, 0.1]}, recipe=SMALL)
        assert len(caught.value.problems) == 4

    def test_one_seed_without_tests(self):
        comparison = compare("iris", VARY, recipe=SMALL, seeds=1, tune=0, tests=False)
        assert comparison.tests == []
        assert comparison.outcomes[0].interval is None
