"""A run folder: what is saved is loaded to the bit, and what is damaged is refused in clear words."""

from __future__ import annotations

import datetime
import json
import math
import shutil
import threading
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import accuracy_score, r2_score
from tests.support.examples import examples
from tests.support.stop_at import StopAt

import descend
from descend.errors import DivergedError, Interrupted, RecipeError, RunError, UserError
from descend.process import locked
from descend.runs.folder import FORMAT, SEALED
from descend.runs.run import Run
from descend.training import state
from descend.training.observers import Quiet

QUICK = {
    "model": {"hidden": [6], "norm": "batch"},
    "stop": {"max_epochs": 2},
    "engine": {"threads": 1, "device": "cpu"},
}
IMAGES = {**QUICK, "model": {"channels": [4], "dense": [6]}}


def iris():
    x, y = load_iris(return_X_y=True)
    return x[::2], y[::2]


def people(rows=90) -> pl.DataFrame:
    """A table of every kind of column, with gaps."""
    draw = np.random.default_rng(0)
    age = draw.normal(40, 12, rows)
    city = draw.choice(["Aachen", "Bonn", "Köln"], rows)
    ages = [None if gap else float(value) for value, gap in zip(age, draw.random(rows) < 0.1, strict=True)]
    cities = [None if gap else str(value) for value, gap in zip(city, draw.random(rows) < 0.1, strict=True)]
    born = [datetime.date(1980, 1, 1) + datetime.timedelta(int(day)) for day in draw.integers(0, 9000, rows)]
    buys = np.where(age / 40 + (city == "Bonn") > 1.4, "yes", "no, never")
    return pl.DataFrame({"age": ages, "city": cities, "member": age > 50, "born": born, "buys": buys})


DATA = {
    "classes": (iris, {}),
    "texts": (lambda: people(), {"target": "buys"}),
    "numbers": (lambda: tuple(part[:80] for part in load_diabetes(return_X_y=True)), {}),
    "several": (
        lambda: (np.arange(160.0).reshape(80, 2) % 7, np.arange(160.0).reshape(80, 2) % 5 * [1, 100]),
        {},
    ),
    "images": (
        lambda: (np.arange(60 * 64, dtype=np.float32).reshape(60, 1, 8, 8) % 37, np.arange(60) % 3),
        {},
    ),
}


def train(name: str, **options) -> tuple[Run, object]:
    make, target = DATA[name]
    data = make()
    run = descend.train(data, IMAGES if name == "images" else QUICK, seed=3, **target, **options)
    return run, (data[0] if isinstance(data, tuple) else data)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A run folder that must not be changed."""
    folder = tmp_path_factory.mktemp("runs") / "iris"
    train("classes", out=folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def reseal(folder: Path) -> None:
    """Make the manifest fit the files, as one who wrote them would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["digests"]:
        manifest["digests"][name] = blake2b((folder / name).read_bytes(), digest_size=16).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refused(folder: Path, **options) -> str:
    with pytest.raises(RunError) as caught:
        descend.load(folder, **options)
    return str(caught.value)


class TestSavedAndLoaded:
    @pytest.mark.parametrize("name", list(DATA))
    def test_predictions_are_the_same_bits(self, name, tmp_path):
        run, rows = train(name, out=tmp_path / "run")
        again = descend.load(tmp_path / "run")
        assert run.predict(rows).tolist() == again.predict(rows).tolist()
        assert run.predict(rows).dtype == again.predict(rows).dtype
        if run.schema.classes:
            assert run.predict_proba(rows).tobytes() == again.predict_proba(rows).tobytes()
        for name, value in run.model.state_dict().items():
            assert torch.equal(value, again.model.state_dict()[name])

    def test_everything_else_is_the_same(self, tmp_path):
        run, _ = train("texts", out=tmp_path / "run")
        again = descend.load(tmp_path / "run")
        for what in ("recipe", "schema", "history", "metrics", "environment", "evaluation", "path"):
            assert getattr(again, what) == getattr(run, what), what
        assert not again.model.training

    def test_saved_later_it_is_the_same_run(self, tmp_path):
        run, rows = train("classes")
        assert run.path is None
        assert run.save(tmp_path / "a" / "run") == run.path == tmp_path / "a" / "run"
        assert descend.load(tmp_path / "a" / "run").predict(rows).tolist() == run.predict(rows).tolist()

    def test_loaded_and_saved_it_is_the_same_files(self, saved, tmp_path):
        descend.load(saved).save(tmp_path / "copy")
        for name in SEALED:
            if name != "recipe.toml":  # reasons are remarks, which loading does not read
                assert (tmp_path / "copy" / name).read_bytes() == (saved / name).read_bytes()

    def test_the_files(self, saved):
        assert {path.name for path in saved.iterdir()} == {
            "recipe.toml", "schema.json", "weights.safetensors", "history.jsonl", "metrics.json",
            "evaluation.json", "environment.json", "manifest.json", "checkpoints",
        }  # fmt: skip
        manifest = json.loads((saved / "manifest.json").read_text())
        assert manifest["format"] == FORMAT
        assert set(manifest["digests"]) == set(SEALED)
        history = [json.loads(line) for line in (saved / "history.jsonl").read_text().splitlines()]
        assert [record["epoch"] for record in history] == [1, 2]
        assert "# auto: " in (saved / "recipe.toml").read_text()


