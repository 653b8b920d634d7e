"""Calibration: a map of raw outputs, fitted on held-out rows, after which predicted probabilities are frequencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.cards import method
from descend.errors import UserError

__all__ = [
    "CALIBRATIONS",
    "STATE_PREFIX",
    "Calibration",
    "IsotonicCalibration",
    "PlattScaling",
    "TemperatureScaling",
    "none",
]

STATE_PREFIX = "calibration/"
"""What the names of the calibration's tensors begin with in a file of weights; names of modules contain no slash."""

LARGEST = 20.0
"""The largest factor of the logits, and the inverse of the smallest: few rows that are all predicted right allow any."""

STEPS = 50
"""The maximum number of Newton steps; about six are needed."""


class Calibration(nn.Module):
    """Base class: a map from logits to logits, the identity before it is fitted.

    Logits have the shape (n, K) for K > 1 classes, (n, 1) for two classes, or (n, L) for L labels of which each may hold.
    """

    tasks: ClassVar[frozenset[str]]
    """The tasks that it is for."""

    def __init__(self) -> None:
        super().__init__()

    @torch.no_grad()
    def fit(
        self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None, *, labels: bool = False
    ) -> None:
        """Fit the map on rows that the network was not trained on.

        The log-loss on these rows never rises: where the fitted map would raise it, the map stays the identity.

        Args:
            outputs: raw outputs (n, K), (n, 1) or (n, L).
            targets: classes (n,), or values 0 and 1 of as many elements as ``outputs``.
            weights: (n,), not negative and with a positive sum, or None for equal weights.
            labels: whether the columns of ``outputs`` are labels rather than classes. Default False.
        """
        binary = labels or outputs.shape[1] == 1
        logits = outputs.double()
        expected = targets.reshape(outputs.shape).double() if binary else targets.flatten().long()
        share = torch.ones(len(logits)) if weights is None else weights
        share = share.to(logits) / share.double().sum().to(logits)
        identity = self.double().state_dict(keep_vars=True)
        self._fit(logits, expected, share, binary=binary)
        loss = _binary_log_loss if binary else _log_loss
        if not loss(self(logits), expected, share) <= loss(logits, expected, share):
            self.restore(identity)
        self.float()

    def _fit(self, outputs: Tensor, targets: Tensor, share: Tensor, *, binary: bool) -> None:
        raise NotImplementedError

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the values of a state, whose tensors may have another length than those of this module.

        Raises:
            UserError: the names or the numbers of dimensions differ.
        """
        own = dict(self.named_buffers())
        if set(state) != set(own) or any(state[name].dim() != value.dim() for name, value in own.items()):
            raise UserError(
                f"calibration: expected the tensors {sorted(own)}, each with one dimension, got {sorted(state)}"
            )
        for name, value in state.items():
            setattr(self, name, value)


@method(
    row="K10",
    reference="Guo, Pleiss, Sun and Weinberger 2017",
    formula="z' = z / T, T = argmin of the log-loss of z / T on the validation rows, plus (1/T - 1)^2 / (2 n)",
    note="One number, so that few rows suffice. Predicted classes do not change.",
)
@final
class TemperatureScaling(Calibration):
    """Temperature scaling: divide all logits by one number T > 0.

    The log-loss is convex in a = 1 / T. (a - 1)² / (2 n) is added to it for n rows, so that few rows which are all
    predicted right do not make the probabilities 0 and 1; on many rows it has no effect. Newton's method, safeguarded
    by bisection, finds the minimum between 1/20 and 20.

    Shapes: (n, K) → (n, K).

    >>> scaling = TemperatureScaling()
    >>> logits = torch.tensor([[4.0], [4.0], [4.0], [-4.0]]).repeat(50, 1)  # one of four is wrong
    >>> scaling.fit(logits, torch.tensor([1, 1, 1, 1]).repeat(50))
    >>> torch.sigmoid(scaling(torch.tensor([[4.0]]))).item()  # the frequency
    0.75...

    Source: Guo et al., "On calibration of modern neural networks", 2017.
    """

    tasks = frozenset({"binary", "multiclass", "multi_label"})
    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(1))

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the scaled logits."""
        return outputs * self.factor

    def _fit(self, outputs: Tensor, targets: Tensor, share: Tensor, *, binary: bool) -> None:
        given = targets if binary else F.one_hot(targets, outputs.shape[1]).double()
        derivatives = _of_sigmoid if binary else _of_softmax
        low, high, factor = 1 / LARGEST, LARGEST, 1.0
        for _ in range(STEPS):
            first, second = derivatives(factor, outputs, given, share)
            first, second = first + (factor - 1) / len(outputs), second + 1 / len(outputs)
            low, high = (factor, high) if first < 0 else (low, factor)
            newton = factor - first / second
            # The derivative grows with the factor, so that its zero stays between the bounds.
            following = newton if low < newton < high else (low + high) / 2
            if abs(following - factor) <= 1e-12 * factor:
                break
            factor = following
        self.factor = torch.full_like(self.factor, factor)


