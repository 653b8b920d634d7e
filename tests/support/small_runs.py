"""Small trainings for worker processes, how to compare them, and a network that has an accident."""

from __future__ import annotations

import os
import signal

import numpy as np
import torch
from torch import nn

import descend

__all__ = ["Odd", "Watch", "assert_same", "data", "recipe", "timeless", "weights"]


def data() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(7)
    rows = draw.normal(size=(90, 6))
    return rows, (rows[:, 0] * rows[:, 1] + 0.3 * draw.normal(size=90) > 0).astype(int)


def recipe(lr: float, **changes: object) -> descend.Recipe:
    return descend.Recipe(
        data={"batch_size": 16},
        model={"name": "mlp", "hidden": [8], "dropout": 0.2, "norm": "batch"},
        optimizer={"name": "adam", "lr": lr},
        stop={"max_epochs": 4},
        engine={"device": "cpu", "threads": 1},
    ).replace(changes)


def weights(run: descend.Run) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in run.model.state_dict().values()])


def timeless(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def assert_same(one: descend.Run, other: descend.Run) -> None:
    """Equal to the bit in all but time."""
    assert torch.equal(weights(one), weights(other))
    assert timeless(one.history) == timeless(other.history)
    assert one.evaluation == other.evaluation
    times = {"seconds"}
    assert {k: v for k, v in one.metrics.items() if k not in times} == {
        k: v for k, v in other.metrics.items() if k not in times
    }


class Watch:
    """Remembers what it is told, and in which process."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, int]] = []
        self.ended: list[int] = []

    def epoch_ended(self, number: int, record: dict) -> None:
        self.epochs.append((number, record["epoch"]))

    def finished(self, number: int, run: descend.Run) -> None:
        self.ended.append(number)


class Odd(nn.Module):
    """A network in whose forward pass, in a worker, something happens."""

    def __init__(self, happens: str, in_features: int, out_features: int, when: int = 12) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.happens, self.left, self.home = happens, when, os.getpid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and os.getpid() != self.home:
            self.left -= 1
            if self.left == 0:
                if self.happens == "raise":
                    raise RuntimeError("not today")
                os.kill(os.getpid(), getattr(signal, self.happens))
        return self.linear(x)
