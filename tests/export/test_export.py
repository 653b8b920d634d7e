"""Exported models predict like the run in every format, and reading them runs no code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import safetensors
import torch
from torch import nn

import descend
from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.errors import MissingExtraError, RunError, UserError
from descend.export import FORMATS, load_exported
from descend.nn.activations import ACTIVATIONS, activation
from descend.nn.normalization import NORMS

QUICK = {"stop": {"max_epochs": 2}, "engine": {"threads": 1}}
SEEN = {"city": ["Ulm", "Bonn", "New York"], "plan": ["a", "b", "c", "d", "e"]}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def people(rows: int, seed: int = 0) -> pl.DataFrame:
    """A table with every kind of column, missing values in most, and an unused column."""
    rng = np.random.default_rng(seed)
    gap = rng.random((4, rows)) < 0.15
    days = np.datetime64("1970-01-01") + rng.integers(-5000, 20000, rows).astype("timedelta64[D]")
    age, city = rng.normal(40, 10, rows), rng.choice(SEEN["city"], rows)
    return pl.DataFrame(
        {
            "member": pl.Series(
                [None if g else bool(v) for g, v in zip(gap[0], rng.random(rows) < 0.5, strict=True)]
            ),
            "age": pl.Series([None if g else float(v) for g, v in zip(gap[1], age, strict=True)]),
            "source": ["file"] * rows,
            "city": pl.Series([None if g else str(v) for g, v in zip(gap[2], city, strict=True)]),
            "born": pl.Series([None if g else v for g, v in zip(gap[3], days.tolist(), strict=True)]),
            "income (k€)": rng.lognormal(3, 1, rows),
            "label": np.where((age > 40) ^ (city == "Ulm"), "bleibt", "geht"),
        }
    )


def strange(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with unseen categories, strings for missing values, spaces, and reordered columns."""
    cities = frame["city"].to_list()
    cities[:6] = ["Paris", "NA", " Ulm", "Bonn ", " New York ", "?"]
    return frame.with_columns(pl.Series("city", cities)).select(reversed(frame.columns))


def columns_of(frame: pl.DataFrame, schema: Schema) -> dict[str, np.ndarray]:
    """Return the inputs that the documentation of the ONNX format describes, built from that description only."""
    fed = {}
    for column in schema.used:
        values = frame[column.name]
        if column.kind == "categorical":
            fed[column.name] = np.array([value or "" for value in values.to_list()], dtype=object)
        elif column.kind == "date":
            fed[column.name] = values.cast(pl.Date).to_physical().cast(pl.Float64).to_numpy()
        else:
            fed[column.name] = values.cast(pl.Float64).to_numpy()
    return fed


def table_case(seed: int = 0) -> tuple[Any, Any]:
    run = descend.train(people(300, seed), QUICK, target="label")
    return run, strange(people(40, seed + 1).drop("label"))


def digits_case() -> tuple[Any, Any]:
    data = pl.from_numpy(np.random.default_rng(0).integers(0, 17, (40, 64)).astype(float))
    return descend.train("digits", QUICK), data.to_numpy()


def images_case() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 3, 9, 8), dtype=np.uint8)
    labels = np.array([3, 7, 11], dtype=np.int8)[rng.integers(0, 3, 90)]
    images[labels == 7] //= 2
    return descend.train((images, labels), QUICK), images[:40]


def sequences_case() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(90, 5, 4)).astype(np.float32)
    run = descend.train((rows, rows[:, 0, 0] > 0), {**QUICK, "model": {"output": "sine"}})
    return run, rows[:40]


def targets_case() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, 4)) + np.array([0, 1e6, -3e8, 1e-3])
    rows[::11, 2] = np.nan
    targets = np.stack([1e5 + 300 * rows[:, 0], 1e-4 * rows[:, 3], rows[:, 1]], axis=1)
    return descend.train((rows, targets), QUICK), rows[:40]


def single_target_case() -> tuple[Any, Any]:
    frame = people(200).drop("label")
    price = frame["income (k€)"].to_numpy() * 1000 + frame["age"].fill_null(40).to_numpy()
    run = descend.train(frame.with_columns(price=price), QUICK, target="price")
    return run, strange(people(40, 1).drop("label"))


