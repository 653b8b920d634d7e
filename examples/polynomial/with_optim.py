"""Fourth way: the step by an optimizer, which can then be exchanged."""

from collections.abc import Callable

from problem import RATE, STEPS, show, x, y
from torch import nn
from torch.optim import Optimizer
from with_nn import coefficients, cubic

from descend.optim import rmsprop, sgd


def fit(
    steps: int = STEPS, optimizer_of: Callable[..., Optimizer] = lambda params: sgd(params, lr=RATE)
) -> tuple[float, ...]:
    """The same loop for every optimizer."""
    model, loss_of = cubic(), nn.MSELoss(reduction="sum")
    optimizer = optimizer_of(model.parameters())
    inputs, targets = x.unsqueeze(1), y.unsqueeze(1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(inputs), targets).backward()
        optimizer.step()
    return coefficients(model)


if __name__ == "__main__":
    show(fit())
    print("and by the lecture's choice, RMSprop, which gives every coefficient a step of its own:")
    show(fit(optimizer_of=lambda params: rmsprop(params, lr=1e-3)))