class TestPredictions:
    @pytest.mark.slow
    def test_labels_come_back_as_they_went_in(self):
        run, rows = train("texts")
        assert set(run.predict(rows)) <= {"yes", "no, never"}
        run, rows = train("classes")
        assert run.predict(rows).dtype == iris()[1].dtype

    def test_probabilities(self):
        run, rows = train("classes")
        proba = run.predict_proba(rows)
        assert proba.shape == (75, 3)
        np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
        assert (run.schema.labels[proba.argmax(1)] == run.predict(rows)).all()

    def test_numbers_are_in_the_targets_units(self):
        run, rows = train("several")
        predicted = run.predict(rows)
        assert predicted.shape == (80, 2)
        assert predicted[:, 1].mean() > 50 > 5 > predicted[:, 0].mean()

    def test_metrics_are_those_of_the_predictions(self):
        x, y = iris()
        run = descend.train((x[:50], y[:50] % 2), QUICK, test=(x[50:], y[50:] % 2))
        assert run.metrics["test"]["accuracy"] == pytest.approx(
            accuracy_score(y[50:] % 2, run.predict(x[50:]))
        )
        assert run.evaluate((x[50:], y[50:] % 2)) == pytest.approx(run.metrics["test"], abs=1e-6)

    def test_metrics_of_numbers(self):
        x, y = (part[:90] for part in load_diabetes(return_X_y=True))
        run = descend.train((x[:60], y[:60]), QUICK, test=(x[60:], y[60:]))
        assert run.metrics["test"]["r2"] == pytest.approx(r2_score(y[60:], run.predict(x[60:])), abs=1e-5)
        assert run.evaluate((x[60:], y[60:])) == pytest.approx(run.metrics["test"], rel=1e-5)

    def test_the_measured_loss_has_no_label_smoothing(self):
        x, y = iris()
        run = descend.train((x, y), {**QUICK, "loss": {"label_smoothing": 0.5}}, test=(x, y))
        proba = run.predict_proba(x)
        assert run.metrics["test"]["loss"] == pytest.approx(-np.log(proba[np.arange(75), y]).mean(), rel=1e-4)

    def test_evaluation_needs_targets(self, saved):
        with pytest.raises(UserError, match="target"):
            descend.load(saved).evaluate(iris()[0])


