"""The perceptron: how a unit with the sign as its activation learns without a derivative.

The sign has derivative zero almost everywhere, so no gradient reaches the weights below it, and descend refuses it
for gradient training. Rosenblatt's rule needs none: whenever a row is on the wrong side, add it to the weights. Why
this ends is no matter of gradients but of counting (Novikoff 1962): every mistake brings w at least γ further along
a separating direction, and makes ‖w‖² at most R² longer, so that after M mistakes Mγ ≤ ‖w‖ ≤ √M R.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError

__all__ = ["Perceptron", "mistake_bound", "perceptron"]


class Perceptron(NamedTuple):
    """What :func:`perceptron` found.

    Args:
        weights: w, (d,).
        mistakes: updates made, over all passes.
        passes: passes over the rows, the last one included.
        separated: whether the last pass made no mistake: all rows have y w'x > 0.
    """

    weights: Tensor
    mistakes: int
    passes: int
    separated: bool

    def predict(self, inputs: Tensor) -> Tensor:
        """sign(w'x) of each row, in {−1, 1}; (n, d) → (n,)."""
        return torch.where(inputs.to(self.weights) @ self.weights > 0, 1, -1)


@method(
    row="B1",
    reference="Rosenblatt 1958; Novikoff 1962",
    formula="if y w'x <= 0: w <- w + y x; at most (R/g)^2 updates, R = max ||x||, g = the margin",
    note="No gradient of sign(w'x), which is zero almost everywhere. The update is the gradient step, of rate 1, of "
    "another loss, max(0, -y w'x).",
)
def perceptron(inputs: Tensor, labels: Tensor, *, max_passes: int = 1000) -> Perceptron:
    """Train one sign unit by Rosenblatt's rule: w ← w + y x for every row with y w'x ≤ 0, in order, from w = 0.

    Shapes: inputs (n, d), labels (n,) in {−1, 1}. A bias is a column of ones. The arithmetic is float64.

    On separable rows the number of updates is at most :func:`mistake_bound`, whatever the order of the rows and
    however many passes it takes; on others it never ends, and ``max_passes`` does.

    Args:
        inputs: the rows.
        labels: their sides.
        max_passes: passes over the rows after which to give up. Default 1000.

    Raises:
        UserError: labels other than −1 and 1, shapes that do not fit, or ``max_passes`` below 1.

    >>> found = perceptron(torch.tensor([[2.0, 1.0], [-1.0, 1.0]]), torch.tensor([1, -1]))
    >>> found.weights.tolist(), found.mistakes, found.separated
    ([2.0, 1.0], 1, True)
    """
    x, y = _checked(inputs, labels)
    if max_passes < 1:
        raise UserError(f"perceptron: max_passes must be 1 or more; found {max_passes}")
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
    """(R/γ)²: Novikoff's bound on the mistakes of :func:`perceptron`.

    R = max ‖x_i‖, and γ = min y_i u'x_i / ‖u‖ is the margin of a separating u. Every separator gives a bound; that of
    the largest margin is the least.

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
        raise UserError("mistake_bound: this direction does not separate the rows, so it bounds nothing")
    return float((x.norm(dim=1).max() / margin) ** 2)


def _checked(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if inputs.dim() != 2 or labels.shape != inputs.shape[:1] or not len(labels):
        raise UserError(
            f"perceptron: expected inputs (n, d) and labels (n,), n >= 1; found {tuple(inputs.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if not bool(((labels == 1) | (labels == -1)).all()):
        raise UserError("perceptron: labels are -1 and 1")
    return inputs.detach().to("cpu", torch.float64), labels.detach().to("cpu", torch.float64)
