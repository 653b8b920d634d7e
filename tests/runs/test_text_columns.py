"""Networks on tables with texts: they learn, and every part of the program takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from tests.support.small_runs import assert_same
from tests.support.stop_at import StopAt
from tests.support.texts import messages

import descend
from descend.errors import Interrupted, RecipeError, UserError
from descend.export import load_exported
from descend.nn import TextEmbedding

TEXTS, LABELS = messages(150)
DATA: dict[str, Any] = {
    "message": [text if i % 9 else None for i, text in enumerate(TEXTS)],
    "n": [float(i * i % 101) for i in range(150)],
    "subject": [text[::-1] for text in TEXTS],
    "label": LABELS,
}
NEW: dict[str, Any] = {
    "message": ["win a free phone now", None, "", "😀😀 !!!", 5],
    "n": [1.0, 2.0, None, 4.0, 5.0],
    "subject": ["see you then", "a b c", "x", "y", "z"],
}
ONLY = {"message": TEXTS, "label": LABELS}
SMALL = descend.Recipe(
    model={"hidden": [8], "text_dimension": 4},
    data={"text_buckets": 256},
    stop={"max_epochs": 3},
    engine={"threads": 1},
)


@pytest.fixture(scope="module")
def run() -> descend.Run:
    return descend.train(DATA, SMALL, target="label")


def test_learns_messages_as_well_as_a_linear_model_of_scikit_learn() -> None:
    texts, labels = messages(700, seed=3)
    new, expected = messages(400, seed=4)
    run = descend.train({"message": texts, "label": labels}, target="label", seed=0)
    accuracy = np.mean(run.predict({"message": new}) == np.array(expected))
    vectorizer = HashingVectorizer(n_features=2**13, alternate_sign=False, ngram_range=(1, 2))
    reference = LogisticRegression(C=10.0).fit(vectorizer.transform(texts), labels)
    assert accuracy > 0.98  # the majority has 60 %
    assert accuracy > reference.score(vectorizer.transform(new), expected) - 0.01


def test_a_regression_on_a_text_only() -> None:
    texts = [text for text, _ in zip(*messages(400, seed=5), strict=True)]
    targets = [10.0 * ("free" in text) + len(text.split()) / 10 for text in texts]
    run = descend.train({"message": texts, "y": targets}, {"stop": {"max_epochs": 60}}, target="y")
    assert run.metrics["test"]["r2"] > 0.9


def test_the_first_layer_is_the_embedding(run: descend.Run) -> None:
    assert list(dict(run.model.named_children())) == ["text", "linear1", "act1", "drop1", "output"]
    front = run.model.get_submodule("text")
    assert isinstance(front, TextEmbedding)
    assert (front.numbers, front.dimension, len(front.tables)) == (2, 4, 2)


def test_rows_in_any_form_are_predicted_alike(run: descend.Run, tmp_path: Path) -> None:
    expected = run.predict_proba(NEW)
    assert np.isfinite(expected).all()
    frame = pl.DataFrame({**NEW, "message": [*NEW["message"][:4], "5"]})
    frame.write_parquet(tmp_path / "new.parquet")
    frame.write_csv(tmp_path / "new.csv")
    records = [dict(zip(NEW, row, strict=True)) for row in zip(*NEW.values(), strict=True)]
    for rows in (
        frame,
        frame.to_pandas(),
        frame.to_arrow(),
        tmp_path / "new.parquet",
        tmp_path / "new.csv",
        records,
    ):
        np.testing.assert_array_equal(run.predict_proba(rows), expected)
    alone = np.concatenate([run.predict_proba([record]) for record in records])
    np.testing.assert_allclose(alone, expected, rtol=1e-5)


def test_a_saved_run_predicts_the_same(run: descend.Run, tmp_path: Path) -> None:
    saved = descend.train(DATA, SMALL, target="label", out=tmp_path / "run")
    np.testing.assert_array_equal(saved.predict_proba(NEW), run.predict_proba(NEW))
    loaded = descend.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.predict_proba(NEW), run.predict_proba(NEW))
    assert "n-grams" in loaded.report().read_text(encoding="utf-8")


@pytest.mark.parametrize("data", [DATA, ONLY], ids=["with numbers", "only"])
@pytest.mark.parametrize("form", ["pt2", "safetensors"])
def test_an_exported_network_takes_texts(data: dict[str, Any], form: str, tmp_path: Path) -> None:
    own = descend.train(data, SMALL, target="label")
    model = load_exported(own.export(form, tmp_path / f"model.{form}"))
    np.testing.assert_allclose(model.predict_proba(NEW), own.predict_proba(NEW), rtol=1e-6, atol=1e-7)


def test_the_input_of_a_pt2_file_is_the_raw_row(run: descend.Run, tmp_path: Path) -> None:
    program = torch.export.load(run.export("pt2", tmp_path / "model.pt2")).module()
    rows = run.schema.matrix(NEW)
    assert rows.shape == (5, run.schema.width)
    _, probabilities = program(rows)
    np.testing.assert_allclose(probabilities.numpy(), run.predict_proba(NEW), rtol=1e-6, atol=1e-7)


def test_onnx_refuses_texts(run: descend.Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(
        UserError,
        match=r"the text columns 'message', 'subject' cannot be written as ONNX.*use the format pt2",
    ):
        run.export("onnx", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    whole = descend.train(DATA, SMALL, target="label", seed=2)
    with pytest.raises(Interrupted):
        descend.train(DATA, SMALL, target="label", seed=2, out=tmp_path / "run", observers=[StopAt(5)])
    assert_same(descend.train(DATA, target="label", out=tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("engine", ["packed", "loop"])
def test_members_train_as_in_a_solo_run(engine: Any) -> None:
    recipes = [SMALL.replace({"optimizer.lr": lr}) for lr in (1e-3, 1e-2)]
    many = descend.train_many(recipes, DATA, target="label", engine=engine)
    for member, recipe in zip(many, recipes, strict=True):
        solo = descend.train(DATA, recipe, target="label")
        np.testing.assert_allclose(member.predict_proba(NEW), solo.predict_proba(NEW), atol=1e-5)


def test_a_streamed_table_equals_one_in_memory(tmp_path: Path) -> None:
    pl.DataFrame(DATA).write_parquet(tmp_path / "data.parquet")
    streamed, loaded = (
        descend.train(tmp_path / "data.parquet", SMALL.replace({"data.stream": stream}), target="label")
        for stream in (True, False)
    )
    assert streamed.schema == loaded.schema
    np.testing.assert_array_equal(streamed.predict_proba(NEW), loaded.predict_proba(NEW))


def test_manual_backpropagation_and_autograd_train_the_same_network(run: descend.Run, monkeypatch) -> None:
    from descend.training.chain import Chain

    monkeypatch.setattr(Chain, "of", lambda *arguments: None)
    other = descend.train(DATA, SMALL, target="label")
    np.testing.assert_array_equal(other.predict_proba(NEW), run.predict_proba(NEW))


@pytest.mark.parametrize("method", ["mixup"])
def test_texts_are_not_mixed(method: str) -> None:
    with pytest.raises(RecipeError, match="'mixup' computes means of rows, and texts have no mean"):
        descend.train(DATA, SMALL.replace({"data.augment": [method]}), target="label")


def test_noise_leaves_texts_unchanged() -> None:
    from descend.augmentation.pipeline import layout_of
    from descend.data import DataSettings, prepare, read

    prepared = prepare(read(DATA, target="label"), DataSettings(target="label"))
    layout = layout_of(prepared.schema, prepared.preprocess)
    rows = prepared.train.inputs
    assert rows is not None
    generator = torch.Generator().manual_seed(0)
    noisy = descend.augmentation.Noise(std=3.0).on(layout)(rows, generator)
    assert torch.equal(noisy[:, 1:], rows[:, 1:])
    assert not (noisy[:, 0] == rows[:, 0]).any()
    dropped = descend.augmentation.FeatureDropout(probability=0.5).on(layout)(rows, generator)
    first, second = (each.length for each in prepared.schema.texts)
    for start, length in ((2, first), (2 + first, second)):
        gone = (dropped[:, start : start + length] == 0).all(dim=1)
        kept = (dropped[:, start : start + length] == rows[:, start : start + length]).all(dim=1)
        assert (gone | kept).all()
        assert 20 < int(gone.sum()) < 80


def test_a_jacobian_penalty_needs_numbers() -> None:
    recipe = SMALL.replace({"regularize.jacobian": 0.1})
    with pytest.raises(RecipeError, match="all inputs are texts"):
        descend.train(ONLY, recipe, target="label")
    assert descend.train(DATA, recipe, target="label").metrics["status"] == "finished"


def test_the_embeddings_decay() -> None:
    recipe = SMALL.replace(
        {
            "optimizer.name": "sgd",
            "optimizer.lr": 1e-9,
            "regularize.weight_decay": 1e8,
            "stop.average": 0.0,
            "schedule.warmup": 0.0,
            "data.batch_size": 512,
            "data.validation": 0.0,
        }
    )
    epochs = [
        descend.train(ONLY, recipe.replace({"stop.max_epochs": count}), target="label").model.state_dict()
        for count in (1, 2)
    ]
    name = "text.tables.0.weight"
    torch.testing.assert_close(epochs[1][name], 0.9 * epochs[0][name], rtol=1e-3, atol=1e-8)


def test_ensembles_and_estimators(run: descend.Run) -> None:
    ensemble = descend.train(DATA, SMALL.replace({"model.ensemble": 2}), target="label")
    assert np.isfinite(ensemble.predict_proba(NEW)).all()
    frame = pl.DataFrame({"message": TEXTS, "n": DATA["n"]}).to_pandas()
    classifier = descend.Classifier(max_epochs=15).fit(frame, LABELS)
    assert classifier.score(frame, LABELS) > 0.9
    column = np.array(TEXTS, dtype=object).reshape(-1, 1)
    assert descend.Classifier(max_epochs=15).fit(column, LABELS).score(column, LABELS) > 0.9


@pytest.mark.parametrize("form", [list, np.array, pl.Series, lambda texts: np.array(texts, dtype=object)])
def test_a_sequence_of_strings_is_one_column(form: Any) -> None:
    column = np.array(TEXTS, dtype=object).reshape(-1, 1)
    expected = descend.train((column, np.array(LABELS)), SMALL)
    new = ["win a free phone now", "see you then", "a"]
    run = descend.train((form(TEXTS), LABELS), SMALL)
    assert run.schema == expected.schema
    np.testing.assert_array_equal(
        run.predict_proba(form(new)), expected.predict_proba([[text] for text in new])
    )
    assert run.evaluate((form(TEXTS), LABELS)) == expected.evaluate((column, LABELS))
    classifier = descend.Classifier(max_epochs=3).fit(form(TEXTS), LABELS)
    assert (classifier.predict(form(TEXTS)) == classifier.predict(column)).all()
