"""Problems of optimization that every optimizer gets the same way: a network, rows, a loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PROBLEMS", "TrainingProblem"]


@dataclass(frozen=True)
class TrainingProblem:
    """What is minimised: the mean loss of a network over all rows.

    Args:
        name: for tables.
        inputs: (n, d).
        targets: (n,) or (n, K).
        network: makes one with its initial weights, given torch's random state.
        loss: mean loss of outputs and targets.
        likelihood: the distribution whose negative logarithm the loss is.
        seconds: that every trial gets.
        batches: sizes that are tried.
        every: seconds of training between measurements.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    network: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    likelihood: str
    seconds: float
    batches: tuple[int, ...]
    every: float = 0.02

    def value(self, model: nn.Module) -> float:
        """The loss over all rows."""
        with torch.no_grad():
            return float(self.loss(model(self.inputs), self.targets))


def _layers(*widths: int, activation: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    for inside, outside in itertools.pairwise(widths):
        layers += [nn.Linear(inside, outside), activation()]
    model = nn.Sequential(*layers[:-1])
    for each in model:
        if isinstance(each, nn.Linear):
            nn.init.xavier_normal_(each.weight)
            nn.init.zeros_(each.bias)
    return model


def autoencoder() -> TrainingProblem:
    """Digits through a bottleneck of 8, eight layers of tanh: long known to be hard for first-order methods."""
    pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 16

    def network():
        return _layers(64, 128, 64, 32, 8, 32, 64, 128, 64, activation=nn.Tanh)

    return TrainingProblem(
        "autoencoder", pixels, pixels, network, F.mse_loss, "normal", 6.0, (64, 256), every=0.05
    )


def mlp() -> TrainingProblem:
    """Digits by a network of two hidden layers; the training loss, down to where it is nearly nothing."""
    data = load_digits()
    pixels = torch.tensor(data.data, dtype=torch.float32) / 16

    def network():
        return _layers(64, 128, 128, 10, activation=nn.ReLU)

    return TrainingProblem(
        "mlp", pixels, torch.tensor(data.target), network, F.cross_entropy, "categorical", 1.5, (64, 256)
    )


def logistic(rows: int = 4000, features: int = 50, condition: float = 1e6) -> TrainingProblem:
    """Two classes, features whose second moments have a condition number of 10⁶, in rotated coordinates."""
    draw = np.random.default_rng(0)
    spread = np.geomspace(1.0, condition**-0.5, features)
    basis, _ = np.linalg.qr(draw.normal(size=(features, features)))
    raw = draw.normal(size=(rows, features)) * spread
    weights = draw.normal(size=features) / spread / features**0.5
    chance = 1 / (1 + np.exp(-raw @ weights))
    labels = (draw.uniform(size=rows) < chance).astype(np.float32)

    def network() -> nn.Module:
        model = nn.Linear(features, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, targets)

    inputs = torch.tensor(raw @ basis.T, dtype=torch.float32)
    targets = torch.tensor(labels)[:, None]
    return TrainingProblem("logistic", inputs, targets, network, loss, "bernoulli", 3.0, (64, 1024))


PROBLEMS: Mapping[str, Callable[[], TrainingProblem]] = {
    "autoencoder": autoencoder,
    "mlp": mlp,
    "logistic": logistic,
}
