"""The training loop of PyTorch's tutorials: a DataLoader, torch.optim.Adam with its defaults, loss.item() per step.

``dataloader`` reads the loss at every step, as most published loops do; ``dataloader-no-item`` accumulates it as a
tensor and reads it once per epoch. On a CPU the difference is small; on a GPU the first one synchronizes at every step.
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from contenders.interface import LEARNING_RATE, Contender, Prepare, Problem, Run, Timing
from contenders.network import network_of

__all__ = ["DATALOADER", "DATALOADER_NO_ITEM", "with_item"]


def with_item(problem: Problem, seed: int, *, learning_rate: float = LEARNING_RATE) -> Run:
    """Prepare the loop that reads the loss at every step."""
    train, validation = _loaders(problem)

    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        model, criterion = network_of(problem), nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        steps, history = 0, []
        start = time.perf_counter()
        for _ in range(epochs):
            model.train()
            running_loss = 0.0
            for inputs, targets in train:
                optimizer.zero_grad()
                loss = criterion(model(inputs), targets)
                loss.backward()
                optimizer.step()
                running_loss += loss.item()
                steps += 1
            history.append((running_loss / len(train), *_evaluate(model, criterion, validation)))
        return Timing(steps, time.perf_counter() - start, history[-1][-1])

    return run


def without_item(problem: Problem, seed: int) -> Run:
    """Prepare the loop that reads the loss once per epoch."""
    train, validation = _loaders(problem)

    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        model, criterion = network_of(problem), nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        steps, history = 0, []
        start = time.perf_counter()
        for _ in range(epochs):
            model.train()
            running_loss = torch.zeros(())
            for inputs, targets in train:
                optimizer.zero_grad()
                loss = criterion(model(inputs), targets)
                loss.backward()
                optimizer.step()
                running_loss += loss.detach()
                steps += 1
            history.append((running_loss.item() / len(train), *_evaluate(model, criterion, validation)))
        return Timing(steps, time.perf_counter() - start, history[-1][-1])

    return run


Loader = DataLoader[tuple[torch.Tensor, ...]]


def _loaders(problem: Problem) -> tuple[Loader, Loader]:
    train = TensorDataset(torch.from_numpy(problem.x_train), torch.from_numpy(problem.y_train))
    validation = TensorDataset(torch.from_numpy(problem.x_validation), torch.from_numpy(problem.y_validation))
    return (
        DataLoader(train, batch_size=problem.batch_size, shuffle=True),
        DataLoader(validation, batch_size=len(validation)),
    )


@torch.no_grad()
def _evaluate(model: nn.Module, criterion: nn.Module, loader: Loader) -> tuple[float, float]:
    model.eval()
    loss, correct, rows = 0.0, 0, 0
    for inputs, targets in loader:
        logits = model(inputs)
        loss += criterion(logits, targets).item() * len(targets)
        correct += int((logits.argmax(1) == targets).sum().item())
        rows += len(targets)
    return loss / rows, correct / rows


def _contender(name: str, prepare: Prepare, item: str) -> Contender:
    return Contender(
        name=name,
        on=f"DataLoader(TensorDataset, shuffle=True), workers 0, Adam with its defaults, {item}; no extras",
        packages=("torch",),
        variants={"": prepare},
        sizes=("small", "large", "images"),
    )


DATALOADER = _contender("dataloader", with_item, "loss.item() at every step")
DATALOADER_NO_ITEM = _contender("dataloader-no-item", without_item, "loss accumulated as a tensor")
