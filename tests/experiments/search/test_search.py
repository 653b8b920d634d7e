"""Complete searches: comparison of trials, records, resuming after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.experiments.search.kill_search import ARGUMENTS, KILLED, RECIPE, SPACE

import descend
from descend.errors import Interrupted, RecipeError, RunError, TrainingError, UserError
from descend.experiments.search import Space, search
from descend.experiments.search.journal import Journal


def records(folder):
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def without_times(trials):
    return [{key: value for key, value in trial.to_json().items() if key != "seconds"} for trial in trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches") / "iris"
    return search("iris", RECIPE, out=folder, **ARGUMENTS)


class TestSearch:
    @pytest.mark.slow
    def test_the_winner_has_the_best_score(self, searched):
        assert [trial.number for trial in searched.trials] == list(range(9))
        assert searched.winner.score == max(trial.score for trial in searched.trials)
        tied = [trial for trial in searched.trials if trial.score == searched.winner.score]
        assert searched.winner.loss == min(trial.loss for trial in tied)

    def test_a_trial_equals_a_training_with_the_same_split_and_seed(self, searched):
        for trial in searched.trials[:2]:
            run = descend.train("iris", descend.Recipe(**RECIPE).replace(trial.values), seed=0)
            own = run.metrics["validation"]
            assert (own["accuracy"], own["loss"]) == (trial.score, trial.loss)

    def test_only_the_refitted_winner_is_measured_on_the_test_rows(self, searched):
        run = descend.load(searched.path / "best")
        assert run.metrics["validation"]["accuracy"] == searched.winner.score
        assert "test" in run.metrics
        assert run.environment["seed"] == 0
        assert "test" not in (searched.path / "trials.jsonl").read_text()

    def test_the_table(self, searched):
        table = searched.table()
        assert table.columns == [
            "number", "status", "score", "loss", "epochs", "seconds", "optimizer.lr", "model.hidden"
        ]  # fmt: skip
        assert len(table) == 9
        assert set(table["model.hidden"]) == {"[8]", "[16]"}

    def test_the_report_is_written(self, searched):
        page = (searched.path / "report.html").read_text(encoding="utf-8")
        assert "Random search tried 9 configurations of 2 keys" in page

    def test_the_budget(self, searched):
        assert searched.budget == (36, 36)

    def test_is_available_at_the_top(self):
        result = descend.search("iris", RECIPE, space={"optimizer.lr": [0.1]}, trials=1, method="grid")
        assert result.winner.values == {"optimizer.lr": 0.1}

    def test_separate_validation_and_test_data(self):
        X, y = descend.data.sources.read("iris").frame.to_numpy(), descend.data.sources.read("iris").targets
        result = search(
            (X[::2], y[::2]), RECIPE, space={"optimizer.lr": [0.1]}, trials=1, validation=(X[1::4], y[1::4]),
            test=(X[3::4], y[3::4]),
        )  # fmt: skip
        assert dict(result.best.schema.rows) == {"train": 75, "validation": 38, "test": 37}

    @pytest.mark.slow
    def test_halving_drops_the_worst_trials(self):
        result = search("iris", RECIPE, space=SPACE, trials=9, method="halving", engine="loop")
        states = [trial.status for trial in result.trials]
        assert states.count("finished") <= 3
        assert "dropped" in states
        assert sum(trial.epochs for trial in result.trials) == result.budget[0] == result.budget[1] < 36
        dropped = [trial for trial in result.trials if trial.status == "dropped"]
        assert all(trial.epochs == max(trial.rungs) for trial in dropped)
        assert result.winner.status == "finished"
        for rung in (1,):
            kept = [trial.rungs[rung] for trial in result.trials if trial.status == "finished"]
            lost = [trial.rungs[rung] for trial in dropped]
            assert min(one for one in kept if one is not None) >= max(one for one in lost if one is not None)
            assert None not in (*kept, *lost)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of searches that were killed, one of each method; the exit statuses and what was printed as an error."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.experiments.search.kill_search", str(folder)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    return folder, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", KILLED)
def test_a_killed_search_resumes_with_the_same_result(killed, method):
    if method == "tpe":
        pytest.importorskip("optuna")
    folder, statuses, errors = killed
    folder /= method
    after, arguments = KILLED[method]
    assert statuses[method] == -signal.SIGKILL, errors
    before = records(folder)
    assert len(before) == after
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"number": 99, "status": "fini')  # as left by a kill during a write
    uninterrupted = search("iris", RECIPE, method=method, **arguments)
    again = search("iris", RECIPE, out=folder, resume=True, method=method, **arguments)
    assert records(folder)[:after] == before  # recorded only once
    assert len(records(folder)) == arguments["trials"]
    assert without_times(again.trials) == without_times(uninterrupted.trials)
    assert again.best.metrics["test"] == uninterrupted.best.metrics["test"]


class TestResuming:
    def test_an_interrupt_explains_how_to_resume(self, tmp_path, monkeypatch):
        add = Journal.add

        def interrupt(journal, trial):
            add(journal, trial)
            if len(journal.trials) == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(Journal, "add", interrupt)
        with pytest.raises(
            Interrupted, match=r"stopped after 2 of 9 trials; continue with resume=True, out="
        ):
            search("iris", RECIPE, out=tmp_path / "stopped", **ARGUMENTS)
        assert len(records(tmp_path / "stopped")) == 2

    def test_a_finished_search_trains_nothing(self, searched):
        before = (searched.path / "trials.jsonl").read_bytes()
        again = search("iris", RECIPE, out=searched.path, resume=True, **ARGUMENTS)
        assert (searched.path / "trials.jsonl").read_bytes() == before
        assert again.best.metrics == searched.best.metrics

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"trials": 10}, "trials: was 9, now 10"),
            ({"seed": 1}, "seed: was 0, now 1"),
            ({"method": "grid"}, 'method: was "random", now "grid"'),
            ({"space": {**SPACE, "model.dropout": [0.1]}}, "space.model.dropout: was absent, now"),
            ({"space": {"optimizer.lr": {"log_uniform": [1e-3, 1.0]}}}, "space.model.hidden: was"),
        ],
    )
    def test_other_settings_are_refused(self, searched, change, message):
        with pytest.raises(RunError, match="was started with other settings") as caught:
            search("iris", RECIPE, out=searched.path, resume=True, **(ARGUMENTS | change))
        assert message in str(caught.value)

    def test_other_data_and_recipes_are_refused(self, searched):
        with pytest.raises(RunError, match="fingerprint") as caught:
            search("wine", {"stop": {"max_epochs": 3}}, out=searched.path, resume=True, **ARGUMENTS)
        assert "recipe: was" in str(caught.value)

    def test_folders(self, searched, tmp_path):
        with pytest.raises(RunError, match="another search"):
            search("iris", RECIPE, out=searched.path, **ARGUMENTS)
        with pytest.raises(RunError, match="nothing to resume"):
            search("iris", RECIPE, out=tmp_path, resume=True, **ARGUMENTS)
        (tmp_path / "mine").write_text("mine")
        with pytest.raises(RunError, match="not empty"):
            search("iris", RECIPE, out=tmp_path, **ARGUMENTS)

    def test_a_damaged_record(self, searched, tmp_path):
        import shutil

        shutil.copytree(searched.path, tmp_path / "copy")
        path = tmp_path / "copy" / "trials.jsonl"
        path.write_text("[]\n" + path.read_text())
        with pytest.raises(RunError, match="damaged in line 1"):
            search("iris", RECIPE, out=tmp_path / "copy", resume=True, **ARGUMENTS)


class TestErrors:
    def test_all_problems_at_once_before_anything_is_written(self, tmp_path):
        space = {
            "optimizer.lrr": {"uniform": [0.1, 0.2]},
            "optimizer.lr": {"uniform": [-1.0, 0.2]},
            "model.dropout": {"uniform": [0.0, 1.0]},
            "data.validation": {"uniform": [0.1, 0.2]},
            "engine.threads": [1, 2],
            "model.activation": ["relu", "rleu"],
        }
        with pytest.raises(RecipeError) as caught:
            search("iris", RECIPE, space=space, out=tmp_path / "none")
        message = str(caught.value)
        for expected in (
            "[optimizer] lrr: unknown key", "[optimizer] lr: expected a number above 0",
            "[model] dropout: expected a number >= 0 and below 1", "[data] validation: the rows",
            "[engine] threads: it does not affect what is learned", "did you mean 'relu'?",
        ):  # fmt: skip
            assert expected in message
        assert len(caught.value.problems) == 6
        assert not (tmp_path / "none").exists()

    def test_a_key_that_only_one_choice_takes_needs_a_condition(self):
        space = {"optimizer.name": ["sgd", "adam"], "optimizer.momentum": {"uniform": [0.1, 0.9]}}
        with pytest.raises(RecipeError, match="unknown key of 'adam'"):
            search("iris", RECIPE, space=space, trials=1)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"trials": 0}, "trials: expected an integer >= 1, got 0"),
            ({"method": "tpee"}, "did you mean 'tpe'"),
            ({"metric": "r2"}, "no metric 'r2' for multiclass"),
            ({"method": "grid", "trials": 1}, "smallest grid has 2 points"),
            ({"method": "halving", "space": {"stop.max_epochs": [3, 4]}}, "by the number of epochs"),
        ],
    )
    def test_invalid_arguments(self, change, message):
        with pytest.raises(UserError, match=message):
            search("iris", RECIPE, **(ARGUMENTS | change))

    def test_no_validation_rows(self):
        with pytest.raises(UserError, match="validation rows, but there are none"):
            search("iris", {**RECIPE, "data": {"validation": 0.0}}, **ARGUMENTS)


class TestDivergence:
    RECIPE = RECIPE | {"optimizer": {"name": "sgd"}}

    def test_a_diverged_trial_is_recorded_and_never_wins(self):
        result = search("iris", self.RECIPE, space={"optimizer.lr": [1e30, 0.1]}, trials=2, method="grid")
        assert [trial.status for trial in result.trials] == ["diverged", "finished"]
        assert result.trials[0].score is None
        assert "diverged" in result.trials[0].message
        assert result.winner.number == 1

    def test_all_trials_diverge(self):
        with pytest.raises(TrainingError) as caught:
            search("iris", self.RECIPE, space={"optimizer.lr": {"uniform": [1e30, 2e30]}}, trials=2)
        message = str(caught.value)
        assert "All 2 trials diverged" in message
        assert "diverged" in message
        assert "optimizer.lr" in message
        assert "clip_norm" in message


def test_the_default_space_does_not_vary_what_the_recipe_sets():
    result = search("iris", {**RECIPE, "optimizer": {"lr": 0.01}}, trials=2)
    assert isinstance(result.space, Space)
    assert "optimizer.lr" not in result.space.keys
    assert "model.dropout" in result.space.keys


@pytest.mark.parametrize(("threads", "measured"), [("auto", 1), (2, 0)])
def test_with_the_loop_engine_the_number_of_threads_is_not_measured_for_each_trial(
    monkeypatch, threads, measured
):
    """A measurement that comes out differently after an interruption would change the last digits; the winner's counts."""
    calls = []

    def choose(step, **arguments):
        calls.append(step)
        return 1, "chosen"

    monkeypatch.setattr("descend.runs.build.choose_threads", choose)
    recipe = {"stop": {"max_epochs": 1}, "engine": {"threads": threads}}
    search("iris", recipe, space={"optimizer.lr": {"uniform": [0.01, 0.02]}}, trials=3, engine="loop")
    assert len(calls) == measured
