"""Gradient by automatic differentiation."""

import torch
from problem import LR, START, STEPS, show, x, y


def fit(steps: int = STEPS) -> tuple[float, ...]:
    """Gradient descent with derivatives by autograd."""
    weights = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in START]
    a, b, c, d = weights
    for _ in range(steps):
        loss = (a + b * x + c * x**2 + d * x**3 - y).square().sum()
        loss.backward()
        with torch.no_grad():  # the update is not part of the differentiated function
            for weight in weights:
                weight -= LR * weight.grad
                weight.grad = None  # otherwise the next backward would add to it
    return tuple(weight.item() for weight in weights)


if __name__ == "__main__":
    show(fit())
