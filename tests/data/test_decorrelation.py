import dataclasses
import json
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.support.examples import examples
from threadpoolctl import threadpool_limits

import descend
from descend.data.decorrelation import LARGEST_SIDE, Rotation, covariance, pca, whiten, zca
from descend.data.preparation import prepare
from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import Source
from descend.data.sources import read
from descend.errors import RecipeError, RunError

RANDOM = np.random.default_rng(0)
N, D = 400, 5
MIX = RANDOM.normal(size=(D, D))
CLOUD = RANDOM.normal(size=(N, D)) @ MIX * [1, 10, 1e3, 0.1, 5] + [0, 1e4, 3, -7, 0]
UNITS = st.sampled_from([True, False])


def applied(fitted, rows):
    shift, divisor, matrix = fitted
    return ((rows - shift) / divisor) @ matrix


def all_rows(scale, **more):
    return DataSettings(scale=scale, validation=0, test=0, clip="none", **more)


def table_of(values, labels=None):
    labels = np.arange(len(values)) % 2 if labels is None else labels
    return Source("t", None, "table", labels, ("y",), frame=pl.from_numpy(values), named=False)


class TestCovariance:
    def test_equals_numpy(self, monkeypatch):
        monkeypatch.setattr("descend.data.decorrelation._BLOCK", 37 * D)  # many blocks, the last one smaller
        mean, result = covariance(CLOUD)
        np.testing.assert_allclose(mean, CLOUD.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(result, np.cov(CLOUD, rowvar=False, ddof=0), rtol=1e-11)
        weights = RANDOM.integers(0, 4, N)
        mean, result = covariance(CLOUD, weights.astype(float))
        np.testing.assert_allclose(mean, np.average(CLOUD, axis=0, weights=weights), rtol=1e-12)
        np.testing.assert_allclose(result, np.cov(CLOUD, rowvar=False, ddof=0, fweights=weights), rtol=1e-11)

    def test_an_offset_costs_no_precision(self, monkeypatch):
        monkeypatch.setattr("descend.data.decorrelation._BLOCK", 64)
        small = RANDOM.normal(size=(1000, 2))
        offset = np.array([1e9, -3e8])
        stored = (small + offset) - offset  # as far as float64 represents them
        np.testing.assert_allclose(
            covariance(small + offset)[1], np.cov(stored, rowvar=False, ddof=0), rtol=1e-9
        )

    def test_bytes_and_blocks_without_weight(self, monkeypatch):
        monkeypatch.setattr("descend.data.decorrelation._BLOCK", 10)
        levels = RANDOM.integers(0, 256, (50, 2), dtype=np.uint8)
        weights = np.array([0.0] * 20 + [1.0] * 30)
        np.testing.assert_allclose(
            covariance(levels, weights)[1], np.cov(levels[20:], rowvar=False, ddof=0), rtol=1e-12
        )


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("standardize", [True, False])
    def test_pca_signs_included(self, standardize):
        rows = CLOUD if standardize else RANDOM.normal(size=(N, D)) @ MIX
        steps = [StandardScaler()] if standardize else []
        expected = make_pipeline(*steps, PCA(svd_solver="full")).fit_transform(rows)
        np.testing.assert_allclose(
            applied(pca(rows, standardize=standardize), rows), expected, rtol=1e-8, atol=1e-8
        )

    @pytest.mark.parametrize("standardize", [True, False])
    def test_whiten_with_variance_over_m(self, standardize):
        rows = CLOUD if standardize else RANDOM.normal(size=(N, D)) @ MIX
        steps = [StandardScaler()] if standardize else []
        expected = make_pipeline(*steps, PCA(whiten=True, svd_solver="full")).fit_transform(rows)
        result = applied(whiten(rows, ridge=0.0, standardize=standardize), rows)
        np.testing.assert_allclose(result, expected * np.sqrt(N / (N - 1)), rtol=1e-7, atol=1e-7)

    def test_dividing_by_singular_values_gives_columns_of_length_one(self):
        rows = RANDOM.normal(size=(N, D)) @ MIX
        centered = rows - rows.mean(axis=0)
        left, singular, right = np.linalg.svd(centered, full_matrices=False)
        normalized = (centered @ right.T) / (singular + 1e-12)
        np.testing.assert_allclose(np.abs(normalized), np.abs(left), atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(normalized, axis=0), 1, rtol=1e-9)
        whitened = applied(whiten(rows, standardize=False), rows)
        np.testing.assert_allclose(np.abs(whitened), np.sqrt(N) * np.abs(normalized), atol=1e-5)


class TestWhitening:
    @pytest.mark.parametrize("make", [whiten, zca])
    @pytest.mark.parametrize("standardize", [True, False])
    def test_covariance_is_the_identity(self, make, standardize):
        rows = CLOUD if standardize else RANDOM.normal(size=(N, D)) @ MIX
        result = np.cov(applied(make(rows, standardize=standardize), rows), rowvar=False, ddof=0)
        np.testing.assert_allclose(result, np.eye(D), atol=1e-5)

    def test_zca_is_symmetric_and_changes_the_rows_least(self):
        rows = standard_rows = (CLOUD - CLOUD.mean(0)) / CLOUD.std(0)
        matrix = zca(standard_rows)[2]
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > 0
        least = np.square(rows @ matrix - rows).sum()
        for seed in range(20):
            other = matrix @ ortho_group.rvs(D, random_state=seed)  # also a whitening matrix
            np.testing.assert_allclose(np.cov(rows @ other, rowvar=False, ddof=0), np.eye(D), atol=1e-5)
            assert np.square(rows @ other - rows).sum() > least

    def test_zca_is_the_identity_on_white_rows(self):
        white = applied(whiten(CLOUD, ridge=0.0), CLOUD)
        np.testing.assert_allclose(applied(zca(white, ridge=0.0), white), white, atol=1e-9)

    @pytest.mark.parametrize("make", [pca, whiten, zca])
    def test_weights_are_equivalent_to_repetition(self, make):
        weights = RANDOM.integers(0, 4, N)
        for result, expected in zip(
            make(CLOUD, weights.astype(float)), make(np.repeat(CLOUD, weights, axis=0)), strict=True
        ):
            np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-7)

    @pytest.mark.parametrize("make", [whiten, zca])
    def test_directions_that_do_not_vary_are_dropped(self, make):
        rows = RANDOM.normal(size=(N, 3))
        rows = np.hstack([rows, rows[:, :1] - rows[:, 1:2], np.full((N, 1), 7.0)])
        fitted = make(rows)
        result = np.cov(applied(fitted, rows), rowvar=False, ddof=0)
        assert np.isfinite(fitted[2]).all()
        np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(result)), [0, 0, 1, 1, 1], atol=1e-6)
        stray = applied(fitted, rows + 100 * np.array([0, 0, 0, 0, 1.0]))  # along the constant direction
        np.testing.assert_allclose(stray, applied(fitted, rows), atol=1e-6)

    @pytest.mark.parametrize("make", [whiten, zca])
    def test_fewer_rows_than_columns(self, make):
        rows = RANDOM.normal(size=(10, 30))
        fitted = make(rows)
        new = RANDOM.normal(size=(200, 30))
        assert np.abs(applied(fitted, new)).max() < 100  # rather than 1e8
        values = np.linalg.eigvalsh(np.cov(applied(fitted, rows), rowvar=False, ddof=0))
        np.testing.assert_allclose(np.sort(values), [0.0] * 21 + [1.0] * 9, atol=1e-6)

    def test_the_ridge_is_a_share_of_the_mean_variance(self):
        rows = RANDOM.normal(size=(N, 2)) * [1.0, 1e-3]
        values = np.linalg.eigvalsh(np.cov(rows, rowvar=False, ddof=0))
        for ridge in (0.0, 1e-8, 0.1):
            result = np.cov(applied(zca(rows, ridge=ridge, standardize=False), rows), rowvar=False, ddof=0)
            expected = values / (values + ridge * values.mean())
            np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(result)), np.sort(expected), rtol=1e-6)

    @pytest.mark.slow
    @settings(deadline=None, max_examples=examples(40))
    @given(
        seed=st.integers(0, 10**6),
        n=st.integers(2, 30),
        d=st.integers(1, 8),
        low=st.integers(0, 12),
        units=UNITS,
    )
    def test_finite_and_never_wider_than_one_for_any_rows(self, seed, n, d, low, units):
        random = np.random.default_rng(seed)
        rows = random.normal(size=(n, d)) @ (random.normal(size=(d, d)) * 10.0 ** -random.uniform(0, low, d))
        for make in (whiten, zca):
            fitted = make(rows, standardize=units)
            assert all(np.isfinite(part).all() for part in fitted)
            result = np.cov(applied(fitted, rows), rowvar=False, ddof=0)
            assert np.linalg.eigvalsh(np.atleast_2d(result)).max() < 1 + 1e-5


