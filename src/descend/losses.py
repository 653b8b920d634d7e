"""Losses: what training minimises, averaged over rows.

Each loss is a module called as ``loss(outputs, targets, weights=None)``. It gives the mean over rows, or with
weights Σ w_i ℓ_i / Σ w_i; ``loss.per_sample(outputs, targets)`` gives the ℓ_i, shape (n,). ``loss.form`` says
what the outputs must be: ``"values"`` and ``"logits"`` are a model's raw outputs, ``"probabilities"`` have
passed an output activation. Losses of form ``"logits"`` work with log σ and log softmax of the logits, which
stay finite where the logarithm of a rounded probability is −∞; :meth:`Loss.on_probabilities` gives the same
loss for outputs that have no such form, as those of the sine.

Targets are float (n, T) for regression, float (n,) in [0, 1] for binary, and int64 (n,) in 0…K−1 or
distributions (n, K) for multiclass problems.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from descend.domains import Positive, Probability
from descend.errors import UserError
from descend.method import method

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Form",
    "Huber",
    "KullbackLeibler",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Squared",
]

Form = Literal["logits", "probabilities", "values"]
Reduction = Literal["none", "mean"]

_REGRESSION = frozenset({"regression", "multi_regression"})
_BINARY = frozenset({"binary"})
_MULTICLASS = frozenset({"multiclass"})


class Loss(nn.Module, ABC):
    """A loss: per-sample values, their mean or weighted mean, and the form of outputs it takes."""

    form: Form
    tasks: ClassVar[frozenset[str]]

    def __init__(self) -> None:
        super().__init__()
        self._trusted = False

    @abstractmethod
    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        """The rows' losses (n,) or their mean, in one fused call where PyTorch has it."""

    def _check(self, targets: Tensor) -> None:
        """Raise UserError where targets are outside the loss's domain; waits for the device."""

    def trust(self, targets: Tensor) -> None:
        """Check all targets of a training once, so that no later call has to.

        A check waits for the device. Without ``trust`` every call checks its own targets.

        Raises:
            UserError: targets are outside the loss's domain.
        """
        self._check(targets)
        self._trusted = True

    def unsmoothed(self) -> Loss:
        """The loss as it is measured: without label smoothing, which is a means of training."""
        if not getattr(self, "label_smoothing", 0.0):
            return self
        made = copy.copy(self)
        made.label_smoothing = 0.0  # type: ignore[assignment]
        return made

    def on_probabilities(self) -> Loss:
        """The same loss for outputs that are probabilities.

        Raises:
            UserError: the loss is not one of probabilities.
        """
        if self.form == "values":
            raise UserError(f"{type(self).__name__} is a loss of values, not of probabilities")
        made = copy.copy(self)
        made.form = "probabilities"
        return made

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of every row, shape (n,).

        Raises:
            UserError: the shapes do not fit each other, or targets are outside the loss's domain.
        """
        if not self._trusted:
            self._check(targets)
        return self._loss(outputs, targets, "none")

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss over rows, or Σ w ℓ / Σ w.

        Args:
            outputs: the model's side, in the loss's ``form``.
            targets: see the head of this module.
            weights: (n,), one non-negative weight a row. Default None: all equal.

        Raises:
            UserError: the shapes do not fit each other, or targets are outside the loss's domain.
        """
        if weights is None:
            if not self._trusted:
                self._check(targets)
            return self._loss(outputs, targets, "mean")
        losses = self.per_sample(outputs, targets)
        if weights.shape != losses.shape:
            raise UserError(
                f"weights have shape {tuple(weights.shape)}; expected {tuple(losses.shape)}, one a row"
            )
        weights = weights.to(losses.dtype)
        return torch.dot(losses, weights) / weights.sum()


def _same_shape(outputs: Tensor, targets: Tensor) -> None:
    # Broadcasting (n, 1) against (n,) would give an n x n loss without a word.
    if outputs.shape != targets.shape:
        raise UserError(
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}; "
            "they must be equal"
        )


