import dataclasses
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
import torch

from descend.data.preparation import encode_source, prepare
from descend.data.settings import DataSettings
from descend.data.sources import read
from descend.errors import DataError, RecipeError

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "task", "shape", "outputs", "classes"),
    [
        ("digits", "multiclass", (1, 8, 8), 10, tuple(range(10))),
        ("iris", "multiclass", (4,), 3, ("setosa", "versicolor", "virginica")),
        ("wine", "multiclass", (13,), 3, ("class_0", "class_1", "class_2")),
        ("breast_cancer", "binary", (30,), 1, ("benign", "malignant")),
        ("diabetes", "regression", (10,), 1, ()),
    ],
)
def test_the_bundled_sets(name, task, shape, outputs, classes):
    source = read(name)
    prepared = prepare(source)
    schema = prepared.schema
    assert (schema.task, schema.input_shape, schema.outputs, schema.classes) == (
        task,
        shape,
        outputs,
        classes,
    )
    assert schema.fingerprint == source.fingerprint()
    rows = np.concatenate([prepared.train.rows, prepared.validation.rows, prepared.test.rows])
    assert sorted(rows) == list(range(len(source)))
    assert sum(schema.rows.values()) == len(source)
    for part in (prepared.train, prepared.validation, prepared.test):
        assert part.inputs.dtype == torch.float32
        assert part.inputs.is_contiguous()
        assert part.inputs.shape == (len(part), *shape)
        assert torch.equal(part.targets, schema.encode_targets(source.targets[part.rows]))
        assert torch.isfinite(part.inputs).all()


def test_a_mixed_table_end_to_end(tmp_path):
    n = 200
    frame = pl.DataFrame(
        {
            "size": [None if i % 10 == 0 else float(i % 37) for i in range(n)],
            "color": [("red", "green", "")[i % 3] for i in range(n)],
            "sold": ["True" if i % 2 else "False" for i in range(n)],
            "when": [f"20{i % 24:02d}-03-01" for i in range(n)],
            "always": [1] * n,
            "empty": [None] * n,
            "price": [i * 1.5 for i in range(n)],
        }
    )
    frame.write_csv(tmp_path / "mixed.csv")
    prepared = prepare(read(tmp_path / "mixed.csv", target="price"), DataSettings(clip="none"))
    kinds = [column.kind for column in prepared.schema.columns]
    assert kinds == ["numeric", "categorical", "boolean", "date", "constant", "empty"]
    assert prepared.preprocess.names == (
        "size", "sold", "when", "when: weekday (sine)", "when: weekday (cosine)", "when: day of year (sine)",
        "when: day of year (cosine)", "color=green", "color=red", "size is missing", "color is missing",
    )  # fmt: skip
    assert len(prepared.table) == 6
    assert any("'always'" in note for note in prepared.notes)
    train = prepared.train.inputs
    known = train[train[:, prepared.preprocess.names.index("size is missing")] == 0, 0]
    assert abs(float(train[:, 0].mean())) < 1e-6
    assert len(known) < len(train)
    assert abs(float(prepared.train.targets.mean())) < 1e-6


def test_everything_is_fitted_on_the_training_rows_only():
    source = read((RANDOM.normal(size=(100, 2)), np.arange(100) * 1.0))
    prepared = prepare(source)
    held_out = np.concatenate([prepared.validation.rows, prepared.test.rows])
    values = source.frame.to_numpy().copy()
    values[held_out] = 1e6
    targets = source.targets.copy()
    targets[held_out] = -1e6
    spoiled = prepare(read((values, targets)))
    assert torch.equal(spoiled.train.inputs, prepared.train.inputs)
    assert torch.equal(spoiled.train.targets, prepared.train.targets)
    assert spoiled.schema.target_mean == prepared.schema.target_mean
    train = source.targets[prepared.train.rows]
    np.testing.assert_allclose(prepared.schema.target_mean, train.mean())
    np.testing.assert_allclose(prepared.schema.target_scale, train.std())


