import decimal

import numpy as np
import pytest

from descend.data.task import check_targets, infer_task, target_numbers
from descend.errors import DataError

ROWS = 100


def infer(targets, declared="auto"):
    return infer_task(check_targets(np.asarray(targets), ("y",)), declared)[0]


@pytest.mark.parametrize(
    ("targets", "task"),
    [
        (["yes", "no"] * 50, "binary"),
        (["a", "b", "c", "c"] * 25, "multiclass"),
        (np.array(["a", "b"] * 50, dtype=object), "binary"),
        ([True, False] * 50, "binary"),
        ([0, 1] * 50, "binary"),
        ([-1, 1] * 50, "binary"),
        ([0.0, 1.0] * 50, "binary"),
        (list(range(10)) * 10, "multiclass"),
        (list(range(20)) * 5, "multiclass"),
        (list(range(21)) * 10, "regression"),
        (list(range(20)) * 3, "regression"),
        (list(range(100)), "regression"),
        ([1.0, 2.0, 3.0] * 30, "regression"),
        (np.linspace(0, 1, 100), "regression"),
        (np.linspace(0, 1, 100).astype("float32"), "regression"),
        (np.random.default_rng(0).normal(size=(50, 3)), "multi_regression"),
        (np.arange(100).reshape(50, 2), "multi_regression"),
        (np.linspace(0, 1, 100)[:, None], "regression"),
        (np.array(["a", "b"] * 50)[:, None], "binary"),
        (np.array([1.5, 2.5, 3.5] * 20, dtype=object), "regression"),
    ],
)
def test_the_task_is_inferred(targets, task):
    assert infer(targets) == task


@pytest.mark.parametrize(
    ("targets", "declared", "task"),
    [
        ([1.0, 2.0, 3.0] * 30, "classification", "multiclass"),
        ([1.0, 2.0] * 30, "classification", "binary"),
        ([0, 1] * 50, "regression", "regression"),
        ([0, 1] * 50, "multiclass", "multiclass"),
        (list(range(40)) * 5, "classification", "multiclass"),
        (["1.5", "2.5", "3"] * 10, "regression", "regression"),
        (np.linspace(0, 1, 100), "multi_regression", "multi_regression"),
        (np.ones((50, 2)) * np.arange(50)[:, None], "regression", "multi_regression"),
    ],
)
def test_the_task_can_be_declared(targets, declared, task):
    assert infer(targets, declared) == task


def test_reasons_are_given_with_the_alternative():
    assert "3 distinct strings" in infer_task(np.array(["a", "b", "c"] * 9))[1]
    assert "'data.task': 'classification'" in infer_task(np.array([1.0, 2.0, 3.0] * 9))[1]
    assert "data.task = 'binary'" in infer_task(np.array([1.0, 2.0] * 9), "binary")[1]


@pytest.mark.parametrize(
    ("targets", "declared", "message"),
    [
        (["a"] * 10, "auto", "at least two classes"),
        ([3] * 10, "classification", "at least two classes"),
        ([0.5] * 10, "auto", "0.5 in every row"),
        (np.array([[1.0, 2.0], [1.0, 3.0]]), "auto", "target 0 is 1 in every row"),
        ([f"n{i}" for i in range(30)], "auto", "30 distinct labels in 30 rows"),
        (["a", "b", "c"] * 5, "binary", "needs two classes"),
        (["a", "b"] * 5, "regression", "needs numbers, but rows 0, 1, 2"),
        (["1", "b", "2"] * 2, "regression", "needs numbers, but rows 1, 4 hold 'b'"),
        ([*map(str, range(40)), "many"], "auto", "contains numbers, but row 40 holds 'many'"),
        (np.array([["a", "b"], ["c", "d"]]), "auto", "specify one target"),
        ([1e300, 2.0, 3.0], "regression", "beyond 1e[+]37"),
        ([10**40, 2 * 10**40, 0], "regression", "divide all targets by a constant"),
    ],
)
def test_unsuitable_targets_are_refused(targets, declared, message):
    with pytest.raises(DataError, match=message):
        infer(targets, declared)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([1.0, np.nan, 2.0, np.nan], "rows 1, 3 have no value"),
        (np.array(["a", None, "b"], dtype=object), "row 1 has no value"),
        (np.array([[1.0, 2.0], [1.0, np.nan]]), "row 1 has no value"),
        ([1.0, np.inf, 2.0], "row 1 holds infinities"),
        ([], "no row"),
        ([1.0], "one row"),
        (np.zeros((3, 0)), "at least one target"),
        (np.zeros((3, 2, 2)), "shape"),
        (np.array([1j, 2.0]), "complex"),
        (np.array(["2024-01-01"], dtype="datetime64[D]").repeat(3), "datetime64"),
        (np.array([[1], [2], None], dtype=object)[:2], "got list"),
    ],
)
def test_missing_infinite_and_invalid_targets_are_refused(targets, message):
    with pytest.raises(DataError, match=message):
        check_targets(np.asarray(targets), ("y",))


