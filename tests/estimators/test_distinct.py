from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from descend.data.arrays import from_arrays
from descend.estimators.distinct import Distinct, distinct, taken, validation_words


def listed(X, y, weights=None):
    """The weighted set as a list, in its order."""
    found = distinct(from_arrays(X, y), np.asarray(y, dtype=float), weights)
    own = np.ones(len(found.rows)) if found.weights is None else found.weights
    return [(*X[row].tolist(), float(y[row]), weight) for row, weight in zip(found.rows, own, strict=True)]


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_a_weighted_set_has_one_form(data):
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
        tuple(distinct(from_arrays(X[order], y), y, parts[order]).weights)
        for order in (np.array(o) for o in ([0, 1, 2, 3], [2, 1, 0, 3], [3, 1, 2, 0], [1, 0, 3, 2]))
    }
    assert len(sums) == 1
    assert (0.1 + 0.2) + 0.3 != 0.1 + (0.2 + 0.3)  # so that the order could matter


def test_zeros_and_gaps_are_equal_to_themselves():
    other_nan = np.frombuffer(np.uint64(0x7FF8000000000001).tobytes(), dtype=float)[0]
    X = np.array([[0.0, np.nan], [-0.0, other_nan], [1.0, np.nan]])
    found = distinct(from_arrays(X, np.zeros(3)), np.zeros(3))
    assert len(found.rows) == 2
    assert sorted(found.weights) == [1.0, 2.0]


def test_the_container_does_not_matter():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (40, 2)), rng.integers(0, 2, 40)
    forms = [
        X,
        X.astype(np.float32),
        pl.DataFrame(X, schema=["a", "b"]),
        pl.DataFrame(X.astype(str), schema=["a", "b"]),
    ]
    found = [distinct(from_arrays(form, y), y) for form in forms]
    for other in found[1:3]:
        assert np.array_equal(other.rows, found[0].rows)
        assert np.array_equal(other.weights, found[0].weights)
    assert len(found[3].rows) == len(found[0].rows)  # texts: the same kinds, in an order of their own
    assert sorted(found[3].weights) == sorted(found[0].weights)


def test_mixed_columns():
    frame = pl.DataFrame(
        {"t": ["a", " a", "b", None, "NA"], "b": [True, True, False, None, None], "n": [1, 1, 2, None, None]}
    )
    found = distinct(from_arrays(frame, np.zeros(5)), np.zeros(5))
    assert len(found.rows) == 3
    assert sorted(found.weights) == [1.0, 2.0, 2.0]


def test_images_and_weights_below_everything():
    X = np.zeros((4, 2, 2), dtype=np.uint8)
    X[2:] = 200
    found = distinct(from_arrays(X, np.zeros(4)), np.zeros(4), np.array([1.0, 1.0, 1e-15, 0.0]))
    assert found.weights is None
    assert found.rows.tolist() in ([0], [1])


def test_taken_rows():
    X, y = np.array([[1.0], [2.0], [1.0]]), np.array([5, 6, 5])
    source = from_arrays(X, y)
    kinds = taken(source, distinct(source, y))
    assert dict(zip(kinds.frame["x0"].to_list(), kinds.weights, strict=True)) == {1.0: 2.0, 2.0: 1.0}
    assert sorted(kinds.targets.tolist()) == [5, 6]


def groups(X, y) -> Distinct:
    return distinct(from_arrays(X, y), y)


def test_rows_of_one_input_stay_together():
    rng = np.random.default_rng(1)
    X, y = rng.integers(0, 60, (300, 1)).astype(float), rng.integers(0, 3, 300)
    found = groups(X, y)
    words = validation_words(found, y[found.rows], share=0.2, seed=0)
    inputs = X[found.rows, 0]
    parts = {value: set(words[inputs == value]) for value in np.unique(inputs)}
    assert all(len(names) == 1 for names in parts.values())
    held = sum(names == {"validation"} for names in parts.values())
    assert held == round(0.2 * len(parts))


def test_without_conflicts_the_usual_split_serves():
    X, y = np.arange(50.0)[:, None], np.arange(50) % 2
    assert validation_words(groups(X, y), y, share=0.2, seed=0) is None
    X[1] = X[0]
    found = groups(X, y)
    assert validation_words(found, y[found.rows], share=0.2, seed=0) is not None
    assert validation_words(found, y[found.rows], share=0.0, seed=0) is None


def test_no_class_is_held_out_whole():
    X = np.repeat(np.arange(20.0), 2)[:, None]
    y = np.tile([0, 1], 20)
    y[1::2] = 1
    y[1] = 2  # the only row of its class shares its input with a row of class 0
    found = groups(X, y)
    labels = y[found.rows]
    for seed in range(20):
        words = validation_words(found, labels, share=0.4, seed=seed)
        assert set(labels[words == "train"]) == {0, 1, 2}
