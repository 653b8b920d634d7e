"""Fifth way: a model class of one's own."""

import torch
from problem import RATE, START, STEPS, show, x, y
from torch import Tensor, nn

from descend.optim import sgd


class Polynomial3(nn.Module):
    """y = a + bx + cx² + dx³, with its four numbers as parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (
            nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in START
        )

    def forward(self, x: Tensor) -> Tensor:
        """Any operations on tensors may stand here."""
        return self.a + self.b * x + self.c * x**2 + self.d * x**3


def fit(steps: int = STEPS) -> tuple[float, ...]:
    """To the optimizer it is a model as any other."""
    model = Polynomial3()
    optimizer = sgd(model.parameters(), lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().sum().backward()
        optimizer.step()
    return tuple(parameter.item() for parameter in model.parameters())


if __name__ == "__main__":
    show(fit())
