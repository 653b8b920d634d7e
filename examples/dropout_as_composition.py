"""Dropout as a composition: the loss of the mean prediction of all sub-networks.

    F(W) = 1/m Σ_i ℓ(y_i, E_SN[SN_W(x_i)])

SGD with dropout minimizes the larger 1/m Σ_i E_SN[ℓ(y_i, SN_W(x_i))]: for squared errors it is F plus the variance of
the prediction over the dropout masks. Stochastic compositional gradient descent (scgd) and its accelerated form (asc_pg)
keep a running average of each row's output over the masks of past steps, and minimize F itself. Here both objectives are
estimated with many masks at the final weights of each method. In theory F is lower. Whether that is desirable is another
question: the variance in the objective of SGD is how dropout regularizes. The last column, the error on other rows,
hardly differs between the methods here.

    python examples/dropout_as_composition.py [STEPS]
"""

import sys

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from descend.optim import asc_pg, scgd

TRAINED = 300
"""Number of training rows; the other 142 are predicted."""


def rows() -> tuple[Tensor, Tensor]:
    """Return the standardized columns and targets of the diabetes data set."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / x.std(0), (y[order, None] - y.mean()) / y.std()
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def network() -> nn.Sequential:
    """Return the network with the same initial weights for each method."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Dropout(0.5), nn.Linear(32, 1))


def train(method: str, steps: int) -> nn.Sequential:
    """Return the network after a number of full-batch steps with a decreasing learning rate."""
    x, y = rows()
    x, y = x[:TRAINED], y[:TRAINED]
    model = network()
    if method == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    else:
        optimizer = {"scgd": scgd, "asc_pg": asc_pg}[method](model.parameters(), lr=0.1, beta=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 / (1 + 9 * k / steps))
    average = getattr(optimizer, "average", lambda outputs: outputs)

    def closure() -> Tensor:
        # The only difference: the loss is that of the running average of each row's outputs. With batches it would be
        # average(model(x[batch]), batch, TRAINED), where batch contains the row numbers.
        optimizer.zero_grad()
        loss = mse_loss(average(model(x)), y)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        schedule.step()
    return model


def objectives(model: nn.Module, masks: int = 400) -> tuple[float, float, float]:
    """Return F, the objective of SGD with dropout, and the error on other rows without dropout."""
    x, y = rows()
    with torch.no_grad():
        outputs = torch.stack([model(x[:TRAINED]) for _ in range(masks)])
        of_mean = mse_loss(outputs.mean(0), y[:TRAINED])
        mean_of = (outputs - y[:TRAINED]).square().mean()
        other = mse_loss(model.eval()(x[TRAINED:]), y[TRAINED:])
    return float(of_mean), float(mean_of), float(other)


def main(steps: int = 2000) -> dict[str, tuple[float, float, float]]:
    """Return the three numbers of each method."""
    return {method: objectives(train(method, steps)) for method in ("sgd", "scgd", "asc_pg")}


if __name__ == "__main__":
    print("loss of the mean   mean loss   other rows")
    for name, result in main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000).items():
        print(f"{result[0]:16.4f} {result[1]:11.4f} {result[2]:12.4f}   {name}")
