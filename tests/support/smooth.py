"""Smooth functions whose minima other libraries compute as well, and optimizers on them."""

from __future__ import annotations

import numpy as np
import scipy.optimize
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn import functional as F

from descend.optim import Rows


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def quadratic(eigenvalues, seed=0):
    """Return a symmetric H with this spectrum, a g with a component along every eigenvector, and F(x) = g·x + x·Hx/2."""
    draw = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    rotation, _ = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))
    matrix = rotation @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ rotation.T
    gradient = torch.randn(size, generator=draw, dtype=torch.float64)
    return matrix, gradient, lambda x: gradient @ x + x @ matrix @ x / 2


class Logistic:
    """Logistic regression of the breast cancer data on some features, with a penalty: strongly convex, 569 rows."""

    def __init__(self, features=6, mix=None):
        rows, labels = load_breast_cancer(return_X_y=True)
        x = torch.tensor((rows - rows.mean(0)) / rows.std(0))[:, :features]
        self.x = x if mix is None else x @ mix
        self.y = torch.tensor(labels, dtype=torch.float64)
        self.back = torch.eye(features, dtype=torch.float64) if mix is None else mix
        self.model = nn.Linear(features, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.model.weight)

    def loss(self, outputs, targets):
        penalty = 0.02 * (self.back @ self.weights).square().sum()
        return F.binary_cross_entropy_with_logits(outputs[:, 0], targets) + penalty

    @property
    def weights(self):
        return self.model.weight[0]

    def rows(self):
        return Rows(self.model, self.loss, self.x, self.y)

    def at(self, w):
        """Return loss, gradient and Hessian by their formulas, in NumPy."""
        x, y = self.x.numpy(), self.y.numpy()
        z = x @ w
        p = 1 / (1 + np.exp(-z))
        metric = 0.04 * self.back.numpy().T @ self.back.numpy()
        value = np.mean(np.logaddexp(0, z) - y * z) + w @ metric @ w / 2
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(y) + metric
        return value, x.T @ (p - y) / len(y) + metric @ w, hessian

    def errors(self, optimizer, steps):
        """Return the distances to the minimum, which SciPy's root finder computes, along an optimizer's path."""
        start = np.zeros(len(self.back))
        minimum = scipy.optimize.root(
            lambda w: self.at(w)[1], start, jac=lambda w: self.at(w)[2], tol=1e-14
        ).x
        found = []
        for _ in range(steps):
            optimizer.step(self.rows())
            found.append(float(np.linalg.norm(self.weights.detach().numpy() - minimum)))
        return found


class Path:
    """An optimizer on a function of one float64 vector, and its iterates."""

    def __init__(self, make, function, start, **settings):
        self.x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        self.function, self.optimizer = function, make([self.x], **settings)
        self.evaluated, self.places = [], [self.x.tolist()]

    def closure(self):
        self.evaluated.append(self.x.tolist())
        return self.function(self.x)

    def step(self, times=1):
        for _ in range(times):
            loss = self.optimizer.step(self.closure)
            self.places.append(self.x.tolist())
        return loss.item()

    def value(self):
        return float(self.function(self.x.detach()))
