"""First way: the gradient by hand."""

from problem import RATE, START, STEPS, show, x, y


def fit(steps: int = STEPS) -> tuple[float, float, float, float]:
    """Gradient descent with derivatives worked out on paper."""
    a, b, c, d = START
    for _ in range(steps):
        # d/dp of the sum of (prediction − y)² is 2 (prediction − y), and that of the prediction by a, b, c, d is
        # 1, x, x², x³.
        of_prediction = 2.0 * (a + b * x + c * x**2 + d * x**3 - y)
        of_a = of_prediction.sum().item()
        of_b = (of_prediction * x).sum().item()
        of_c = (of_prediction * x**2).sum().item()
        of_d = (of_prediction * x**3).sum().item()
        a -= RATE * of_a
        b -= RATE * of_b
        c -= RATE * of_c
        d -= RATE * of_d
    return a, b, c, d


if __name__ == "__main__":
    show(fit())
