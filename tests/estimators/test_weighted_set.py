"""Rows as a weighted set."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from descend.data.arrays import from_arrays
from descend.estimators.weighted_set import WeightedSet, select, split_by_input, weighted_set


def listed(X, y, weights=None):
    """Return the weighted set as a list, in order."""
    unique = weighted_set(from_arrays(X, y), np.asarray(y, dtype=float), weights)
    own = np.ones(len(unique.rows)) if unique.weights is None else unique.weights
    return [(*X[row].tolist(), float(y[row]), weight) for row, weight in zip(unique.rows, own, strict=True)]


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_equivalent_inputs_have_one_form(data):
    n = data.draw(st.integers(1, 12))
    cells = st.integers(0, 2)
    X = np.array(data.draw(st.lists(st.tuples(cells, cells), min_size=n, max_size=n)), dtype=float)
    y = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    if not counts.any():
        counts[0] = 1
    repeated = np.repeat(np.arange(n), counts)
    shuffled = np.array(data.draw(st.permutations(range(n))))
    first = listed(X[repeated], y[repeated])
    assert listed(X[shuffled], y[shuffled], counts[shuffled].astype(float)) == first
    # Independent of the implementation: a dictionary of counts.
    expected: dict[tuple[float, ...], int] = {}
    for row in repeated:
        key = (*X[row].tolist(), float(y[row]))
        expected[key] = expected.get(key, 0) + 1
    least = min(expected.values())
    assert {entry[:-1]: entry[-1] for entry in first} == {k: v / least for k, v in expected.items()}
    assert len(first) == len(expected)


def test_sums_of_weights_do_not_depend_on_the_order():
    X = np.zeros((3, 1))
    X = np.vstack([X, [[1.0]]])
    y = np.zeros(4)
    parts = np.array([0.1, 0.2, 0.3, 0.7])
    sums = {
        tuple(weighted_set(from_arrays(X[order], y), y, parts[order]).weights)
        for order in (np.array(o) for o in ([0, 1, 2, 3], [2, 1, 0, 3], [3, 1, 2, 0], [1, 0, 3, 2]))
    }
    assert len(sums) == 1
    assert (0.1 + 0.2) + 0.3 != 0.1 + (0.2 + 0.3)  # so that the order could matter


def test_signed_zeros_and_nan_patterns_are_equal():
    other_nan = np.frombuffer(np.uint64(0x7FF8000000000001).tobytes(), dtype=float)[0]
    X = np.array([[0.0, np.nan], [-0.0, other_nan], [1.0, np.nan]])
    unique = weighted_set(from_arrays(X, np.zeros(3)), np.zeros(3))
    assert len(unique.rows) == 2
    assert sorted(unique.weights) == [1.0, 2.0]


def test_the_container_does_not_matter():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (40, 2)), rng.integers(0, 2, 40)
    forms = [
        X,
        X.astype(np.float32),
        pl.DataFrame(X, schema=["a", "b"]),
        pl.DataFrame(X.astype(str), schema=["a", "b"]),
    ]
    unique = [weighted_set(from_arrays(form, y), y) for form in forms]
    for other in unique[1:3]:
        assert np.array_equal(other.rows, unique[0].rows)
        assert np.array_equal(other.weights, unique[0].weights)
    assert len(unique[3].rows) == len(unique[0].rows)  # strings: the same distinct rows in another order
    assert sorted(unique[3].weights) == sorted(unique[0].weights)


def test_mixed_columns():
    frame = pl.DataFrame(
        {"t": ["a", " a", "b", None, "NA"], "b": [True, True, False, None, None], "n": [1, 1, 2, None, None]}
    )
    unique = weighted_set(from_arrays(frame, np.zeros(5)), np.zeros(5))
    assert len(unique.rows) == 3
    assert sorted(unique.weights) == [1.0, 2.0, 2.0]


def test_images_and_negligible_weights():
    X = np.zeros((4, 2, 2), dtype=np.uint8)
    X[2:] = 200
    unique = weighted_set(from_arrays(X, np.zeros(4)), np.zeros(4), np.array([1.0, 1.0, 1e-15, 0.0]))
    assert unique.weights is None
    assert unique.rows.tolist() in ([0], [1])


def test_selected_rows():
    X, y = np.array([[1.0], [2.0], [1.0]]), np.array([5, 6, 5])
    source = from_arrays(X, y)
    selected = select(source, weighted_set(source, y))
    assert dict(zip(selected.frame["x0"].to_list(), selected.weights, strict=True)) == {1.0: 2.0, 2.0: 1.0}
    assert sorted(selected.targets.tolist()) == [5, 6]


def groups(X, y) -> WeightedSet:
    return weighted_set(from_arrays(X, y), y)


def test_rows_with_one_input_stay_together():
    rng = np.random.default_rng(1)
    X, y = rng.integers(0, 60, (300, 1)).astype(float), rng.integers(0, 3, 300)
    unique = groups(X, y)
    parts_of_rows = split_by_input(unique, y[unique.rows], share=0.2, seed=0)
    inputs = X[unique.rows, 0]
    parts = {value: set(parts_of_rows[inputs == value]) for value in np.unique(inputs)}
    assert all(len(names) == 1 for names in parts.values())
    held = sum(names == {"validation"} for names in parts.values())
    assert held == round(0.2 * len(parts))


def test_without_conflicts_there_is_no_special_split():
    X, y = np.arange(50.0)[:, None], np.arange(50) % 2
    assert split_by_input(groups(X, y), y, share=0.2, seed=0) is None
    X[1] = X[0]
    unique = groups(X, y)
    assert split_by_input(unique, y[unique.rows], share=0.2, seed=0) is not None
    assert split_by_input(unique, y[unique.rows], share=0.0, seed=0) is None


def test_no_class_is_held_out_completely():
    X = np.repeat(np.arange(20.0), 2)[:, None]
    y = np.tile([0, 1], 20)
    y[1::2] = 1
    y[1] = 2  # the only row of its class shares its input with a row of class 0
    unique = groups(X, y)
    labels = y[unique.rows]
    for seed in range(20):
        parts_of_rows = split_by_input(unique, labels, share=0.4, seed=seed)
        assert set(labels[parts_of_rows == "train"]) == {0, 1, 2}
