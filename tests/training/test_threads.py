"""Choosing the number of threads, with simulated clocks."""

from __future__ import annotations

import time

import pytest
import torch

from descend.training.threads import choose_threads, using_threads


class Clock:
    """A clock that advances only when a step runs, by an amount that depends on the number of threads."""

    def __init__(self, cost: dict[int, float]) -> None:
        self.now, self.cost = 0.0, cost
        self.steps: list[int] = []

    def step(self) -> None:
        count = torch.get_num_threads()
        self.steps.append(count)
        self.now += self.cost[count]


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        ({1: 1.0, 2: 0.5}, 2),
        ({1: 1.0, 2: 0.95}, 1),  # below the margin: fewer threads keep their speed on a shared machine
        ({1: 1.0, 2: 4.0}, 1),
        ({1: 1.0, 2: 0.5, 3: 0.3}, 3),
        ({1: 1.0, 2: 0.5, 3: 0.48}, 2),
    ],
)
def test_the_fastest_number_wins_by_a_margin(
    monkeypatch: pytest.MonkeyPatch, cost: dict[int, float], expected: int
) -> None:
    clock = Clock(cost)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    before = torch.get_num_threads()
    count, why = choose_threads(clock.step, most=max(cost), seconds=10.0)
    assert count == expected
    assert "mean time of a step" in why
    assert torch.get_num_threads() == before


def test_a_much_slower_number_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock({1: 1.0, 2: 500.0})
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    assert choose_threads(clock.step, most=2, seconds=30.0)[0] == 1
    assert clock.steps.count(2) <= 2


def test_a_number_with_occasional_stalls_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its median is fast, but every third step waits for a busy core."""
    clock = Clock({1: 1.0, 2: 0.4})
    step = clock.step

    def stalling() -> None:
        step()
        if clock.steps[-1] == 2 and clock.steps.count(2) % 3 == 0:
            clock.now += 3.0

    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    assert choose_threads(stalling, most=2, seconds=60.0)[0] == 1


def test_a_short_step_uses_one_thread_without_timing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock({1: 2e-4, 2: 1e-4})
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    count, why = choose_threads(clock.step, most=2)
    assert (count, set(clock.steps)) == (1, {1})
    assert "200 µs" in why


def test_the_previous_number_is_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        _ = 1 / 0
    assert torch.get_num_threads() == before
