"""The problem: fit y = a + bx + cx² + dx³ to the sine on [−π, π], at 2000 points.

The five programs in this folder start from the same coefficients and minimize the same sum of squares, so that they can be
compared with each other and with the exact solution.
"""

import math

import torch

STEPS = 2000
LR = 1e-6

x = torch.linspace(-math.pi, math.pi, 2000, dtype=torch.float64)
y = torch.sin(x)

START = (0.3, -0.2, 0.1, -0.05)
"""Initial values of a, b, c, d."""


def least_squares() -> torch.Tensor:
    """Return the optimal a, b, c, d, the solution of the normal equations."""
    powers = torch.stack([torch.ones_like(x), x, x**2, x**3], 1)
    return torch.linalg.lstsq(powers, y.unsqueeze(1)).solution.squeeze(1)


def loss_of(a: float, b: float, c: float, d: float) -> float:
    """Return the sum of squares for given coefficients."""
    return float((a + b * x + c * x**2 + d * x**3 - y).square().sum())


def show(coefficients: tuple[float, ...]) -> None:
    """Print the fitted and the exact coefficients."""
    best = tuple(least_squares().tolist())
    for name, values in (("fitted", coefficients), ("exact", best)):
        a, b, c, d = values
        print(
            f"{name}: y = {a:+.4f} {b:+.4f} x {c:+.4f} x^2 {d:+.4f} x^3, sum of squares {loss_of(*values):.4f}"
        )