def mixed(rows=120):
    random = np.random.default_rng(1)
    base = random.normal(size=(rows, 3)) @ random.normal(size=(3, 3))
    return pl.DataFrame(
        {
            "a": [None if i % 9 == 0 else float(v) * 1e4 for i, v in enumerate(base[:, 0])],
            "member": [i % 2 == 0 for i in range(rows)],
            "color": [("red", "blue", "green")[i % 3] for i in range(rows)],
            "b": base[:, 1],
            "c": base[:, 2] * 1e-3 + 5,
            "y": base.sum(1) > 0,
        }
    )


class TestInTheSchema:
    @pytest.mark.parametrize("name", ["whiten", "zca"])
    def test_the_numbers_of_a_table_are_whitened_and_other_inputs_unchanged(self, name):
        source = read(mixed(), target="y")
        result, plain = (prepare(source, all_rows(each)) for each in (name, "standard"))
        numbers = [0, 2, 3]
        names = result.preprocess.names
        assert names[1] == "member"
        assert [names[at] for at in numbers] == (
            ["a", "b", "c"] if name == "zca" else ["component 1", "component 2", "component 3"]
        )
        inputs, before = result.train.inputs, plain.train.inputs
        rest = [at for at in range(inputs.shape[1]) if at not in numbers]
        assert torch.equal(inputs[:, rest], before[:, rest])
        np.testing.assert_allclose(
            np.cov(inputs[:, numbers].double().numpy(), rowvar=False, ddof=0), np.eye(3), atol=1e-5
        )

    def test_the_bound_comes_after_the_rotation(self):
        rows = np.vstack([CLOUD, CLOUD.mean(0) + 1e6 * CLOUD.std(0)])
        source = dataclasses.replace(table_of(rows), split=np.array(["train"] * N + ["test"]))
        settings = DataSettings(scale="zca", validation=0)
        result = prepare(source, settings)
        clip = DataSettings().clip
        assert result.schema.clip == clip
        assert result.test.inputs.abs().max() <= clip
        free = prepare(source, dataclasses.replace(settings, clip="none"))
        bounded = free.train.inputs.double()
        torch.testing.assert_close(
            result.train.inputs.double(),
            bounded / torch.sqrt(1 + (bounded / clip) ** 2),
            rtol=1e-6,
            atol=1e-6,
        )

    @pytest.mark.parametrize("shape", [(2, 3, 5), (1, 8, 8)])
    @pytest.mark.parametrize("kind", [np.uint8, np.float32])
    def test_images_are_whitened_over_their_pixels(self, shape, kind):
        size = int(np.prod(shape))
        images = RANDOM.normal(size=(600, size)) @ (np.eye(size) + 0.05 * RANDOM.normal(size=(size, size)))
        images = (images * 20 + 128).reshape(600, *shape).astype(kind)
        prepared = prepare(read((images, np.arange(600) % 2)), all_rows("zca"))
        inputs = prepared.train.inputs.flatten(1).double().numpy()
        assert prepared.schema.input_shape == shape
        assert len(prepared.schema.shift) == shape[0]
        np.testing.assert_allclose(np.cov(inputs, rowvar=False, ddof=0), np.eye(size), atol=1e-4)
        assert np.abs(inputs.mean(axis=0)).max() < 1e-4
        before = prepare(read((images, np.arange(600) % 2)), all_rows("standard")).train.inputs.flatten(1)
        assert (
            np.corrcoef(before.numpy().ravel(), inputs.ravel())[0, 1] > 0.9
        )  # the images are still recognizable

    @pytest.mark.parametrize(
        "scale", ["pca", "whiten", "zca", {"name": "zca", "ridge": 0.1, "standardize": False}]
    )
    def test_json_is_exact(self, scale):
        source = read(mixed(), target="y")
        prepared = prepare(source, DataSettings(scale=scale))
        again = Schema.from_json(prepared.schema.to_json())
        assert again == prepared.schema
        matrix = prepared.schema.matrix(source)
        assert torch.equal(Preprocess(again)(matrix), prepared.preprocess(matrix))
        whole = Preprocess(again)(matrix)
        alone = torch.cat([Preprocess(again)(row[None]) for row in matrix[:20]])
        torch.testing.assert_close(alone, whole[:20], rtol=1e-6, atol=1e-6)

    def test_the_number_of_threads_changes_no_bit(self):
        rows = RANDOM.normal(size=(3000, 90)) @ RANDOM.normal(size=(90, 90))
        with threadpool_limits(1):
            one = zca(rows)[2]
        with threadpool_limits(2):
            assert np.array_equal(zca(rows)[2], one)

    def test_a_damaged_rotation_is_refused(self):
        schema = prepare(table_of(CLOUD), DataSettings(scale="zca")).schema
        good = Rotation.of(np.zeros(D), np.eye(D))
        for invalid in (
            Rotation.of(np.zeros(3), np.eye(3)),
            dataclasses.replace(good, packed=good.packed[:-8]),
            dataclasses.replace(good, packed="*" * 11),
            dataclasses.replace(good, center=(0.0,)),
            Rotation.of(np.zeros(D), np.full((D, D), np.nan)),
        ):
            content = json.loads(schema.to_json())
            content["rotation"] = dataclasses.asdict(invalid)
            with pytest.raises(RunError, match="rotation"):
                Schema.from_json(json.dumps(content))

    def test_too_many_inputs_are_refused(self):
        images = RANDOM.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
        with pytest.raises(RecipeError, match=r"'zca' supports at most 1024 inputs, got 3,072 entries"):
            prepare(read((images, np.arange(8) % 2)), DataSettings(scale="zca"))
        with pytest.raises(RecipeError, match=f"{LARGEST_SIDE + 1:,} numeric columns"):
            prepare(table_of(RANDOM.normal(size=(8, LARGEST_SIDE + 1))), DataSettings(scale="pca"))

    def test_the_largest_numbers_that_are_taken(self):
        rows = RANDOM.normal(size=(60, 3)) * [1, 1e149, 1e149]
        inputs = prepare(table_of(rows), DataSettings(scale="zca")).train.inputs
        assert inputs.isfinite().all()

    @pytest.mark.parametrize("name", ["center", "minmax", "zca"])
    def test_scales_are_refused_for_a_torch_dataset(self, name):
        data = torch.utils.data.TensorDataset(torch.rand(30, 4), torch.arange(30) % 2)
        with pytest.raises(RecipeError, match="needs rows in memory"):
            prepare(read(data), DataSettings(scale=name))

    def test_a_table_without_numbers(self):
        frame = {"c": ["red", "blue", "green"] * 20, "y": [0, 1, 1] * 20}
        result = prepare(read(frame, target="y"), DataSettings(scale="zca"))
        assert result.schema.rotation is None
        assert result.train.inputs.shape[1] == 3


