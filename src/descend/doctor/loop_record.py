"""What is recorded of a training loop: a few numbers of some of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["ActivationRecord", "LoopRecord", "LossRecord", "StepRecord"]


@dataclass(frozen=True)
class LossRecord:
    """One evaluation of a loss; see :class:`descend.doctor.function_calls.LossCall`.

    Args:
        name: of the function, or "difference".
        predictions: the shape of the predictions.
        targets: the shape of the targets.
        reduction: "mean", "sum", "none" or "".
        after: the softmax or sigmoid that returned the predictions; "" for none.
        factor: the derivative of the tensor that was differentiated by the mean loss of the rows.
        broadcasts: whether the shapes differ.
        probabilities: whether all predictions are in [0, 1] and each row sums to 1.
        unit_interval: whether all predictions are in [0, 1].
        value: the mean loss.
        classes: the number of rows of each class, for targets that are class numbers; else None.
    """

    name: str
    predictions: tuple[int, ...]
    targets: tuple[int, ...]
    reduction: str
    after: str
    factor: float | None
    broadcasts: bool
    probabilities: bool
    unit_interval: bool
    value: float
    classes: Mapping[int, int] | None = None


@dataclass(frozen=True)
class ActivationRecord:
    """The outputs of one call of an activation function on a batch.

    Args:
        name: of the function.
        units: the number of units.
        dead: the number of units that are 0 on every row.
        saturated: the share of outputs within 1 % of a bound.
    """

    name: str
    units: int
    dead: int
    saturated: float


@dataclass(frozen=True)
class StepRecord:
    """One step of the optimizer.

    Args:
        number: of the step, counted from 0.
        training: whether the network was in training mode; None if it was not called before the step.
        in_eval: the names of the modules with random or batch-dependent behavior that were in evaluation mode.
        rows: the number of rows of the batch; 0 if unknown.
        leftover: whether gradients of the step before were still there when the first gradient arrived.
        gradients: the norm of the gradient by parameter; parameters without a gradient are missing.
        weights: the norm of each parameter before the step.
        updates: the norm of its change.
        learning_rates: of each group.
        losses: the losses that were evaluated since the step before.
        activations: the activations of the last forward pass.
        loss: the value that was differentiated; None if it was not seen.
    """

    number: int
    training: bool | None
    in_eval: tuple[str, ...]
    rows: int
    leftover: bool | None
    gradients: Mapping[str, float]
    weights: Mapping[str, float]
    updates: Mapping[str, float]
    learning_rates: tuple[float, ...]
    losses: tuple[LossRecord, ...] = ()
    activations: tuple[ActivationRecord, ...] = ()
    loss: float | None = None


@dataclass
class LoopRecord:
    """A training loop.

    Args:
        held: the names of the parameters that the optimizer holds.
        trainable: the names of the parameters of the network with ``requires_grad``.
        frozen: the names of those without.
        random_frozen: the names of frozen weights whose values are those of a random initialization.
        changing: the names of modules that behave differently in training and evaluation: dropout and batch norms.
        modes: whether the network was in training mode at each step; None where it was not called before the step.
        steps: the recorded steps, in order.
        taken: the number of steps that were taken.
        evaluations: the number of forward passes without gradients.
        maximize: whether the optimizer maximizes.
        batches: a number for the content of each batch, in order; equal batches have equal numbers.
    """

    held: frozenset[str] = frozenset()
    trainable: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    random_frozen: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()
    modes: Sequence[bool | None] = ()
    steps: list[StepRecord] = field(default_factory=list)
    taken: int = 0
    evaluations: int = 0
    maximize: bool = False
    batches: Sequence[float] = ()

    @property
    def losses(self) -> list[LossRecord]:
        """All recorded losses that were differentiated."""
        return [
            each for step in self.steps for each in step.losses if each.factor is not None or each.broadcasts
        ]