def test_messages_name_the_target():
    with pytest.raises(DataError, match="'price'"):
        check_targets(np.array([1.0, np.nan]), ("price",))


def test_large_integer_targets_are_classes_or_refused_but_not_constant():
    targets = np.array([2**60 + at % 40 for at in range(80)])
    with pytest.raises(DataError, match="different targets from 1152921504606846976"):
        infer_task(targets)
    with pytest.raises(DataError, match="would be equal"):
        infer_task(targets, "regression")
    assert infer_task(targets % 2 + 2**60)[0] == "binary"
    assert infer_task(targets, "classification")[0] == "multiclass"
    assert infer_task(2**60 + 10**12 * np.arange(80))[0] == "regression"


def test_strings_of_numbers_are_these_numbers():
    amounts = np.array([f"{value}.5" for value in range(30)], dtype=object)
    assert infer_task(amounts)[0] == "regression"
    assert (
        infer_task(np.array([one.replace(".", ",") for one in amounts]), "auto", "comma")[0] == "regression"
    )
    assert infer_task(np.array(["3", "1", "2"] * 10))[0] == "multiclass"
    assert infer_task(np.array(["01", "1", "2"] * 10))[0] == "multiclass"
    assert target_numbers(np.array(["1.250", "$3"], dtype=object), "comma").tolist() == [1250, 3]


def test_large_decimal_numbers_are_integers():
    targets = np.array([decimal.Decimal(10**18 + at % 3) for at in range(30)], dtype=object)
    checked = check_targets(targets, ("y",))
    assert checked.tolist() == [10**18 + at % 3 for at in range(30)]
    assert infer_task(checked, "classification")[0] == "multiclass"


def test_missing_targets_name_the_strings_that_stand_for_them():
    with pytest.raises(DataError, match=r"row 1 has no value \(a remark\); each row needs a target"):
        check_targets(np.array(["a", None], dtype=object), ("region",), absent="a remark")


@pytest.mark.parametrize("base", [2**60, 10**40])
def test_strings_of_large_integers_are_not_merged(base):
    assert infer([str(base + at % 8) for at in range(ROWS)]) == "multiclass"
    for targets in ([base + at for at in range(ROWS)], [str(base + at) for at in range(ROWS)]):
        objects = np.array(targets, dtype=object)
        with pytest.raises(
            DataError, match=f"different targets from {base} to {base + ROWS - 1} would be equal"
        ):
            infer(objects)


def test_decimals_without_decimals_are_integers() -> None:
    values = [1, 2, 3] * 8
    targets = np.array([decimal.Decimal(value) for value in values], dtype=object)
    assert check_targets(targets, ("y",)).tolist() == values
    assert infer_task(check_targets(targets, ("y",)))[0] == infer_task(np.array(values))[0] == "multiclass"
    prices = np.array([decimal.Decimal("1.00"), decimal.Decimal("2.00")] * 4, dtype=object)
    assert check_targets(prices, ("y",)).dtype == np.float64


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["0", "1", "2"], "multiclass"),
        (["0.00", "1.00", "2.00"], "regression"),
        (["0.5", "1.5", "2.5"], "regression"),
    ],
)
def test_decimal_targets_have_one_task_in_every_form(values, task, tmp_path):
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from pyarrow import parquet

    from descend.data.preparation import prepare
    from descend.data.sources import read

    y = [decimal.Decimal(value) for value in values * 12]
    x = [float(at) ** 0.5 for at in range(36)]
    table = pa.table({"x": x, "y": y})
    parquet.write_table(table, tmp_path / "table.parquet")
    forms = [
        {"x": x, "y": y}, [{"x": one, "y": other} for one, other in zip(x, y, strict=True)],
        pd.DataFrame({"x": x, "y": y}), pl.DataFrame({"x": x, "y": y}), table, tmp_path / "table.parquet",
    ]  # fmt: skip
    for form in forms:
        assert prepare(read(form, target="y")).schema.task == task
    assert prepare(read((np.array(x)[:, None], y))).schema.task == task
    features = prepare(read({"x": y, "y": x}, target="y"))
    assert features.train.inputs.dtype.is_floating_point
    assert [column.kind for column in features.schema.columns] == ["numeric"]
