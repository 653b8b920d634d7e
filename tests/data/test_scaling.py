import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from descend.cards import card
from descend.data.decorrelation import ROTATIONS
from descend.data.preparation import prepare
from descend.data.scaling import SCALES, center, minmax, standard
from descend.data.settings import DataSettings
from descend.data.source import Source
from descend.data.sources import read

RANDOM = np.random.default_rng(0)
N, D = 400, 5
MIX = RANDOM.normal(size=(D, D))
CLOUD = RANDOM.normal(size=(N, D)) @ MIX * [1, 10, 1e3, 0.1, 5] + [0, 1e4, 3, -7, 0]


def all_rows(scale):
    return DataSettings(scale=scale, validation=0, test=0, clip="none")


def table_of(values):
    labels = np.arange(len(values)) % 2
    return Source("t", None, "table", labels, ("y",), frame=pl.from_numpy(values), named=False)


def test_standard_equals_scikit_learn():
    rows = RANDOM.normal(size=(500, 4)) * [1, 1e3, 1e-3, 0] + [0, 5, -1e2, 7]
    shift, divisor = standard(rows)
    expected = StandardScaler().fit(rows)
    np.testing.assert_allclose(shift, expected.mean_, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(divisor, expected.scale_, rtol=1e-12)
    weights = RANDOM.integers(0, 4, 500).astype(float)
    weighted = StandardScaler().fit(rows, sample_weight=weights)
    shift, divisor = standard(rows, weights)
    np.testing.assert_allclose(shift, weighted.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(divisor, weighted.scale_, rtol=1e-11)


def test_weights_are_equivalent_to_repetition():
    rows, weights = RANDOM.normal(size=(50, 2)), RANDOM.integers(0, 4, 50)
    for result, expected in zip(
        standard(rows, weights.astype(float)), standard(np.repeat(rows, weights, axis=0)), strict=True
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_constant_columns_have_scale_one():
    for value in (0.0, 0.1, 1e9 + 0.1):
        assert standard(np.full((1000, 1), value))[1].tolist() == [1.0]


def test_images_are_standardized_by_channel():
    images = RANDOM.integers(0, 256, (40, 3, 6, 5), dtype=np.uint8)
    images[:, 2] = 17
    prepared = prepare(read((images, np.arange(40) % 2)))
    inputs = prepared.train.inputs
    train = images[prepared.train.rows].astype(float)
    np.testing.assert_allclose(prepared.schema.shift, train.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(prepared.schema.spread[:2], train.std(axis=(0, 2, 3))[:2], rtol=1e-12)
    assert inputs[:, :2].mean(dim=(0, 2, 3)).abs().max() < 1e-6
    assert inputs[:, 2].abs().max() == 0


def test_tensors_are_standardized_by_entry_or_by_channel():
    flat = RANDOM.normal(size=(40, 3, 2)) * [1, 5] + 3
    inputs = prepare(read((flat, np.arange(40) % 2))).train.inputs
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(3, 2), rtol=1e-5, atol=1e-5)
    deep = RANDOM.normal(size=(40, 3, 4, 4)) * 7 + 3
    prepared = prepare(read((deep, np.arange(40) % 2)))
    assert len(prepared.schema.shift) == 3
    torch.testing.assert_close(
        prepared.train.inputs.std((0, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=1e-5
    )


def test_none_leaves_numbers_unchanged():
    data = RANDOM.normal(size=(40, 3)) * 50
    prepared = prepare(read((data, np.arange(40) % 2)), DataSettings(scale="none"))
    np.testing.assert_array_equal(prepared.train.inputs.numpy(), data[prepared.train.rows].astype("f4"))


def test_every_scale_has_a_card():
    assert all(card(scale) is not None and card(scale).row for scale in SCALES.values())


class TestElementwise:
    def test_center_and_minmax_equal_scikit_learn(self):
        shift, divisor = center(CLOUD)
        np.testing.assert_allclose(
            shift, StandardScaler(with_std=False).fit(CLOUD).mean_, rtol=1e-13, atol=1e-12
        )
        assert divisor.tolist() == [1.0] * D
        expected = MinMaxScaler().fit(CLOUD)
        shift, divisor = minmax(CLOUD)
        np.testing.assert_array_equal(shift, expected.data_min_)
        np.testing.assert_array_equal(divisor, expected.data_range_)

    def test_rows_of_weight_zero_are_ignored(self):
        weights = RANDOM.integers(0, 3, N).astype(float)
        for scale in (center, minmax, standard):
            for result, expected in zip(
                scale(CLOUD, weights), scale(np.repeat(CLOUD, weights.astype(int), axis=0)), strict=True
            ):
                np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-11)

    def test_a_constant_input_keeps_its_unit(self):
        shift, divisor = minmax(np.array([[3.0, 1.0], [3.0, 2.0]]))
        assert (shift.tolist(), divisor.tolist()) == ([3.0, 1.0], [1.0, 1.0])

    @pytest.mark.parametrize("name", ["center", "minmax"])
    def test_in_a_table_and_in_images(self, name):
        inputs = prepare(table_of(CLOUD), all_rows(name)).train.inputs.double().numpy()
        expected = {"center": CLOUD - CLOUD.mean(0), "minmax": MinMaxScaler().fit_transform(CLOUD)}[name]
        np.testing.assert_allclose(inputs, expected, rtol=2e-6, atol=1e-6)
        images = RANDOM.integers(9, 200, (30, 2, 4, 5), dtype=np.uint8)
        images[:, 1] //= 2
        result = prepare(read((images, np.arange(30) % 2)), all_rows(name)).train.inputs
        lowest = result.amin((0, 2, 3)).tolist()
        if name == "minmax":
            assert lowest == [0.0, 0.0]
            assert result.amax((0, 2, 3)).tolist() == [1.0, 1.0]
        else:
            assert result.mean((0, 2, 3)).abs().max() < 1e-4
            assert result.amax((0, 2, 3))[0] - result.amin((0, 2, 3))[0] > 100

    def test_only_training_rows_count(self):
        rows = np.concatenate([np.linspace(0, 1, 30), np.full(10, 50.0)])[:, None]
        source = dataclasses.replace(table_of(rows), split=np.array(["train"] * 30 + ["test"] * 10))
        result = prepare(source, DataSettings(scale="minmax", validation=0))
        assert result.train.inputs.max() == 1
        assert result.test.inputs.max() == 50
        for name in ROTATIONS:
            rows = np.hstack([rows, RANDOM.normal(size=(40, 1))]) if rows.shape[1] == 1 else rows
            source = dataclasses.replace(table_of(rows), split=source.split)
            inputs = prepare(source, DataSettings(scale=name, validation=0, clip="none")).train.inputs
            torch.testing.assert_close(inputs.mean(0), torch.zeros(2), rtol=0, atol=1e-6)