@method(
    row="K10",
    reference="Platt 1999; Lin, Lin and Weng 2007",
    formula="z' = a z + b, (a, b) = argmin of the log-loss on the validation rows",
    note="For two classes or labels. The shift b changes predicted classes where the classes' frequencies are not those of "
    "the outputs.",
)
@final
class PlattScaling(Calibration):
    """Platt scaling: a logistic regression on the logit, of two classes or of each label.

    The log-loss is convex in (a, b), and damped Newton steps find its minimum, with the targets (n₁ + 1) / (n₁ + 2) and
    1 / (n₀ + 2) for n₁ rows of class 1 and n₀ of class 0. a is not negative, so that the order of the rows stays.

    Shapes: (n, L) → (n, L).

    >>> scaling = PlattScaling()
    >>> scaling.fit(torch.tensor([[1.0], [2.0], [3.0], [4.0]]).repeat(50, 1), torch.tensor([0, 0, 1, 1]).repeat(50))
    >>> round(torch.sigmoid(scaling(torch.tensor([[2.5]]))).item(), 3)
    0.5

    Source: Platt, "Probabilistic outputs for support vector machines", 1999; Lin, Lin and Weng, "A note on Platt's
    probabilistic outputs for support vector machines", 2007.
    """

    tasks = frozenset({"binary", "multi_label"})
    factor: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(1))
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the scaled and shifted logits."""
        return outputs * self.factor + self.shift

    def _fit(self, outputs: Tensor, targets: Tensor, share: Tensor, *, binary: bool) -> None:
        fitted = [
            _logistic_regression(outputs[:, label], targets[:, label], share)
            for label in range(outputs.shape[1])
        ]
        self.factor, self.shift = (outputs.new_tensor(each) for each in zip(*fitted, strict=True))


@method(
    row="K10",
    reference="Zadrozny and Elkan 2002; sklearn.isotonic.IsotonicRegression",
    formula="p' = g(z), g nondecreasing with least squares error on the validation rows",
    note="For two classes or labels, and 1,000 validation rows or more: g has many values.",
)
@final
class IsotonicCalibration(Calibration):
    """Isotonic calibration: the nondecreasing function of the logit that fits the frequencies best.

    Pool adjacent violators gives the least-squares function of the rows; between its blocks it is interpolated linearly,
    and outside constant. Probabilities stay in [1 / (n + 2), 1 - 1 / (n + 2)] for n rows, so that the log-loss of new
    rows is finite.

    Shapes: (n, 1) → (n, 1). It is a sum of clamped ramps, one for each pair of neighboring knots, so that it can be
    exported.

    >>> calibration = IsotonicCalibration()
    >>> calibration.fit(torch.tensor([[1.0], [2.0], [3.0], [4.0]]).repeat(50, 1), torch.tensor([0, 1, 0, 1]).repeat(50))
    >>> torch.sigmoid(calibration(torch.tensor([[2.0], [3.0]]))).flatten().tolist()
    [0.5, 0.5]

    Source: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", 2002.
    """

    tasks = frozenset({"binary"})
    starts: Tensor
    widths: Tensor
    rises: Tensor
    lowest: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("starts", "widths", "rises", "lowest"):
            self.register_buffer(name, torch.zeros(0))

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the calibrated logits."""
        if not len(self.lowest):
            return outputs
        ramps = ((outputs - self.starts) / self.widths).clamp(0.0, 1.0)
        return torch.logit(self.lowest + (ramps * self.rises).sum(1, keepdim=True))

    def _fit(self, outputs: Tensor, targets: Tensor, share: Tensor, *, binary: bool) -> None:
        logits, probabilities = _isotonic_regression(outputs[:, 0], targets[:, 0], share)
        least = 1 / (len(outputs) + 2)
        probabilities = probabilities.clamp(least, 1 - least)
        self.starts, self.widths = logits[:-1], logits.diff()
        self.rises, self.lowest = probabilities.diff(), probabilities[:1]