class TestInARun:
    RECIPE: ClassVar = {
        "data": {"scale": {"name": "whiten", "ridge": 1e-6}},
        "model": {"hidden": [8]},
        "stop": {"max_epochs": 2},
        "engine": {"threads": 1, "device": "cpu"},
    }

    @pytest.mark.slow
    def test_saved_loaded_and_exported(self, tmp_path):
        run = descend.train("wine", self.RECIPE, out=tmp_path / "run")
        again = descend.load(tmp_path / "run")
        rows = read("wine").frame
        assert again.recipe.get("data.scale") == {"name": "whiten", "ridge": 1e-6}
        assert again.schema == run.schema
        assert again.predict_proba(rows).tobytes() == run.predict_proba(rows).tobytes()
        from descend.export import load_exported

        for form in ("pt2", "safetensors"):
            result = load_exported(run.export(form)).predict_proba(rows)
            np.testing.assert_allclose(result, run.predict_proba(rows), atol=1e-6)

    @pytest.mark.slow
    def test_onnx(self, tmp_path):
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        images = RANDOM.integers(0, 256, (60, 3, 6, 5), dtype=np.uint8)
        recipe = {**self.RECIPE, "data": {"scale": "zca"}, "model": {"channels": [4], "dense": [6]}}
        run = descend.train((images, np.arange(60) % 3), recipe)
        session = onnxruntime.InferenceSession(run.export("onnx", tmp_path))
        _, result = session.run(None, {session.get_inputs()[0].name: images[:7]})
        np.testing.assert_allclose(result, run.predict_proba(images[:7]), atol=1e-5)

    def test_settings_are_checked(self):
        with pytest.raises(RecipeError, match=r"scale\.ridge: expected a number >= 0, got -1"):
            descend.Recipe(data={"scale": {"name": "zca", "ridge": -1}})
        with pytest.raises(RecipeError, match=r"scale\.ridge: unknown key of 'standard'"):
            descend.Recipe(data={"scale": {"name": "standard", "ridge": 1}})
        with pytest.raises(RecipeError, match=r"unknown key of 'standard'; it has no settings"):
            descend.Recipe(data={"scale": {"name": "standard", "weights": 1}})
        with pytest.raises(RecipeError, match="did you mean 'zca'"):
            descend.Recipe(data={"scale": "zcaa"})
        assert descend.Recipe().with_assignments(["data.scale=zca", "data.scale.ridge=0.1"]).get(
            "data.scale"
        ) == {"name": "zca", "ridge": 0.1}
