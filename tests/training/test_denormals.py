"""Denormals are flushed to zero on every thread within the context, with negligible effect on weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import descend
from descend.training import denormals
from descend.training.arithmetic import arithmetic
from descend.training.denormals import flushes, flushing_denormals
from descend.training.threads import using_threads


def nonzero_products(count: int) -> int:
    """Count the denormal products that are not flushed, in a vector that PyTorch computes on all its threads."""
    return int((torch.full((count * denormals.ELEMENTS_PER_THREAD,), 1e-39) * 0.5).count_nonzero())


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("before", [1, 2])
def test_every_thread_flushes_within_the_context_only(count: int, before: int) -> None:
    with using_threads(before):
        assert (
            nonzero_products(before) == before * denormals.ELEMENTS_PER_THREAD
        )  # starts the pool of threads
        with using_threads(count):
            with flushing_denormals() as flushed:
                assert flushed
                assert nonzero_products(count) == 0
            assert nonzero_products(count) == count * denormals.ELEMENTS_PER_THREAD
        assert nonzero_products(before) == before * denormals.ELEMENTS_PER_THREAD


def test_an_enabled_mode_stays_enabled() -> None:
    torch.set_flush_denormal(True)
    try:
        with using_threads(1):
            with flushing_denormals() as flushed:
                assert flushed
            assert flushes()
    finally:
        torch.set_flush_denormal(False)


def test_the_mode_is_restored_after_an_error() -> None:
    with using_threads(2):
        with pytest.raises(ValueError, match="inside"), flushing_denormals():
            raise ValueError("inside")
        assert nonzero_products(2) == 2 * denormals.ELEMENTS_PER_THREAD


@pytest.fixture
def empty_cache() -> Iterator[None]:
    denormals._run_on_all.cache_clear()
    yield
    denormals._run_on_all.cache_clear()


@pytest.mark.parametrize("region", [None, lambda action, count: None])
@pytest.mark.usefixtures("empty_cache")
def test_no_mode_is_changed_if_the_pool_cannot_be_reached(
    region: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denormals, "_parallel_region", lambda: region)
    with using_threads(2), flushing_denormals() as flushed:
        assert not flushed
        assert nonzero_products(2) == 2 * denormals.ELEMENTS_PER_THREAD
    with using_threads(1), flushing_denormals() as flushed:
        assert flushed  # one thread needs no pool
        assert nonzero_products(1) == 0


@pytest.mark.parametrize("choice", ["flush", "keep"])
def test_the_setting(choice: str) -> None:
    with arithmetic(1, torch.device("cpu"), choice):
        assert flushes() == (choice == "flush")
    assert not flushes()


def first_moment_after(steps: int, choice: str) -> torch.Tensor:
    """Return Adam's first moment of weights with gradient 1 once and then 0: 0.1 · 0.9^(steps − 1)."""
    weight = torch.nn.Parameter(torch.ones(64))
    optimizer = torch.optim.Adam([weight], lr=1e-3, fused=True)
    with arithmetic(1, torch.device("cpu"), choice):
        for step in range(steps):
            weight.grad = torch.full_like(weight, float(step == 0))
            optimizer.step()
    return optimizer.state[weight]["exp_avg"]


@pytest.mark.slow
def test_the_moments_of_a_dead_unit_become_zero_instead_of_denormal() -> None:
    smallest = torch.finfo(torch.float32).tiny
    last_normal = 1 + int(np.log(smallest / 0.1) / np.log(0.9))
    before, kept = first_moment_after(last_normal, "flush"), first_moment_after(2000, "keep")
    torch.testing.assert_close(before, torch.full((64,), 0.1 * 0.9 ** (last_normal - 1)), rtol=1e-3, atol=0)
    assert (first_moment_after(2000, "flush") == 0).all()
    assert ((kept > 0) & (kept < smallest)).all()  # control: rounding keeps them denormal


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["loop", "packed"])
def test_the_effect_on_weights_is_negligible(engine: str) -> None:
    """1,600 steps with a learning rate at which ReLU units die."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int64")

    def recipe(choice: str) -> descend.Recipe:
        return descend.Recipe(
            data={"scale": "none", "batch_size": 16},
            model={"name": "mlp", "hidden": [8], "activation": "relu", "norm": "none", "dropout": 0.0},
            optimizer={"name": "adam", "lr": 0.3},
            schedule={"name": "constant", "warmup": 0.0},
            stop={"max_epochs": 400, "patience": "none", "average": 0.0},
            engine={"threads": 1, "denormals": choice},
        )

    runs = {
        choice: descend.train_many(
            [recipe(choice)] * 2, (x, y), validation=(x, y), seeds=[0, 1], engine=engine, tested=False
        )
        for choice in ("flush", "keep")
    }
    for flushed, kept in zip(runs["flush"], runs["keep"], strict=True):
        pairs = zip(flushed.model.parameters(), kept.model.parameters(), strict=True)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