def encoded_categories_case() -> tuple[Any, Any]:
    """Mean targets of several classes in one column, next to ranks of an ordered one."""
    frame = people(300).with_columns(
        label=pl.Series([f"class {at}" for at in np.random.default_rng(2).integers(0, 3, 300)]),
        size=pl.Series(["S", "M", "L"] * 100),
    )
    ranked = {"kind": "categorical", "order": ["S", "M", "L"], "encoding": "ordinal"}
    recipe = {**QUICK, "data": {"categories": "both", "columns": {"size": ranked}}}
    rows = strange(people(40, 1).drop("label")).with_columns(size=pl.Series(["L", None, "M", "S"] * 10))
    return descend.train(frame, recipe, target="label"), rows


CASES = {
    "table": table_case,
    "digits": digits_case,
    "images": images_case,
    "sequences": sequences_case,
    "targets": targets_case,
    "single target": single_target_case,
    "encoded categories": encoded_categories_case,
}


class Case:
    def __init__(self, run: Any, rows: Any, folder: Path) -> None:
        self.run, self.rows, self.folder = run, rows, folder

    def file(self, format: str) -> Path:
        path = self.folder / f"model.{format}"
        return path if path.exists() else self.run.export(format, path)

    @property
    def batches(self) -> Any:
        return self.rows[:1], self.rows[:7], self.rows


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(*CASES[request.param](), tmp_path_factory.mktemp("exported"))


