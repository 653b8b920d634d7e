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
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_limits

import descend
from descend.data.prepare import prepare
from descend.data.rotation import LARGEST_SIDE, ROTATIONS, Rotation, covariance, pca, whiten, zca
from descend.data.scaling import Preprocess, center, minmax, standard
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
    shift, spread, matrix = fitted
    return ((rows - shift) / spread) @ matrix


def all_rows(scale, **more):
    return DataSettings(scale=scale, validation=0, test=0, clip="none", **more)


def table_of(values, labels=None):
    labels = np.arange(len(values)) % 2 if labels is None else labels
    return Source("t", None, "table", labels, ("y",), frame=pl.from_numpy(values), named=False)


class TestElementwise:
    def test_center_and_minmax_are_scikit_learn_s(self):
        shift, spread = center(CLOUD)
        np.testing.assert_allclose(
            shift, StandardScaler(with_std=False).fit(CLOUD).mean_, rtol=1e-13, atol=1e-12
        )
        assert spread.tolist() == [1.0] * D
        wanted = MinMaxScaler().fit(CLOUD)
        shift, spread = minmax(CLOUD)
        np.testing.assert_array_equal(shift, wanted.data_min_)
        np.testing.assert_array_equal(spread, wanted.data_range_)

    def test_rows_of_weight_nothing_are_not_there(self):
        weights = RANDOM.integers(0, 3, N).astype(float)
        for scale in (center, minmax, standard):
            for found, wanted in zip(
                scale(CLOUD, weights), scale(np.repeat(CLOUD, weights.astype(int), axis=0)), strict=True
            ):
                np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11)

    def test_an_input_that_does_not_vary_keeps_its_unit(self):
        shift, spread = minmax(np.array([[3.0, 1.0], [3.0, 2.0]]))
        assert (shift.tolist(), spread.tolist()) == ([3.0, 1.0], [1.0, 1.0])

    @pytest.mark.parametrize("name", ["center", "minmax"])
    def test_in_a_table_and_in_images(self, name):
        inputs = prepare(table_of(CLOUD), all_rows(name)).train.inputs.double().numpy()
        wanted = {"center": CLOUD - CLOUD.mean(0), "minmax": MinMaxScaler().fit_transform(CLOUD)}[name]
        np.testing.assert_allclose(inputs, wanted, rtol=2e-6, atol=1e-6)
        images = RANDOM.integers(9, 200, (30, 2, 4, 5), dtype=np.uint8)
        images[:, 1] //= 2
        found = prepare(read((images, np.arange(30) % 2)), all_rows(name)).train.inputs
        lowest = found.amin((0, 2, 3)).tolist()
        if name == "minmax":
            assert lowest == [0.0, 0.0]
            assert found.amax((0, 2, 3)).tolist() == [1.0, 1.0]
        else:
            assert found.mean((0, 2, 3)).abs().max() < 1e-4
            assert found.amax((0, 2, 3))[0] - found.amin((0, 2, 3))[0] > 100

    def test_only_training_rows_count(self):
        rows = np.concatenate([np.linspace(0, 1, 30), np.full(10, 50.0)])[:, None]
        source = dataclasses.replace(table_of(rows), split=np.array(["train"] * 30 + ["test"] * 10))
        found = prepare(source, DataSettings(scale="minmax", validation=0))
        assert found.train.inputs.max() == 1
        assert found.test.inputs.max() == 50
        for name in ROTATIONS:
            rows = np.hstack([rows, RANDOM.normal(size=(40, 1))]) if rows.shape[1] == 1 else rows
            source = dataclasses.replace(table_of(rows), split=source.split)
            inputs = prepare(source, DataSettings(scale=name, validation=0, clip="none")).train.inputs
            torch.testing.assert_close(inputs.mean(0), torch.zeros(2), rtol=0, atol=1e-6)


