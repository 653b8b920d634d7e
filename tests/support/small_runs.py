"""Small runs for tests of worker processes, their comparison, and a network that fails in a worker."""

from __future__ import annotations

import os
import signal

import numpy as np
import torch
from torch import nn

import descend

__all__ = ["FailingNetwork", "RecordingWatcher", "assert_same", "data", "recipe", "weights", "without_times"]


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return 90 rows of 6 columns, and binary targets."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(90, 6))
    return rows, (rows[:, 0] * rows[:, 1] + 0.3 * rng.normal(size=90) > 0).astype(int)


def recipe(lr: float, **changes: object) -> descend.Recipe:
    """Return the recipe of a small network, with a learning rate and further changes."""
    return descend.Recipe(
        data={"batch_size": 16},
        model={"name": "mlp", "hidden": [8], "dropout": 0.2, "norm": "batch"},
        optimizer={"name": "adam", "lr": lr},
        stop={"max_epochs": 4},
        engine={"device": "cpu", "threads": 1},
    ).replace(changes)


def weights(run: descend.Run) -> torch.Tensor:
    """Return the state of a run's model as one vector."""
    return torch.cat([value.double().flatten() for value in run.model.state_dict().values()])


def without_times(history: list[dict]) -> list[dict]:
    """Return a history without its times."""
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def assert_same(one: descend.Run, other: descend.Run) -> None:
    """Assert that two runs are equal to the bit, except for times."""
    assert torch.equal(weights(one), weights(other))
    assert without_times(one.history) == without_times(other.history)
    assert one.evaluation == other.evaluation
    times = {"seconds"}
    assert {k: v for k, v in one.metrics.items() if k not in times} == {
        k: v for k, v in other.metrics.items() if k not in times
    }


class RecordingWatcher:
    """Records the epochs and ends that it is notified of."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, int]] = []
        self.ended: list[int] = []

    def epoch_ended(self, number: int, record: dict) -> None:
        self.epochs.append((number, record["epoch"]))

    def finished(self, number: int, run: descend.Run) -> None:
        self.ended.append(number)


class FailingNetwork(nn.Module):
    """A network that fails in a forward pass in a worker process.

    Args:
        failure: "raise" for an exception, or the name of a signal that the process sends to itself.
        in_features: number of inputs.
        out_features: number of outputs.
        at: the forward pass that fails.
    """

    def __init__(self, failure: str, in_features: int, out_features: int, at: int = 12) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.failure, self.remaining, self.parent = failure, at, os.getpid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and os.getpid() != self.parent:
            self.remaining -= 1
            if self.remaining == 0:
                if self.failure == "raise":
                    raise RuntimeError("a failure in a worker")
                os.kill(os.getpid(), getattr(signal, self.failure))
        return self.linear(x)