def _column(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary outputs (n, 1) or (n,) as (n,), like their targets."""
    flat = outputs.squeeze(1) if outputs.dim() == 2 and outputs.shape[1] == 1 else outputs
    if flat.shape != targets.shape or flat.dim() != 1:
        raise UserError(
            f"binary outputs must have shape (n, 1) or (n,) and targets (n,); "
            f"found {tuple(outputs.shape)} and {tuple(targets.shape)}"
        )
    return flat


def _in_unit_interval(targets: Tensor) -> None:
    outside = ~((targets >= 0) & (targets <= 1))
    if bool(outside.any()):
        found = targets[outside].flatten()[0].item()
        raise UserError(f"binary targets must lie in [0, 1]; found {found:g}")


def _one_hot(targets: Tensor, like: Tensor) -> Tensor:
    """Class numbers as one-hot rows; distributions as they are."""
    if targets.dim() == 2:
        _same_shape(like, targets)
        return targets
    return functional.one_hot(targets, like.shape[1]).to(like.dtype)


def _log(probabilities: Tensor) -> Tensor:
    # Clamped at the smallest normal number: the value stays finite, and so does the gradient.
    return torch.log(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny))


@method(
    row="C1",
    reference="torch.nn.MSELoss",
    formula="l = 1/T sum_t (y_t - p_t)^2",
    note="The lecture's ||y - p||^2 is T times this; PyTorch's mean over targets is followed.",
)
@final
class MeanSquaredError(Loss):
    """Mean squared error; its minimiser is the conditional mean.

    Shapes: outputs (n, T), targets (n, T).

    >>> MeanSquaredError()(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]]))
    tensor(5.)
    """

    form: Form = "values"
    tasks = _REGRESSION

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        _same_shape(outputs, targets)
        if reduction == "mean":
            return functional.mse_loss(outputs, targets)
        return (outputs - targets).square().flatten(1).mean(1)


@method(
    row="C1",
    reference="torch.nn.L1Loss",
    formula="l = 1/T sum_t |y_t - p_t|",
    note="At 0 the derivative used is 0.",
)
@final
class MeanAbsoluteError(Loss):
    """Mean absolute error; its minimiser is the conditional median, so outliers pull less.

    Shapes: outputs (n, T), targets (n, T).

    >>> MeanAbsoluteError()(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]]))
    tensor(2.)
    """

    form: Form = "values"
    tasks = _REGRESSION

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        _same_shape(outputs, targets)
        if reduction == "mean":
            return functional.l1_loss(outputs, targets)
        return (outputs - targets).abs().flatten(1).mean(1)


@method(
    row="C1",
    reference="Huber 1964; torch.nn.HuberLoss",
    formula="l = r^2/2 for |r| <= d, d (|r| - d/2) beyond; mean over targets, r = y - p",
)
@final
class Huber(Loss):
    """Quadratic near zero and linear far away: smooth, and robust to outliers.

    Shapes: outputs (n, T), targets (n, T).

    Args:
        delta: δ, where the quadratic part ends, in units of the (standardised) target. Default 1.

    Raises:
        UserError: δ is not positive.

    >>> Huber(delta=1.0)(torch.tensor([[3.0]]), torch.tensor([[0.0]]))
    tensor(2.5000)
    """

    form: Form = "values"
    tasks = _REGRESSION

    def __init__(self, *, delta: Positive = 1.0) -> None:
        super().__init__()
        if not delta > 0:
            raise UserError(f"huber: delta must be above 0; found {delta}")
        self.delta = delta

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        _same_shape(outputs, targets)
        losses = functional.huber_loss(outputs, targets, delta=self.delta, reduction=reduction)
        return losses if reduction == "mean" else losses.flatten(1).mean(1)


@method(
    row="C2",
    reference="torch.nn.BCEWithLogitsLoss, torch.nn.BCELoss",
    formula="l = -y log p - (1 - y) log(1 - p), p = sigmoid(z)",
    note="The lecture prints it without the first minus.",
)
@final
class BinaryCrossEntropy(Loss):
    """Cross-entropy of two classes from one logit z: max(z, 0) − z y + log(1 + exp(−|z|)).

    This form is finite for every z, with an error of the size of the rounding of z; the derivative is
    σ(z) − y.
    Shapes: outputs (n, 1) or (n,), targets (n,) in [0, 1].

    Args:
        label_smoothing: α, the share of the target that is spread evenly over both classes:
            y becomes (1 − α) y + α/2. Default 0.

    Raises:
        UserError: α is outside [0, 1]; targets outside [0, 1], when called.

    >>> BinaryCrossEntropy()(torch.tensor([[-1e4], [1e4]]), torch.tensor([1.0, 1.0]))
    tensor(5000.)
    """

    form: Form = "logits"
    tasks = _BINARY

    def __init__(self, *, label_smoothing: Probability = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise UserError(f"bce: label_smoothing must lie in [0, 1]; found {label_smoothing}")
        self.label_smoothing = label_smoothing

    def _check(self, targets: Tensor) -> None:
        _in_unit_interval(targets)

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        flat = _column(outputs, targets)
        if self.label_smoothing:
            targets = targets * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.form == "logits":
            return functional.binary_cross_entropy_with_logits(flat, targets, reduction=reduction)
        return functional.binary_cross_entropy(flat, targets, reduction=reduction)


@method(
    row="C2, C3",
    reference="Brier 1950",
    formula="binary: l = (y - sigmoid(z))^2; multiclass: l = sum_k (y_k - softmax(z)_k)^2, y one-hot",
    note="Bounded, so its gradient vanishes where the network is confidently wrong.",
)
@final
class Squared(Loss):
    """Squared error of probabilities against {0, 1}: the Brier score.

    The sum over classes is not divided by K, as in the lecture's ‖y − ŷ‖². For two classes as one-hot rows it
    is therefore twice the binary form.
    Shapes: binary outputs (n, 1) or (n,) with float targets (n,); multiclass outputs (n, K) with int64
    targets (n,) or distributions (n, K).

    >>> Squared()(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.5000)
    """

    form: Form = "logits"
    tasks = _BINARY | _MULTICLASS

    def _check(self, targets: Tensor) -> None:
        if targets.is_floating_point():
            _in_unit_interval(targets)

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        logits = self.form == "logits"
        if targets.is_floating_point() and targets.dim() == 1:
            flat = _column(outputs, targets)
            losses = ((torch.sigmoid(flat) if logits else flat) - targets).square()
        else:
            probabilities = torch.softmax(outputs, 1) if logits else outputs
            losses = (probabilities - _one_hot(targets, outputs)).square().sum(1)
        return losses.mean() if reduction == "mean" else losses


@method(
    row="C3, C4",
    reference="Szegedy et al. 2016 (label smoothing); torch.nn.CrossEntropyLoss",
    formula="l = -sum_k q_k log softmax(z)_k, q = (1 - a) onehot + a/K",
    note="The lecture gives every wrong class e and the right one 1 - (K - 1) e; PyTorch's a, used "
    "here, is K e.",
)
@final
class CrossEntropy(Loss):
    """Cross-entropy of K classes from logits, with label smoothing.

    ℓ = log Σ_j exp z_j − Σ_k q_k z_k; the derivative is softmax(z) − q.
    Shapes: outputs (n, K), targets int64 (n,) in 0…K−1, or distributions (n, K).

    Args:
        label_smoothing: α, the share of the target that is spread evenly over all K classes. A wrong class
            gets the lecture's ε = α/K, the right one 1 − (K−1) α/K. Default 0.

    Raises:
        UserError: α is outside [0, 1].

    >>> CrossEntropy()(torch.zeros(1, 4), torch.tensor([2]))
    tensor(1.3863)
    """

    form: Form = "logits"
    tasks = _MULTICLASS

    def __init__(self, *, label_smoothing: Probability = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise UserError(f"cross_entropy: label_smoothing must lie in [0, 1]; found {label_smoothing}")
        self.label_smoothing = label_smoothing

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        # log softmax leaves the logarithms of probabilities as they are, since those sum to 1.
        logits = outputs if self.form == "logits" else _log(outputs)
        return functional.cross_entropy(
            logits, targets, reduction=reduction, label_smoothing=self.label_smoothing
        )


@method(
    row="C5",
    reference="Kullback and Leibler 1951; torch.nn.KLDivLoss with reduction='batchmean'",
    formula="l = sum_k q_k (log q_k - log softmax(z)_k)",
    note="torch.nn.KLDivLoss takes log-probabilities; here the softmax is inside. Against class "
    "numbers it is the cross-entropy.",
)
@final
class KullbackLeibler(Loss):
    """Kullback-Leibler divergence KL(q ‖ p) of the predicted from the target distribution, 0 log 0 = 0.

    It differs from the cross-entropy by the targets' entropy, which no weight changes, and is 0 where p = q.
    Shapes: outputs (n, K), targets distributions (n, K), or int64 (n,) as one-hot rows.

    Raises:
        UserError: rows of the targets are not distributions, when called.

    >>> KullbackLeibler()(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]])).abs()
    tensor(0.)
    """

    form: Form = "logits"
    tasks = _MULTICLASS

    def _check(self, targets: Tensor) -> None:
        if targets.dim() == 2:
            sums = targets.sum(1)
            sums_to_one = torch.isclose(sums, torch.ones_like(sums), atol=1e-4).all()
            if not bool(sums_to_one & (targets >= 0).all()):
                raise UserError("kl: the targets' rows must be distributions: non-negative, with sum 1")

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        logs = torch.log_softmax(outputs, 1) if self.form == "logits" else _log(outputs)
        losses = functional.kl_div(logs, _one_hot(targets, outputs), reduction="none").sum(1)
        return losses.mean() if reduction == "mean" else losses


LOSSES: dict[str, Callable[..., Loss]] = {
    "mse": MeanSquaredError,
    "l1": MeanAbsoluteError,
    "huber": Huber,
    "bce": BinaryCrossEntropy,
    "squared": Squared,
    "cross_entropy": CrossEntropy,
    "kl": KullbackLeibler,
}