class TestCovariance:
    def test_is_numpy_s(self, monkeypatch):
        monkeypatch.setattr("descend.data.rotation._BLOCK", 37 * D)  # many blocks, the last one smaller
        mean, found = covariance(CLOUD)
        np.testing.assert_allclose(mean, CLOUD.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found, np.cov(CLOUD, rowvar=False, ddof=0), rtol=1e-11)
        weights = RANDOM.integers(0, 4, N)
        mean, found = covariance(CLOUD, weights.astype(float))
        np.testing.assert_allclose(mean, np.average(CLOUD, axis=0, weights=weights), rtol=1e-12)
        np.testing.assert_allclose(found, np.cov(CLOUD, rowvar=False, ddof=0, fweights=weights), rtol=1e-11)

    def test_an_offset_costs_no_digits(self, monkeypatch):
        monkeypatch.setattr("descend.data.rotation._BLOCK", 64)
        small = RANDOM.normal(size=(1000, 2))
        offset = np.array([1e9, -3e8])
        held = (small + offset) - offset  # what is left of them in float64
        np.testing.assert_allclose(
            covariance(small + offset)[1], np.cov(held, rowvar=False, ddof=0), rtol=1e-9
        )

    def test_bytes_and_blocks_without_weight(self, monkeypatch):
        monkeypatch.setattr("descend.data.rotation._BLOCK", 10)
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
        wanted = make_pipeline(*steps, PCA(svd_solver="full")).fit_transform(rows)
        np.testing.assert_allclose(
            applied(pca(rows, standardize=standardize), rows), wanted, rtol=1e-8, atol=1e-8
        )

    @pytest.mark.parametrize("standardize", [True, False])
    def test_whiten_with_variance_over_m(self, standardize):
        rows = CLOUD if standardize else RANDOM.normal(size=(N, D)) @ MIX
        steps = [StandardScaler()] if standardize else []
        wanted = make_pipeline(*steps, PCA(whiten=True, svd_solver="full")).fit_transform(rows)
        found = applied(whiten(rows, ridge=0.0, standardize=standardize), rows)
        np.testing.assert_allclose(found, wanted * np.sqrt(N / (N - 1)), rtol=1e-7, atol=1e-7)

    def test_the_lecture_s_columns_have_length_one_and_ours_variance_one(self):
        rows = RANDOM.normal(size=(N, D)) @ MIX
        centred = rows - rows.mean(axis=0)
        left, singular, right = np.linalg.svd(centred, full_matrices=False)
        lecture = (centred @ right.T) / (singular + 1e-12)
        np.testing.assert_allclose(np.abs(lecture), np.abs(left), atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(lecture, axis=0), 1, rtol=1e-9)
        ours = applied(whiten(rows, standardize=False), rows)
        np.testing.assert_allclose(np.abs(ours), np.sqrt(N) * np.abs(lecture), atol=1e-5)


