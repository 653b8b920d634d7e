"""Stopped runs are finished with their best weights so far; data may be left out; progress is shown on request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.stop_at import StopAt

import descend
from descend.errors import DivergedError, Interrupted, RunError, UserError

RECIPE: dict[str, Any] = {
    "model": {"hidden": [6]},
    "stop": {"max_epochs": 6, "patience": None, "min_improvement": 0.0},
    "engine": {"threads": 1, "device": "cpu"},
}
ROW = [[5.1, 3.5, 1.4, 0.2]]


def stopped(folder: Path, step: int = 10, recipe: dict[str, Any] | None = None, data: Any = "iris") -> Path:
    with pytest.raises(Interrupted):
        descend.train(data, recipe or RECIPE, out=folder, observers=[StopAt(step)])
    return folder


def weights_of(run: descend.Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


class TestFinish:
    def test_a_stopped_run_becomes_a_result(self, tmp_path: Path) -> None:
        folder = stopped(tmp_path / "run")
        run = descend.finish(folder)
        three = descend.train("iris", {**RECIPE, "stop": {**RECIPE["stop"], "max_epochs": 3}})
        assert torch.equal(weights_of(run), weights_of(three))
        assert (run.metrics["status"], run.metrics["stopped"], run.metrics["epochs"]) == (
            "stopped",
            "interrupted",
            3,
        )
        for part in ("train", "validation", "test"):
            assert run.metrics[part] == three.metrics[part]
        loaded = descend.load(folder)
        assert loaded.metrics == run.metrics
        assert loaded.predict(ROW).tolist() == three.predict(ROW).tolist()
        assert loaded.export("safetensors").exists()
        assert "This run was stopped before its end" in loaded.report().read_text(encoding="utf-8")
        assert loaded.evaluate("iris")["loss"] > 0

    def test_it_can_be_repeated_and_the_run_continued(self, tmp_path: Path) -> None:
        folder = stopped(tmp_path / "run")
        first, again = descend.finish(folder), descend.finish(folder)
        assert first.metrics == again.metrics
        more = descend.train("iris", out=folder, resume=True)
        assert more.metrics["status"] == "finished"
        assert torch.equal(weights_of(more), weights_of(descend.train("iris", RECIPE)))

    def test_a_finished_run_is_returned_as_it_is(self, tmp_path: Path) -> None:
        run = descend.train("iris", RECIPE, out=tmp_path / "run")
        before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
        assert descend.finish(tmp_path / "run").metrics == run.metrics
        assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before

    def test_before_the_first_epoch_there_is_nothing_to_use(self, tmp_path: Path) -> None:
        folder = stopped(tmp_path / "run", 1)
        with pytest.raises(RunError, match=r"before the end of its first epoch, .* resume=True, out="):
            descend.finish(folder)
        (folder / "checkpoints" / "last.safetensors").unlink()
        with pytest.raises(RunError, match="before the end of its first epoch"):
            descend.finish(folder)
        with pytest.raises(RunError, match="before the end of its first epoch"):
            descend.load(folder)

    def test_a_diverged_run_keeps_its_last_good_weights(self, tmp_path: Path) -> None:
        class Explode:
            def epoch_ended(self, training: Any, record: dict[str, Any]) -> None:
                if record["epoch"] == 3:
                    for group in training.optimizer.param_groups:
                        group["initial_lr"] = 1e30

        recipe = {**RECIPE, "optimizer": {"name": "sgd", "lr": 0.01}}
        with pytest.raises(DivergedError):
            descend.train("iris", recipe, out=tmp_path / "run", observers=[Explode()])
        with pytest.raises(RunError, match=r"diverged after [23] epochs; .*descend.finish"):
            descend.load(tmp_path / "run")
        run = descend.finish(tmp_path / "run")
        assert (run.metrics["status"], run.metrics["stopped"]) == ("stopped", "diverged")
        assert np.isfinite(run.metrics["test"]["loss"])

    def test_a_run_that_diverged_in_its_first_epoch_has_none(self, tmp_path: Path) -> None:
        recipe = {**RECIPE, "optimizer": {"name": "sgd", "lr": 1e30}}
        with pytest.raises(DivergedError):
            descend.train("iris", recipe, out=tmp_path / "run")
        for call in (descend.load, descend.finish):
            with pytest.raises(RunError, match="diverged and has no trained network"):
                call(tmp_path / "run")

    def test_data_in_memory_must_be_passed_and_be_those_of_the_run(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
        folder = stopped(tmp_path / "run", 10, data=(x, y))
        with pytest.raises(RunError, match="did not record where its data are"):
            descend.finish(folder)
        with pytest.raises(RunError, match="the data are not those of the run"):
            descend.finish(folder, (x + 1.0, y))
        assert descend.finish(folder, (x, y)).metrics["status"] == "stopped"

    def test_what_is_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="no such run folder"):
            descend.finish(tmp_path / "nowhere")
        with pytest.raises(RunError, match="is not a run folder"):
            descend.finish(tmp_path)

    def test_folders_of_searches_comparisons_and_several_runs_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "search").mkdir()
        (tmp_path / "search" / "search.json").write_text("{}")
        with pytest.raises(
            RunError, match=r"is a search that is not finished; .*search.* --resume|resume=True"
        ):
            descend.finish(tmp_path / "search")
        small = {**RECIPE, "stop": {"max_epochs": 1}}
        descend.compare(
            "iris",
            {"model.hidden": [[2], [3]]},
            recipe=small,
            seeds=1,
            tune=0,
            tests=False,
            out=tmp_path / "comparison",
        )
        with pytest.raises(RunError, match="is a comparison, not a run"):
            descend.load(tmp_path / "comparison")
        descend.train_many([small, small], "iris", out=tmp_path / "many")
        with pytest.raises(RunError, match=r"it contains runs, such as .*0000"):
            descend.finish(tmp_path / "many")

    @pytest.mark.parametrize("engine", ["loop", "packed"])
    @pytest.mark.parametrize(("restarts", "ensemble"), [(3, 1), (1, 3), (3, 2)])
    def test_several_networks(self, tmp_path: Path, engine: Any, restarts: int, ensemble: int) -> None:
        from descend.many.restarts import train_restarts
        from descend.runs.plan import plan_run
        from descend.training.notification import as_observer

        recipe = {**RECIPE, "init": {"restarts": restarts}, "model": {"hidden": [6], "ensemble": ensemble}}

        def interrupt(training: Any, record: dict[str, Any]) -> None:
            if training.number == 2 and record["epoch"] == 2:
                raise KeyboardInterrupt

        folder = tmp_path / "run"
        with pytest.raises(Interrupted, match="training of 3 networks"):
            train_restarts(
                plan_run("iris", recipe), folder, engine=engine, observers=[as_observer(interrupt)]
            )
        with pytest.raises(RunError, match=r"descend.finish"):
            descend.load(folder)
        run = descend.finish(folder)
        assert run.metrics["status"] == "stopped"
        assert len(run.metrics["members"]["validation"]) == 3
        assert descend.load(folder).predict(ROW).tolist() == run.predict(ROW).tolist()
        if engine == "packed":  # every network has two epochs, as in a run of two
            two = train_restarts(
                plan_run("iris", {**recipe, "stop": {**RECIPE["stop"], "max_epochs": 2}}), engine=engine
            )
            assert torch.equal(weights_of(run), weights_of(two))
        resumed = descend.train("iris", out=folder, resume=True)
        whole = train_restarts(plan_run("iris", recipe), engine=engine)
        assert torch.equal(weights_of(resumed), weights_of(whole))
        assert resumed.metrics["status"] == "finished"
        with pytest.raises(RunError, match="their checkpoints were removed"):
            descend.train("iris", {"stop": {"max_epochs": 9}}, out=folder, resume=True)

    def test_too_few_networks(self, tmp_path: Path) -> None:
        recipe = {**RECIPE, "model": {"hidden": [6], "ensemble": 3}}
        from descend.many.restarts import train_restarts
        from descend.runs.plan import plan_run

        with pytest.raises(Interrupted):
            train_restarts(plan_run("iris", recipe), tmp_path / "run", engine="loop", observers=[StopAt(7)])
        with pytest.raises(RunError, match=r"has 1 of the 3 networks that it needs"):
            descend.finish(tmp_path / "run")

    @pytest.mark.slow
    def test_a_killed_run(self, tmp_path: Path) -> None:
        endless = {**RECIPE, "stop": {"max_epochs": 10**6, "patience": "none"}}
        script = (
            "import descend, os, signal, sys\n"
            "def kill(training, record):\n"
            "    written = os.path.exists(os.path.join(sys.argv[1], 'checkpoints', 'last.safetensors'))\n"
            "    if record['epoch'] >= 4 and written: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"descend.train('iris', {endless!r}, out=sys.argv[1], observers=[kill])\n"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "run")]
        killed = subprocess.run(command, env=dict(os.environ), check=False, timeout=120)
        assert killed.returncode == -signal.SIGKILL
        run = descend.finish(tmp_path / "run")
        assert run.metrics["epochs"] == len(run.history) >= 1
        assert run.metrics["status"] == "stopped"


class TestTheData:
    def write(self, path: Path) -> Path:
        rng = np.random.default_rng(0)
        lines = [f"{a:.4f},{b:.4f},{int(a > b)}" for a, b in rng.normal(size=(60, 2))]
        path.write_text("a,b,y\n" + "\n".join(lines) + "\n")
        return path

    def test_may_be_left_out_on_resume(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "d.csv")
        with pytest.raises(Interrupted):
            descend.train(path, RECIPE, target="y", out=tmp_path / "run", observers=[StopAt(4)])
        assert descend.train(resume=True, out=tmp_path / "run").metrics["epochs"] == 6
        with pytest.raises(UserError, match="data: specify what to train on"):
            descend.train()

    def test_are_found_from_another_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write(tmp_path / "d.csv")
        self.write(tmp_path / "v.csv")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(Interrupted):
            descend.train("d.csv", RECIPE, target="y", validation="v.csv", out="run", observers=[StopAt(5)])
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        run = descend.finish("../run")
        assert run.schema.rows == {"train": 60, "validation": 60, "test": 0}
        assert descend.train(resume=True, out="../run").metrics["epochs"] == 6

    def test_that_were_moved_are_named(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "d.csv")
        with pytest.raises(Interrupted):
            descend.train(path, RECIPE, target="y", out=tmp_path / "run", observers=[StopAt(5)])
        path.rename(tmp_path / "e.csv")
        with pytest.raises(RunError, match=r"the data of the run in .* are not at .*d\.csv any more"):
            descend.finish(tmp_path / "run")
        assert descend.finish(tmp_path / "run", tmp_path / "e.csv").metrics["status"] == "stopped"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda text: text.replace("a,b,y", "a,c,y"), "no column b; the additional column c"),
            (lambda text: text + "1,2,0\n", "61 rows, the run has 60"),
            (lambda text: text.replace("a,b,y", "b,a,y"), "the same columns in another order"),
            (lambda text: text[:-2] + ("0" if text[-2] == "1" else "1") + "\n", "but other values"),
            (lambda text: text.replace("a,b,y", "a,b,z"), "cannot be read in its place"),
            (lambda text: "", "cannot be read in its place"),
        ],
    )
    def test_that_differ_are_described(self, tmp_path: Path, change: Any, words: str) -> None:
        path = self.write(tmp_path / "d.csv")
        with pytest.raises(Interrupted):
            descend.train(path, RECIPE, target="y", out=tmp_path / "run", observers=[StopAt(5)])
        other = tmp_path / "other.csv"
        other.write_text(change(path.read_text()))
        with pytest.raises(RunError, match="the data are not those of the run") as caught:
            descend.train(other, out=tmp_path / "run", resume=True)
        assert words in str(caught.value)

    def test_weights_that_are_missing_are_named(self, tmp_path: Path) -> None:
        path, weights = self.write(tmp_path / "d.csv"), np.linspace(1.0, 2.0, 60)
        options: dict[str, Any] = {"target": "y", "sample_weight": weights, "out": tmp_path / "run"}
        with pytest.raises(Interrupted):
            descend.train(path, RECIPE, observers=[StopAt(5)], **options)
        with pytest.raises(RunError, match="no sample_weight, the run has some"):
            descend.finish(tmp_path / "run")
        assert descend.finish(tmp_path / "run", sample_weight=weights).metrics["status"] == "stopped"

    def test_of_a_function_need_leave(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mod_of_rows.py").write_text(
            "import numpy as np\n\n\ndef rows():\n    x = np.random.default_rng(1).normal(size=(60, 2))\n"
            "    return x, (x[:, 0] > 0).astype(int)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(Interrupted):
            descend.train("mod_of_rows:rows", RECIPE, out=tmp_path / "run", observers=[StopAt(8)])
        with pytest.raises(RunError, match=r"calling it runs its code; .*allow_imports=True"):
            descend.finish(tmp_path / "run")
        assert descend.finish(tmp_path / "run", allow_imports=True).metrics["status"] == "stopped"

    def test_of_another_task_are_named_as_such(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "d.csv")
        with pytest.raises(Interrupted):
            descend.train(path, RECIPE, target="y", out=tmp_path / "run", observers=[StopAt(5)])
        with pytest.raises(
            RunError, match=r"the data are not those of the run in .*started with d.csv, and wine"
        ):
            descend.train("wine", out=tmp_path / "run", resume=True)
        with pytest.raises(RunError, match="the data are not those of the run"):
            descend.train("diabetes", out=tmp_path / "run", resume=True)


class TestProgress:
    def shown(self, capsys: pytest.CaptureFixture[str], **arguments: Any) -> str:
        descend.train("iris", RECIPE, **arguments)
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    def test_lines_on_request(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.shown(capsys, progress=True).startswith("epoch 6/6  loss ")

    def test_scripts_are_quiet(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.shown(capsys) == self.shown(capsys, progress=False) == ""

    def test_several_networks(self, capsys: pytest.CaptureFixture[str]) -> None:
        descend.train("iris", {**RECIPE, "init": {"restarts": 2}}, progress=True)
        assert capsys.readouterr().err == "2/2 networks trained, 12 epochs\n"
        descend.train_many([RECIPE] * 3, "iris", progress=True)
        assert capsys.readouterr().err == "3/3 networks trained, 18 epochs\n"

    def test_a_bar_in_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import io

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setenv("TERM", "xterm")
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", terminal := Terminal())
            descend.train("iris", RECIPE)
        assert "epoch" in terminal.getvalue()
        assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") > 0

    def test_other_values_are_refused(self) -> None:
        with pytest.raises(UserError, match="progress: expected True, False or None, got 'bar'"):
            descend.train("iris", RECIPE, progress="bar")


def test_results_are_complete(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "run")
    descend.finish(folder)
    names = {path.name for path in folder.iterdir()}
    assert {"manifest.json", "metrics.json", "weights.safetensors", "evaluation.json"} <= names
    assert json.loads((folder / "environment.json").read_text())["resumed"] == []
    descend.train(recipe={"stop": {"max_epochs": 7, "patience": 9}}, out=folder, resume=True)
    environment = json.loads((folder / "environment.json").read_text())
    assert len(environment["resumed"]) == 1
    (changed,) = environment["changed"]
    assert changed.pop("time") == environment["resumed"][0]
    assert changed == {"stop.max_epochs": [6, 7], "stop.patience": [None, 9]}
