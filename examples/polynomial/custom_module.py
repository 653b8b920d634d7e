"""A custom model class."""

import torch
from problem import LR, START, STEPS, show, x, y
from torch import Tensor, nn

from descend.optim import sgd


class Polynomial3(nn.Module):
    """y = a + bx + cx² + dx³ with four parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (
            nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in START
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the predictions; any tensor operations are allowed here."""
        return self.a + self.b * x + self.c * x**2 + self.d * x**3


def fit(steps: int = STEPS) -> tuple[float, ...]:
    """Gradient descent; the optimizer treats the model like any other."""
    model = Polynomial3()
    optimizer = sgd(model.parameters(), lr=LR)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().sum().backward()
        optimizer.step()
    return tuple(parameter.item() for parameter in model.parameters())


if __name__ == "__main__":
    show(fit())
