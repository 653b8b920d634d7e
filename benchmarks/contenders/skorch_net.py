"""skorch's NeuralNetClassifier with its default callbacks and without output; its history cannot be switched off."""

from __future__ import annotations

import time

import torch
from torch import nn

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing
from contenders.network import mlp

__all__ = ["SKORCH"]


def prepare(problem: Problem, seed: int) -> Run:
    from skorch import NeuralNetClassifier
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    validation = Dataset(problem.x_validation, problem.y_validation)

    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        net = NeuralNetClassifier(
            mlp(problem.widths),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            max_epochs=epochs,
            batch_size=problem.batch_size,
            iterator_train__shuffle=True,
            iterator_valid__batch_size=-1,
            train_split=predefined_split(validation),
            verbose=0,
        )
        start = time.perf_counter()
        net.fit(problem.x_train, problem.y_train)
        seconds = time.perf_counter() - start
        steps = sum("train_batch_size" in batch for epoch in net.history for batch in epoch["batches"])
        return Timing(steps, seconds, float(net.history[-1, "valid_acc"]))

    return run


SKORCH = Contender(
    name="skorch",
    on="default callbacks (history of losses per batch, accuracy and time per epoch) on, printing off; "
    "Adam with its defaults",
    packages=("torch", "skorch"),
    variants={"": prepare},
)
