import numpy as np
import polars as pl
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from descend.data.fitting import row_weights
from descend.data.preparation import prepare
from descend.data.settings import DataSettings
from descend.data.source import Source
from descend.errors import DataError

RANDOM = np.random.default_rng(0)
N = 300


def test_the_encoding_of_a_table_equals_scikit_learn():
    numbers = RANDOM.normal(size=(N, 3)) * [1, 100, 0.01] + [0, 1e6, 3]
    numbers[RANDOM.random((N, 3)) < 0.1] = np.nan
    strings = RANDOM.choice(["red", "green", "blue"], N)
    frame = pl.DataFrame(numbers, schema=["a", "b", "c"], nan_to_null=True).with_columns(
        color=pl.Series(strings)
    )
    prepared = prepare(
        Source("t", None, "table", np.arange(N) % 2, ("y",), frame=frame), DataSettings(clip="none"), 3
    )
    train, test = prepared.train.rows, prepared.test.rows
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(numbers[train])
    filled = imputer.transform(numbers[test])
    scaler = StandardScaler().fit(imputer.transform(numbers[train])[:, :3])
    onehot = OneHotEncoder(sparse_output=False).fit(strings[train, None])
    expected = np.hstack(
        [scaler.transform(filled[:, :3]), onehot.transform(strings[test, None]), filled[:, 3:]]
    )
    np.testing.assert_allclose(prepared.test.inputs.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_many_columns_are_fitted_like_few():
    values = RANDOM.normal(size=(50, 700)) + np.arange(700)
    source = Source("t", None, "table", np.arange(50) % 2, ("y",), frame=pl.from_numpy(values))
    prepared = prepare(source)
    means = [column.mean for column in prepared.schema.columns]
    np.testing.assert_allclose(means, values[prepared.train.rows].mean(axis=0), rtol=1e-12)


def test_weights_of_images_are_equivalent_to_repetition():
    images = RANDOM.integers(0, 256, (30, 2, 4, 3), dtype=np.uint8)
    weights = RANDOM.integers(0, 4, 30)
    settings = DataSettings(validation=0, test=0)
    labels = np.arange(30) % 2
    weighted = Source("i", None, "images", labels, ("y",), inputs=images, weights=weights.astype(float))
    repeated = Source(
        "i", None, "images", np.repeat(labels, weights), ("y",), inputs=np.repeat(images, weights, axis=0)
    )
    result, expected = prepare(weighted, settings).schema, prepare(repeated, settings).schema
    np.testing.assert_allclose(result.shift, expected.shift, rtol=1e-12)
    np.testing.assert_allclose(result.spread, expected.spread, rtol=1e-12)


def test_weights_of_the_training_rows_cannot_all_be_zero():
    assert row_weights(None, np.arange(3)) is None
    assert row_weights(np.array([0.0, 1.0]), np.array([0, 1])).tolist() == [0.0, 1.0]
    with pytest.raises(DataError, match="all training rows are 0"):
        row_weights(np.array([0.0, 1.0]), np.array([0]))
