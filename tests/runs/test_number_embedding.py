"""Networks with embedded numbers: they learn steps, and every part of the program takes them."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from sklearn.datasets import load_digits
from tests.support.small_runs import assert_same
from tests.support.stop_at import StopAt
from torch import nn

import descend
from descend.data.number_inputs import number_inputs
from descend.errors import Interrupted, RecipeError
from descend.export import load_exported
from descend.many import train_many
from descend.nn import NumberEmbedding, PiecewiseLinearEmbedding
from descend.runs import check_gradients


def table(rows: int = 200) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    age = rng.normal(40, 12, rows)
    age[::7] = np.nan
    frame = pl.DataFrame(
        {
            "member": rng.integers(0, 2, rows).astype(bool),
            "age": pl.Series(age).fill_nan(None),
            "town": rng.choice(["Ulm", "Bonn", "Kiel"], rows),
            "size": rng.lognormal(size=rows),
            "day": [f"2020-{1 + i % 12:02}-{1 + i % 28:02}" for i in range(rows)],
        }
    )
    return frame.with_columns(y=pl.col("size").log().sign() + pl.col("age").fill_null(40) / 12)


SMALL: dict[str, Any] = {
    "model": {"hidden": [8], "number_embedding": "piecewise_linear"},
    "stop": {"max_epochs": 3},
    "engine": {"threads": 1},
}
EVERY: list[Any] = [
    "linear",
    "piecewise_linear",
    {"name": "piecewise_linear", "edges": "tree", "leaf_rows": 5, "bins": 4},
    {"name": "piecewise_linear", "dimension": 3, "activation": "relu"},
    "periodic",
    {"name": "periodic", "form": "plr"},
]
every = pytest.mark.parametrize("embedding", EVERY, ids=lambda each: str(each).replace(" ", ""))


def small(embedding: Any, **model: Any) -> dict[str, Any]:
    return {**SMALL, "model": {**SMALL["model"], "number_embedding": embedding, **model}}


def front(run: descend.Run) -> NumberEmbedding:
    layer = run.model.get_submodule("numbers")
    assert isinstance(layer, NumberEmbedding)
    return layer


def test_steps_are_learned_that_a_plain_network_misses() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(1500, 4))
    y = np.sign(np.sin(14 * x[:, 0])) + np.sign(np.sin(14 * x[:, 1]))
    scores = {}
    for name in ("none", "piecewise_linear", "periodic"):
        settings: Any = {"name": "periodic", "sigma": 1.0} if name == "periodic" else name
        run = descend.train(
            (x, y), {"model": {"number_embedding": settings}, "stop": {"max_epochs": 30}}, seed=0
        )
        scores[name] = run.metrics["test"]["r2"]
    assert scores["piecewise_linear"] > scores["none"] + 0.1
    assert scores["periodic"] > scores["none"] + 0.1


def test_only_numbers_are_embedded() -> None:
    run = descend.train(table(), SMALL, target="y")
    names = run.preprocess.names
    assert [names[each.position] for each in number_inputs(run.schema)] == ["age", "size", "day"]
    layer = front(run)
    assert layer.width == len(names)
    linear = run.model.get_submodule("linear1")
    assert isinstance(linear, nn.Linear)
    assert linear.in_features == 3 * 16 + len(names) - 3


def test_edges_are_quantiles_of_the_scaled_training_rows_that_are_not_missing() -> None:
    frame = table()
    run = descend.train(frame, SMALL, target="y")
    layer = front(run).embedding
    assert isinstance(layer, PiecewiseLinearEmbedding)
    plan = descend.train(frame, SMALL, target="y")  # the same split
    assert torch.equal(layer.left, front(plan).embedding.get_buffer("left"))
    from descend.runs.plan import Planner

    prepared = Planner(frame, target="y").plan(SMALL).prepared
    age = frame["age"].to_numpy()[prepared.train.rows]
    column = run.schema.columns[1]
    scaled = (age[~np.isnan(age)] - column.mean) / column.scale
    scaled = scaled / np.sqrt(1 + (scaled / 10) ** 2)
    edges = np.quantile(scaled, np.linspace(0, 1, 17))
    np.testing.assert_allclose(layer.left[0], edges[:-1], atol=1e-6)
    np.testing.assert_allclose(layer.width[0], np.diff(edges), atol=1e-6)


@every
def test_saved_and_exported_networks_predict_the_same(embedding: Any, tmp_path: Path) -> None:
    frame = table()
    run = descend.train(frame, small(embedding), target="y", out=tmp_path / "run")
    new = frame.drop("y").head(20)
    expected = run.predict(new)
    assert np.array_equal(descend.load(tmp_path / "run").predict(new), expected)
    for form in ("pt2", "safetensors"):
        model = load_exported(run.export(form, tmp_path / f"model.{form}"))
        np.testing.assert_allclose(model.predict(new), expected, rtol=1e-6)
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    fed = {}
    matrix = run.schema.matrix(new).numpy()
    for at, column in enumerate(run.schema.used):
        fed[column.name] = np.array(new["town"].to_list()) if column.name == "town" else matrix[:, at]
    dtypes = {entry.name: entry.type for entry in session.get_inputs()}
    fed = {
        name: value if "string" in dtypes[name] else value.astype(np.float64) for name, value in fed.items()
    }
    np.testing.assert_allclose(session.run(None, fed)[0].reshape(-1), expected, rtol=1e-5)


@every
def test_a_resumed_run_has_the_same_bits(embedding: Any, tmp_path: Path) -> None:
    frame = table()
    whole = descend.train(frame, small(embedding), target="y", seed=2)
    with pytest.raises(Interrupted):
        descend.train(
            frame, small(embedding), target="y", seed=2, out=tmp_path / "run", observers=[StopAt(7)]
        )
    resumed = descend.train(frame, out=tmp_path / "run", target="y", resume=True)
    assert_same(resumed, whole)


@every
@pytest.mark.parametrize("engine", ["packed", "vmap", "loop"])
def test_a_pack_trains_like_solo_runs(embedding: Any, engine: Any) -> None:
    frame = table()
    recipes = [
        small(embedding, dropout=rate, hidden=[8, width]) for rate, width in ((0.1, 8), (0.3, 8), (0.2, 8))
    ]
    if engine == "packed":
        recipes.append(small(embedding, hidden=[8, 5]))
    runs = train_many(recipes, frame, target="y", seeds=4, engine=engine)
    for recipe, run in zip(recipes, runs, strict=True):
        assert run.environment["engine"]["name"] == engine
        solo = descend.train(frame, recipe, target="y", seed=4)
        for name, tensor in solo.model.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def test_members_with_different_embeddings_are_trained_together() -> None:
    recipes = [small(each) for each in EVERY] + [{**SMALL, "model": {"hidden": [8]}}]
    runs = train_many(recipes, table(), target="y")
    solo = descend.train(table(), recipes[1], target="y")
    expected = solo.metrics["test"]["r2"]
    assert runs[1].metrics["test"]["r2"] == pytest.approx(expected, abs=1e-5)
    assert len({run.metrics["test"]["r2"] for run in runs}) == len(runs)


@pytest.mark.parametrize(
    "model", [{"name": "linear"}, {"residual": True, "hidden": [8, 8]}, {"ensemble": 2}], ids=str
)
def test_it_is_in_front_of_any_model(model: dict[str, Any]) -> None:
    recipe = {**SMALL, "model": {**model, "number_embedding": "piecewise_linear"}}
    run = descend.train(table(), recipe, target="y")
    assert sum(isinstance(each, NumberEmbedding) for each in run.model.modules()) == model.get("ensemble", 1)


class Squares(nn.Module):
    """An embedding of one's own, with a part that is fitted."""

    scale: torch.Tensor

    def __init__(self, numbers: int, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("scale", torch.zeros(numbers))

    def fit(self, rows: torch.Tensor, targets: torch.Tensor, **others: Any) -> None:
        self.scale.copy_(rows.nan_to_num().abs().amax(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x, self.factor * x * x / self.scale.clamp_min(1.0)], dim=-1)


def test_an_embedding_of_ones_own() -> None:
    run = descend.train(table(), small(functools.partial(Squares, factor=2.0)), target="y")
    layer = front(run).embedding
    assert isinstance(layer, Squares)
    assert layer.factor == 2.0
    assert layer.scale.min() > 1.0


@pytest.mark.parametrize("optimizer", ["kfac", "shampoo", "soap", "lbfgs", "stron"])
def test_second_order_methods_train_it(optimizer: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these warn of few rows in a batch
        run = descend.train(table(), {**small("periodic"), "optimizer": optimizer}, target="y", seed=1)
    state = {name: tensor for name, tensor in run.model.state_dict().items() if name.startswith("numbers")}
    from descend.recipe.build import build_model
    from descend.recipe.facts import facts_of

    start = build_model(run.recipe, facts_of(run.schema), 1).state_dict()
    assert len(state) == 4
    assert all(not torch.equal(start[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("embedding", ["periodic", {"name": "piecewise_linear", "dimension": 2}], ids=str)
def test_derivatives(embedding: Any) -> None:
    check = check_gradients(table(), small(embedding, activation="tanh"), target="y")
    assert check.agrees


def test_the_gradient_penalty_differentiates_through_it() -> None:
    recipe = {**small("piecewise_linear"), "regularize": {"jacobian": 0.1}}
    plain = descend.train(table(), small("piecewise_linear"), target="y")
    run = descend.train(table(), recipe, target="y")
    assert not torch.equal(
        plain.model.get_parameter("linear1.weight"), run.model.get_parameter("linear1.weight")
    )


def refusal(data: Any, model: dict[str, Any], **arguments: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        descend.train(data, {**SMALL, "model": {**model}}, **arguments)
    return str(caught.value)


def test_rows_without_numbers_are_refused() -> None:
    frame = table().select("town", "member", "y")
    message = refusal(frame, {"number_embedding": "linear"}, target="y")
    assert "number_embedding" in message
    assert "no input of these rows is one" in message
    images = load_digits().images[:, None].astype(np.float32), load_digits().target
    assert "a row here has the shape (1, 8, 8)" in refusal(images, {"number_embedding": "linear"})


def test_settings_are_checked() -> None:
    message = refusal(table(), {"number_embedding": "piecewise"}, target="y")
    assert "did you mean 'piecewise_linear'?" in message
    message = refusal(table(), {"number_embedding": {"name": "periodic", "bins": 3}}, target="y")
    assert "number_embedding.bins" in message
    message = refusal(table(), {"number_embedding": {"name": "periodic", "dimension": 1}}, target="y")
    assert "dimension must be 2 or more" in message


def test_items_that_are_loaded_one_by_one() -> None:
    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, at: int) -> Any:
            return torch.tensor([at / 60, at % 7.0]), float(at % 5)

    assert "these are loaded one by one" in refusal(Rows(), {"number_embedding": "piecewise_linear"})
    run = descend.train(Rows(), {**SMALL, "model": {"number_embedding": "periodic"}})
    assert front(run).positions == (0, 1)


def test_a_streamed_table_has_the_same_edges(tmp_path: Path) -> None:
    table().write_parquet(tmp_path / "rows.parquet")
    plain = descend.train(tmp_path / "rows.parquet", SMALL, target="y")
    streamed = descend.train(tmp_path / "rows.parquet", {**SMALL, "data": {"stream": True}}, target="y")
    assert torch.equal(
        front(plain).embedding.get_buffer("left"), front(streamed).embedding.get_buffer("left")
    )


def test_a_run_whose_recipe_has_no_such_key_loads(tmp_path: Path) -> None:
    run = descend.train("iris", {"model": {"hidden": [4]}, "stop": {"max_epochs": 1}}, out=tmp_path / "run")
    recipe = run.recipe.to_toml()
    older = "\n".join(
        line
        for line in recipe.splitlines()
        if not line.startswith(
            ("number_embedding", "dropout_schedule", "weight_decay_schedule", "scaling_layer")
        )
    )
    assert len(older.splitlines()) == len(recipe.splitlines()) - 4
    loaded = descend.Recipe.loads(older)
    from descend.recipe.build import build_model
    from descend.recipe.facts import facts_of

    model = build_model(loaded, facts_of(run.schema), 0)
    model.load_state_dict(run.model.state_dict())
    assert not hasattr(model, "numbers")


def test_an_embedding_that_memory_cannot_hold_is_refused_before_it_is_built() -> None:
    message = refusal(table(), {"number_embedding": {"name": "piecewise_linear", "bins": 10**12}}, target="y")
    assert "embeddings of 3 numbers need" in message
    assert "use fewer bins" in message


def test_components_of_a_rotation_are_embedded() -> None:
    run = descend.train(table(), {**SMALL, "data": {"scale": "pca"}}, target="y")
    names = run.preprocess.names
    assert [names[each.position] for each in number_inputs(run.schema)] == [
        f"component {i}" for i in (1, 2, 3)
    ]
    assert all(each.missing is None for each in number_inputs(run.schema))
