"""Smooth functions of one float64 vector, and an optimizer on one of them, for tests of deterministic methods."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer


class Descent:
    """A function, the iterate of an optimizer on it, and the number of evaluations."""

    def __init__(self, constructor, function, start, **chosen):
        self.x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        self.function, self.evaluations = function, 0
        self.optimizer = constructor([self.x], **chosen)

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.function(self.x)
        loss.backward()
        self.evaluations += 1
        return loss

    def step(self, count=1):
        """Take steps, and return the loss before the last."""
        for _ in range(count):
            loss = self.optimizer.step(self.closure)
        return loss.item()

    @property
    def at(self):
        return self.x.detach().clone()

    @property
    def value(self):
        return float(self.function(self.at))

    @property
    def state(self):
        return self.optimizer.state[self.x]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Quadratic:
    """x·Ax/2 − b·x with the given eigenvalues of A."""

    def __init__(self, eigenvalues, seed=0):
        n = len(eigenvalues)
        basis = torch.linalg.qr(draw(n, n, seed=seed)).Q
        self.a = basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T
        self.b = draw(n, seed=seed + 1)
        self.least = torch.linalg.solve(self.a, self.b)

    def __call__(self, x):
        return x @ self.a @ x / 2 - self.b @ x

    def gradient(self, x):
        return self.a @ x - self.b


def logistic():
    """Return ℓ2-penalized logistic regression on eight features of the breast cancer data, and its form for SciPy."""
    rows, labels = load_breast_cancer(return_X_y=True)
    x = torch.tensor((rows - rows.mean(0)) / rows.std(0))[:, :8]
    y = torch.tensor(labels, dtype=torch.float64)

    def loss(w):
        return torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y) + 0.005 * w @ w

    def both(w):
        at = torch.tensor(w, requires_grad=True)
        value = loss(at)
        value.backward()
        return value.item(), at.grad.numpy()

    return loss, both