@method(row="K10", reference="", formula="z' = z")
def none() -> None:
    """No calibration."""


CALIBRATIONS: Mapping[str, Callable[[], Calibration | None]] = {
    "none": none,
    "temperature": TemperatureScaling,
    "platt": PlattScaling,
    "isotonic": IsotonicCalibration,
}
"""The calibrations by name."""


def _binary_log_loss(outputs: Tensor, targets: Tensor, share: Tensor) -> Tensor:
    rows: Tensor = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1)
    return (rows * share).sum()


def _log_loss(outputs: Tensor, targets: Tensor, share: Tensor) -> Tensor:
    rows: Tensor = F.cross_entropy(outputs, targets, reduction="none")
    return (rows * share).sum()


def _of_sigmoid(factor: float, outputs: Tensor, targets: Tensor, share: Tensor) -> tuple[float, float]:
    """Return the first and second derivative of the log-loss of a z with respect to a: E z (p - y), E z^2 p (1 - p)."""
    p = torch.sigmoid(factor * outputs)
    first = (outputs * (p - targets)).mean(1)
    second = (outputs.square() * p * (1 - p)).mean(1)
    return float((share * first).sum()), float((share * second).sum())


def _of_softmax(factor: float, outputs: Tensor, targets: Tensor, share: Tensor) -> tuple[float, float]:
    """Return the same for the softmax: E (p - y)' z, and the variance of z under p."""
    p = torch.softmax(factor * outputs, 1)
    mean = (p * outputs).sum(1, keepdim=True)
    first = ((p - targets) * outputs).sum(1)
    second = (p * (outputs - mean).square()).sum(1)
    return float((share * first).sum()), float((share * second).sum())


def _logistic_regression(logits: Tensor, targets: Tensor, share: Tensor) -> tuple[float, float]:
    """Return (a, b), a >= 0, that minimize the log-loss of a z + b with the targets of Platt."""
    ones, zeros = targets.sum(), (1 - targets).sum()
    y = torch.where(targets > 0.5, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    center, scale = logits.mean(), logits.std(correction=0).clamp_min(torch.finfo(logits.dtype).tiny)
    columns = torch.stack([(logits - center) / scale, torch.ones_like(logits)], 1)

    def loss(x: Tensor) -> Tensor:
        return _binary_log_loss((columns @ x)[:, None], y[:, None], share)

    x = logits.new_zeros(2)
    for _ in range(STEPS):
        p = torch.sigmoid(columns @ x)
        gradient = columns.T @ (share * (p - y))
        hessian = (columns.T * (share * p * (1 - p))) @ columns + 1e-12 * torch.eye(2).to(logits)
        step = torch.linalg.solve(hessian, gradient)
        if float(gradient @ step) < 1e-24:
            break
        length = 1.0
        while float(loss(x - length * step)) > float(loss(x)) and length > 1e-10:
            length /= 2
        x = x - length * step
    if x[0] <= 0:  # without a relation between logit and class, the frequency of the class
        average = float((share * y).sum())
        return 0.0, math.log(average / (1 - average))
    return float(x[0] / scale), float(x[1] - x[0] * center / scale)


def _isotonic_regression(logits: Tensor, targets: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the knots of the nondecreasing least-squares function of the logit, by pooling adjacent violators.

    Rows with equal logits are one point. Each block gives its first and its last logit with its mean.
    """
    points, inverse = torch.unique(logits, return_inverse=True)
    mass = torch.zeros_like(points).index_add_(0, inverse, share)
    mean = torch.zeros_like(points).index_add_(0, inverse, share * targets) / mass.clamp_min(1e-300)
    blocks: list[tuple[float, float, int, int]] = []  # mean, mass, first and last point
    for at, (value, weight) in enumerate(zip(mean.tolist(), mass.tolist(), strict=True)):
        if weight == 0:
            continue
        block = (value, weight, at, at)
        while blocks and blocks[-1][0] >= block[0]:
            before = blocks.pop()
            total = before[1] + block[1]
            block = ((before[0] * before[1] + block[0] * block[1]) / total, total, before[2], block[3])
        blocks.append(block)
    ends = [(at, value) for value, _, first, last in blocks for at in sorted({first, last})]
    where = torch.tensor([at for at, _ in ends], device=points.device)
    return points[where], points.new_tensor([value for _, value in ends])