def test_the_median_replaces_missing_values_and_weights_are_equivalent_to_repetition():
    values = RANDOM.normal(size=200)
    absent = RANDOM.random(200) < 0.3
    weights = RANDOM.integers(0, 4, 200)
    data = {"x": np.where(absent, np.nan, values)}
    split = np.full(200, "train")
    source = dataclasses.replace(read((data, values)), split=split)
    settings = DataSettings(validation=0, test=0)
    plain = prepare(source, settings).schema.columns[0]
    assert plain.fill == np.median(values[~absent])
    weighted = prepare(dataclasses.replace(source, weights=weights), settings).schema.columns[0]
    repeated = prepare(
        read(({"x": np.repeat(data["x"], weights)}, np.repeat(values, weights))), settings
    ).schema
    for result, expected in ((weighted, repeated.columns[0]),):
        assert result.fill == expected.fill
        np.testing.assert_allclose([result.mean, result.scale], [expected.mean, expected.scale], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-320, 1e-60, 1e60, 1e300])
def test_weights_outside_the_range_of_float32_keep_their_ratios(scale):
    weights = np.tile([1.0, 2.0, 4.0], 20)
    prepared = prepare(read((RANDOM.normal(size=(60, 2)), np.arange(60) % 2), weights=weights * scale))
    for part in (prepared.train, prepared.validation, prepared.test):
        np.testing.assert_allclose(part.weights.numpy(), weights[part.rows] / 4, rtol=2e-3)


def test_weights_stay_with_their_rows():
    weights = RANDOM.random(60) + 0.1
    prepared = prepare(read((RANDOM.normal(size=(60, 2)), np.arange(60) % 2), weights=weights))
    for part in (prepared.train, prepared.validation, prepared.test):
        np.testing.assert_array_equal(part.weights.numpy(), weights[part.rows].astype("f4"))
    assert prepare(read((RANDOM.normal(size=(60, 2)), np.arange(60) % 2))).train.weights is None