def assert_same(run: Any, rows: Any, predicted: np.ndarray, probabilities: np.ndarray | None) -> None:
    """Compare labels and their dtype exactly, probabilities to 1e-6, values to float32 precision of their scale."""
    expected = run.predict(rows)
    assert predicted.shape == expected.shape
    if run.schema.classes:
        assert predicted.tolist() == expected.tolist()
        assert probabilities is not None
        expected_probabilities = run.predict_proba(rows)
        assert probabilities.shape == expected_probabilities.shape
        assert probabilities.dtype == np.float32
        if len(expected_probabilities) > 1:
            assert np.ptp(expected_probabilities, axis=0).max() > 1e-3, (
                "the rows must differ for the comparison to be meaningful"
            )
        np.testing.assert_allclose(probabilities, expected_probabilities, atol=1e-6, rtol=0)
    else:
        assert predicted.dtype == np.float64
        close = np.abs(predicted - expected) / np.array(run.schema.target_scale).reshape(expected.shape[1:])
        assert close.max() < 2e-6
        assert len(expected) == 1 or (np.ptp(expected, axis=0) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("format", ["pt2", "safetensors"])
def test_a_file_predicts_like_the_run(case: Case, format: str) -> None:
    model = load_exported(case.file(format))
    for rows in case.batches:
        predicted = model.predict(rows)
        assert_same(case.run, rows, predicted, model.predict_proba(rows) if case.run.schema.classes else None)
        assert predicted.dtype == case.run.predict(rows).dtype


@pytest.mark.slow
def test_pytorch_itself_reads_a_pt2_file(case: Case) -> None:
    program = torch.export.load(case.file("pt2")).module()
    for rows in case.batches:
        outputs = [tensor.numpy() for tensor in program(case.run.schema.matrix(rows))]
        if case.run.schema.classes:
            assert_same(case.run, rows, case.run.schema.labels[outputs[0]], outputs[1])
        else:
            assert_same(case.run, rows, outputs[0].reshape(case.run.predict(rows).shape), None)


@pytest.mark.slow
def test_onnx_runtime_predicts_like_the_run(case: Case) -> None:
    schema = case.run.schema
    session = onnxruntime.InferenceSession(case.file("onnx"))
    names = [output.name for output in session.get_outputs()]
    for rows in case.batches:
        fed = columns_of(rows, schema) if isinstance(rows, pl.DataFrame) else {"rows": rows}
        assert [entry.name for entry in session.get_inputs()] == list(fed)
        outputs = session.run(None, fed)
        if schema.classes:
            assert names == ["label", "probabilities"]
            assert_same(case.run, rows, outputs[0], outputs[1])
        else:
            assert names == (["value"] if schema.task == "regression" else ["y0", "y1", "y2"])
            assert_same(case.run, rows, np.stack(outputs, -1).reshape(case.run.predict(rows).shape), None)


@pytest.mark.slow
def test_exported_quantiles_that_cross_are_sorted(tmp_path: Path) -> None:
    """The median of three outputs per row is their middle value, whichever output that is."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    recipe = {**QUICK, "loss": {"name": "quantile", "level": [0.9, 0.5, 0.1]}}
    run = descend.train((x, x[:, 0]), recipe)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.normal_()
    raw = run.predictor.outputs(x).numpy()
    crossing = np.median(raw, axis=1) != raw[:, 1]
    assert 10 < crossing.sum() < 60
    expected = np.median(raw, axis=1) * run.schema.target_scale[0] + run.schema.target_mean[0]
    np.testing.assert_allclose(run.predict(x), expected, rtol=1e-5, atol=1e-5)
    (value,) = onnxruntime.InferenceSession(run.export("onnx", tmp_path)).run(None, {"rows": x})
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    predicted = load_exported(run.export("pt2", tmp_path)).predict(x)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_every_activation_and_norm_exports(tmp_path: Path) -> None:
    class All(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            names = [name for name in ACTIVATIONS if name not in ("sign", "maxout")]
            self.norms = nn.ModuleList(
                nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
                if name == "weight"
                else make(8, dims=1)
                for name, make in NORMS.items()
                if name not in ("instance", "none")
            )
            self.activations = nn.ModuleList(activation(name) for name in names)
            self.first, self.max = nn.Linear(4, 8), activation("maxout")
            self.last = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.first(x)
            for norm in self.norms:
                h = norm(h)
            return self.last(self.max(sum(f(h) for f in self.activations)))

    run = descend.train("iris", QUICK, model=All())
    rows = np.random.default_rng(0).normal(5, 2, (9, 4))
    model = load_exported(run.export("pt2", tmp_path))
    assert_same(run, rows, model.predict(rows), model.predict_proba(rows))
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path))
    fed = {column.name: rows[:, at] for at, column in enumerate(run.schema.used)}
    label, probabilities = session.run(None, fed)
    assert_same(run, rows, label, probabilities)


@pytest.mark.slow
def test_recurrent_networks_and_attention_export(tmp_path: Path) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.LSTM(4, 8, batch_first=True)
            self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.last = nn.Linear(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.attention(self.recurrent(x)[0]).mean(1))

    rows = np.random.default_rng(0).normal(size=(90, 5, 4)).astype(np.float32)
    run = descend.train((rows, rows[:, 0, 0] > 0), QUICK, model=Mixed())
    model = load_exported(run.export("pt2", tmp_path))
    for some in (rows[:1], rows[:7]):
        assert_same(run, some, model.predict(some), model.predict_proba(some))


@pytest.mark.slow
def test_networks_of_complex_numbers_export(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(90, 5, 2)).astype(np.float32)
    recipe = {**QUICK, "model": {"name": "unitary_rnn", "units": 8}}
    run = descend.train((rows, rows[:, 0, 0] > 0), recipe)
    model = load_exported(run.export("pt2", tmp_path))
    for some in (rows[:1], rows[:7]):
        assert_same(run, some, model.predict(some), model.predict_proba(some))


@pytest.mark.slow
def test_bfloat16_runs_export_in_float32(tmp_path: Path) -> None:
    run = descend.train("iris", {**QUICK, "engine": {"threads": 1, "precision": "bfloat16"}})
    rows = np.random.default_rng(0).normal(5, 2, (9, 4))
    model = load_exported(run.export("pt2", tmp_path))
    with torch.inference_mode():
        exact = torch.softmax(
            run.predictor.network.float()(run.preprocess(run.schema.matrix(rows))), 1
        ).numpy()
    assert np.abs(run.predict_proba(rows) - exact).max() > 1e-5
    np.testing.assert_allclose(model.predict_proba(rows), exact, atol=1e-6)


@pytest.mark.slow
def test_columns_may_have_any_name_and_be_pooled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plan = rng.choice(SEEN["plan"], 200, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    frame = pl.DataFrame({"label": plan, "b c": rng.normal(size=200), "network/rows": rng.normal(size=200)})
    target = (plan == "a").astype(float) + frame["b c"].to_numpy()
    recipe = {**QUICK, "data": {"max_categories": 3, "task": "binary"}}
    run = descend.train((frame, np.where(target > 0.5, 2.5, -1.0)), recipe)
    assert [column.pooled for column in run.schema.used] == [True, False, False]
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path))
    fed = {name: np.asarray(frame[name].to_list()) for name in frame.columns}
    assert [output.name for output in session.get_outputs()] == ["predicted_label", "probabilities"]
    label, probabilities = session.run(None, fed)
    assert label.dtype == np.float64
    assert_same(run, frame, label, probabilities)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_files_contain_no_local_paths_and_exporting_prints_nothing(
    format: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    people(120).write_csv(tmp_path / "secret.csv")
    run = descend.train(
        tmp_path / "secret.csv", {**QUICK, "data": {"columns": {"born": "ignore"}}}, target="label"
    )
    capfd.readouterr()
    recwarn.clear()
    content = run.export(format, tmp_path).read_bytes()
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    for private in (str(tmp_path), str(Path(descend.__file__).parent)):
        assert private.encode() not in content
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([f"model.{format}", "secret.csv"])
    assert b"target_scale" in content


def test_safetensors_is_read_by_the_documented_steps(tmp_path: Path) -> None:
    run, rows = table_case()
    module = descend.train(people(60), QUICK, target="label").model
    with safetensors.safe_open(run.export("safetensors", tmp_path), "pt") as file:
        schema = Schema.from_json(file.metadata()["schema"])
        state = {name[6:]: file.get_tensor(name) for name in file.keys() if name.startswith("model.")}  # noqa: SIM118 - not a dict
        assert file.get_tensor("preprocess.rows.mean").tolist() == run.preprocess.rows.mean.tolist()
    module.load_state_dict(state)
    with torch.inference_mode():
        outputs = module(Preprocess(schema)(schema.matrix(rows)))
    assert schema.decode(outputs).tolist() == run.predict(rows).tolist()


def test_paths_of_exported_files(tmp_path: Path) -> None:
    run = descend.train("iris", QUICK)
    with pytest.raises(UserError, match=r"not saved; pass a path: run.export\('safetensors', 'model.saf"):
        run.export("safetensors")
    with pytest.raises(UserError, match="no such folder"):
        run.export("safetensors", tmp_path / "absent" / "it")
    run.save(tmp_path / "run")
    assert run.export("safetensors") == tmp_path / "run" / "model.safetensors"
    assert descend.load(tmp_path / "run").predict("iris").shape == (150,)


def test_a_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = descend.train("iris", QUICK)
    path = run.export("safetensors", tmp_path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        run.export("safetensors", tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_format_is_refused_with_the_nearest_name() -> None:
    run = descend.train("iris", QUICK)
    with pytest.raises(UserError, match="unknown export format 'onx'; did you mean 'onnx'"):
        run.export("onx")
    with pytest.raises(
        UserError, match=r"unknown export format 'm.onnx'; did you mean \('onnx', 'm.onnx'\)\?"
    ):
        run.export("m.onnx")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*'\S*\[onnx\]'"):
        descend.train("iris", QUICK).export("onnx", tmp_path)


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_a_network_that_cannot_be_traced_is_refused_with_advice(format: str, tmp_path: Path) -> None:
    class Deciding(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum().item() > 0 else -super().forward(x)

    run = descend.train("iris", QUICK, model=Deciding(4, 3))
    with pytest.raises(UserError, match=r"\(Deciding\) cannot be traced(.|\n)*torch.where(.|\n)*safetensors"):
        run.export(format, tmp_path)
    assert not list(tmp_path.iterdir())
    model = load_exported(run.export("safetensors", tmp_path), model=Deciding(4, 3))
    assert model.predict("iris").tolist() == run.predict("iris").tolist()


@pytest.mark.slow
def test_an_operation_that_onnx_does_not_know_is_refused_with_advice(tmp_path: Path) -> None:
    class Rare(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i1e(super().forward(x))

    run = descend.train("iris", QUICK, model=Rare(4, 3))
    with pytest.raises(UserError, match=r"cannot be written as ONNX: .*i1e(.|\n)*the format pt2"):
        run.export("onnx", tmp_path)
    model = load_exported(run.export("pt2", tmp_path))
    assert model.predict("iris").tolist() == run.predict("iris").tolist()


@pytest.mark.slow
def test_exporting_does_not_change_the_run(tmp_path: Path) -> None:
    run = descend.train("iris", {**QUICK, "model": {"norm": "weight", "dropout": 0.5}})
    run.model.train()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.export("pt2", tmp_path)
    after = run.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in run.model.parameters())
    assert run.model.training


def test_recipes_in_safetensors_import_only_with_permission(tmp_path: Path) -> None:
    run = descend.train("iris", {**QUICK, "model": {"name": "torch.nn.LazyLinear", "out_features": 3}})
    path = run.export("safetensors", tmp_path)
    with pytest.raises(UserError, match="import"):
        load_exported(path)
    assert load_exported(path, allow_imports=True).predict("iris").tolist() == run.predict("iris").tolist()


def test_the_names_are_known_without_pytorch() -> None:
    code = "import sys, descend.export; assert 'torch' not in sys.modules; print(*descend.export.FORMATS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(FORMATS)
