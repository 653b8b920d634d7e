"""Encodings of categories, compared with scikit-learn's TargetEncoder, and what training rows reveal about targets."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import TargetEncoder

from descend.data.category_encoding import FOLDS, fold_numbers, target
from descend.data.fitting import indicators
from descend.data.preparation import encode_source, prepare
from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError, RecipeError, RunError
from descend.recipe.recipe import Recipe


def table(rows=600, levels=30, seed=0):
    random = np.random.default_rng(seed)
    codes = random.integers(0, levels, rows)
    effects = random.normal(size=levels)
    return codes, effects[codes] + random.normal(size=rows)


def expected(codes, y, kind):
    """Return what scikit-learn's encoder, fitted on all rows, makes of each category."""
    encoder = TargetEncoder(smooth="auto", target_type=kind).fit(codes[:, None], y)
    return encoder.transform(np.arange(codes.max() + 1)[:, None])


def test_numbers_are_encoded_as_by_scikit_learn():
    codes, y = table()
    found = target(codes.astype(float), 30, y[:, None])
    assert y.mean() + y.std() * found == pytest.approx(expected(codes, y, "continuous"), abs=1e-9)


def test_two_classes_are_encoded_as_by_scikit_learn():
    codes, y = table()
    classes = (y > 0.5).astype(float)
    found = target(codes.astype(float), 30, classes[:, None])
    assert classes.mean() + classes.std() * found == pytest.approx(
        expected(codes, classes, "binary"), abs=1e-9
    )


def test_several_classes_are_encoded_as_by_scikit_learn():
    codes, y = table()
    classes = np.digitize(y, [-1, 0, 1])
    held = np.eye(4)[classes]
    found = held.mean(0) + held.std(0) * target(codes.astype(float), 30, held)
    assert found == pytest.approx(expected(codes, classes, "multiclass"), abs=1e-9)


def test_rows_without_a_category_count_in_the_mean_only():
    codes = np.array([0.0, 0.0, 1.0, 1.0, np.nan, -1.0])
    y = np.array([1.0, 2.0, 4.0, 4.0, 9.0, -2.0])[:, None]
    found = target(codes, 3, y)
    mean, variance = y.mean(), y.var()
    assert found[1, 0] == pytest.approx((4 - mean) / np.sqrt(variance))  # no variance within: no shrinkage
    shrinkage = 2 * variance / (2 * variance + 0.25)
    assert found[0, 0] == pytest.approx(shrinkage * (1.5 - mean) / np.sqrt(variance))
    assert found[2, 0] == 0  # without rows


def test_equal_weights_change_nothing_and_a_row_of_weight_0_is_ignored():
    codes, y = table()
    plain = target(codes.astype(float), 30, y[:, None])
    assert target(codes.astype(float), 30, y[:, None], np.full(600, 7.0)) == pytest.approx(plain)
    weights = np.ones(600)
    weights[400:] = 0
    part = target(codes[:400].astype(float), 30, y[:400, None])
    assert target(codes.astype(float), 30, y[:, None], weights) == pytest.approx(part)


@given(st.lists(st.tuples(st.integers(-1, 5), st.floats(-1e3, 1e3)), min_size=1, max_size=40))
def test_encodings_are_finite_and_do_not_depend_on_the_unit_of_the_target(rows):
    codes = np.array([code for code, _ in rows], dtype=float)
    y = np.array([[value] for _, value in rows]).round(3)
    found = target(codes, 6, y)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= np.sqrt(len(rows)) + 1e-6).all()
    assert target(codes, 6, 8 * y) == pytest.approx(found, abs=1e-6)


@given(st.integers(1, 60), st.integers(1, 4))
def test_folds_have_equal_sizes_and_equal_shares_of_each_class(count, classes):
    labels = np.arange(count) % classes
    folds = fold_numbers(count, labels)
    sizes = np.bincount(folds, minlength=FOLDS)
    assert sizes.max() - sizes.min() <= 1
    for label in range(classes):
        own = np.bincount(folds[labels == label], minlength=FOLDS)
        assert own.max() - own.min() <= 1


def test_a_group_is_in_one_fold():
    groups = np.arange(100) // 4
    folds = fold_numbers(100, None, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(25))
    assert np.bincount(folds).tolist() == [20] * 5


def prepared_of(frame, **settings):
    chosen = DataSettings(**{"target": "y", **settings})
    return prepare(read(frame, settings=chosen), chosen)


def frame_of(codes, y):
    return pl.DataFrame({"c": [f"k{code:03}" for code in codes], "x": np.arange(len(y)) % 7 / 7, "y": y})


