"""Metrics of many members at once equal those of each member."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descend.many.member_metrics import Scored, metrics_of_members
from descend.metrics import Metric, find_metric, mae, metrics_of, own_metric

CLASSES = {"binary": 2, "multiclass": 4}


def known(task: str) -> list[Metric]:
    more = {"multiclass": ["top_2"], "regression": ["pinball_0.9"]}.get(task, [])
    return [*metrics_of(task).values(), *(find_metric(name) for name in more)]


def rows(seed: int, task: str, members: int, count: int = 17) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return predictions of members in each form, and targets, in which the last class may be absent."""
    rng = torch.Generator().manual_seed(seed)
    classes = CLASSES.get(task, 0)
    if not classes:
        shape = (members, count, 2)
        return {"values": torch.randn(*shape, generator=rng)}, torch.randn(*shape, generator=rng)
    logits = torch.randn(members, count, classes, generator=rng).round()  # equal ones among them
    probabilities = logits.softmax(2)
    return {
        "classes": logits.argmax(2),
        "probabilities": probabilities[..., 1] if task == "binary" else probabilities,
    }, torch.randint(classes, (members, count), generator=rng)


@given(
    st.integers(0, 2**31),
    st.sampled_from(["binary", "multiclass", "regression", "multi_regression"]),
    st.integers(1, 5),
    st.booleans(),
)
def test_values_equal_those_of_each_member(seed: int, task: str, members: int, weighted: bool) -> None:
    classes = CLASSES.get(task, 0)
    predictions, targets = rows(seed, task, members)
    weights = torch.rand(members, 17, generator=torch.Generator().manual_seed(seed)) if weighted else None
    metrics = known(task)
    values = metrics_of_members(metrics, Scored(predictions.__getitem__, targets, weights, classes))
    assert list(values) == [metric.name for metric in metrics]
    for metric in metrics:
        for member in range(members):
            own = metric(
                predictions[metric.takes][member],
                targets[member],
                None if weights is None else weights[member],
                classes,
            )
            torch.testing.assert_close(
                values[metric.name][member], own, rtol=1e-12, atol=1e-12, equal_nan=True
            )


def test_undefined_for_some_members() -> None:
    """The targets of the second member are constant, and lack a class."""
    targets = torch.stack([torch.arange(4.0), torch.ones(4)]).unsqueeze(2)
    scored = Scored(lambda form: targets, targets, None, 0)
    assert metrics_of_members([find_metric("r2")], scored)["r2"].isnan().tolist() == [False, True]
    labels = torch.tensor([[0, 1, 1], [1, 1, 1]])
    scored = Scored(lambda form: labels, labels, None, 2)
    for name in ("balanced_accuracy", "f1_macro", "matthews"):
        assert metrics_of_members([find_metric(name)], scored)[name].isnan().tolist() == [False, True]


@pytest.mark.parametrize("weighted", [False, True])
def test_metric_without_a_packed_form(weighted: bool) -> None:
    def mine(y_true, p, sample_weight=None):
        own = None if sample_weight is None else torch.from_numpy(sample_weight)
        return mae(torch.from_numpy(p), torch.from_numpy(y_true), own)

    predictions, targets = rows(0, "regression", 3)
    weights = torch.rand(3, 17) if weighted else None
    scored = Scored(predictions.__getitem__, targets, weights, 0)
    metrics = [own_metric(mine, "regression", better="lower"), find_metric("mae")]
    values = metrics_of_members(metrics, scored)
    torch.testing.assert_close(values["mine"], values["mae"])
