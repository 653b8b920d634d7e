"""One thread at a time uses global state: equal seeds give equal networks, also in threads."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import descend
from descend.process import exclusive
from descend.rng import forked
from descend.training.observers import Quiet

RECIPE: dict[str, Any] = {"model": {"hidden": [16], "dropout": 0.5}, "stop": {"max_epochs": 3}}


def weights(run: descend.Run) -> list[torch.Tensor]:
    return [p.detach().clone() for p in run.model.parameters()]


def test_trainings_in_threads_give_the_networks_of_trainings_in_one_thread() -> None:
    def train(seed: int) -> list[torch.Tensor]:
        return weights(descend.train("iris", RECIPE, seed=seed))

    seeds = [0, 1, 2, 0, 1, 2]
    alone = {seed: train(seed) for seed in set(seeds)}
    with ThreadPoolExecutor(3) as pool:
        for seed, found in zip(seeds, pool.map(train, seeds), strict=True):
            assert all(map(torch.equal, found, alone[seed]))
    assert not all(map(torch.equal, alone[0], alone[1]))


def test_two_threads_are_not_in_the_context_at_once() -> None:
    inside, entered, leave = [], threading.Event(), threading.Event()

    def first() -> None:
        with forked():
            inside.append("first")
            entered.set()
            leave.wait()
            inside.append("first ends")

    def second() -> None:
        with exclusive():
            inside.append("second")

    one = threading.Thread(target=first)
    one.start()
    entered.wait()
    two = threading.Thread(target=second)
    two.start()
    leave.set()
    one.join()
    two.join()
    assert inside == ["first", "first ends", "second"]


def test_predictions_do_not_wait_for_a_training() -> None:
    run = descend.train("iris", {"stop": {"max_epochs": 1}})
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]])
    expected = run.predict_proba(rows)
    with exclusive(), ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(run.predict_proba, rows).result(timeout=60), expected)


def test_an_observer_may_train_another_network_within_a_training() -> None:
    found: list[list[torch.Tensor]] = []

    class Trains(Quiet):
        def started(self, training: Any) -> None:
            found.append(weights(descend.train("iris", RECIPE, seed=1)))

    outer = weights(descend.train("iris", RECIPE, seed=0, observers=[Trains()]))
    assert all(map(torch.equal, outer, weights(descend.train("iris", RECIPE, seed=0))))
    assert all(map(torch.equal, found[0], weights(descend.train("iris", RECIPE, seed=1))))


def test_an_exception_releases_the_lock() -> None:
    with pytest.raises(KeyboardInterrupt), exclusive():
        raise KeyboardInterrupt

    def enter() -> str:
        with exclusive():
            return "entered"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(enter).result(timeout=60) == "entered"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_inherit_the_lock_of_another_thread() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive():
            entered.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(30)  # ends a child that waits
        with exclusive():
            os._exit(0)
    leave.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
