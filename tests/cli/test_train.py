import io
import json
import os
import shlex
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from descend.cli import main
from descend.cli.folders import new_folder
from descend.errors import CheckpointError
from descend.runs.run import load


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_units_of_the_loss_of_a_regression_are_stated(descend):
    """The target is standardized for training; errors are in its own units."""
    shown = descend("train", "diabetes", "--set", "stop.max_epochs=1", "--out", "run").out
    flat = " ".join(shown.split())
    assert "The loss is that of the standardized target; the other numbers are in the units of" in flat
    assert (
        "standardized target"
        not in descend("train", "iris", "--set", "stop.max_epochs=1", "--out", "iris").out
    )


def test_the_objective_is_explained_where_it_differs_from_the_loss(descend):
    """Classes are trained with label smoothing by default; the loss is measured without."""
    explained = "The objective is the loss with label smoothing, which early stopping monitors."
    one = ["--set", "stop.max_epochs=1"]
    shown = descend("train", "iris", *one, "--out", "smoothed").out
    assert explained in " ".join(shown.split())
    assert "The test loss is that of calibrated probabilities" in shown
    bare = ["--set", "model.calibration=none", "--set", "model.hidden=[3]"]
    assert "calibrated" not in descend("train", "iris", *one, *bare, "--out", "bare").out
    plain = descend("train", "iris", *one, "--set", "loss.label_smoothing=0", "--out", "plain").out
    assert "objective" not in plain
    balanced = ["--set", "data.class_weights=balanced", "--set", "stop.monitor=objective"]
    shown = descend("train", "wine", *one, *balanced, "--out", "balanced").out
    assert "The objective is the loss with label smoothing and class weights," in " ".join(shown.split())
    shown = descend(
        "train", "wine", *one, *balanced, "--set", "loss.label_smoothing=0", "--out", "weighted"
    ).out
    assert "The objective is the loss with class weights, which early stopping" in " ".join(shown.split())


def test_a_metric_by_name_is_monitored_and_shown(descend):
    shown = descend(
        "train", "iris", "--set", "stop.monitor=f1_macro", "--set", "stop.max_epochs=2", "--out", "run"
    ).out
    assert "F1" in shown
    wrong = descend("train", "iris", "--set", "stop.monitor=auc")
    assert wrong.status == 2
    assert "unknown metric 'auc' for multiclass; did you mean 'roc_auc'?" in wrong.err


