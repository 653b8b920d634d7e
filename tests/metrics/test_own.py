"""Metrics of one's own: what they are called with, what they must declare, and their errors."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from descend.errors import UserError
from descend.metrics import declare, own_metric, undefined_reason

Array = np.ndarray[Any, Any]


def test_it_is_called_as_scikit_learn_calls_it() -> None:
    seen: dict[str, Any] = {}

    @declare(better="lower", takes="probabilities")
    def cost(y_true: Array, p: Array, sample_weight: Array | None = None) -> float:
        seen.update(y=y_true, p=p, w=sample_weight)
        return 2.5

    metric = own_metric(cost, "binary")
    assert (metric.name, metric.better, metric.takes) == ("cost", "lower", "probabilities")
    value = metric(torch.tensor([0.25, 0.75]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))
    assert value.item() == 2.5
    assert value.dtype == torch.float64
    assert seen["y"].dtype == np.int64
    assert (seen["y"].tolist(), seen["p"].tolist(), seen["w"].tolist()) == ([0, 1], [0.25, 0.75], [1.0, 3.0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("function", "better", "takes"),
    [
        (reference.f1_score, "higher", "classes"),
        (reference.cohen_kappa_score, "higher", None),
        (reference.hamming_loss, "lower", "classes"),
        (reference.roc_auc_score, "higher", "probabilities"),
        (reference.brier_score_loss, "lower", "probabilities"),
        (reference.log_loss, "lower", "probabilities"),
    ],
)
def test_functions_of_scikit_learn_declare_themselves_by_their_names(
    function: Any, better: str, takes: str | None, weighted: bool
) -> None:
    if takes is None:  # its parameters are y1 and y2
        with pytest.raises(UserError, match="does not declare which predictions it takes"):
            own_metric(function, "binary")
        takes = "classes"
        metric = own_metric(function, "binary", takes=takes)
    else:
        metric = own_metric(function, "binary", name="mine" if function is reference.log_loss else None)
    assert (metric.better, metric.takes) == (better, takes)
    rng = np.random.default_rng(0)
    y, p, w = rng.integers(0, 2, 30), rng.uniform(size=30), rng.uniform(1, 2, 30)
    predictions = p if takes == "probabilities" else (p > 0.5).astype(int)
    got = metric(
        torch.from_numpy(predictions), torch.from_numpy(y), torch.from_numpy(w) if weighted else None
    )
    expected = function(y, predictions, **({"sample_weight": w} if weighted else {}))
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_values_are_in_one_dimension_for_one_target() -> None:
    shapes = []

    def worst_error(y_true: Array, y_pred: Array) -> float:
        shapes.append((y_true.shape, y_pred.shape))
        return float(np.abs(y_true - y_pred).max())

    metric = own_metric(worst_error, "regression")
    assert (metric.better, metric.takes) == ("lower", "values")
    assert metric(torch.tensor([[1.0], [4.0]]), torch.tensor([[1.0], [2.0]])).item() == 2.0
    own_metric(worst_error, "multi_regression")(torch.zeros(3, 2), torch.ones(3, 2))
    assert shapes == [((2,), (2,)), ((3, 2), (3, 2))]


def test_several_labels_per_row() -> None:
    metric = own_metric(reference.hamming_loss, "multi_label")
    p, y = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert (metric.better, metric.takes) == ("lower", "classes")
    assert metric(p, y).item() == 0.25


@pytest.mark.parametrize("value", [None, float("nan"), np.float64("nan"), torch.tensor(float("nan"))])
def test_none_and_nan_mean_undefined(value: Any) -> None:
    metric = own_metric(lambda y, p: value, "regression", name="mine", better="lower")
    assert metric(torch.zeros(2), torch.zeros(2)).isnan()


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.array([3]), torch.tensor(3.0), True + 2])
def test_one_number_in_any_form(value: Any) -> None:
    metric = own_metric(lambda y, p: value, "regression", name="mine", better="lower")
    assert metric(torch.zeros(2), torch.zeros(2)).item() == 3.0


def _score(y_true: Array, y_pred: Array) -> float:
    return 1.0


def _unnamed(a: Array, b: Array) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("function", "task", "settings", "message"),
    [
        (lambda y, p: 0.0, "binary", {}, "the function has no name that records could use"),
        (_unnamed, "binary", {}, "does not declare which direction is better"),
        (_unnamed, "binary", {"better": "higher"}, "does not declare which predictions it takes"),
        (_score, "binary", {"better": "more"}, 'better: expected one of "higher", "lower", got \'more\''),
        (_score, "binary", {"takes": "logits"}, "takes: expected one of"),
        (_score, "binary", {"takes": "values"}, "takes values, but the task is binary"),
        (_score, "regression", {"takes": "classes"}, "takes classes, but the task is regression"),
        (_score, "binary", {"name": "accuracy"}, "'accuracy' is the name of a built-in metric"),
        (_score, "binary", {"name": "loss"}, "'loss' is the name of a built-in metric"),
        (_score, "binary", {"name": "top_9"}, "'top_9' is the name of a built-in metric"),
    ],
)
def test_what_must_be_declared(function: Any, task: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        own_metric(function, task, **settings)


def test_errors_name_the_metric_and_the_shapes() -> None:
    def broken(y_true: Array, y_pred: Array) -> float:
        raise ValueError("no money left")

    metric = own_metric(broken, "regression", better="lower")
    with pytest.raises(
        UserError, match=r"the metric 'broken' failed on y_true of shape \(2,\).*no money left"
    ):
        metric(torch.zeros(2), torch.zeros(2))
    several = own_metric(lambda y, p: y - p, "regression", name="mine", better="lower")
    with pytest.raises(UserError, match=r"returned an array of shape \(2,\) instead of one number"):
        several(torch.zeros(2), torch.zeros(2))
    text = own_metric(lambda y, p: "good", "regression", name="mine", better="lower")
    with pytest.raises(UserError, match="returned the string 'good' instead of one number"):
        text(torch.zeros(2), torch.zeros(2))


def test_weights_that_it_does_not_take_are_refused() -> None:
    metric = own_metric(_score, "binary")
    with pytest.raises(
        UserError, match="the rows have weights, but the metric '_score' takes no sample_weight"
    ):
        metric(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.ones(2))


def test_a_metric_that_changes_its_arguments_does_not_change_the_rows() -> None:
    def destructive(y_true: Any, y_pred: Any) -> float:
        y_true[:] = 0
        y_pred[:] = 0
        return 1.0

    y, p = torch.tensor([0, 2, 1]), torch.tensor([1, 2, 1])
    metric = own_metric(destructive, "multiclass", better="higher", takes="classes")
    assert metric(p, y).item() == 1.0
    assert (y.tolist(), p.tolist()) == ([0, 2, 1], [1, 2, 1])


@pytest.mark.parametrize("value", [math.inf, -math.inf, np.float32("inf"), torch.tensor(math.inf)])
def test_an_infinite_value_is_undefined(value: Any) -> None:
    metric = own_metric(lambda y_true, y_pred: value, "binary", name="mine", better="lower")
    assert metric(torch.tensor([1, 0]), torch.tensor([1, 0])).isnan()


def test_a_metric_that_is_infinite_for_perfect_predictions_can_be_monitored() -> None:
    """The peak signal-to-noise ratio has no finite value without noise."""

    def psnr(y_true: Any, y_pred: Any) -> float:
        error = float(np.square(y_true - y_pred).mean())
        return math.inf if error == 0 else -10 * math.log10(error)

    metric = own_metric(psnr, "regression", better="higher")
    y = torch.tensor([[0.0], [1.0]])
    assert undefined_reason(metric, "regression", y) is None
    assert metric(y + 0.1, y).item() == pytest.approx(20.0, abs=1e-5)


def test_a_partial_function_has_the_name_and_the_conventions_of_its_function() -> None:
    metric = own_metric(functools.partial(reference.f1_score, average="macro"), "multiclass")
    assert (metric.name, metric.better, metric.takes) == ("f1_score", "higher", "classes")
    y, p = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1])
    assert metric(p, y).item() == pytest.approx(reference.f1_score(y, p, average="macro"))


def test_a_scorer_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score, make_scorer

    with pytest.raises(
        UserError, match=r"'f1_score': a scorer of scikit-learn .* use 'f1_macro', or the function"
    ):
        own_metric(make_scorer(f1_score), "multiclass")
