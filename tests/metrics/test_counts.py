"""Rates of classes and labels equal those of scikit-learn, and their averages are over what is defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from descend.metrics.counts import (
    Rate,
    counts_of,
    f1_of,
    mean_of_rates,
    of_second_class,
    precision_of,
    rate_of_total,
    recall_of,
)

RATES: dict[str, tuple[Rate, int]] = {
    "precision": (precision_of, 0),
    "recall": (recall_of, 1),
    "f1": (f1_of, 2),
}
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.uniform(0.5, 2.0, 60)


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_rates_and_averages_equal_scikit_learn(name: str, labels: bool, weighted: bool) -> None:
    rate, at = RATES[name]
    shape = (60, 3) if labels else (60,)
    y, p = (RANDOM.integers(0, 2 if labels else 3, shape) for _ in range(2))
    w = WEIGHTS if weighted else None
    rows = (torch.tensor(p), torch.tensor(y), None if w is None else torch.tensor(w))

    def expected(average: str | None) -> float | np.ndarray[tuple[int], np.dtype[np.float64]]:
        return precision_recall_fscore_support(y, p, sample_weight=w, average=average)[at]

    assert rate(counts_of(*rows)).numpy() == pytest.approx(expected(None), rel=1e-12)
    assert mean_of_rates(rate, *rows).item() == pytest.approx(expected("macro"), rel=1e-12)
    if labels:
        assert rate_of_total(rate, *rows).item() == pytest.approx(expected("micro"), rel=1e-12)


@pytest.mark.parametrize("name", RATES)
def test_the_second_class_is_the_positive_one(name: str) -> None:
    rate, at = RATES[name]
    y, p = RANDOM.integers(0, 2, 40), RANDOM.integers(0, 2, 40)
    expected = precision_recall_fscore_support(y, p, average="binary")[at]
    got = of_second_class(rate, torch.tensor(p), torch.tensor(y), None)
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_labels_without_a_rate_are_left_out_and_classes_without_rows_are_not() -> None:
    y, p = torch.tensor([[1, 0], [0, 0]]), torch.tensor([[1, 0], [1, 0]])
    assert mean_of_rates(recall_of, p, y, None).item() == 1.0
    assert mean_of_rates(precision_of, p, y, None).item() == 0.5
    one = torch.tensor([0, 0])
    assert mean_of_rates(recall_of, one, one, None, 2).isnan()
    assert mean_of_rates(recall_of, one, one, None).item() == 1.0