def test_balanced_classes_have_equal_total_weight_in_training():
    targets = np.array(["rare"] * 10 + ["common"] * 90)
    data = (RANDOM.normal(size=(100, 2)), targets)
    prepared = prepare(read(data), DataSettings(class_weights="balanced"))
    train, codes = prepared.train, prepared.train.targets
    assert float(train.weights[codes == 0].sum()) == pytest.approx(
        float(train.weights[codes == 1].sum()), rel=1e-5
    )
    assert float(train.weights.sum()) == pytest.approx(len(train), rel=1e-5)
    assert prepared.validation.weights is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(60, np.nan), "finite"),
        (-np.ones(60), "0 or more"),
        (np.ones(59), "one weight for each of the 60 rows"),
        (np.zeros(60), "all training rows are 0"),
        (["heavy"] * 60, "must be numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        prepare(read((RANDOM.normal(size=(60, 2)), np.arange(60) % 2), weights=weights))


def test_the_seed_changes_the_split_and_nothing_else_does():
    first, again, other = (prepare(read("iris"), seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.test.rows, again.test.rows)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert not np.array_equal(first.test.rows, other.test.rows)


def test_a_given_split_is_respected():
    split = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    prepared = prepare(
        dataclasses.replace(read((RANDOM.normal(size=(60, 2)), np.arange(60) % 2)), split=split)
    )
    assert prepared.test.rows.tolist() == list(range(50, 60))
    assert any("split given with the data" in note for note in prepared.notes)


def test_a_class_without_training_rows_is_noted():
    split = np.array(["train"] * 40 + ["test"] * 20)
    targets = ["a", "b"] * 20 + ["c"] * 20
    prepared = prepare(dataclasses.replace(read((RANDOM.normal(size=(60, 2)), targets)), split=split))
    assert any("'c'" in note for note in prepared.notes)
    assert prepared.schema.outputs == 3


def test_new_data_are_encoded_for_evaluation():
    source = read("iris")
    prepared = prepare(source)
    part = encode_source(source, prepared.schema, prepared.preprocess)
    assert torch.equal(part.inputs[prepared.test.rows], prepared.test.inputs)
    assert torch.equal(part.targets[prepared.test.rows], prepared.test.targets)
    one = read((source.frame[:1], source.targets[:1]))
    assert len(encode_source(one, prepared.schema)) == 1
    wrong = dataclasses.replace(source, targets=np.array(["tulip"] * 150))
    with pytest.raises(DataError, match="'tulip'"):
        encode_source(wrong, prepared.schema)
    with pytest.raises(DataError, match="no targets"):
        encode_source(read(source.frame, predicting=True), prepared.schema)


def test_constant_pixels_are_kept():
    prepared = prepare(read("digits"))
    assert prepared.train.inputs.shape[1:] == (1, 8, 8)
    assert prepared.train.inputs[:, 0, 0, 0].abs().max() == 0


BAD = {
    "one row": ({"x": [1.0], "y": [1.0]}, "one row"),
    "one class": ({"x": [1.0, 2.0, 3.0], "y": ["a", "a", "a"]}, "at least two classes"),
    "constant target": ({"x": [1.0, 2.0, 3.0], "y": [5.5, 5.5, 5.5]}, "5.5 in every row"),
    "constant feature": ({"x": [1.0] * 9, "y": np.arange(9) * 1.1}, "no column is left.*always 1"),
    "empty feature": (
        {"x": [None] * 9, "y": np.arange(9) * 1.1},
        "no column is left.*every value is missing",
    ),
    "infinity": ({"x": [1.0, np.inf, 2.0], "y": [1.0, 2.0, 3.0]}, "'x'.*row 1 holds infinite"),
    "missing target": ({"x": [1.0, 2.0, 3.0], "y": [1.0, None, 3.0]}, "'y': row 1 has no value"),
    "missing label": ({"x": [1.0, 2.0, 3.0], "y": ["a", "NA", "b"]}, "'y': row 1 has no value"),
    "infinite target": ({"x": [1.0, 2.0, 3.0], "y": [1.0, np.inf, 3.0]}, "'y'.*row 1 holds infinities"),
    "mixed": ({"x": [*map(str, range(30)), "oops"], "y": np.arange(31) * 1.1}, "'x'.*row 30 holds 'oops'"),
    "identifier": (
        {"x": [f"id{i}" for i in range(30)], "y": np.arange(30) * 1.1},
        "x: 30 .*identify the rows",
    ),
    "categories": (
        {"x": [f"c{i % 300}" for i in range(900)], "y": np.arange(900) * 1.1},
        "x: 300 categories",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_tables_are_refused_with_the_place(name):
    content, message = BAD[name]
    with pytest.raises(DataError, match=message):
        prepare(read(content, target="y"))


def test_the_nearest_name_is_suggested_for_an_unknown_scale():
    with pytest.raises(RecipeError, match=r"\[data\] scale.*did you mean 'standard'"):
        prepare(read("iris"), DataSettings(scale="standart"))


def test_tiny_data():
    prepared = prepare(read(([[1.0], [2.0], [3.0]], [0.5, 1.5, 2.5])), DataSettings(test=0))
    assert (len(prepared.train), len(prepared.validation), len(prepared.test)) == (2, 1, 0)
    assert prepared.test.inputs.shape == (0, 1)
    assert prepared.test.targets.shape == (0, 1)
    with pytest.raises(DataError, match="no column varies within the only training row"):
        prepare(read(([[1.0], [2.0]], [0.5, 1.5])), DataSettings(test=0))


@pytest.mark.slow
def test_importing_the_package_imports_nothing_heavy():
    heavy = ["torch", "polars", "sklearn", "narwhals", "PIL", "pandas", "numpy"]
    code = f"import sys, descend.data, descend.data.settings; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    modules = "descend.data.preparation, descend.data.sources"
    code = f"import sys, {modules}; print([m for m in {heavy[1:-1]} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_million_rows_take_seconds():
    values = RANDOM.normal(size=(1_000_000, 20))
    source = read((values, values @ RANDOM.normal(size=20)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # waiting threads would count as processor time
    start = time.process_time()
    prepared = prepare(source, DataSettings(validation=0.15, test=0.15))
    seconds = time.process_time() - start
    torch.set_num_threads(threads)
    assert seconds < 5  # measured: 1.5
    assert len(prepared.train) == 700_000


def test_a_column_that_is_constant_in_the_training_rows_is_not_used():
    values = np.column_stack([np.arange(60.0) ** 2, np.zeros(60)])
    split = np.array(["train"] * 40 + ["test"] * 20)
    values[50, 1] = 16
    prepared = prepare(dataclasses.replace(read((values, np.arange(60) % 2)), split=split))
    assert [column.kind for column in prepared.schema.columns] == ["numeric", "constant"]
    assert "always 0 in the training rows" in prepared.schema.columns[1].note
    assert prepared.test.inputs.shape == (20, 1)


def test_a_pixel_that_is_constant_in_the_training_rows_has_the_mean_scale_of_the_others():
    values = RANDOM.integers(0, 16, (60, 4)).astype(float)
    values[:, 0] = 0
    values[50, 0] = 16
    split = np.array(["train"] * 40 + ["test"] * 20)
    source = dataclasses.replace(read((values, np.arange(60) % 2)), split=split, grid=(1, 2, 2))
    prepared = prepare(source)
    assert prepared.schema.input_shape == (1, 2, 2)
    scales = [column.scale for column in prepared.schema.columns]
    assert scales[0] == pytest.approx(np.mean(scales[1:]))
    assert prepared.test.inputs.max() < 5


def test_labels_that_do_not_fit_the_rows_are_refused():
    source = read((RANDOM.normal(size=(60, 2)), np.arange(60) % 2))
    for key in ("split", "groups"):
        with pytest.raises(DataError, match=f"data.{key}: expected one label for each of the 60 rows"):
            prepare(dataclasses.replace(source, **{key: np.array(["train"] * 59)}))
    mixed = np.array([1, "a", None, 2.5] * 15, dtype=object)
    prepared = prepare(dataclasses.replace(source, groups=mixed))
    owners = [set(mixed[part.rows]) for part in (prepared.train, prepared.validation, prepared.test)]
    assert sum(len(own - {None}) for own in owners) == 3


def test_numbers_too_far_from_the_training_rows_are_refused():
    values = RANDOM.normal(size=(60, 2))
    values[50, 1] = 1e100
    split = np.array(["train"] * 40 + ["test"] * 20)
    source = dataclasses.replace(read((values, np.arange(60) % 2)), split=split)
    with pytest.raises(DataError, match=r"column 'x1': .*row 50 holds"):
        prepare(source)
    prepared = prepare(
        dataclasses.replace(source, split=None, frame=source.frame[:40], targets=source.targets[:40])
    )
    with pytest.raises(DataError, match=r"'x1'.*row 50 holds numbers more than 1e\+37 standard deviations"):
        prepared.schema.matrix(values)
    with pytest.raises(DataError, match=r"'x1'.*row 50"):
        prepared.schema.matrix(source)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["2", "NULL"] * 10, "rows 1, 3, .* hold 'NULL'"),
        (["2", "2,5"] * 10, "rows 1, 3, .* hold '2,5'"),
        ([1.0, None] * 10, "rows 1, 3, .* hold (nan|None)"),
        ([1.0, -1.0] * 10, r"rows 1, 3, .* hold -1\.0"),
    ],
)
def test_unsuitable_weights_are_shown(weights, message):
    frame = pl.DataFrame({"x": np.arange(20.0), "w": weights, "y": np.arange(20.0)})
    with pytest.raises(DataError, match=message):
        prepare(read(frame, target="y", settings=DataSettings(weights="w")))


def test_weights_written_as_strings_are_numbers():
    frame = pl.DataFrame({"x": np.arange(20.0) ** 2, "w": ["$2", " 3 "] * 10, "y": np.arange(20.0)})
    prepared = prepare(read(frame, target="y", settings=DataSettings(weights="w")))
    assert prepared.train.weights is not None
    assert prepared.train.weights.tolist() == [2.0 + row % 2 for row in prepared.train.rows.tolist()]
