"""Transforms of targets, compared with closed forms and with scikit-learn's."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import QuantileTransformer

from descend.data.preparation import encode_source, prepare
from descend.data.preprocessing import Postprocess
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.data.target_transform import LANDMARKS, TargetTransform, log, quantile
from descend.data.target_units import TargetInverse
from descend.errors import DataError, RunError


def skewed(rows=400, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2))
    return x, np.exp(2 + x[:, 0] + 0.3 * random.normal(size=rows))


def prepared_of(x, y, **settings):
    chosen = DataSettings(task="regression", **settings)
    return prepare(read((x, y), settings=chosen), chosen)


def test_the_logarithm_is_standardized_on_the_training_rows():
    x, y = skewed()
    prepared = prepared_of(x, y, target_scale="log")
    logs = np.log(y)
    own = logs[prepared.train.rows]
    assert prepared.schema.target_mean == pytest.approx([own.mean()], rel=1e-12)
    assert prepared.schema.target_scale == pytest.approx([own.std()], rel=1e-12)
    for part in (prepared.train, prepared.validation, prepared.test):
        wanted = (logs[part.rows] - own.mean()) / own.std()
        assert part.targets[:, 0].numpy() == pytest.approx(wanted, abs=1e-6)


def test_targets_of_0_are_learned_as_the_logarithm_of_1_more():
    x, y = skewed()
    y[7] = 0
    prepared = prepared_of(x, y, target_scale="log")
    assert [each.name for each in prepared.schema.target_transforms] == ["log1p"]
    logs = np.log1p(y)
    own = logs[prepared.train.rows]
    wanted = (logs[prepared.train.rows] - own.mean()) / own.std()
    assert prepared.train.targets[:, 0].numpy() == pytest.approx(wanted, abs=1e-6)


def test_several_targets_have_a_transform_each():
    x, y = skewed()
    both = np.stack([y, np.maximum(y - 5, 0)], axis=1)
    prepared = prepared_of(x, both, target_scale="log")
    assert [each.name for each in prepared.schema.target_transforms] == ["log", "log1p"]
    decoded = prepared.schema.decode(prepared.train.targets)
    assert decoded == pytest.approx(both[prepared.train.rows], rel=1e-5, abs=1e-5)


def test_the_least_squares_fit_predicts_as_that_of_scikit_learn():
    x, y = skewed()
    prepared = prepared_of(x, y, target_scale="log")
    inputs = prepared.train.inputs.double().numpy()
    line = LinearRegression().fit(inputs, prepared.train.targets.double().numpy())
    found = prepared.schema.decode(torch.from_numpy(line.predict(inputs)))
    reference = TransformedTargetRegressor(LinearRegression(), func=np.log, inverse_func=np.exp)
    wanted = reference.fit(inputs, y[prepared.train.rows]).predict(inputs)
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("ties", [False, True])
def test_normal_scores_at_the_quantiles_are_those_of_scikit_learn(ties):
    _, y = skewed(2000)
    if ties:
        y = np.where(y < 8, 8.0, y).round(1)
    transform = quantile(y, np.arange(2000))
    reference = QuantileTransformer(n_quantiles=LANDMARKS, output_distribution="normal", subsample=None)
    reference.fit(y[:, None])
    inner = np.array(transform.values[1:-1])
    assert transform(inner) == pytest.approx(reference.transform(inner[:, None])[:, 0], abs=1e-9)
    middle = y[(y > inner[2]) & (y < inner[-3])]
    assert transform(middle) == pytest.approx(reference.transform(middle[:, None])[:, 0], abs=0.02)


def test_normal_scores_of_few_rows_are_closed_forms():
    transform = quantile(np.array([1.0, 2.0, 4.0, 1e6]), np.arange(4))
    assert transform.values == (1.0, 2.0, 4.0, 1e6)
    scores = [-1.1503493803760079, -0.43072729929545744, 0.43072729929545744, 1.1503493803760079]
    assert transform.scores == pytest.approx(scores, abs=1e-9)  # of 1/8, 1/3, 2/3, 7/8


def test_integer_weights_move_the_quantiles_as_repeated_rows():
    y = np.arange(200.0) ** 2
    weights = np.ones(200)
    weights[150:] = 3.0
    repeated = np.repeat(y, weights.astype(int))
    found = quantile(y, np.arange(200), weights)
    wanted = quantile(repeated, np.arange(len(repeated)))
    middle = y[20:180]
    assert found(middle) == pytest.approx(wanted(middle), abs=0.02)


def test_rows_of_weight_0_have_no_part_in_the_quantiles():
    y = np.array([1.0, 2.0, 3.0, 4.0, 900.0])
    found = quantile(y, np.arange(5), np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    assert found.values == pytest.approx(quantile(y[:4], np.arange(4)).values)


@given(
    st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 2)), min_size=1, max_size=300),
    st.lists(st.floats(-2e6, 2e6), min_size=1, max_size=20),
)
def test_every_target_comes_back_also_beyond_the_training_rows(train, new):
    transform = quantile(np.array(train), np.arange(len(train)))
    assert not transform.fault()
    values = np.array([*train, *new])
    scored = transform(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(scored[order]) >= -1e-9 * np.maximum(1, np.abs(scored[order][1:]))).all()
    back = TargetInverse([transform])(torch.from_numpy(scored)[:, None])[:, 0].numpy()
    assert back == pytest.approx(values, rel=1e-6, abs=1e-3)


@given(st.floats(0, 1e12))
def test_logarithms_come_back(value):
    transform = log(np.array([value, 0.0]), np.arange(2))
    back = TargetInverse([transform])(torch.from_numpy(transform(np.array([value])))[:, None])
    assert back.item() == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", ["log", "quantile"])
def test_every_decoder_returns_the_units_of_the_target(name):
    x, y = skewed()
    prepared = prepared_of(x, y, target_scale=name)
    targets = prepared.test.targets
    wanted = y[prepared.test.rows]
    assert prepared.schema.decode(targets) == pytest.approx(wanted, rel=1e-5)
    assert Postprocess(prepared.schema)(targets)[:, 0].numpy() == pytest.approx(wanted, rel=1e-5)
    assert prepared.schema.in_units(targets)[:, 0].numpy() == pytest.approx(wanted, rel=1e-5)
    part = encode_source(read((x, y)), prepared.schema)
    assert torch.equal(part.targets[torch.from_numpy(prepared.test.rows)], targets)


@pytest.mark.parametrize("name", ["log", "quantile"])
def test_a_schema_is_restored_and_older_ones_load(name):
    x, y = skewed()
    schema = prepared_of(x, y, target_scale=name).schema
    assert Schema.from_json(schema.to_json()) == schema
    older = json.loads(prepared_of(x, y).schema.to_json())
    del older["target_transforms"]
    assert Schema.from_json(json.dumps(older)).target_transforms == ()
    damaged = dataclasses.replace(schema, target_transforms=schema.target_transforms * 2)
    with pytest.raises(RunError, match="one transform per output"):
        Schema.from_json(damaged.to_json())
    damaged = dataclasses.replace(
        schema, target_transforms=(TargetTransform("quantile", (1.0, 1.0), (0.0, 1.0)),)
    )
    with pytest.raises(RunError, match="must increase"):
        Schema.from_json(damaged.to_json())


def test_targets_without_a_logarithm_are_refused_with_their_rows():
    x, y = skewed()
    y[[3, 9]] = -2.5
    with pytest.raises(DataError, match=r"targets of at least 0, but rows .* -2\.5; use .*standard"):
        prepared_of(x, y, target_scale="log")
    x, y = skewed()
    schema = prepared_of(x, y, target_scale="log").schema
    with pytest.raises(DataError, match="targets above 0, as in training"):
        schema.encode_targets(np.array([1.0, 0.0]))


def test_a_classification_has_no_transform():
    frame = pl.DataFrame({"x": np.arange(60.0) % 7, "y": ["a", "b"] * 30})
    settings = DataSettings(target="y", target_scale="log")
    with pytest.raises(DataError, match="is for regression, and the task is binary"):
        prepare(read(frame, settings=settings), settings)


def test_a_target_that_is_constant_in_the_training_rows_comes_back():
    transform = quantile(np.array([3.0, 3.0, 3.0, 7.0]), np.arange(3))
    back = TargetInverse([transform])(torch.from_numpy(transform(np.array([3.0, 7.0])))[:, None])
    assert back[:, 0].tolist() == [3.0, 7.0]