class TestAnOrdinaryRun:
    def test_the_answer(self, trained, houses):
        folder, result = trained
        answer = result.json
        assert answer["run"] == str(folder)
        assert answer["report"] == str(folder / "report.html")
        assert (folder / "report.html").stat().st_size > 1000
        assert answer["task"] == "multiclass"
        assert set(answer["metrics"]) == {"train", "validation", "test"}
        for values in answer["metrics"].values():
            assert {"loss", "accuracy", "balanced_accuracy"} <= set(values)
        assert {"f1_macro", "roc_auc", "log_loss", "brier"} <= set(answer["metrics"]["test"])
        assert answer["metrics"] == {part: load(folder).metrics[part] for part in answer["metrics"]}
        assert (answer["epochs"], answer["stopped"], answer["seed"]) == (6, "max_epochs", 3)
        assert answer["steps"] == load(folder).history[-1]["step"]
        assert answer["seconds"] > 0
        assert 1 <= answer["best_epoch"] <= 6
        assert answer["data"]["rows"] == 240
        assert answer["recipe"]["stop"]["max_epochs"] == 6
        assert answer["recipe"]["data"]["target"] == "band"
        assert isinstance(answer["recipe"]["model"]["hidden"], list)

    @pytest.mark.slow
    def test_an_ensemble(self, descend):
        result = descend("train", "iris", "--set", "model.ensemble=2", "--set", "init.restarts=3", "--set",
                         "stop.max_epochs=2", "--set", "engine.threads=1", "--out", "run")  # fmt: skip
        assert result.status == 0, result.err
        assert "This is an ensemble of the 2 best of 3 networks." in " ".join(result.out.split())
        assert "for the best of 3 networks" in Path("run/report.html").read_text(encoding="utf-8")

    def test_what_people_see(self, trained, houses):
        folder, result = trained
        words = " ".join(result.err.split())
        assert "houses.csv: 240 rows, 3 columns" in words
        assert "size numeric" in words
        assert "city categorical 3 categories" in words
        assert "garden boolean" in words
        assert "multiclass classification of band, 3 classes: cheap, dear, very and fair" in words
        assert "the target has 3 distinct strings" in words
        assert "Rows: 144 training, 36 validation, 60 test." in words
        assert "optimizer adamw" in words
        assert "max epochs" not in words  # it was said, not chosen
        test = load(folder).metrics["test"]
        assert f"test {test['loss']:.4g}"[:8] in words
        assert f"{100 * test['accuracy']:.1f} %" in words
        assert "6 epochs" in words
        assert "the maximum number of epochs was reached" in words
        assert str(folder) in result.err
        assert str(folder / "report.html") in result.err

    def test_without_json_people_read_standard_output(self, descend, houses):
        result = descend("train", houses, "--target", "band", "--set", "stop.max_epochs=1")
        assert result.status == 0
        assert result.err == ""  # no terminal, no bar
        folder = result.out.split("Run     ")[1].split("\n")[0]
        assert folder.startswith("runs/houses-20")
        assert load(folder).metrics["epochs"] == 1

    @pytest.mark.slow
    def test_quiet_prints_the_folder_alone(self, descend, houses):
        result = descend("train", houses, "--target", "band", "--set", "stop.max_epochs=1", "--quiet")
        assert (result.status, result.err) == (0, "")
        assert load(result.out.strip()).metrics["epochs"] == 1

    @pytest.mark.slow
    def test_many_columns_are_summed_up(self, descend):
        result = descend("train", "digits", "--set", "stop.max_epochs=1", "--out", "run")
        assert "and 61 more" in result.out
        assert result.out.count("pixel_") <= 4

    def test_what_data_print_stays_out_of_the_answer(self, descend, tmp_path):
        (tmp_path / "mine.py").write_text(
            "import numpy as np\n"
            "def load():\n"
            "    print('loading')\n"
            "    x = np.random.default_rng(0).normal(size=(60, 3))\n"
            "    return x, x @ np.array([[1., 2.], [0., 1.], [1., 1.]])\n"
        )
        result = descend("train", "mine:load", "--set", "stop.max_epochs=1", "--json", "--quiet")
        assert result.status == 0, result.err
        assert result.json["task"] == "multi_regression"
        assert result.json["run"].startswith("runs/mine-load-")
        assert result.err == "loading\n"

    def test_given_validation_and_test_data(self, descend, houses):
        result = descend(
            "train", houses, "--target", "band", "--validation", houses, "--test", houses,
            "--set", "stop.max_epochs=1", "--set", "model.calibration=none", "--json",
        )  # fmt: skip
        assert "Rows: 240 training, 240 validation, 240 test." in result.err
        metrics = result.json["metrics"]
        assert metrics["test"] | {"objective": metrics["validation"]["objective"]} == pytest.approx(
            metrics["validation"]
        )

    def test_a_recipe_file_and_what_is_said_over_it(self, descend, houses, tmp_path):
        (tmp_path / "mine.toml").write_text('[optimizer]\nname = "sgd"\nlr = 0.5\n[stop]\nmax_epochs = 1\n')
        result = descend(
            "train", houses, "--target", "band", "--recipe", "mine.toml", "--json",
            "--set", "optimizer.lr=0.25",
        )  # fmt: skip
        assert result.json["recipe"]["optimizer"]["name"] == "sgd"
        assert result.json["recipe"]["optimizer"]["lr"] == 0.25
        assert result.json["epochs"] == 1

    @pytest.mark.slow
    def test_import_paths_are_the_users_own_when_typed_and_not_when_in_a_file(
        self, descend, houses, tmp_path
    ):
        (tmp_path / "mine.toml").write_text('[optimizer]\nname = "torch.optim:NAdam"\n')
        common = ["train", houses, "--target", "band", "--set", "stop.max_epochs=1", "--quiet"]
        refused = descend(*common, "--recipe", "mine.toml")
        assert refused.status == 2
        assert "--allow-imports" in refused.err
        assert descend(*common, "--recipe", "mine.toml", "--allow-imports").status == 0
        assert descend(*common, "--set", "optimizer.name=torch.optim:NAdam").status == 0

    @pytest.mark.slow
    def test_a_report_that_fails_does_not_hide_the_run(self, descend, houses, monkeypatch):
        def write(folder):
            raise RuntimeError("no ink")

        monkeypatch.setattr("descend.report.write", write)
        result = descend(
            "train", houses, "--target", "band", "--set", "stop.max_epochs=1", "--out", "run", "--json"
        )
        assert result.status == 0
        assert result.json["report"] is None
        assert "no ink" in result.err
        assert "descend report run" in result.err


