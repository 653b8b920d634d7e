"""Gradient by hand."""

from problem import LR, START, STEPS, show, x, y


def fit(steps: int = STEPS) -> tuple[float, float, float, float]:
    """Gradient descent with derivatives worked out by hand."""
    a, b, c, d = START
    for _ in range(steps):
        # The derivative of the sum of (prediction − y)² is 2 (prediction − y) with respect to the prediction, whose
        # derivatives with respect to a, b, c, d are 1, x, x², x³.
        d_prediction = 2.0 * (a + b * x + c * x**2 + d * x**3 - y)
        d_a = d_prediction.sum().item()
        d_b = (d_prediction * x).sum().item()
        d_c = (d_prediction * x**2).sum().item()
        d_d = (d_prediction * x**3).sum().item()
        a -= LR * d_a
        b -= LR * d_b
        c -= LR * d_c
        d -= LR * d_d
    return a, b, c, d


if __name__ == "__main__":
    show(fit())
