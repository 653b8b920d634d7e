import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning
from tests.support.examples import examples

from descend.cards import card
from descend.errors import UserError
from descend.metrics import (
    METRICS,
    accuracy,
    balanced_accuracy,
    better,
    mae,
    main_metric,
    predicted_classes,
    r2,
    rmse,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:A single label was found:UserWarning"
)  # a warning of scikit-learn

CLASSIFICATION = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
}
REGRESSION = {
    "r2": reference.r2_score,
    "mae": reference.mean_absolute_error,
    "rmse": reference.root_mean_squared_error,
}


def test_the_metrics_of_each_task():
    assert set(METRICS) == {"regression", "multi_regression", "binary", "multiclass"}
    for task, known in METRICS.items():
        assert set(known) == set(REGRESSION if "regression" in task else CLASSIFICATION)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CLASSIFICATION)
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_classification_equals_scikit_learn(name, weighted, data):
    n = data.draw(st.integers(1, 30))
    k = data.draw(st.integers(1, 5))
    labels = st.lists(st.integers(0, k - 1), min_size=n, max_size=n)
    y = np.array(data.draw(labels))
    p = np.array([label if label in y else y[0] for label in data.draw(labels)])
    w = np.array(data.draw(st.lists(st.floats(0.1, 5.0), min_size=n, max_size=n)))
    got = METRICS["multiclass"][name](
        torch.from_numpy(p), torch.from_numpy(y), torch.from_numpy(w) if weighted else None
    )
    expected = CLASSIFICATION[name](y, p, sample_weight=w if weighted else None)
    assert got.shape == ()
    assert got.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # a warning of scikit-learn
def test_a_predicted_class_without_targets():
    y, p = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 1])
    got = balanced_accuracy(torch.from_numpy(p), torch.from_numpy(y))
    assert got.item() == pytest.approx(reference.balanced_accuracy_score(y, p))


def test_a_class_without_weight_is_ignored():
    got = balanced_accuracy(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), torch.tensor([1.0, 1.0, 0.0]))
    assert got.item() == 1.0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", REGRESSION)
@settings(max_examples=examples(60), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 30),
    targets=st.integers(0, 3),
    offset=st.sampled_from([0, 1e5]),
)
def test_regression_equals_scikit_learn(name, weighted, seed, n, targets, offset):
    rng = np.random.default_rng(seed)
    shape = (n, targets) if targets else (n,)
    y = offset + rng.normal(size=shape)
    p = y + rng.normal(size=shape)
    w = rng.uniform(0.1, 5.0, n)
    got = METRICS["regression"][name](
        torch.from_numpy(p), torch.from_numpy(y), torch.from_numpy(w) if weighted else None
    )
    expected = REGRESSION[name](y, p, sample_weight=w if weighted else None)
    assert got.item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shape", [(0,), (1,), (0, 2), (1, 2)])
def test_r2_of_fewer_than_two_rows_is_undefined(shape):
    assert r2(torch.zeros(shape), torch.ones(shape)).isnan()


def test_r2_of_one_row_is_undefined_in_scikit_learn_too():
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(reference.r2_score([1.0], [2.0]))


@pytest.mark.parametrize(("p", "expected"), [([2.0, 2.0, 2.0], 1.0), ([2.0, 2.0, 3.0], 0.0)])
def test_r2_of_a_constant_target(p, expected):
    y = [2.0, 2.0, 2.0]
    assert r2(torch.tensor(p), torch.tensor(y)).item() == expected == reference.r2_score(y, p)


def test_float32_inputs_keep_their_precision():
    """Summed in float32, a million errors of 0.1 drift; the metric sums in float64."""
    p = torch.full((1_000_003,), 0.1)
    assert mae(p, torch.zeros_like(p)).item() == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert rmse(p, torch.zeros_like(p)).item() == pytest.approx(float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("targets", [torch.tensor([0, 1, 1, 0]), torch.tensor([0.0, 1.0, 1.0, 0.0])])
def test_raw_outputs_and_class_indices_are_equivalent(targets):
    logits = torch.tensor([[-1.0], [2.0], [-0.5], [0.0]])
    pairs = torch.cat([torch.zeros_like(logits), logits], 1)
    for metric in (accuracy, balanced_accuracy):
        expected = metric(torch.tensor([0, 1, 0, 0]), targets)
        assert (
            expected == metric(logits, targets) == metric(pairs, targets) == metric(logits[:, 0] > 0, targets)
        )


def test_predicted_classes():
    assert predicted_classes(torch.tensor([True, False])).tolist() == [1, 0]
    assert predicted_classes(torch.tensor([3, 1])).tolist() == [3, 1]


def test_wrong_shapes_are_refused():
    with pytest.raises(UserError, match="they must be equal"):
        r2(torch.zeros(3, 2), torch.zeros(3, 1))
    for metric, p in ((accuracy, torch.zeros(3).long()), (mae, torch.zeros(3))):
        with pytest.raises(UserError, match=r"expected weights of shape \(3,\), one per row"):
            metric(p, p, torch.ones(3, 1))


@pytest.mark.parametrize("task", METRICS)
def test_main_metric_and_direction(task):
    name = main_metric(task)
    assert name == ("r2" if "regression" in task else "accuracy")
    assert better(name) == "higher"


def test_directions():
    assert [better(name) for name in ("loss", "mae", "rmse", "balanced_accuracy")] == ["lower"] * 3 + [
        "higher"
    ]
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        better("acuracy")
    with pytest.raises(UserError, match="did you mean 'binary'"):
        main_metric("binry")


@pytest.mark.parametrize("name", [*CLASSIFICATION, *REGRESSION])
def test_every_metric_has_a_card_and_a_direction(name):
    metric = {**METRICS["binary"], **METRICS["regression"]}[name]
    assert card(metric) is not None
    assert better(name) in {"higher", "lower"}
