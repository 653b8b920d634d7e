"""Packs continue under changed recipes as if these had been requested at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import descend
from descend import train_many
from descend.errors import Interrupted, RunError
from descend.many.restarts import train_restarts
from descend.runs.plan import plan_run
from descend.training.notification import as_observer

RATES = (1e-3, 3e-3, 1e-2)


def recipe(lr: float, **stop: Any) -> dict[str, Any]:
    return {
        "engine": {"threads": 1, "device": "cpu"},
        "model": {"hidden": [8], "dropout": 0.2},
        "optimizer": {"lr": lr},
        "stop": {"patience": None, "max_epochs": 4, **stop},
    }


def recipes(**stop: Any) -> list[dict[str, Any]]:
    return [recipe(lr, **stop) for lr in RATES]


def weights_of(run: descend.Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


def assert_equal(some: list[descend.Run], others: list[descend.Run]) -> None:
    for one, other in zip(some, others, strict=True):
        assert torch.equal(weights_of(one), weights_of(other))
        assert one.metrics["test"] == other.metrics["test"]
        assert (one.metrics["epochs"], one.metrics["stopped"]) == (
            other.metrics["epochs"],
            other.metrics["stopped"],
        )


@pytest.mark.parametrize("engine", ["packed", "vmap", "loop"])
def test_finished_packs_are_trained_further(tmp_path: Path, engine: Any) -> None:
    whole = train_many(recipes(max_epochs=7), "iris", engine=engine)
    train_many(recipes(), "iris", engine=engine, out=tmp_path / "out")
    further = train_many(recipes(max_epochs=7), "iris", out=tmp_path / "out", resume=True)
    assert_equal(further, whole)
    assert [run.environment["engine"]["name"] for run in further] == [engine] * 3
    assert_equal([descend.load(tmp_path / "out" / f"{number:04d}") for number in range(3)], whole)
    again = train_many(recipes(max_epochs=7), "iris", out=tmp_path / "out", resume=True)
    assert_equal(again, whole)


def test_stopped_packs_end_at_the_best_weights_so_far(tmp_path: Path) -> None:
    def interrupt(training: Any, record: dict[str, Any]) -> None:
        if (training.number, record["epoch"]) == (1, 3):
            raise KeyboardInterrupt

    some = recipes(max_epochs=50, min_improvement=0.0)
    with pytest.raises(Interrupted):
        train_many(some, "iris", engine="packed", out=tmp_path / "out", observers=[interrupt])
    fewer = recipes(max_epochs=1, min_improvement=0.0)
    with pytest.warns(UserWarning, match="3 epochs are already done"):
        ended = train_many(fewer, "iris", out=tmp_path / "out", resume=True)
    three = recipes(max_epochs=3, min_improvement=0.0)
    assert_equal(ended, train_many(three, "iris", engine="packed"))


def test_a_member_that_the_pack_has_left_behind_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    some = [recipe(RATES[0], max_epochs=2), *recipes(max_epochs=5)]
    train_many(some, "iris", engine="packed", out=tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    more = [recipe(RATES[0], max_epochs=5), *recipes(max_epochs=5)]
    with pytest.raises(RunError, match=r"0000 ended in epoch 2 in a pack .* trained further without it"):
        train_many(more, "iris", out=tmp_path / "out", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    further = train_many([some[0], *recipes(max_epochs=6)], "iris", out=tmp_path / "out", resume=True)
    assert [run.metrics["epochs"] for run in further] == [2, 6, 6, 6]


def test_what_has_no_packed_form_is_refused(tmp_path: Path) -> None:
    train_many(recipes(), "iris", engine="packed", out=tmp_path / "out")
    with pytest.raises(RunError, match=r"started in a pack, and cannot continue in one: stop.max_seconds"):
        train_many(recipes(max_seconds=100.0), "iris", out=tmp_path / "out", resume=True)


@pytest.mark.parametrize("engine", ["packed", "vmap", "loop"])
def test_observers_see_the_weights_of_each_member(engine: Any) -> None:
    seen: dict[int, list[torch.Tensor]] = {}
    events: list[tuple[str, int]] = []

    class Watch:
        def started(self, training: Any) -> None:
            events.append(("started", training.number))

        def stepped(self, training: Any) -> None:
            events.append(("stepped", training.number))

        def epoch_ended(self, training: Any, record: dict[str, Any]) -> None:
            assert training.history[-1] is record
            weights = torch.cat([p.detach().flatten() for p in training.model.parameters()])
            seen.setdefault(training.number, []).append(weights)

        def finished(self, training: Any) -> None:
            events.append(("finished", training.number))

    without_average = [{**each, "stop": {**each["stop"], "average": 0.0}} for each in recipes()]
    train_many(without_average, "iris", engine=engine, observers=[Watch()])
    for number, each in enumerate(without_average):
        solo: list[torch.Tensor] = []

        def remember(training: Any, record: dict[str, Any], solo: list[torch.Tensor] = solo) -> None:
            solo.append(torch.cat([p.detach().flatten() for p in training.model.parameters()]))

        descend.train("iris", each, observers=[remember])
        for one, other in zip(seen[number], solo, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert events.count(("started", number)) == events.count(("finished", number)) == 1
        assert events.count(("stepped", number)) == 12


@pytest.mark.parametrize("engine", ["packed", "vmap", "loop"])
def test_an_observer_stops_one_member(engine: Any) -> None:
    def stop(training: Any, record: dict[str, Any]) -> None:
        if training.number == 1 and record["epoch"] == 2:
            training.request_stop("enough")

    runs = train_many(recipes(), "iris", engine=engine, observers=[stop])
    assert [run.metrics["stopped"] for run in runs] == ["max_epochs", "enough", "max_epochs"]
    assert [run.metrics["epochs"] for run in runs] == [4, 2, 4]
    assert_equal(
        [runs[0], runs[2]],
        [each for at, each in enumerate(train_many(recipes(), "iris", engine=engine)) if at != 1],
    )


def test_watchers_of_any_form() -> None:
    from descend.errors import ObserverError, UserError

    ends: list[int] = []
    epochs: list[tuple[int, int]] = []

    class Ends:
        def finished(self, number: int, run: descend.Run) -> None:
            ends.append(number)

    train_many(
        recipes(), "iris", watchers=[Ends(), lambda number, record: epochs.append((number, record["epoch"]))]
    )
    assert sorted(ends) == [0, 1, 2]
    assert sorted(epochs) == [(number, epoch) for number in range(3) for epoch in range(1, 5)]

    class Faulty:
        def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
            raise ZeroDivisionError

    with pytest.raises(ObserverError, match=r"the watcher .*Faulty raised an exception in epoch_ended"):
        train_many(recipes(), "iris", watchers=[Faulty()])
    with pytest.raises(UserError, match="watchers: int has none of the methods epoch_ended, finished"):
        train_many(recipes(), "iris", watchers=[3])


def test_observers_watch_several_packs_in_this_process() -> None:
    wide = [{**each, "model": {"hidden": [40, 40]}} for each in recipes()]
    seen: list[tuple[int, int]] = []
    runs = train_many(
        [*recipes(), *wide],
        "iris",
        engine="packed",
        workers=2,
        observers=[lambda training, record: seen.append((training.number, record["epoch"]))],
    )
    assert {run.environment["engine"]["members"] for run in runs} == {3}
    assert sorted(seen) == [(number, epoch) for number in range(6) for epoch in range(1, 5)]


@pytest.mark.parametrize("engine", ["packed", "loop"])
def test_restarts_that_were_stopped_are_extended(tmp_path: Path, engine: Any) -> None:
    def interrupt(training: Any, record: dict[str, Any]) -> None:
        if (training.number, record["epoch"]) == (1, 3):
            raise KeyboardInterrupt

    def plan(**stop: Any) -> Any:
        return plan_run("iris", {**recipe(1e-2, **stop), "init": {"restarts": 3}})

    whole = train_restarts(plan(max_epochs=6), engine=engine)
    with pytest.raises(Interrupted):
        train_restarts(plan(), tmp_path / "run", engine=engine, observers=[as_observer(interrupt)])
    extended = descend.train("iris", {"stop": {"max_epochs": 6}}, out=tmp_path / "run", resume=True)
    assert_equal([extended], [whole])
    assert extended.metrics["members"] == whole.metrics["members"]
