"""Metrics of many members at once equal those of each member."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descend.many.member_metrics import Scored, metrics_of_members
from descend.metrics import METRICS, mae


def rows(seed: int, classes: int, members: int, *, count: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shape = (members, count)
    if classes:
        # The last class may be absent from the targets.
        return torch.randint(classes, shape, generator=rng), torch.randint(classes - 1, shape, generator=rng)
    return torch.randn(*shape, 2, generator=rng), torch.randn(*shape, 2, generator=rng)


@given(
    st.integers(0, 2**31),
    st.sampled_from(["binary", "multiclass", "regression", "multi_regression"]),
    st.integers(1, 5),
    st.booleans(),
)
def test_values_equal_those_of_each_member(seed: int, task: str, members: int, weighted: bool) -> None:
    classes = {"binary": 2, "multiclass": 4}.get(task, 0)
    predictions, targets = rows(seed, classes, members)
    weights = torch.rand(members, 17, generator=torch.Generator().manual_seed(seed)) if weighted else None
    values = metrics_of_members(task, Scored(predictions, targets, weights, classes))
    assert list(values) == list(METRICS[task])
    for name, metric in METRICS[task].items():
        for member in range(members):
            own = metric(predictions[member], targets[member], None if weights is None else weights[member])
            torch.testing.assert_close(values[name][member], own, rtol=1e-12, atol=1e-12)


def test_constant_targets() -> None:
    targets = torch.ones(2, 4, 1)
    predictions = torch.stack([targets[0], targets[1] + 1])
    assert metrics_of_members("regression", Scored(predictions, targets, None, 0))["r2"].tolist() == [
        1.0,
        0.0,
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_metric_without_a_packed_form(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    monkeypatch.setitem(METRICS, "regression", {"custom": mae})
    predictions, targets = rows(0, 0, 3)
    weights = torch.rand(3, 17) if weighted else None
    values = metrics_of_members("regression", Scored(predictions, targets, weights, 0))
    known = metrics_of_members("multi_regression", Scored(predictions, targets, weights, 0))
    torch.testing.assert_close(values["custom"], known["mae"])
