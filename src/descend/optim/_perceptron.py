"""The perceptron: training of a unit with a sign activation, without derivatives.

The derivative of the sign is zero almost everywhere, so no gradient reaches the weights below it, and descend refuses
it for gradient-based training. Rosenblatt's rule needs no gradient: whenever a row is on the wrong side, it is added to
the weights. Novikoff (1962) proves convergence by counting: every mistake moves w at least γ further along a
separating direction, and increases ‖w‖² by at most R², so that after M mistakes Mγ ≤ ‖w‖ ≤ √M R.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError

__all__ = ["Perceptron", "mistake_bound", "perceptron"]


class Perceptron(NamedTuple):
    """The result of :func:`perceptron`.

    Args:
        weights: w, (d,).
        mistakes: the number of updates in all passes.
        passes: the number of passes over the rows, including the last one.
        separated: whether the last pass made no mistake, so that all rows have y w'x > 0.
    """

    weights: Tensor
    mistakes: int
    passes: int
    separated: bool

    def predict(self, inputs: Tensor) -> Tensor:
        """Return sign(w'x) of each row, in {−1, 1}; (n, d) → (n,)."""
        return torch.where(inputs.to(self.weights) @ self.weights > 0, 1, -1)


@method(
    row="B1",
    reference="Rosenblatt 1958; Novikoff 1962",
    formula="if y w'x <= 0: w <- w + y x; at most (R/g)^2 updates, R = max ||x||, g = the margin",
    note="It uses no gradient of sign(w'x), which is zero almost everywhere. The update is a gradient step, with learning "
    "rate 1, on another loss, max(0, -y w'x).",
)
def perceptron(inputs: Tensor, labels: Tensor, *, max_passes: int = 1000) -> Perceptron:
    """Train one sign unit by Rosenblatt's rule: w ← w + y x for every row with y w'x ≤ 0, in order, from w = 0.

    Shapes: inputs (n, d), labels (n,) in {−1, 1}. A column of ones acts as a bias. The arithmetic is float64.

    On separable rows the number of updates is at most :func:`mistake_bound`, whatever the order of the rows and the
    number of passes. On other rows the rule does not converge, and stops after ``max_passes``.

    Args:
        inputs: the rows.
        labels: their labels.
        max_passes: the largest number of passes over the rows. Default 1000.

    Raises:
        UserError: labels other than −1 and 1, shapes that do not match, or ``max_passes`` below 1.

    >>> result = perceptron(torch.tensor([[2.0, 1.0], [-1.0, 1.0]]), torch.tensor([1, -1]))
    >>> result.weights.tolist(), result.mistakes, result.separated
    ([2.0, 1.0], 1, True)
    """
    x, y = _checked(inputs, labels)
    if max_passes < 1:
        raise UserError(f"perceptron: max_passes: expected an integer >= 1, got {max_passes}")
    w = torch.zeros(x.shape[1], dtype=torch.float64)
    mistakes = 0
    for number in range(1, max_passes + 1):
        before = mistakes
        for row, side in zip(x, y, strict=True):
            if side * (w @ row) <= 0:
                w += side * row
                mistakes += 1
        if mistakes == before:
            return Perceptron(w, mistakes, number, True)
    return Perceptron(w, mistakes, max_passes, False)


def mistake_bound(inputs: Tensor, labels: Tensor, separator: Tensor) -> float:
    """Return (R/γ)², Novikoff's bound on the mistakes of :func:`perceptron`.

    R = max ‖x_i‖, and γ = min y_i u'x_i / ‖u‖ is the margin of a separating u. Every separator yields a bound, and the
    separator with the largest margin the smallest one.

    Args:
        inputs: (n, d).
        labels: (n,) in {−1, 1}.
        separator: u, (d,), with y_i u'x_i > 0 for all rows.

    Raises:
        UserError: ``separator`` does not separate the rows.

    >>> round(mistake_bound(torch.tensor([[3.0, 4.0], [0.0, -5.0]]), torch.tensor([1, -1]), torch.tensor([0.0, 1.0])), 4)
    1.5625
    """
    x, y = _checked(inputs, labels)
    u = separator.detach().to("cpu", torch.float64)
    margin = (y * (x @ u)).min() / u.norm()
    if not margin > 0:
        raise UserError("mistake_bound: the separator does not separate the rows, so there is no bound")
    return float((x.norm(dim=1).max() / margin) ** 2)


def _checked(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if inputs.dim() != 2 or labels.shape != inputs.shape[:1] or not len(labels):
        raise UserError(
            f"perceptron: expected inputs (n, d) and labels (n,), n >= 1, got {tuple(inputs.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if not bool(((labels == 1) | (labels == -1)).all()):
        raise UserError("perceptron: expected labels -1 and 1")
    return inputs.detach().to("cpu", torch.float64), labels.detach().to("cpu", torch.float64)
