"""Steps by an exchangeable optimizer."""

from collections.abc import Callable

from problem import LR, STEPS, show, x, y
from torch import nn
from torch.optim import Optimizer
from with_nn import coefficients, cubic

from descend.optim import rmsprop, sgd


def fit(
    steps: int = STEPS, optimizer_of: Callable[..., Optimizer] = lambda params: sgd(params, lr=LR)
) -> tuple[float, ...]:
    """Return the fitted coefficients; the loop is the same for every optimizer."""
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
    print("with RMSprop, which scales the step of each coefficient:")
    show(fit(optimizer_of=lambda params: rmsprop(params, lr=1e-3)))
