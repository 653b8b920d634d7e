"""Observers as users write them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import descend
from descend.errors import Interrupted, ObserverError, UserError
from descend.training.loop import Training

RECIPE: dict[str, Any] = {
    "model": {"hidden": [6]},
    "stop": {"max_epochs": 5, "patience": None},
    "engine": {"threads": 1, "device": "cpu"},
}


def weights_of(run: descend.Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


class EpochsOnly:
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def epoch_ended(self, training: Training, record: dict[str, Any]) -> None:
        self.epochs.append(record["epoch"])


class StartOnly:
    def __init__(self) -> None:
        self.starts = 0

    def started(self, training: Training) -> None:
        self.starts += 1


class Callable:
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def __call__(self, training: Training, record: dict[str, Any]) -> None:
        self.epochs.append(record["epoch"])


def test_methods_may_be_missing_and_functions_are_called_at_each_epoch() -> None:
    epochs, starts, callable_object = EpochsOnly(), StartOnly(), Callable()
    seen: list[float] = []
    observers = [
        epochs,
        starts,
        callable_object,
        lambda training, record: seen.append(record["train"]["loss"]),
    ]
    run = descend.train("iris", RECIPE, observers=observers)
    assert epochs.epochs == callable_object.epochs == [1, 2, 3, 4, 5]
    assert starts.starts == 1
    assert seen == [record["train"]["loss"] for record in run.history]
    assert torch.equal(weights_of(run), weights_of(descend.train("iris", RECIPE)))


def test_a_single_observer_needs_no_list() -> None:
    epochs, seen = EpochsOnly(), []
    descend.train("iris", RECIPE, observers=epochs)
    descend.train("iris", RECIPE, observers=lambda training, record: seen.append(record["epoch"]))
    descend.train("iris", RECIPE, observers=None)
    assert epochs.epochs == seen == [1, 2, 3, 4, 5]


class Lightning:
    def on_epoch_end(self) -> None: ...


class Misspelled:
    def epoch_end(self) -> None: ...


@pytest.mark.parametrize(
    ("observer", "words"),
    [
        (EpochsOnly, r"observers: EpochsOnly is a class; pass an instance: EpochsOnly\(\)"),
        (Misspelled(), r"observers: Misspelled has none of .*it has epoch_end: did you mean 'epoch_ended'\?"),
        (
            Lightning(),
            r"observers: Lightning has none of the methods started, stepped, epoch_ended, finished",
        ),
        (3, "observers: int has none"),
        ("print", "observers: str has none"),
    ],
)
def test_what_is_no_observer_is_refused_before_anything_is_written(
    tmp_path: Path, observer: Any, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        descend.train("iris", RECIPE, out=tmp_path / "run", observers=[observer])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("event", ["started", "stepped", "epoch_ended", "finished"])
def test_an_exception_names_the_observer_and_the_run_can_be_resumed(tmp_path: Path, event: str) -> None:
    class Faulty:
        calls = 0

        def fail(self, training: Training, *record: Any) -> None:
            self.calls += 1
            if self.calls == 3 or event in ("started", "finished"):
                raise KeyError("color")

    setattr(Faulty, event, Faulty.fail)
    whole = descend.train("iris", RECIPE)
    with pytest.raises(
        ObserverError, match=rf"Faulty raised an exception in {event}: KeyError: 'color'"
    ) as caught:
        descend.train("iris", RECIPE, out=tmp_path / "run", observers=[Faulty()])
    assert isinstance(caught.value.__cause__, KeyError)
    assert f"resume=True, out={str(tmp_path / 'run')!r}" in str(caught.value)
    run = descend.train("iris", out=tmp_path / "run", resume=True)
    assert torch.equal(weights_of(run), weights_of(whole))


def test_errors_of_descend_keep_their_type() -> None:
    def fail(training: Training, record: dict[str, Any]) -> None:
        raise UserError("the threshold is negative")

    with pytest.raises(UserError, match=r"^the threshold is negative$"):
        descend.train("iris", RECIPE, observers=[fail])


@pytest.mark.parametrize("event", ["stepped", "epoch_ended"])
def test_a_requested_stop_is_a_finished_run(tmp_path: Path, event: str) -> None:
    class Enough:
        def request(self, training: Training, *record: Any) -> None:
            if training.step >= 6 - (event == "stepped"):  # three steps are an epoch
                training.request_stop("budget spent")

    setattr(Enough, event, Enough.request)
    run = descend.train("iris", RECIPE, out=tmp_path / "run", observers=[Enough()])
    assert run.metrics["status"] == "finished"
    assert (run.metrics["stopped"], run.metrics["epochs"], run.metrics["steps"]) == ("budget spent", 2, 6)
    assert run.metrics["test"]
    two = descend.train("iris", {**RECIPE, "stop": {"max_epochs": 2}})
    assert torch.equal(weights_of(run), weights_of(two))
    assert descend.load(tmp_path / "run").metrics == run.metrics
    more = descend.train("iris", out=tmp_path / "run", resume=True)
    assert torch.equal(weights_of(more), weights_of(descend.train("iris", RECIPE)))


@pytest.mark.parametrize("reason", ["", "  ", "patience", "interrupted", "max_epochs", 3])
def test_reasons_that_would_be_confused_are_refused(reason: Any) -> None:
    with pytest.raises(UserError, match="request_stop: "):
        descend.train("iris", RECIPE, observers=[lambda training, record: training.request_stop(reason)])


def test_the_first_of_several_requests_counts() -> None:
    def request(training: Training, record: dict[str, Any]) -> None:
        training.request_stop()
        training.request_stop("later")

    assert descend.train("iris", RECIPE, observers=[request]).metrics["stopped"] == "requested"


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_an_interruption_leaves_a_usable_and_resumable_run(tmp_path: Path, how: str) -> None:
    def interrupt(training: Training, record: dict[str, Any]) -> None:
        if record["epoch"] == 3:
            if how == "exception":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    for folder in (None, tmp_path / "run"):
        with pytest.raises(Interrupted) as caught:
            descend.train("iris", RECIPE, out=folder, observers=[interrupt])
        run = caught.value.run
        assert caught.value.folder == folder
        assert (run.metrics["status"], run.metrics["epochs"]) == ("interrupted", 3)
        best = run.metrics["best_epoch"]
        assert run.metrics["validation"] == run.history[best - 1]["validation"]
        assert run.predict([[5.1, 3.5, 1.4, 0.2]]).shape == (1,)
    run.path = None
    run.save(tmp_path / "saved")
    assert descend.load(tmp_path / "saved").predict([[5.1, 3.5, 1.4, 0.2]]).shape == (1,)
    whole = descend.train("iris", out=tmp_path / "run", resume=True)
    assert torch.equal(weights_of(whole), weights_of(descend.train("iris", RECIPE)))


def test_an_interruption_before_the_first_epoch_ends_has_no_run() -> None:
    class Early:
        def stepped(self, training: Training) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="stopped in epoch 1 after 1 steps") as caught:
        descend.train("iris", RECIPE, observers=[Early()])
    assert caught.value.run is None


def test_an_object_of_another_kind_gets_no_far_suggestion() -> None:
    with pytest.raises(UserError, match=r"int has none of the methods started, .* and is not a function$"):
        descend.train("iris", observers=[3])
