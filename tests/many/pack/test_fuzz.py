"""Packs of random members: each equals its solo run, and does not depend on the other members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.packs import TOLERANCE, flat, pack_of, trainings, weights

from descend.training.loop import fit

EPOCHS = 3
# Adaptive methods divide by the size of a gradient and amplify the rounding of one that is nearly 0, so eps is large.
OPTIMIZERS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "sgd": {"lr": st.floats(1e-3, 0.1), "momentum": st.sampled_from([0.0, 0.5, 0.9])},
    "adagrad": {"lr": st.floats(1e-3, 0.05), "eps": st.floats(1e-4, 1e-2)},
    "rmsprop": {
        "lr": st.floats(1e-4, 1e-2),
        "alpha": st.sampled_from([0.9, 0.99]),
        "eps": st.floats(1e-4, 1e-2),
        "momentum": st.sampled_from([0.0, 0.5]),
    },
    "adam": {
        "lr": st.floats(1e-4, 1e-2),
        "betas": st.sampled_from([(0.9, 0.999), (0.5, 0.9)]),
        "eps": st.floats(1e-4, 1e-2),
    },
    "adamw": {"lr": st.floats(1e-4, 1e-2), "eps": st.floats(1e-4, 1e-2)},
    "adamax": {"lr": st.floats(1e-4, 1e-2), "eps": st.floats(1e-4, 1e-2)},
}


def data(task: str, rows: int = 45, columns: int = 4) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, columns))
    score = x @ rng.normal(size=(columns, 3)) + 0.3 * rng.normal(size=(rows, 3))
    return x, {
        "multiclass": score.argmax(1),
        "binary": (score[:, 0] > 0).astype(int),
        "regression": score[:, 0],
    }[task]


@st.composite
def packs(draw: st.DrawFn, *, whole: bool = False) -> tuple[str, list[dict[str, Any]], list[int]]:
    """Generate a task, recipes that can be packed together, and their seeds; ``whole``: matrices of whole cache lines."""
    task = draw(st.sampled_from(["multiclass", "binary", "regression"]))
    depth, norm = draw(st.integers(1, 2)), draw(st.sampled_from(["none", "none", "batch", "layer"]))
    optimizer = draw(st.sampled_from(list(OPTIMIZERS)))
    shared: dict[str, Any] = {"batch_size": draw(st.sampled_from([16, 64] if whole else [7, 16, 64]))}
    if whole:
        shared |= {"validation": 0.0, "test": 0.0}
    if task != "regression":
        shared["class_weights"] = draw(st.sampled_from(["none", "balanced"]))
    nesterov = {"nesterov": draw(st.booleans())} if optimizer == "sgd" else {}
    accumulate = draw(st.integers(1, 2))
    smoothing = st.sampled_from([0.0, 0.1]) if task == "multiclass" else st.just(0.0)
    widths = st.sampled_from([16, 32]) if whole else st.integers(2, 9)
    if norm == "layer":
        widths = st.just(16)
    recipes, seeds = [], []
    for _ in range(draw(st.integers(2, 4))):
        chosen = {key: draw(each) for key, each in OPTIMIZERS[optimizer].items()}
        if nesterov.get("nesterov"):
            chosen["momentum"] = max(chosen["momentum"], 0.5)
        clip = draw(st.sampled_from(["clip_norm", "clip_value", ""]))
        penalty = draw(st.sampled_from(["weight_decay", "l1", "l2", ""]))
        recipes.append(
            {
                "data": shared,
                "model": {
                    "hidden": [draw(widths) for _ in range(depth)],
                    "norm": norm,
                    "activation": draw(st.sampled_from(["relu", "tanh", "gelu", "softplus"])),
                    "dropout": draw(st.sampled_from([0.0, 0.2, 0.5])),
                },
                "loss": {} if task == "regression" else {"label_smoothing": draw(smoothing)},
                "init": {"name": draw(st.sampled_from(["kaiming_normal", "xavier_uniform", "orthogonal"]))},
                "optimizer": {"name": optimizer, **chosen, **nesterov},
                "schedule": {"name": draw(st.sampled_from(["constant", "cosine", "inverse"]))},
                "gradient": {
                    "accumulate": accumulate,
                    **({clip: draw(st.floats(0.01, 1.0))} if clip else {}),
                },
                "regularize": {penalty: draw(st.floats(1e-4, 1e-2))} if penalty else {},
                "stop": {"average": draw(st.sampled_from([0.0, 1.0]))},
            }
        )
        seeds.append(draw(st.integers(0, 3)))
    return task, recipes, seeds


FEW = settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(packs())
def test_member_equals_its_solo_run(case: tuple[str, list[dict[str, Any]], list[int]]) -> None:
    task, recipes, seeds = case
    event(task)
    event(recipes[0]["optimizer"]["name"])
    rows = data(task)
    solo = trainings(recipes, seeds, rows, torch.float64)
    packed = trainings(recipes, seeds, rows, torch.float64)
    pack = pack_of(packed)
    fit(pack, until=EPOCHS)
    states = weights(pack)
    for number, (_, training) in enumerate(solo):
        fit(training, until=EPOCHS)
        own = flat(training.model.state_dict())
        assert (states[number] - own).norm() <= TOLERANCE[torch.float64] * own.norm()
        for record, expected in zip(packed[number][1].history, training.history, strict=True):
            assert record["train"]["loss"] == pytest.approx(expected["train"]["loss"], rel=1e-6)
            assert record["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5, abs=1e-9)


@pytest.mark.slow
@FEW
@given(packs(whole=True), st.integers(0, 3), st.integers(1, EPOCHS - 1))
def test_bits_do_not_change_when_another_leaves(
    case: tuple[str, list[dict[str, Any]], list[int]], dropped: int, after: int
) -> None:
    """For matrices of whole cache lines: the rounding of products depends on the alignment of their operands."""
    task, recipes, seeds = case
    dropped %= len(recipes)
    rows = data(task, 48, 16)
    whole, fewer = (pack_of(trainings(recipes, seeds, rows)) for _ in range(2))
    fit(whole, until=EPOCHS)
    fit(fewer, until=after)
    fewer.drop({dropped}, "dropped")
    fit(fewer, until=EPOCHS)
    expected, states = weights(whole), weights(fewer)
    assert list(states) == [number for number in expected if number != dropped]
    # The last member's bits may differ: the last entries of a tensor are computed with other instructions.
    for number in list(states)[:-1]:
        assert torch.equal(states[number], expected[number])
    for number in states:
        assert (states[number] - expected[number]).norm() <= 1e-4 * expected[number].norm()


def test_bits_of_two_kinds_of_activations_after_a_batch_norm() -> None:
    """Regression test: the strides of a batch norm's output depended on the number of members, and so did rounding."""
    shared = {
        "data": {"batch_size": 16, "validation": 0.0, "test": 0.0},
        "optimizer": {"name": "sgd", "lr": 0.0625},
        "stop": {"average": 0.0},
    }
    recipes = [
        {**shared, "model": {"hidden": [16, 16], "norm": "batch", "activation": activation, "dropout": 0.0}}
        for activation in ("gelu", "gelu", "relu")
    ]
    rows = data("multiclass", 48, 16)
    whole, fewer = (pack_of(trainings(recipes, [0, 0, 0], rows)) for _ in range(2))
    fit(whole, until=EPOCHS)
    fit(fewer, until=1)
    fewer.drop({0}, "dropped")
    fit(fewer, until=EPOCHS)
    assert torch.equal(weights(whole)[1], weights(fewer)[1])
