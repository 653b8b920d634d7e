"""Classification losses, computed from logits for numerical stability."""

from __future__ import annotations

import copy
import math
from abc import ABC
from typing import Self, final

import torch
from torch import Tensor
from torch.nn import functional

from descend.cards import method
from descend.errors import UserError
from descend.losses.base import Form, Loss, Reduction, same_shape
from descend.losses.likelihoods import Bernoulli, Categorical
from descend.param_types import Positive, Probability

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "KullbackLeibler",
    "Squared",
    "in_unit_interval",
    "label_outputs",
    "log_clamped",
    "log_softmax",
    "one_hot",
]

_LABELS = frozenset({"binary", "multi_label"})
_MULTICLASS = frozenset({"multiclass"})


def label_outputs(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return binary outputs (n, 1) or (n,) as (n,), the shape of their targets; those of labels are (n, L) like theirs.

    Raises:
        UserError: the shapes do not match.
    """
    if targets.dim() == 2 and targets.shape[1] > 1 and outputs.shape == targets.shape:
        return outputs
    flat = outputs.squeeze(1) if outputs.dim() == 2 and outputs.shape[1] == 1 else outputs
    if flat.shape != targets.shape or flat.dim() != 1:
        raise UserError(
            f"binary outputs must have shape (n, 1) or (n,) and targets (n,), "
            f"got {tuple(outputs.shape)} and {tuple(targets.shape)}"
        )
    return flat


def in_unit_interval(targets: Tensor) -> None:
    """Raise a UserError if a target is outside [0, 1]."""
    outside = ~((targets >= 0) & (targets <= 1))
    if bool(outside.any()):
        first = targets[outside].flatten()[0].item()
        raise UserError(f"binary targets must be in [0, 1], got {first:g}")


def one_hot(targets: Tensor, like: Tensor) -> Tensor:
    """Encode class indices (n,) in 0…K−1 as one-hot rows (n, K); distributions (n, K) are returned unchanged.

    Args:
        targets: class indices (n,) or distributions (n, K).
        like: a tensor (n, K) that determines K and the dtype.

    Raises:
        UserError: distributions have another shape than ``like``.

    >>> one_hot(torch.tensor([2, 0]), torch.zeros(2, 3))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if targets.dim() == 2:
        same_shape(like, targets)
        return targets
    return functional.one_hot(targets, like.shape[1]).to(like.dtype)


def log_clamped(probabilities: Tensor) -> Tensor:
    """Return log p, finite where p is 0."""
    # Clamping at the smallest normal number keeps the value and the gradient finite.
    return torch.log(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny))