@pytest.mark.parametrize("kind", ["continuous", "binary", "multiclass"])
def test_training_rows_are_encoded_out_of_fold_and_others_by_all_training_rows(kind):
    codes, y = table(900, 40)
    if kind != "continuous":
        y = np.digitize(y, [0] if kind == "binary" else [-1, 0.5])
        y = np.array(["a", "b", "c"])[y]
    prepared = prepared_of(frame_of(codes, y), categories="target")
    first = [at for at, name in enumerate(prepared.preprocess.names) if name.startswith("c: mean target")]
    assert len(first) == (3 if kind == "multiclass" else 1)
    rows = prepared.train.rows
    numbers = indicators(prepared.schema, prepared.train.targets)
    strata = None if kind == "continuous" else np.unique(numbers, axis=0, return_inverse=True)[1].reshape(-1)
    folds = fold_numbers(len(rows), strata)
    goals = numbers[:, 0] if kind != "multiclass" else numbers.argmax(1)
    for fold in range(FOLDS):
        own, rest = folds == fold, folds != fold
        encoder = TargetEncoder(smooth="auto", target_type=kind).fit(codes[rows[rest], None], goals[rest])
        wanted = encoder.transform(codes[rows[own], None])
        found = prepared.train.inputs[torch.from_numpy(own)][:, first].numpy()
        assert numbers[rest].mean(0) + numbers[rest].std(0) * found == pytest.approx(wanted, abs=1e-6)
    encoder = TargetEncoder(smooth="auto", target_type=kind).fit(codes[rows, None], goals)
    for part in (prepared.validation, prepared.test):
        found = numbers.mean(0) + numbers.std(0) * part.inputs[:, first].numpy()
        assert found == pytest.approx(encoder.transform(codes[part.rows, None]), abs=1e-6)


def test_random_labels_are_not_learned_from_the_encoded_training_rows():
    """With 500 categories in 2,000 rows, an encoding that includes the row's own target would reach 0.69."""
    random = np.random.default_rng(3)
    codes, y = random.integers(0, 500, 2000), random.integers(0, 2, 2000)
    names = np.array(["no", "yes"])[y]
    prepared = prepared_of(
        frame_of(codes, names), categories="target", columns={"c": "categorical"}, validation=0.0, test=0.0
    )
    inputs, labels = prepared.train.inputs.numpy(), prepared.train.targets.numpy()
    score = LogisticRegression().fit(inputs, labels).score(inputs, labels)
    assert score < 0.5 + 3 * np.sqrt(0.25 / 2000) + 0.01
    leaking = Preprocess(prepared.schema)(prepared.schema.matrix(frame_of(codes, names))).numpy()
    assert LogisticRegression().fit(leaking, labels).score(leaking, labels) > 0.65


def test_random_targets_are_not_learned_from_the_encoded_training_rows():
    random = np.random.default_rng(4)
    codes, y = random.integers(0, 500, 2000), random.normal(size=2000)
    prepared = prepared_of(
        frame_of(codes, y), categories="target", columns={"c": "categorical"}, validation=0.0, test=0.0
    )
    inputs, labels = prepared.train.inputs.numpy(), prepared.train.targets.numpy()[:, 0]
    assert LinearRegression().fit(inputs, labels).score(inputs, labels) < 0.01
    leaking = Preprocess(prepared.schema)(prepared.schema.matrix(frame_of(codes, y))).numpy()
    assert LinearRegression().fit(leaking, labels).score(leaking, labels) > 0.2


def test_unseen_and_missing_categories_are_the_mean_target():
    codes, y = table()
    frame = frame_of(codes, y).with_columns(
        c=pl.when(pl.int_range(600) % 50 == 0).then(None).otherwise(pl.col("c"))
    )
    prepared = prepared_of(frame, categories="target")
    new = {"c": ["never", None, "k001"], "x": [0.0, 0.0, 0.0]}
    encoded = prepared.preprocess(prepared.schema.matrix(new))
    assert prepared.preprocess.names == ("x", "c: mean target", "c is missing")
    assert encoded[:, 1].tolist()[:2] == [0.0, 0.0]
    assert encoded[2, 1] != 0
    assert encoded[:, 2].tolist() == [0.0, 1.0, 0.0]
    part = encode_source(read({**new, "y": [1.0, 2.0, 3.0]}, target="y"), prepared.schema)
    assert torch.equal(part.inputs, encoded)


def test_both_has_the_inputs_of_each():
    codes, y = table(levels=12)
    data = frame_of(codes, y)
    one, other, all_inputs = (
        prepared_of(data, categories=name).validation.inputs for name in ("onehot", "target", "both")
    )
    assert torch.equal(all_inputs, torch.cat([one, other[:, 1:]], 1))


def test_a_column_chooses_its_own_encoding():
    codes, y = table(levels=12)
    data = frame_of(codes, y).with_columns(d=pl.col("c"))
    names = prepared_of(data, columns={"c": {"kind": "categorical", "encoding": "target"}}).preprocess.names
    assert names[-1] == "c: mean target"
    assert names[1:-1] == tuple(f"d=k{code:03}" for code in range(12))
    own = {"c": {"kind": "categorical", "encoding": "onehot"}}
    assert prepared_of(data, categories="target", columns=own).preprocess.names[-1] == "d: mean target"


