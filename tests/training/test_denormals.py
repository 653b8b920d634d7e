"""Numbers below the smallest normal one: zero on every thread while asked for, and no weight can tell."""

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


def not_zero(count: int) -> int:
    """How many of denormal products are kept, of a vector that PyTorch shares out among its threads."""
    return int((torch.full((count * denormals.SHARED,), 1e-39) * 0.5).count_nonzero())


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("before", [1, 2])
def test_on_every_thread_and_only_inside(count: int, before: int) -> None:
    with using_threads(before):
        assert not_zero(before) == before * denormals.SHARED  # the pool is there before anybody asks
        with using_threads(count):
            with flushing_denormals() as flushed:
                assert flushed
                assert not_zero(count) == 0
            assert not_zero(count) == count * denormals.SHARED
        assert not_zero(before) == before * denormals.SHARED


def test_who_had_it_on_keeps_it_on() -> None:
    torch.set_flush_denormal(True)
    try:
        with using_threads(1):
            with flushing_denormals() as flushed:
                assert flushed
            assert flushes()
    finally:
        torch.set_flush_denormal(False)


def test_an_error_inside_turns_it_off() -> None:
    with using_threads(2):
        with pytest.raises(ValueError, match="inside"), flushing_denormals():
            raise ValueError("inside")
        assert not_zero(2) == 2 * denormals.SHARED


@pytest.fixture
def untried() -> Iterator[None]:
    denormals._run_on_all.cache_clear()
    yield
    denormals._run_on_all.cache_clear()


@pytest.mark.parametrize("region", [None, lambda action, count: None])
@pytest.mark.usefixtures("untried")
def test_nothing_is_changed_where_the_pool_is_out_of_reach(
    region: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denormals, "_parallel_region", lambda: region)
    with using_threads(2), flushing_denormals() as flushed:
        assert not flushed
        assert not_zero(2) == 2 * denormals.SHARED
    with using_threads(1), flushing_denormals() as flushed:
        assert flushed  # one thread needs no pool
        assert not_zero(1) == 0


@pytest.mark.parametrize("choice", ["flush", "keep"])
def test_the_setting(choice: str) -> None:
    with arithmetic(1, torch.device("cpu"), choice):
        assert flushes() == (choice == "flush")
    assert not flushes()


def first_moment_after(steps: int, choice: str) -> torch.Tensor:
    """Of Adam, for a weight whose gradient is 1 once and then 0: 0.1 · 0.9^(steps − 1)."""
    weight = torch.nn.Parameter(torch.ones(64))
    optimizer = torch.optim.Adam([weight], lr=1e-3, fused=True)
    with arithmetic(1, torch.device("cpu"), choice):
        for step in range(steps):
            weight.grad = torch.full_like(weight, float(step == 0))
            optimizer.step()
    return optimizer.state[weight]["exp_avg"]


def test_the_moments_of_a_unit_that_has_died_are_zero_and_not_denormal() -> None:
    smallest = torch.finfo(torch.float32).tiny
    last_normal = 1 + int(np.log(smallest / 0.1) / np.log(0.9))
    before, kept = first_moment_after(last_normal, "flush"), first_moment_after(2000, "keep")
    torch.testing.assert_close(before, torch.full((64,), 0.1 * 0.9 ** (last_normal - 1)), rtol=1e-3, atol=0)
    assert (first_moment_after(2000, "flush") == 0).all()
    assert ((kept > 0) & (kept < smallest)).all()  # the control: rounding holds them there for good


@pytest.mark.parametrize("engine", ["loop", "packed"])
def test_no_weight_can_tell(engine: str) -> None:
    """1,600 steps at a rate at which ReLUs die."""
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

    found = {
        choice: descend.train_many(
            [recipe(choice)] * 2, (x, y), validation=(x, y), seeds=[0, 1], engine=engine, tested=False
        )
        for choice in ("flush", "keep")
    }
    for flushed, kept in zip(found["flush"], found["keep"], strict=True):
        pairs = zip(flushed.model.parameters(), kept.model.parameters(), strict=True)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