def log_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log softmax of rows (n, K), and 0 for classes whose target is 0.

    Such a class contributes nothing to a loss, also where its logarithm exceeds the largest number.

    Args:
        logits: (n, K).
        targets: distributions (n, K).

    >>> log_softmax(torch.tensor([[3e38, -3e38]]), torch.tensor([[1.0, 0.0]]))
    tensor([[0., 0.]])
    """
    return torch.log_softmax(logits, 1).masked_fill(targets == 0, 0.0)


class _Smoothed(Loss, ABC):
    """Base class of losses with label smoothing."""

    def __init__(self, *, label_smoothing: Probability = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise UserError(
                f"{type(self).__name__}: label_smoothing must be in [0, 1], got {label_smoothing}"
            )
        self.label_smoothing = label_smoothing

    def unsmoothed(self) -> Self:
        """Return the same loss with label_smoothing = 0."""
        loss = copy.copy(self)
        loss.label_smoothing = 0.0
        return loss


@method(
    row="C2, C4",
    reference="torch.nn.BCEWithLogitsLoss, torch.nn.BCELoss",
    formula="l = -y log p - (1 - y) log(1 - p), p = sigmoid(z)",
    note="Label smoothing replaces y by (1 - a) y + a/2. pos_weight multiplies the term of y = 1.",
)
@final
class BinaryCrossEntropy(_Smoothed):
    """Binary cross-entropy from a logit z: max(z, 0) − z y + log(1 + exp(−|z|)).

    This form is finite for every z, with an error of the order of the rounding error of z; the derivative is
    σ(z) − y.
    Shapes: outputs (n, 1) or (n,), targets (n,) in [0, 1]. For labels, outputs and targets (n, L); a row's loss is the mean
    over them.

    Args:
        label_smoothing: α, the weight of the uniform distribution over both classes in the target:
            y becomes (1 − α) y + α/2. Default 0.
        pos_weight: the factor w of the term of class 1, −w y log p − (1 − y) log(1 − p), as in PyTorch: a positive
            number, or one for each of L labels. For (negative rows / positive rows) both terms have equal total weight.
            Default None: 1.

    Raises:
        UserError: α is outside [0, 1]; w is not positive; or, when called, targets are outside [0, 1], or the number of
            weights is not L.

    >>> BinaryCrossEntropy()(torch.tensor([[-1e4], [1e4]]), torch.tensor([1.0, 1.0]))
    tensor(5000.)
    """

    form: Form = "logits"
    tasks = _LABELS

    def __init__(
        self, *, label_smoothing: Probability = 0.0, pos_weight: Positive | tuple[Positive, ...] | None = None
    ) -> None:
        super().__init__(label_smoothing=label_smoothing)
        if isinstance(pos_weight, list | tuple):
            pos_weight = tuple(float(one) for one in pos_weight)
        weights = pos_weight if isinstance(pos_weight, tuple) else (pos_weight,)
        if not weights or any(one is not None and not 0 < one < math.inf for one in weights):
            raise UserError(
                f"bce: pos_weight must be a positive number, or one for each label, got {pos_weight}"
            )
        self.pos_weight = pos_weight

    @property
    def likelihood(self) -> Bernoulli | None:
        """Bernoulli; None for outputs that are probabilities, which are not its natural parameter, and with ``pos_weight``."""
        return Bernoulli() if self.form == "logits" and self.pos_weight is None else None

    def _check(self, targets: Tensor) -> None:
        in_unit_interval(targets)

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        flat = label_outputs(outputs, targets)
        if self.label_smoothing:
            targets = targets * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.pos_weight is not None:
            losses = self._weighted(flat, targets)
            losses = losses.mean() if reduction == "mean" else losses
        elif self.form == "logits":
            losses = functional.binary_cross_entropy_with_logits(flat, targets, reduction=reduction)
        else:
            losses = functional.binary_cross_entropy(flat, targets, reduction=reduction)
        return losses.mean(1) if losses.dim() == 2 else losses

    def _weighted(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses with the term of class 1 multiplied by ``pos_weight``, of the shape of the targets."""
        weight = torch.as_tensor(self.pos_weight, dtype=outputs.dtype, device=outputs.device)
        count = outputs.shape[1] if outputs.dim() == 2 else 1
        if weight.dim() and len(weight) != count:
            raise UserError(
                f"bce: pos_weight must be one number, or one for each of the {count} targets, got {len(weight)}"
            )
        if self.form == "logits":
            return functional.binary_cross_entropy_with_logits(
                outputs, targets, reduction="none", pos_weight=weight
            )
        return -weight * targets * log_clamped(outputs) - (1.0 - targets) * log_clamped(1.0 - outputs)


@method(
    row="C2, C3",
    reference="Brier 1950",
    formula="binary, labels: l = (y - sigmoid(z))^2; multiclass: l = sum_k (y_k - softmax(z)_k)^2, y one-hot",
    note="It is bounded, so its gradient vanishes where the network is confidently wrong.",
)
@final
class Squared(Loss):
    """Squared error of probabilities against {0, 1}: the Brier score.

    The sum over classes ‖y − p‖² is not divided by K. For two classes as one-hot rows it
    is therefore twice the binary form. For labels it is the mean over them.
    Shapes: binary outputs (n, 1) or (n,) with float targets (n,); labels (n, L), both; multiclass outputs (n, K) with int64
    targets (n,) or distributions (n, K).

    >>> Squared()(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.5000)
    """

    form: Form = "logits"
    tasks = _LABELS | _MULTICLASS

    def __init__(self) -> None:
        super().__init__()
        self.labels = False

    def for_task(self, task: str) -> Squared:
        """Return the loss; for labels, one that treats each output separately."""
        if task != "multi_label":
            return self
        loss = copy.copy(self)
        loss.labels = True
        return loss

    def _check(self, targets: Tensor) -> None:
        if targets.is_floating_point():
            in_unit_interval(targets)

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        logits = self.form == "logits"
        if self.labels or (targets.is_floating_point() and targets.dim() == 1):
            flat = label_outputs(outputs, targets)
            losses = ((torch.sigmoid(flat) if logits else flat) - targets).square()
            losses = losses.mean(1) if losses.dim() == 2 else losses
        else:
            probabilities = torch.softmax(outputs, 1) if logits else outputs
            losses = (probabilities - one_hot(targets, outputs)).square().sum(1)
        return losses.mean() if reduction == "mean" else losses