def test_several_tables_are_looked_up_each_in_its_own():
    random = np.random.default_rng(1)
    data = pl.DataFrame(
        {
            "a": [f"a{at}" for at in random.integers(0, 11, 500)],
            "b": [f"b{at}" for at in random.integers(0, 4, 500)],
            "y": random.normal(size=500),
        }
    )
    prepared = prepared_of(data, categories="target")
    effects = {column.name: column.effects for column in prepared.schema.columns}
    categories = {column.name: column.categories for column in prepared.schema.columns}
    new = {"a": ["a3", "zz", "a10"], "b": ["b0", "b3", None]}
    found = prepared.preprocess(prepared.schema.matrix(new)).tolist()
    for row in range(3):
        for at, name in enumerate("ab"):
            value = new[name][row]
            own = effects[name][categories[name].index(value)][0] if value in categories[name] else 0.0
            assert found[row][at] == pytest.approx(own, abs=1e-7)


def test_an_ordered_column_is_its_standardized_rank():
    values = [["S", "M", "L", None][at % 4] for at in range(80)]
    data = pl.DataFrame({"size": values, "x": np.arange(80) % 5, "y": np.arange(80) % 9 / 2})
    choice = {"kind": "categorical", "order": ("S", "M", "L"), "encoding": "ordinal"}
    prepared = prepared_of(data, columns={"size": choice})
    assert prepared.preprocess.names == ("x", "size: rank", "size is missing")
    ranks = np.array([at % 4 for at in prepared.train.rows], dtype=float)
    known = ranks[ranks < 3]
    encoded = prepared.preprocess(prepared.schema.matrix({"size": ["S", "M", "L", None], "x": [0.0] * 4}))
    wanted = [*((np.arange(3) - known.mean()) / known.std()), 0.0]
    assert encoded[:, 1].tolist() == pytest.approx(wanted, abs=1e-6)
    assert torch.equal(
        prepared.train.inputs, prepared.preprocess(prepared.schema.matrix(data))[prepared.train.rows]
    )


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"kind": "categorical", "encoding": "targt"}, "did you mean 'target'"),
        ({"kind": "categorical", "encodin": "target"}, "did you mean 'encoding'"),
        ({"kind": "categorical", "encoding": "ordinal"}, "requires an order"),
        ({"kind": "categorical", "order": ("k000", "k001"), "encoding": "onehot"}, "the declared order"),
        ({"kind": "categorical", "order": "k000"}, "expected the order as a list"),
    ],
)
def test_a_wrong_declaration_is_refused(choice, words):
    codes, y = table(levels=2)
    with pytest.raises(DataError, match=words):
        prepared_of(frame_of(codes, y), columns={"c": choice})


def test_a_wrong_name_is_refused():
    with pytest.raises(RecipeError, match="did you mean 'target'"):
        Recipe.of({"data.categories": "targets"})


def test_a_schema_is_restored_and_older_ones_load():
    codes, y = table()
    schema = prepared_of(frame_of(codes, y), categories="target").schema
    assert Schema.from_json(schema.to_json()) == schema
    older = json.loads(prepared_of(frame_of(codes, y)).schema.to_json())
    for column in older["columns"]:
        del column["effects"], column["encoding"]
    restored = Schema.from_json(json.dumps(older))
    assert restored.columns[0].inputs[0] == "c=k000"
    column = dataclasses.replace(schema.columns[0], effects=schema.columns[0].effects[1:])
    damaged = dataclasses.replace(schema, columns=(column, *schema.columns[1:]))
    with pytest.raises(RunError, match="the effects do not match"):
        Schema.from_json(damaged.to_json())


def test_stored_tables_are_encoded_as_those_in_memory(tmp_path):
    codes, y = table()
    frame_of(codes, y).write_parquet(tmp_path / "a.parquet")
    found = []
    for stream in (False, True):
        settings = DataSettings(target="y", categories="target", stream=stream)
        found.append(prepare(read(tmp_path / "a.parquet", settings=settings), settings))
    assert found[0].schema.columns == found[1].schema.columns
    assert torch.equal(found[0].train.inputs, found[1].train.inputs)


def test_several_labels_and_several_targets_have_an_input_each():
    random = np.random.default_rng(5)
    codes = random.integers(0, 12, 300)
    x = pl.DataFrame({"c": [f"k{code:02}" for code in codes]})
    held = np.stack([codes % 2, codes % 3 == 0], axis=1).astype(int)
    for targets, task in ((held, "multi_label"), (held + random.normal(size=held.shape), "multi_regression")):
        settings = DataSettings(task=task, categories="target")
        prepared = prepare(read((x, targets), settings=settings), settings)
        assert prepared.preprocess.names == ("c: mean target 1", "c: mean target 2")
        rows = prepared.train.rows
        wanted = target(codes[rows].astype(float), 12, indicators(prepared.schema, prepared.train.targets))
        found = prepared.preprocess(prepared.schema.matrix({"c": [f"k{code:02}" for code in range(12)]}))
        assert found.numpy() == pytest.approx(wanted, abs=1e-6)
