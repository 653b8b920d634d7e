"""Networks with embedded categories: every part of the program trains, saves and exports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from tests.support.small_runs import assert_same
from tests.support.stop_at import StopAt
from torch import nn

import descend
from descend.data.category_inputs import category_inputs
from descend.errors import Interrupted, RecipeError
from descend.export import load_exported
from descend.many import train_many
from descend.nn import CategoryEmbedding, LearnedCategories

SIZES = ["S", "M", "L"]


def table(rows: int = 160) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    town = rng.integers(0, 12, rows)
    effect = rng.normal(size=12)
    names = np.array([f"town {at}" for at in range(12)])[town].astype(object)
    names[::11] = None
    age = rng.normal(40, 12, rows)
    return pl.DataFrame(
        {
            "member": rng.integers(0, 2, rows).astype(bool),
            "town": pl.Series(names.tolist(), dtype=pl.String),
            "age": age,
            "size": rng.choice(SIZES, rows),
            "color": rng.choice(["red", "blue"], rows),
            "y": effect[town] + (age - 40) / 24,
        }
    )


def small(embedding: Any = "learned", **model: Any) -> dict[str, Any]:
    return {
        "data": {"columns": {"size": SIZES}},
        "model": {"hidden": [8], "category_embedding": embedding, **model},
        "stop": {"max_epochs": 2},
        "engine": {"threads": 1},
    }


def front(run: descend.Run) -> CategoryEmbedding:
    layer = run.model.get_submodule("categories")
    assert isinstance(layer, CategoryEmbedding)
    return layer


def test_the_blocks_of_unordered_columns_are_embedded() -> None:
    run = descend.train(table(), small({"name": "learned", "dimension": 5}), target="y")
    names = run.preprocess.names
    blocks = category_inputs(run.schema)
    assert [names[each.start] for each in blocks] == ["town=town 0", "color=blue"]
    assert [names[each.positions[-1]] for each in blocks] == ["town=town 9", "color=red"]
    learned = front(run).embedding
    assert isinstance(learned, LearnedCategories)
    assert (learned.levels, learned.dimensions) == ((12, 2), (5, 2))
    linear = run.model.get_submodule("linear1")
    assert isinstance(linear, nn.Linear)
    assert linear.in_features == len(names) - 14 + 5 + 2
    assert "town is missing" in names  # an input of its own, as before


def test_a_town_that_was_never_seen_has_the_vector_zero() -> None:
    frame = table()
    run = descend.train(frame, small(), target="y")
    row = frame.drop("y").head(1)
    new = pl.concat([row, row.with_columns(town=pl.lit("elsewhere"))])
    encoded = run.preprocess(run.schema.matrix(new))
    embedded = front(run)(encoded).detach()
    learned = front(run).embedding.get_parameter("table0")
    at = embedded.shape[1] - 2 - 8
    code = run.schema.columns[1].categories.index(str(row["town"][0])) if row["town"][0] else None
    assert embedded[1, at:-2].tolist() == [0.0] * 8
    if code is not None:
        assert torch.equal(embedded[0, at:-2], learned.detach()[code])
    assert np.isfinite(run.predict(new)).all()


def test_saved_and_exported_networks_predict_the_same(tmp_path: Path) -> None:
    frame = table()
    run = descend.train(frame, small(number_embedding="periodic"), target="y", out=tmp_path / "run")
    new = frame.drop("y").head(24)
    expected = run.predict(new)
    assert np.array_equal(descend.load(tmp_path / "run").predict(new), expected)
    for form in ("pt2", "safetensors"):
        model = load_exported(run.export(form, tmp_path / f"model.{form}"))
        np.testing.assert_allclose(model.predict(new), expected, rtol=1e-6)
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    fed = {}
    matrix = run.schema.matrix(new).numpy()
    strings = {entry.name for entry in session.get_inputs() if "string" in entry.type}
    for at, column in enumerate(run.schema.used):
        words = (
            np.array([one or "" for one in new[column.name].to_list()]) if column.name in strings else None
        )
        fed[column.name] = matrix[:, at].astype(np.float64) if words is None else words
    np.testing.assert_allclose(session.run(None, fed)[0].reshape(-1), expected, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    frame = table()
    whole = descend.train(frame, small(), target="y", seed=2)
    with pytest.raises(Interrupted):
        descend.train(frame, small(), target="y", seed=2, out=tmp_path / "run", observers=[StopAt(5)])
    assert_same(descend.train(frame, out=tmp_path / "run", target="y", resume=True), whole)


@pytest.mark.parametrize("engine", ["packed", "vmap", "loop"])
def test_a_pack_trains_like_solo_runs(engine: Any) -> None:
    frame = table()
    recipes = [small(dropout=rate, hidden=[8, 8], number_embedding="linear") for rate in (0.1, 0.3)]
    if engine == "packed":
        recipes.append(small(hidden=[8, 5], number_embedding="linear"))
    runs = train_many(recipes, frame, target="y", seeds=4, engine=engine)
    for recipe, run in zip(recipes, runs, strict=True):
        assert run.environment["engine"]["name"] == engine
        solo = descend.train(frame, recipe, target="y", seed=4)
        assert run.model.state_dict().keys() == solo.model.state_dict().keys()
        for name, tensor in solo.model.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "model", [{"name": "linear"}, {"name": "tabm", "hidden": [8], "submodels": 2}, {"ensemble": 2}], ids=str
)
def test_it_is_in_front_of_any_model(model: dict[str, Any]) -> None:
    recipe = small() | {"model": {**model, "category_embedding": "learned"}}
    run = descend.train(table(), recipe, target="y")
    count = model.get("ensemble", 1)
    assert sum(isinstance(each, CategoryEmbedding) for each in run.model.modules()) == count


def test_rows_without_a_large_column_are_unchanged() -> None:
    run = descend.train(table().drop("town"), small(), target="y")
    plain = descend.train(table().drop("town"), small("none"), target="y")
    assert_same(run, plain)
    descend.train("wine", {"model": {"category_embedding": "learned"}, "stop": {"max_epochs": 1}})


def test_columns_with_a_mean_target_keep_it() -> None:
    recipe = small({"name": "learned", "above": 0})
    recipe["data"] = {"columns": {"town": {"kind": "categorical", "encoding": "target"}}}
    run = descend.train(table(), recipe, target="y")
    learned = front(run).embedding
    assert isinstance(learned, LearnedCategories)
    assert learned.levels == (3, 2)  # size, which is not ordered here, and color


def test_an_estimator_and_a_text_column_take_it() -> None:
    frame = table().with_columns(note=pl.Series([f"word {at % 7} of {at} other words" for at in range(160)]))
    recipe = small({"name": "learned", "above": 1})
    recipe["data"] = {"columns": {"note": "text"}, "text_buckets": 64}
    run = descend.train(frame, recipe, target="y")
    assert [name for name, _ in run.model.named_children()][:2] == ["text", "categories"]
    estimator = descend.Regressor(
        max_epochs=1, random_state=0, recipe={"model": {"category_embedding": "learned"}}
    )
    estimator.fit(frame.drop("y", "note").to_pandas(), frame["y"].to_numpy())
    assert estimator.predict(frame.drop("y", "note").to_pandas()).shape == (160,)


class Halves(nn.Module):
    """An embedding of one's own."""

    def __init__(self, levels: list[int], factor: float = 0.5) -> None:
        super().__init__()
        self.count, self.factor = len(levels), factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x[:, : self.count]


def test_an_embedding_of_ones_own() -> None:
    run = descend.train(table(), small(Halves), target="y")
    assert isinstance(front(run).embedding, Halves)


def test_settings_are_checked() -> None:
    with pytest.raises(RecipeError, match="did you mean 'learned'"):
        descend.train(table(), small("learnt"), target="y")
    with pytest.raises(RecipeError, match=r"category_embedding\.bins"):
        descend.train(table(), small({"name": "learned", "bins": 3}), target="y")