@method(
    row="C3, C4",
    reference="Szegedy et al. 2016 (label smoothing); torch.nn.CrossEntropyLoss",
    formula="l = -sum_k q_k log softmax(z)_k, q = (1 - a) onehot + a/K",
    note="Some texts set the target of every wrong class to e and that of the correct class to 1 - (K - 1) e; "
    "PyTorch's a, used here, is K e.",
)
@final
class CrossEntropy(_Smoothed):
    """Cross-entropy of K classes from logits, with label smoothing.

    ℓ = log Σ_j exp z_j − Σ_k q_k z_k; the derivative is softmax(z) − q.
    Shapes: outputs (n, K), targets int64 (n,) in 0…K−1, or distributions (n, K).

    Args:
        label_smoothing: α, the weight of the uniform distribution over all K classes in the target. The target of a
            wrong class is α/K, that of the correct class 1 − (K−1) α/K. Default 0.

    Raises:
        UserError: α is outside [0, 1]; or, when called, a class index is outside 0…K−1.

    >>> CrossEntropy()(torch.zeros(1, 4), torch.tensor([2]))
    tensor(1.3863)
    """

    form: Form = "logits"
    tasks = _MULTICLASS

    @property
    def likelihood(self) -> Categorical | None:
        """Categorical; None for outputs that are probabilities, which are not its natural parameter."""
        return Categorical() if self.form == "logits" else None

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        # log softmax does not change the logarithms of probabilities, because these sum to 1.
        logits = outputs if self.form == "logits" else log_clamped(outputs)
        return functional.cross_entropy(
            logits, targets, reduction=reduction, label_smoothing=self.label_smoothing
        )


@method(
    row="C5",
    reference="Kullback and Leibler 1951; torch.nn.KLDivLoss with reduction='batchmean'",
    formula="l = sum_k q_k (log q_k - log softmax(z)_k)",
    note="torch.nn.KLDivLoss takes log-probabilities; this loss includes the softmax. For class indices as targets it "
    "is the cross-entropy.",
)
@final
class KullbackLeibler(Loss):
    """Kullback-Leibler divergence KL(q ‖ p) of the predicted distribution p from the target q, with 0 log 0 = 0.

    It differs from the cross-entropy by the entropy of the targets, which is constant in training, and is 0 for p = q.
    Shapes: outputs (n, K), targets distributions (n, K), or int64 (n,) as one-hot rows.

    Raises:
        UserError: when called, rows of the targets are not distributions.

    >>> KullbackLeibler()(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]])).abs()
    tensor(0.)
    """

    form: Form = "logits"
    tasks = _MULTICLASS

    @property
    def likelihood(self) -> Categorical | None:
        """Categorical; None for outputs that are probabilities, which are not its natural parameter."""
        return Categorical() if self.form == "logits" else None

    def _check(self, targets: Tensor) -> None:
        if targets.dim() == 2:
            sums = targets.sum(1)
            sums_to_one = torch.isclose(sums, torch.ones_like(sums), atol=1e-4).all()
            if not bool(sums_to_one & (targets >= 0).all()):
                raise UserError(
                    "kl: each row of the targets must be a distribution: non-negative, with sum 1"
                )

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        shares = one_hot(targets, outputs)
        logs = log_softmax(outputs, shares) if self.form == "logits" else log_clamped(outputs)
        losses = functional.kl_div(logs, shares, reduction="none").sum(1)
        return losses.mean() if reduction == "mean" else losses
