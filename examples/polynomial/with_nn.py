"""A network and a loss from components: descend's polynomial model is a linear layer on powers."""

import torch
from problem import LR, START, STEPS, show, x, y
from torch import nn

from descend.nn import polynomial


def cubic() -> nn.Sequential:
    """Return the initial model: the bias of the layer is a, its weights are (b, c, d) for the exponents 1, 2, 3."""
    model = polynomial((1,), 1, degree=3).double()
    with torch.no_grad():
        model.output.bias.fill_(START[0])
        model.output.weight.copy_(torch.tensor([START[1:]], dtype=torch.float64))
    return model


def coefficients(model: nn.Sequential) -> tuple[float, ...]:
    """Return a, b, c, d of the model."""
    return (model.output.bias.item(), *model.output.weight[0].tolist())


def fit(steps: int = STEPS) -> tuple[float, ...]:
    """Gradient descent over all parameters of the model."""
    model, loss_of = cubic(), nn.MSELoss(reduction="sum")
    inputs, targets = x.unsqueeze(1), y.unsqueeze(1)
    for _ in range(steps):
        loss = loss_of(model(inputs), targets)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= LR * parameter.grad
    return coefficients(model)


if __name__ == "__main__":
    show(fit())