class TestTheFolder:
    def test_two_of_one_second_differ(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folders = [new_folder("my data.csv") for _ in range(5)]
        assert len(set(folders)) == 5
        assert all(folder.name.startswith("my-data-20") for folder in folders)

    @pytest.mark.parametrize(
        ("name", "stem"), [("a.b:load", "a.b-load"), ("../x.parquet", "x"), ("été", "été"), ("***", "data")]
    )
    def test_any_name_becomes_a_folder(self, tmp_path, monkeypatch, name, stem):
        monkeypatch.chdir(tmp_path)
        assert new_folder(name).name.startswith(f"{stem}-20")

    def test_a_mistake_leaves_nothing(self, descend, houses, tmp_path):
        result = descend("train", houses, "--target", "band", "--set", "stop.monitor=r2")
        assert result.status == 2
        assert "r2" in result.err
        assert not list(tmp_path.rglob("*/*"))

    def test_another_run_is_not_touched(self, descend, trained, houses):
        folder, _ = trained
        before = files_of(folder)
        result = descend("train", houses, "--target", "band", "--out", folder)
        assert (result.status, result.out) == (2, "")
        assert "holds another run" in result.err
        assert "--resume" in result.err
        assert files_of(folder) == before

    def test_neither_is_anything_else(self, descend, houses, tmp_path):
        (tmp_path / "letters").mkdir()
        (tmp_path / "letters" / "dear.txt").write_text("dear")
        result = descend("train", houses, "--target", "band", "--out", "letters")
        assert result.status == 2
        assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["specify the data", "descend train digits"]),
        (["no_such.csv"], ["no such file", "no_such.csv"]),
        (["digit"], ["did you mean 'digits'?"]),
        (["{houses}"], ["--target", "'size', 'city', 'garden', 'band'"]),
        (["{houses}", "--target", "bnad"], ["'bnad'", "did you mean 'band'?"]),
        (
            ["{houses}", "--target", "band", "--set", "optimizer.lrr=1"],
            ["[optimizer] lrr", "did you mean 'lr'?"],
        ),
        (["{houses}", "--target", "band", "--set", "optimiser.lr=1"], ["did you mean 'optimizer.lr'?"]),
        (["{houses}", "--target", "band", "--set", "optimizer.name=adm"], ["did you mean 'adam'?"]),
        (
            ["{houses}", "--target", "band", "--set", "optimizer.lr=[1"],
            ["the value '[1' does not end with ']'"],
        ),
        (["{houses}", "--target", "band", "--set", "optimizer.lr"], ["section.key=value"]),
        (["{houses}", "--target", "band", "--set", "optimizer.lr=-1"], ["above 0", "-1"]),
        (
            [
                "{houses}",
                "--target",
                "band",
                "--set",
                "optimizer.betas=[0.9,0.9]",
                "--set",
                "optimizer.momentum=0.5",
            ],
            ["[optimizer]", "no optimizer takes all of betas, momentum"],
        ),
        (["{houses}", "--target", "band", "--recipe", "none.toml"], ["no such recipe file", "none.toml"]),
        (["{houses}", "--target", "band", "--device", "warp"], ["[engine] device", "'warp'"]),
        (["iris", "--resume"], ["--resume requires", "--out"]),
        (["iris", "--resume", "--out", "nowhere"], ["nothing to resume: no such run folder: nowhere"]),
        (["--resume", "--out", "nowhere"], ["nothing to resume: no such run folder: nowhere"]),
    ],
)
def test_mistakes_are_one_message_and_status_2(descend, houses, tmp_path, arguments, words):
    result = descend("train", *(each.format(houses=houses) for each in arguments), "--json")
    assert result.status == 2
    assert result.json["error"]["message"] in result.err
    assert result.err.startswith("Error: ")
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err
    assert not list(tmp_path.iterdir())


