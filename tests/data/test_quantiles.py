"""Robust scaling, and the map to normal numbers, against their formulas, SciPy and scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.preprocessing import QuantileTransformer, RobustScaler

import descend
from descend.data.preparation import prepare
from descend.data.quantiles import NormalMap, normal_quantile, quantiles_of, robust
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import RecipeError, RunError
from descend.export import load_exported

SMALL: dict[str, Any] = {"model": {"hidden": [4]}, "stop": {"max_epochs": 2}, "engine": {"threads": 1}}


def table(rows: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, rows)
    x[::9] = np.nan
    return pl.DataFrame(
        {
            "x": pl.Series(x).fill_nan(None),
            "heavy": np.exp(3 * rng.normal(size=rows)),
            "few": rng.choice([0, 0, 0, 0, 1, 7], rows) + 0.25,
            "flag": rng.integers(0, 2, rows).astype(bool),
            "y": rng.normal(size=rows),
        }
    )


def prepared(scale: Any, frame: pl.DataFrame | None = None) -> Any:
    frame = table() if frame is None else frame
    settings = DataSettings(target="y", scale=scale)
    return prepare(read(frame, settings=settings), settings)


class TestRobust:
    def test_is_scikit_learns_where_the_quartiles_differ(self) -> None:
        x = np.random.default_rng(1).standard_cauchy((101, 3))
        shift, scale = robust(x)
        reference = RobustScaler().fit(x)
        np.testing.assert_allclose(shift, reference.center_, rtol=1e-12)
        np.testing.assert_allclose(scale, reference.scale_, rtol=1e-12)

    def test_falls_back_to_half_the_range(self) -> None:
        x = np.array([[0.0, 2.0]] * 9 + [[3.0, 2.0]])
        shift, scale = robust(x)
        assert (shift.tolist(), scale.tolist()) == ([0.0, 2.0], [1.5, 1.0])

    def test_encoded_rows_are_the_formula(self) -> None:
        data = prepared("robust")
        heavy = table()["heavy"].to_numpy()
        train = heavy[data.train.rows]
        q = np.quantile(train, [0.25, 0.5, 0.75])
        u = (train - q[1]) / (q[2] - q[0])
        at = data.preprocess.names.index("heavy")
        np.testing.assert_allclose(
            data.train.inputs[:, at], u / np.sqrt(1 + (u / 3) ** 2), rtol=1e-5, atol=1e-6
        )
        assert set(data.train.inputs[:, data.preprocess.names.index("flag")].tolist()) == {-1.0, 1.0}

    def test_its_bound_is_a_setting(self) -> None:
        assert prepared({"name": "robust", "clip": 1.5}).train.inputs[:, 1].max() < 1.5
        assert 2 < prepared("robust").train.inputs[:, 1].max() < 3

    def test_weighted_quantiles_are_those_of_repeated_rows(self) -> None:
        rng = np.random.default_rng(2)
        x, counts = rng.normal(size=(40, 2)), rng.integers(0, 4, 40)
        shares = np.array([0.1, 0.25, 0.5, 0.75])
        repeated = np.repeat(x, counts, axis=0)
        expected = np.quantile(repeated, shares, axis=0, method="averaged_inverted_cdf")
        for factor in (1.0, 0.125):
            np.testing.assert_allclose(quantiles_of(x, shares, factor * counts), expected, rtol=1e-12)


class TestNormalQuantile:
    def test_is_that_of_scipy(self) -> None:
        p = np.concatenate([np.logspace(-12, -0.5, 200), 1 - np.logspace(-7, -0.5, 200), [0.02425, 0.97575]])
        found = normal_quantile(torch.from_numpy(p)).numpy()
        np.testing.assert_allclose(found, norm.ppf(p), rtol=2e-9)


class TestQuantile:
    def test_is_scikit_learns(self) -> None:
        data, frame = prepared("quantile"), table()
        new = frame.head(150)
        encoded = data.preprocess(data.schema.matrix(new.drop("y"))).numpy()
        for name in ("heavy", "few"):
            train = frame[name].to_numpy()[data.train.rows][:, None]
            reference = QuantileTransformer(n_quantiles=len(train), output_distribution="normal").fit(train)
            expected = reference.transform(new[name].to_numpy()[:, None])[:, 0]
            np.testing.assert_allclose(encoded[:, data.preprocess.names.index(name)], expected, atol=2e-6)
        x = frame["x"].to_numpy()[data.train.rows]
        known = x[~np.isnan(x)][:, None]
        reference = QuantileTransformer(n_quantiles=len(known), output_distribution="normal").fit(known)
        rows = new["x"].to_numpy()
        expected = reference.transform(rows[~np.isnan(rows)][:, None])[:, 0]
        np.testing.assert_allclose(encoded[~np.isnan(rows), 0], expected, atol=2e-6)

    def test_fewer_quantiles_than_rows(self) -> None:
        data, frame = prepared({"name": "quantile", "quantiles": 20}), table()
        assert len(data.schema.columns[1].quantiles) == 20
        train = frame["heavy"].to_numpy()[data.train.rows][:, None]
        reference = QuantileTransformer(n_quantiles=20, output_distribution="normal").fit(train)
        expected = reference.transform(train)[:, 0]
        np.testing.assert_allclose(data.train.inputs[:, 1], expected, atol=2e-6)

    def test_numbers_beyond_the_training_rows_are_bounded(self) -> None:
        data = prepared("quantile")
        frame = pl.DataFrame(
            {"x": [1e9, -1e9], "heavy": [1e30, -5.0], "few": [1.0, 1.0], "flag": [True, False]}
        )
        encoded = data.preprocess(data.schema.matrix(frame))
        np.testing.assert_allclose(encoded[:, 0], [norm.ppf(1 - 1e-7), norm.ppf(1e-7)], atol=1e-5)

    @given(
        st.lists(st.integers(0, 6), min_size=2, max_size=25),
        st.lists(st.integers(-4, 30), min_size=1, max_size=8),
    )
    def test_ties_and_few_values(self, train: list[int], new: list[int]) -> None:
        own = np.sort(np.array(train, dtype=np.float64))
        x = np.array(new) / 4.0
        reference = QuantileTransformer(n_quantiles=len(own), output_distribution="normal").fit(own[:, None])
        found = NormalMap([tuple(own)])(torch.from_numpy(x)[:, None])[:, 0]
        if own[0] < own[-1]:
            np.testing.assert_allclose(found, reference.transform(x[:, None])[:, 0], atol=1e-6)

    @pytest.mark.parametrize("scale", ["robust", "quantile"])
    def test_every_form_of_the_network_has_it(self, scale: str, tmp_path: Path) -> None:
        frame = table()
        run = descend.train(frame, {**SMALL, "data": {"scale": scale}}, target="y", out=tmp_path / "run")
        new = frame.drop("y").head(40)
        expected = run.predict(new)
        np.testing.assert_array_equal(descend.load(tmp_path / "run").predict(new), expected)
        for form in ("pt2", "safetensors"):
            model = load_exported(run.export(form, tmp_path / f"model.{form}"))
            np.testing.assert_allclose(model.predict(new), expected, rtol=1e-6, atol=1e-7)
        session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
        matrix = run.schema.matrix(new).numpy()
        fed = {column.name: matrix[:, at] for at, column in enumerate(run.schema.used)}
        np.testing.assert_allclose(session.run(None, fed)[0].reshape(-1), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("scale", ["robust", "quantile"])
    def test_a_streamed_table_is_scaled_alike(self, scale: str, tmp_path: Path) -> None:
        table().write_parquet(tmp_path / "rows.parquet")
        settings = [DataSettings(target="y", scale=scale, stream=stream) for stream in (False, True)]
        first, second = (prepare(read(tmp_path / "rows.parquet", settings=each), each) for each in settings)
        assert first.schema.columns == second.schema.columns

    def test_the_schema_is_json_and_old_ones_load(self) -> None:
        schema = prepared("quantile").schema
        assert Schema.from_json(schema.to_json()) == schema
        content = json.loads(prepared("standard").schema.to_json())
        for column in content["columns"]:
            assert column.pop("quantiles") == []
        assert Schema.from_json(json.dumps(content)) == prepared("standard").schema

    def test_damaged_quantiles_are_refused(self) -> None:
        content = json.loads(prepared("quantile").schema.to_json())
        content["columns"][1]["quantiles"].reverse()
        with pytest.raises(RunError, match="column 'heavy': its quantiles decrease"):
            Schema.from_json(json.dumps(content))

    @pytest.mark.parametrize("scale", ["robust", "quantile"])
    def test_images_are_refused(self, scale: str) -> None:
        images = np.random.default_rng(0).integers(0, 255, (40, 1, 4, 4)).astype(np.uint8)
        with pytest.raises(RecipeError, match=f"'{scale}' scales the columns of a table"):
            descend.train((images, np.arange(40) % 2), {**SMALL, "data": {"scale": scale}})
