"""Metrics of values equal scikit-learn wherever both are defined, and are NaN where they are undefined."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning
from tests.support.examples import examples

from descend.errors import UserError
from descend.metrics import explained_variance, find_metric, mae, mape, median_ae, r2, rmse

REFERENCE: dict[str, Callable[..., float]] = {
    "r2": reference.r2_score,
    "mae": reference.mean_absolute_error,
    "mse": reference.mean_squared_error,
    "rmse": reference.root_mean_squared_error,
    "mape": reference.mean_absolute_percentage_error,
    "median_ae": reference.median_absolute_error,
    "explained_variance": reference.explained_variance_score,
    "pinball_0.9": lambda y, p, **w: reference.mean_pinball_loss(y, p, alpha=0.9, **w),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", REFERENCE)
@settings(max_examples=examples(40), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 30),
    targets=st.integers(0, 3),
    offset=st.sampled_from([0, 1e5]),
)
def test_equal_to_scikit_learn(
    name: str, weighted: bool, seed: int, n: int, targets: int, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    shape = (n, targets) if targets else (n,)
    y = offset + rng.normal(size=shape)
    p = y + rng.normal(size=shape)
    w = rng.uniform(0.1, 5.0, n)
    got = find_metric(name)(
        torch.from_numpy(p), torch.from_numpy(y), torch.from_numpy(w) if weighted else None
    )
    expected = REFERENCE[name](y, p, sample_weight=w if weighted else None)
    assert got.item() == pytest.approx(expected, rel=1e-8)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_the_weighted_median_is_that_of_repeated_rows(weights: list[int]) -> None:
    errors = np.random.default_rng(len(weights)).permutation(len(weights)).astype(float)
    got = median_ae(
        torch.from_numpy(errors), torch.zeros(len(errors)), torch.tensor(weights, dtype=torch.float64)
    ).item()
    repeated = np.repeat(errors, weights)
    assert math.isnan(got) if not len(repeated) else got == np.median(repeated)


@pytest.mark.parametrize("metric", [r2, explained_variance])
@pytest.mark.parametrize("shape", [(0,), (1,), (0, 2), (1, 2)])
def test_fewer_than_two_rows_have_no_variance(
    metric: Callable[..., torch.Tensor], shape: tuple[int, ...]
) -> None:
    assert metric(torch.zeros(shape), torch.ones(shape)).isnan()


def test_r2_of_one_row_is_undefined_in_scikit_learn_too() -> None:
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(reference.r2_score([1.0], [2.0]))


@pytest.mark.parametrize("metric", [r2, explained_variance])
@pytest.mark.parametrize("value", [2.0, 0.1, 1e9 + 0.3])
@pytest.mark.parametrize("error", [0.0, 1.0])
def test_constant_targets_have_no_variance(
    metric: Callable[..., torch.Tensor], value: float, error: float
) -> None:
    y = torch.full((7,), value, dtype=torch.float64)
    assert metric(y + error * torch.arange(7), y).isnan()
    assert metric(y, y, torch.linspace(0.1, 3.0, 7)).isnan()


def test_targets_that_vary_only_among_rows_of_weight_zero_are_constant() -> None:
    y, w = torch.tensor([1.0, 1.0, 5.0]), torch.tensor([1.0, 2.0, 0.0])
    assert r2(y, y, w).isnan()


def test_of_several_targets_the_constant_ones_are_left_out() -> None:
    y = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    p = torch.tensor([[1.0, 4.0], [2.0, 5.0], [2.0, 6.0]])
    assert r2(p, y).item() == pytest.approx(reference.r2_score(y[:, 0], p[:, 0]))


def test_mape_with_a_target_of_zero_is_undefined_unless_its_weight_is_zero() -> None:
    y, p = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0])
    assert mape(p, y).isnan()
    assert mape(p, y, torch.tensor([0.0, 1.0])).item() == 0.5


@pytest.mark.parametrize("name", REFERENCE)
def test_without_rows_or_weight_every_metric_is_undefined(name: str) -> None:
    metric = find_metric(name)
    assert metric(torch.zeros(0), torch.zeros(0)).isnan()
    assert metric(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), torch.zeros(2)).isnan()


def test_float32_inputs_keep_their_precision() -> None:
    """Summed in float32, a million errors of 0.1 drift; the metric sums in float64."""
    p = torch.full((1_000_003,), 0.1)
    assert mae(p, torch.zeros_like(p)).item() == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert rmse(p, torch.zeros_like(p)).item() == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="they must be equal"):
        r2(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(UserError, match=r"expected weights of shape \(3,\), one per row"):
        mae(torch.zeros(3), torch.zeros(3), torch.ones(3, 1))