def test_all_problems_of_a_recipe_at_once(descend, houses):
    result = descend(
        "train", houses, "--target", "band", "--set", "optimizer.name=adm", "--set", "model.dropout=2",
        "--set", "stop.epochs=3",
    )  # fmt: skip
    assert result.err.startswith("Error: The recipe has 3 problems:")
    assert all(word in result.err for word in ("'adm'", "dropout", "epochs"))


class TestResuming:
    def test_a_finished_run_says_so_and_changes_nothing(self, descend, trained, houses):
        folder, first = trained
        before = files_of(folder)
        result = descend("train", houses, "--target", "band", "--resume", "--out", folder, "--json")
        assert result.status == 0
        assert "is finished; there is nothing left to train" in " ".join(result.err.split())
        assert result.json == first.json
        after = files_of(folder)
        assert {name for name in before if before[name] != after[name]} <= {"report.html"}

    def test_the_data_are_remembered(self, descend, trained):
        folder, first = trained
        assert descend("train", "--resume", "--out", folder, "--json").json == first.json

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--seed", "4"], ["--seed 3, not 4"]),
            (["--set", "optimizer.lr=0.5"], ["optimizer.lr: was", "now 0.5"]),
        ],
    )
    def test_a_changed_wish_is_refused(self, descend, trained, more, words):
        folder, _ = trained
        result = descend("train", "--resume", "--out", folder, *more)
        assert result.status == 2
        assert all(word in result.err for word in words)

    def test_changed_data_are_refused(self, descend, trained, tmp_path, houses):
        folder, _ = trained
        lines = houses.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "other.csv").write_text("".join(lines[:-1]), encoding="utf-8")
        result = descend("train", "other.csv", "--target", "band", "--resume", "--out", folder)
        assert result.status == 2
        assert "the data are not those of the run in" in result.err
        assert "239 rows, the run has 240" in result.err

    def test_a_function_named_by_a_folder_is_not_called(self, descend, tmp_path):
        (tmp_path / "foreign").mkdir()
        facts = {"data": {"reference": "os:getcwd"}}
        (tmp_path / "foreign" / "environment.json").write_text(json.dumps(facts))
        result = descend("train", "--resume", "--out", "foreign")
        assert result.status == 2
        assert "descend train os:getcwd --resume" in result.err

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"data": {}}'])
    def test_a_damaged_folder_is_named(self, descend, tmp_path, content):
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "environment.json").write_text(content)
        result = descend("train", "--resume", "--out", "foreign")
        assert result.status == 2
        assert "environment.json" in result.err

    @pytest.mark.slow
    def test_interrupted_and_continued_it_ends_as_if_never_stopped(self, descend, process, houses, tmp_path):
        """Ctrl-C, then SIGTERM, then to the end: the weights are those of a run that nobody stopped."""
        common = [
            "train", houses, "--target", "band", "--json",
            "--set", "stop.max_epochs=150", "--set", "stop.patience=none",
            "--set", "engine.threads=1", "--set", "model.dropout=0.3",
        ]  # fmt: skip
        history = tmp_path / "part" / "history.jsonl"

        def epochs():
            return history.read_text().count("\n") if history.exists() else 0

        def check(status, out, err):
            assert status == 130, err
            assert json.loads(out)["error"]["kind"] == "Interrupted"
            assert err.splitlines()[-1].startswith("Stopped in epoch ")
            assert f"--resume --out {tmp_path / 'part'}" in err
            assert "Traceback" not in err
            assert epochs() < 150

        child = process(*common, "--out", tmp_path / "part")
        while epochs() < 3:
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()
        check(child.returncode, out, err)

        refused = descend("predict", tmp_path / "part", houses)
        assert refused.status == 2
        assert "--resume" in refused.err

        before = epochs()

        def terminate():
            while epochs() < before + 3:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGTERM)

        watcher = threading.Thread(target=terminate)
        handler = signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # should it come too late, it does not end pytest
        try:
            watcher.start()
            second = descend("train", "--resume", "--out", tmp_path / "part", "--json")
            watcher.join()
        finally:
            signal.signal(signal.SIGTERM, handler)
        check(second.status, second.out, second.err)
        assert epochs() > before

        rest = descend("train", "--resume", "--out", tmp_path / "part", "--json")
        assert rest.status == 0, rest.err
        whole = descend(*common, "--out", tmp_path / "whole")
        assert rest.json["metrics"] == whole.json["metrics"]
        one, other = (load(tmp_path / name).model.state_dict() for name in ("whole", "part"))
        assert all(np.array_equal(one[name].numpy(), other[name].numpy()) for name in one)


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self):
        return True


