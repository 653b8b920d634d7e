"""Optimization problems for the comparison of optimizers: a network, rows and a loss."""

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
    """Minimization of the mean loss of a network over all rows.

    Args:
        name: name in tables.
        inputs: (n, d).
        targets: (n,) or (n, K).
        network: builds the network and initializes its weights from torch's random state.
        loss: mean loss of outputs against targets.
        likelihood: the distribution whose negative log-likelihood is the loss.
        seconds: time limit of a trial.
        batches: batch sizes to try.
        every: seconds of training between evaluations of the loss.
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
        """Return the loss over all rows."""
        with torch.no_grad():
            return float(self.loss(model(self.inputs), self.targets))


def _layers(*widths: int, activation: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), activation()]
    model = nn.Sequential(*layers[:-1])
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def autoencoder() -> TrainingProblem:
    """Deep tanh autoencoder of the digits with a bottleneck of 8 units, a hard problem for first-order methods."""
    pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 16

    def network():
        return _layers(64, 128, 64, 32, 8, 32, 64, 128, 64, activation=nn.Tanh)

    return TrainingProblem(
        "autoencoder", pixels, pixels, network, F.mse_loss, "normal", 6.0, (64, 256), every=0.05
    )


def mlp() -> TrainingProblem:
    """Classification of the digits by a network with two hidden layers, which can fit all rows."""
    data = load_digits()
    pixels = torch.tensor(data.data, dtype=torch.float32) / 16

    def network():
        return _layers(64, 128, 128, 10, activation=nn.ReLU)

    return TrainingProblem(
        "mlp", pixels, torch.tensor(data.target), network, F.cross_entropy, "categorical", 1.5, (64, 256)
    )


def logistic(rows: int = 4000, features: int = 50, condition: float = 1e6) -> TrainingProblem:
    """Logistic regression on rotated features whose second-moment matrix has condition number 10⁶."""
    rng = np.random.default_rng(0)
    scales = np.geomspace(1.0, condition**-0.5, features)
    basis, _ = np.linalg.qr(rng.normal(size=(features, features)))
    raw = rng.normal(size=(rows, features)) * scales
    weights = rng.normal(size=features) / scales / features**0.5
    probability = 1 / (1 + np.exp(-raw @ weights))
    labels = (rng.uniform(size=rows) < probability).astype(np.float32)

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