class TestDamaged:
    @pytest.mark.parametrize("name", SEALED)
    @pytest.mark.parametrize("damage", ["shorter", "longer", "changed", "empty"])
    def test_sealed_files(self, folder, name, damage):
        path = folder / name
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(
            {
                "shorter": content[:middle],
                "longer": content + b"\n",
                "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
                "empty": b"",
            }[damage]
        )
        assert refused(folder) == f"{path} was altered or cut short after training (its digest differs)"

    @pytest.mark.parametrize("name", SEALED)
    @pytest.mark.parametrize("instead", ["nothing", "folder"])
    def test_sealed_files_that_are_not_there(self, folder, name, instead):
        (folder / name).unlink()
        if instead == "folder":
            (folder / name).mkdir()
        message = refused(folder)
        assert message.startswith(f"the run in {folder} is incomplete: {name} cannot be read")

    @pytest.mark.parametrize("name", ["manifest.json", "metrics.json", "evaluation.json", "environment.json"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"],
        ids=["empty", "cut", "list", "number", "bytes", "deep", "digits"],
    )
    def test_other_files(self, folder, name, content):
        (folder / name).write_bytes(content)
        assert str(folder / name) in refused(folder)

    @pytest.mark.parametrize("name", ["history.jsonl", "metrics.json", "evaluation.json", "environment.json"])
    def test_other_files_that_are_not_there(self, folder, name):
        (folder / name).unlink()
        assert str(folder / name) in refused(folder)

    @pytest.mark.parametrize(("content", "line"), [('{"epoch": 1}\n{"epo', 2), ("[1]\n", 1), ("x", 1)])
    def test_a_history_that_is_cut(self, folder, content, line):
        (folder / "history.jsonl").write_text(content)
        assert refused(folder).startswith(f"{folder / 'history.jsonl'} is damaged in line {line}: ")

    @pytest.mark.parametrize(
        "manifest", [{}, {"format": "1", "digests": {}}, {"format": 1}, {"format": 1, "digests": []}]
    )
    def test_a_manifest_that_says_nothing(self, folder, manifest):
        (folder / "manifest.json").write_text(json.dumps(manifest))
        assert refused(folder) == f"{folder / 'manifest.json'} is damaged"

    def test_a_manifest_that_leaves_a_file_out(self, folder):
        (folder / "manifest.json").write_text(json.dumps({"format": 1, "digests": {}}))
        assert "was altered" in refused(folder)

    @pytest.mark.slow
    @settings(
        deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.data())
    def test_one_wrong_byte_anywhere_is_refused_or_harmless(self, saved, tmp_path, data):
        expected = descend.load(saved).predict_proba(iris()[0])
        names = sorted(path.name for path in saved.iterdir() if path.is_file())
        name = data.draw(st.sampled_from(names))
        content = bytearray((saved / name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(saved, copy, ignore=shutil.ignore_patterns("checkpoints"))
        (copy / name).write_bytes(content)
        try:
            run = descend.load(copy)
        except RunError as refusal:
            assert str(copy) in str(refusal)
            return
        assert run.predict_proba(iris()[0]).tobytes() == expected.tobytes()


class TestNewer:
    def test_folder(self, folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(
            json.dumps(manifest | {"format": FORMAT + 1, "descend": "99.0"})
        )
        message = refused(folder)
        assert "was written by descend 99.0, newer than this one" in message
        assert message.endswith("update descend")

    def test_schema(self, folder):
        schema = json.loads((folder / "schema.json").read_text())
        (folder / "schema.json").write_text(json.dumps(schema | {"version": schema["version"] + 1}))
        reseal(folder)
        assert "schema.json has version 2, but this descend reads versions up to 1" in refused(folder)

    def test_weights(self, folder, monkeypatch):
        weights, meta = state.read_state(folder / "weights.safetensors")
        monkeypatch.setattr(state, "STATE_FORMAT", state.STATE_FORMAT + 1)
        (folder / "weights.safetensors").write_bytes(state.to_bytes(weights, meta))
        monkeypatch.undo()
        reseal(folder)
        assert "was written by a newer version of descend" in refused(folder)

    def test_recipe(self, folder):
        text = (folder / "recipe.toml").read_text().replace('name = "adamw"', 'name = "newest"')
        (folder / "recipe.toml").write_text(text + "\n[pack]\nmembers = 4\n")
        reseal(folder)
        with pytest.raises(UserError) as caught:
            descend.load(folder)
        assert f"{folder / 'recipe.toml'}: [optimizer] name: no such optimizer 'newest'" in str(caught.value)
        assert "[pack]: no such section" in str(caught.value)


class TestOfAnotherKind:
    def test_schema_that_fits_no_rows(self, folder):
        schema = json.loads((folder / "schema.json").read_text())
        (folder / "schema.json").write_text(json.dumps(schema | {"outputs": 7}))
        reseal(folder)
        assert "schema.json is damaged: classes and outputs do not match" in refused(folder)

    def test_weights_of_another_shape(self, folder):
        (folder / "weights.safetensors").write_bytes(state.to_bytes(torch.nn.Linear(4, 3).state_dict()))
        reseal(folder)
        message = refused(folder)
        assert message.startswith(f"the weights of {folder} do not fit the model")

    @pytest.mark.parametrize("tree", [[torch.zeros(2)], torch.zeros(2), {}, 3])
    def test_weights_that_are_none(self, folder, tree):
        (folder / "weights.safetensors").write_bytes(state.to_bytes(tree))
        reseal(folder)
        assert "do not fit the model" in refused(folder)

    def test_weights_by_someone_else(self, folder):
        import safetensors.torch

        weights = descend.load(folder).model.state_dict()
        (folder / "weights.safetensors").write_bytes(safetensors.torch.save(weights))
        reseal(folder)
        assert "is a safetensors file, but not a checkpoint of descend" in refused(folder)

    def test_another_recipe(self, folder):
        text = (folder / "recipe.toml").read_text()
        (folder / "recipe.toml").write_text(text.replace("hidden = [6]", "hidden = [7]"))
        reseal(folder)
        assert "do not fit the model" in refused(folder)

    def test_a_recipe_that_does_not_fit_the_schema(self, folder):
        text = (folder / "recipe.toml").read_text()
        (folder / "recipe.toml").write_text(text.replace('output = "softmax"', 'output = "identity"'))
        reseal(folder)
        with pytest.raises(RecipeError, match="does not fit the task multiclass"):
            descend.load(folder)


class TestNoRun:
    def test_nothing_there(self, tmp_path):
        assert refused(tmp_path / "x") == f"no such run folder: {tmp_path / 'x'}"

    def test_a_file(self, saved):
        assert refused(saved / "recipe.toml") == f"{saved / 'recipe.toml'} is a file, not the folder of a run"

    def test_an_empty_folder(self, tmp_path):
        assert refused(tmp_path) == f"{tmp_path} is not a run folder: it has no manifest.json"

    def test_a_folder_of_other_things(self, tmp_path):
        (tmp_path / "photo.png").write_bytes(b"x")
        assert "is not a run folder" in refused(tmp_path)


class TestUnfinished:
    def test_an_interrupted_run_says_how_to_go_on_and_then_loads(self, tmp_path):
        folder = tmp_path / "run"
        with pytest.raises(Interrupted, match=f"resume=True, out='{folder}'"):
            train("classes", out=folder, observers=[StopAt(2)])
        message = refused(folder)
        assert "was stopped after 1 epoch and is not finished" in message
        assert f"descend.finish({str(folder)!r})" in message
        assert f"resume=True, out='{folder}'" in message
        assert "resume=True" in message
        run, rows = train("classes", out=folder, resume=True)
        assert descend.load(folder).predict(rows).tolist() == run.predict(rows).tolist()

    def test_a_run_that_is_being_trained_says_so(self, tmp_path):
        folder, messages = tmp_path / "run", []

        class Look(Quiet):
            def epoch_ended(self, training, record):
                with locked(folder):
                    thread = threading.Thread(target=lambda: messages.append(refused(folder)))
                    thread.start()
                    thread.join()

        train("classes", out=folder, observers=[Look()])
        assert messages
        assert all("is being trained by another process" in message for message in messages)
        assert descend.load(folder).path == folder

    def test_a_member_of_a_pack_says_where_its_weights_are(self, tmp_path):
        def interrupt(training, record):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

        recipe = {"stop": {"max_epochs": 9}, "engine": {"threads": 1}, "model": {"hidden": [4]}}
        with pytest.raises(Interrupted):
            descend.train_many([recipe] * 2, "iris", engine="packed", out=tmp_path, observers=[interrupt])
        for call in (descend.load, descend.finish):
            with pytest.raises(RunError, match=r"was trained in a pack .* train_many\(\.\.\., resume=True\)"):
                call(tmp_path / "0001")

    def test_a_run_killed_before_its_first_checkpoint(self, folder):
        (folder / "manifest.json").unlink()
        shutil.rmtree(folder / "checkpoints")
        assert "was stopped before the end of its first epoch" in refused(folder)
        run, rows = train("classes", out=folder, resume=True)
        assert descend.load(folder).predict(rows).tolist() == run.predict(rows).tolist()

    @pytest.mark.slow
    def test_a_diverged_run(self, tmp_path):
        with pytest.raises(DivergedError):
            descend.train(iris(), {**QUICK, "optimizer": {"name": "sgd", "lr": 1e30}}, out=tmp_path / "run")
        assert "diverged" in refused(tmp_path / "run")


class TestWhereToWrite:
    def test_a_folder_of_another_run(self, saved):
        with pytest.raises(RunError, match="holds another run; continue it with resume=True"):
            train("classes", out=saved)
        with pytest.raises(RunError, match="holds another run"):
            descend.load(saved).save(saved)

    def test_a_folder_of_other_things(self, tmp_path):
        (tmp_path / "x").write_text("mine")
        with pytest.raises(RunError, match="is not empty and holds no run; choose another folder"):
            train("classes", out=tmp_path)
        assert (tmp_path / "x").read_text() == "mine"

    def test_a_file(self, tmp_path):
        (tmp_path / "x").write_text("mine")
        with pytest.raises(RunError, match="is a file; a run needs a folder of its own"):
            train("classes", out=tmp_path / "x")

    def test_below_a_file(self, tmp_path):
        (tmp_path / "x").write_text("mine")
        with pytest.raises(RunError, match=r"the run folder .*run cannot be created, since .*x is a file"):
            train("classes", out=tmp_path / "x" / "run")

    def test_nothing_is_written_where_the_data_or_recipe_are_wrong(self, tmp_path):
        for recipe in (
            {"stop": {"monitor": "x"}},
            {"loss": "mse"},
            {"model": "convnet"},
            {"engine": {"device": "x"}},
        ):
            with pytest.raises(UserError):
                descend.train(iris(), {**QUICK, **recipe}, out=tmp_path / "run")
            assert not (tmp_path / "run").exists(), recipe


class TestModelsFromElsewhere:
    def trained(self, tmp_path, **options) -> Run:
        class Local(torch.nn.Linear):
            def __init__(self, inputs, outputs):
                super().__init__(inputs[0], outputs)

        recipe = {**QUICK, "model": {"name": Local}, "optimizer": "torch.optim.NAdam"}
        return descend.train(iris(), recipe, out=tmp_path / "run", **options)

    def test_nothing_is_imported_unasked(self, tmp_path):
        run = descend.train(iris(), {**QUICK, "optimizer": "torch.optim.NAdam"}, out=tmp_path / "run")
        with pytest.raises(RecipeError, match="allow_imports=True"):
            descend.load(tmp_path / "run")
        again = descend.load(tmp_path / "run", allow_imports=True)
        assert again.predict(iris()[0]).tolist() == run.predict(iris()[0]).tolist()

    def test_a_class_that_no_path_names_is_given(self, tmp_path):
        run = self.trained(tmp_path)
        with pytest.raises(UserError, match="no such model"):
            descend.load(tmp_path / "run", allow_imports=True)
        again = descend.load(tmp_path / "run", model=torch.nn.Linear(4, 3))
        assert again.predict_proba(iris()[0]).tobytes() == run.predict_proba(iris()[0]).tobytes()

    def test_a_module_in_place_of_the_recipes(self, tmp_path):
        module = torch.nn.Linear(4, 3)
        run = descend.train(iris(), QUICK, model=module, out=tmp_path / "run")
        assert run.model is module
        assert "do not fit the model" in refused(tmp_path / "run")
        again = descend.load(tmp_path / "run", model=torch.nn.Linear(4, 3))
        assert again.predict(iris()[0]).tolist() == run.predict(iris()[0]).tolist()

    def test_a_given_module_of_another_shape(self, tmp_path):
        self.trained(tmp_path)
        assert "do not fit the model" in refused(tmp_path / "run", model=torch.nn.Linear(4, 5))


class TestReport:
    def test_of_a_saved_run(self, folder):
        assert descend.load(folder).report() == folder / "report.html"
        assert (folder / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")

    def test_of_a_run_that_was_not_saved(self):
        run, _ = train("classes")
        with pytest.raises(UserError, match=r"save it first: run\.save\(folder\)"):
            run.report()


def test_histories_hold_finite_numbers(saved):
    for record in descend.load(saved).history:
        for value in [
            record["lr"],
            record["gradient_norm"],
            *record["train"].values(),
            *record["validation"].values(),
        ]:
            assert math.isfinite(value)