class TestFailing:
    @pytest.mark.slow
    def test_divergence_is_status_3_with_advice(self, descend, houses):
        result = descend(
            "train", houses, "--target", "band", "--out", "run", "--json",
            "--set", "optimizer.name=sgd", "--set", "optimizer.lr=1e30",
        )  # fmt: skip
        assert result.status == 3
        assert result.json["error"]["kind"] == "DivergedError"
        assert "--set optimizer.lr=" in result.json["error"]["message"]

    @pytest.mark.parametrize("how", ["diverged", "interrupted", "failed"])
    def test_the_terminal_is_given_back(self, descend, houses, monkeypatch, how):
        """Each time the cursor was hidden it comes back, before the message."""
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("descend.training.observers.HistoryFile.epoch_ended", self.epoch_ended(how))
        terminal = Terminal()
        rate = "1e30" if how == "diverged" else "0.1"
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", terminal)
            arguments = ["train", str(houses), "--target", "band", "--out", "run"]
            status = main([*arguments, "--set", "optimizer.name=sgd", "--set", f"optimizer.lr={rate}"])
        shown = terminal.getvalue()
        assert status == {"diverged": 3, "interrupted": 130, "failed": 2}[how]
        assert "epoch 1" in shown
        assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") >= 2  # reading, training
        words = {"diverged": "Training diverged", "interrupted": "Stopped", "failed": "disk"}[how]
        assert words in shown[shown.rindex("\x1b[?25h") :]

    @staticmethod
    def epoch_ended(how):
        def write(self, training, record):
            if how == "interrupted":
                raise KeyboardInterrupt
            if how == "failed":
                raise CheckpointError("the disk is full")

        return write


@pytest.mark.slow
def test_the_advice_about_a_column_can_be_typed_as_it_stands(descend, tmp_path):
    """A column of numbers with mistakes is refused; each remedy that the message offers works, quotes and all."""
    drawn = np.random.default_rng(0)
    lines = [f"{drawn.normal():.3f},{at if at % 30 else 'n. n.'},{at % 2}\n" for at in range(120)]
    (tmp_path / "d.csv").write_text(
        'size,full "name" (m²),y\n'.replace('full "name" (m²)', '"full ""name"" (m²)"') + "".join(lines),
        encoding="utf-8",
    )
    arguments = ["train", "d.csv", "--target", "y", "--set", "stop.max_epochs=1", "--quiet"]
    refused = descend(*arguments)
    assert refused.status == 2
    words = shlex.split(refused.err.rpartition("correct them, ")[2].replace("), or", " "))
    remedies = [words[at + 1] for at, word in enumerate(words) if word in ("--set", "(--set")]
    assert len(remedies) == 2
    for remedy in remedies:
        assert descend(*arguments, "--set", remedy).status == 0