class TestWhitening:
    @pytest.mark.parametrize("make", [whiten, zca])
    @pytest.mark.parametrize("standardize", [True, False])
    def test_covariance_is_the_identity(self, make, standardize):
        rows = CLOUD if standardize else RANDOM.normal(size=(N, D)) @ MIX
        found = np.cov(applied(make(rows, standardize=standardize), rows), rowvar=False, ddof=0)
        np.testing.assert_allclose(found, np.eye(D), atol=1e-5)

    def test_zca_is_symmetric_and_the_nearest_to_the_rows(self):
        rows = standard_rows = (CLOUD - CLOUD.mean(0)) / CLOUD.std(0)
        matrix = zca(standard_rows)[2]
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > 0
        least = np.square(rows @ matrix - rows).sum()
        for seed in range(20):
            other = matrix @ ortho_group.rvs(D, random_state=seed)  # whitens as well
            np.testing.assert_allclose(np.cov(rows @ other, rowvar=False, ddof=0), np.eye(D), atol=1e-5)
            assert np.square(rows @ other - rows).sum() > least

    def test_zca_of_white_rows_changes_nothing(self):
        white = applied(whiten(CLOUD, ridge=0.0), CLOUD)
        np.testing.assert_allclose(applied(zca(white, ridge=0.0), white), white, atol=1e-9)

    @pytest.mark.parametrize("make", [pca, whiten, zca])
    def test_weights_mean_repetition(self, make):
        weights = RANDOM.integers(0, 4, N)
        for found, wanted in zip(
            make(CLOUD, weights.astype(float)), make(np.repeat(CLOUD, weights, axis=0)), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7)

    @pytest.mark.parametrize("make", [whiten, zca])
    def test_directions_that_do_not_vary_are_dropped(self, make):
        rows = RANDOM.normal(size=(N, 3))
        rows = np.hstack([rows, rows[:, :1] - rows[:, 1:2], np.full((N, 1), 7.0)])
        fitted = make(rows)
        found = np.cov(applied(fitted, rows), rowvar=False, ddof=0)
        assert np.isfinite(fitted[2]).all()
        np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(found)), [0, 0, 1, 1, 1], atol=1e-6)
        stray = applied(fitted, rows + 100 * np.array([0, 0, 0, 0, 1.0]))  # along what never varied
        np.testing.assert_allclose(stray, applied(fitted, rows), atol=1e-6)

    @pytest.mark.parametrize("make", [whiten, zca])
    def test_fewer_rows_than_columns(self, make):
        rows = RANDOM.normal(size=(10, 30))
        fitted = make(rows)
        new = RANDOM.normal(size=(200, 30))
        assert np.abs(applied(fitted, new)).max() < 100  # and not 1e8
        values = np.linalg.eigvalsh(np.cov(applied(fitted, rows), rowvar=False, ddof=0))
        np.testing.assert_allclose(np.sort(values), [0.0] * 21 + [1.0] * 9, atol=1e-6)

    def test_the_ridge_is_a_share_of_the_mean_variance(self):
        rows = RANDOM.normal(size=(N, 2)) * [1.0, 1e-3]
        values = np.linalg.eigvalsh(np.cov(rows, rowvar=False, ddof=0))
        for ridge in (0.0, 1e-8, 0.1):
            found = np.cov(applied(zca(rows, ridge=ridge, standardize=False), rows), rowvar=False, ddof=0)
            wanted = values / (values + ridge * values.mean())
            np.testing.assert_allclose(np.sort(np.linalg.eigvalsh(found)), np.sort(wanted), rtol=1e-6)

    @settings(deadline=None, max_examples=40)
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
            found = np.cov(applied(fitted, rows), rowvar=False, ddof=0)
            assert np.linalg.eigvalsh(np.atleast_2d(found)).max() < 1 + 1e-5


def mixed(rows=120):
    random = np.random.default_rng(1)
    base = random.normal(size=(rows, 3)) @ random.normal(size=(3, 3))
    return pl.DataFrame(
        {
            "a": [None if i % 9 == 0 else float(v) * 1e4 for i, v in enumerate(base[:, 0])],
            "member": [i % 2 == 0 for i in range(rows)],
            "colour": [("red", "blue", "green")[i % 3] for i in range(rows)],
            "b": base[:, 1],
            "c": base[:, 2] * 1e-3 + 5,
            "y": base.sum(1) > 0,
        }
    )


