"""The lecture's first problem: fit y = a + bx + cx² + dx³ to the sine on [−π, π], at 2000 points.

All five programs beside this one start from the same numbers and minimise the same sum of squares, so that they may be
compared with each other, and with the exact answer.
"""

import math

import torch

STEPS = 2000
RATE = 1e-6

x = torch.linspace(-math.pi, math.pi, 2000, dtype=torch.float64)
y = torch.sin(x)

START = (0.3, -0.2, 0.1, -0.05)
"""a, b, c, d at the beginning; in the lecture they are random."""


def least_squares() -> torch.Tensor:
    """The best a, b, c, d: the solution of the normal equations."""
    powers = torch.stack([torch.ones_like(x), x, x**2, x**3], 1)
    return torch.linalg.lstsq(powers, y.unsqueeze(1)).solution.squeeze(1)


def loss_of(a: float, b: float, c: float, d: float) -> float:
    """The sum of squares at given coefficients."""
    return float((a + b * x + c * x**2 + d * x**3 - y).square().sum())


def show(coefficients: tuple[float, ...]) -> None:
    """What was found, beside what there was to find."""
    best = tuple(least_squares().tolist())
    for name, values in (("found", coefficients), ("exact", best)):
        a, b, c, d = values
        print(
            f"{name}: y = {a:+.4f} {b:+.4f} x {c:+.4f} x^2 {d:+.4f} x^3, sum of squares {loss_of(*values):.4f}"
        )
