"""Third way: a network and a loss out of parts. The model is descend's, a linear layer on powers."""

import torch
from problem import RATE, START, STEPS, show, x, y
from torch import nn

from descend.nn import polynomial


def cubic() -> nn.Sequential:
    """The model at the start: the layer's bias is a, its weight (b, c, d) for the exponents 1, 2, 3."""
    model = polynomial((1,), 1, degree=3).double()
    with torch.no_grad():
        model.output.bias.fill_(START[0])
        model.output.weight.copy_(torch.tensor([START[1:]], dtype=torch.float64))
    return model


def coefficients(model: nn.Sequential) -> tuple[float, ...]:
    """The model's a, b, c, d."""
    return (model.output.bias.item(), *model.output.weight[0].tolist())


def fit(steps: int = STEPS) -> tuple[float, ...]:
    """Gradient descent over whatever parameters the model has."""
    model, loss_of = cubic(), nn.MSELoss(reduction="sum")
    inputs, targets = x.unsqueeze(1), y.unsqueeze(1)
    for _ in range(steps):
        loss = loss_of(model(inputs), targets)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= RATE * parameter.grad
    return coefficients(model)


if __name__ == "__main__":
    show(fit())