class TestInTheSchema:
    @pytest.mark.parametrize("name", ["whiten", "zca"])
    def test_the_numbers_of_a_table_are_whitened_and_the_rest_stays(self, name):
        source = read(mixed(), target="y")
        found, plain = (prepare(source, all_rows(each)) for each in (name, "standard"))
        numbers = [0, 2, 3]
        names = found.preprocess.names
        assert names[1] == "member"
        assert [names[at] for at in numbers] == (
            ["a", "b", "c"] if name == "zca" else ["component 1", "component 2", "component 3"]
        )
        inputs, before = found.train.inputs, plain.train.inputs
        rest = [at for at in range(inputs.shape[1]) if at not in numbers]
        assert torch.equal(inputs[:, rest], before[:, rest])
        np.testing.assert_allclose(
            np.cov(inputs[:, numbers].double().numpy(), rowvar=False, ddof=0), np.eye(3), atol=1e-5
        )

    def test_the_bound_comes_after_the_rotation(self):
        rows = np.vstack([CLOUD, CLOUD.mean(0) + 1e6 * CLOUD.std(0)])
        source = dataclasses.replace(table_of(rows), split=np.array(["train"] * N + ["test"]))
        settings = DataSettings(scale="zca", validation=0)
        found = prepare(source, settings)
        clip = DataSettings().clip
        assert found.schema.clip == clip
        assert found.test.inputs.abs().max() <= clip
        free = prepare(source, dataclasses.replace(settings, clip="none"))
        bounded = free.train.inputs.double()
        torch.testing.assert_close(
            found.train.inputs.double(), bounded / torch.sqrt(1 + (bounded / clip) ** 2), rtol=1e-6, atol=1e-6
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
        assert np.corrcoef(before.numpy().ravel(), inputs.ravel())[0, 1] > 0.9  # still the same pictures

    @pytest.mark.parametrize(
        "scale", ["pca", "whiten", "zca", {"name": "zca", "ridge": 0.1, "standardize": False}]
    )
    def test_json_keeps_every_bit(self, scale):
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
        for bad in (
            Rotation.of(np.zeros(3), np.eye(3)),
            dataclasses.replace(good, packed=good.packed[:-8]),
            dataclasses.replace(good, packed="*" * 11),
            dataclasses.replace(good, centre=(0.0,)),
            Rotation.of(np.zeros(D), np.full((D, D), np.nan)),
        ):
            content = json.loads(schema.to_json())
            content["rotation"] = dataclasses.asdict(bad)
            with pytest.raises(RunError, match="rotation"):
                Schema.from_json(json.dumps(content))

    def test_too_many_inputs_are_refused(self):
        images = RANDOM.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
        with pytest.raises(
            RecipeError, match=r"'zca' turns at most 1024 inputs together; there are 3,072 entries"
        ):
            prepare(read((images, np.arange(8) % 2)), DataSettings(scale="zca"))
        with pytest.raises(RecipeError, match=f"{LARGEST_SIDE + 1:,} columns of numbers"):
            prepare(table_of(RANDOM.normal(size=(8, LARGEST_SIDE + 1))), DataSettings(scale="pca"))

    def test_the_largest_numbers_that_are_taken(self):
        rows = RANDOM.normal(size=(60, 3)) * [1, 1e149, 1e149]
        inputs = prepare(table_of(rows), DataSettings(scale="zca")).train.inputs
        assert inputs.isfinite().all()

    @pytest.mark.parametrize("name", ["center", "minmax", "zca"])
    def test_a_torch_dataset_has_its_own(self, name):
        data = torch.utils.data.TensorDataset(torch.rand(30, 4), torch.arange(30) % 2)
        with pytest.raises(RecipeError, match="needs rows in memory"):
            prepare(read(data), DataSettings(scale=name))

    def test_a_table_without_numbers(self):
        frame = {"c": ["red", "blue", "green"] * 20, "y": [0, 1, 1] * 20}
        found = prepare(read(frame, target="y"), DataSettings(scale="zca"))
        assert found.schema.rotation is None
        assert found.train.inputs.shape[1] == 3


class TestInARun:
    RECIPE: ClassVar = {
        "data": {"scale": {"name": "whiten", "ridge": 1e-6}},
        "model": {"hidden": [8]},
        "stop": {"max_epochs": 2},
        "engine": {"threads": 1, "device": "cpu"},
    }

    def test_saved_loaded_and_exported(self, tmp_path):
        run = descend.train("wine", self.RECIPE, out=tmp_path / "run")
        again = descend.load(tmp_path / "run")
        rows = read("wine").frame
        assert again.recipe.get("data.scale") == {"name": "whiten", "ridge": 1e-6}
        assert again.schema == run.schema
        assert again.predict_proba(rows).tobytes() == run.predict_proba(rows).tobytes()
        from descend.export import load_exported

        for form in ("pt2", "safetensors"):
            found = load_exported(run.export(form)).predict_proba(rows)
            np.testing.assert_allclose(found, run.predict_proba(rows), atol=1e-6)

    def test_onnx(self, tmp_path):
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        images = RANDOM.integers(0, 256, (60, 3, 6, 5), dtype=np.uint8)
        recipe = {**self.RECIPE, "data": {"scale": "zca"}, "model": {"channels": [4], "dense": [6]}}
        run = descend.train((images, np.arange(60) % 3), recipe)
        session = onnxruntime.InferenceSession(run.export("onnx", tmp_path))
        _, found = session.run(None, {session.get_inputs()[0].name: images[:7]})
        np.testing.assert_allclose(found, run.predict_proba(images[:7]), atol=1e-5)

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
