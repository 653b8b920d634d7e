"""Settings of training that belong to no single method: gradient, regularisation, stopping, checkpoints, engine.

Each class is the one owner of its defaults. A recipe's section of the same name is read into it, and the
parts that use it take it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from descend.linalg.products import Library
from descend.nn.choice import Choice
from descend.param_types import Count, Fraction, Natural, NonNegative, Positive
from descend.training.denormals import Denormals

__all__ = [
    "CheckpointSettings",
    "Conditioned",
    "ConstrainSettings",
    "Constrained",
    "EngineSettings",
    "GradientSettings",
    "InitSettings",
    "OptimizerSettings",
    "RegularizeSettings",
    "StopSettings",
]


@dataclass(frozen=True, kw_only=True)
class GradientSettings:
    """What happens to the gradient between the loss and the optimizer.

    Args:
        accumulate: batches whose gradients are averaged into one step; the step equals that of one batch
            ``accumulate`` times as large, in less memory.
        clip_norm: the gradient is scaled so that its Euclidean norm over all parameters is at most this.
        clip_value: each component is limited to [-clip_value, clip_value].
    """

    accumulate: Count = 1
    clip_norm: Positive | None = None
    clip_value: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class RegularizeSettings:
    """What is added to the loss, or taken from the weights, against overfitting.

    Biases and the gains of normalisation layers are left alone by all of them.

    Args:
        weight_decay: decoupled decay: before each step w <- (1 - rate * weight_decay) w (AdamW's rule).
        l2: adds l2 * sum ||W||_F^2 to the loss (the lecture's Omega; its gradient is 2 * l2 * W).
        l1: adds l1 * sum |W| to the loss.
        l1_prox: after each step W <- sign(W) max(|W| - rate * l1_prox, 0), which makes weights exactly zero.
        jacobian: adds jacobian * mean over rows of ||J||_F^2, J the outputs' derivative by the inputs.
        jacobian_projections: random projections that estimate it without bias, one more pass backward each, or
            "exact".
        gradient_penalty: adds gradient_penalty * mean over rows of ||d loss / d x||^2.
        orthogonality: "so", "dso", "mc" or "srip", or a table with ``name`` and settings: a penalty of the layers'
            weights for not being orthonormal.
        orthogonality_strength: its factor.
    """

    weight_decay: NonNegative | Literal["auto"] = "auto"
    l2: NonNegative = 0.0
    l1: NonNegative = 0.0
    l1_prox: NonNegative = 0.0
    jacobian: NonNegative = 0.0
    jacobian_projections: Count | Literal["exact"] = 1
    gradient_penalty: NonNegative = 0.0
    orthogonality: Choice = "none"
    orthogonality_strength: NonNegative = 0.01


Constrained = str | tuple[str, ...] | dict[str, Any]
"""Names of weights as a pattern, several patterns, or a table with the key ``pattern`` and settings."""

Conditioned = str | tuple[str, ...] | dict[str, Any] | Callable[..., Any]
"""A function of the model as an import path or itself, several, or a table with the key ``function`` and settings."""


@dataclass(frozen=True, kw_only=True)
class ConstrainSettings:
    """Constraints that weights keep after every step, in averages of them, and in what is exported; and general conditions.

    Each of the first four keys is a constraint, its value a pattern of the names of weights (``"linear1.weight"``) or of
    the layers that hold them (``"linear*"``), several such patterns, or a table with the key ``pattern`` and the
    constraint's settings. A weight is held by one constraint at most.

    Args:
        orthogonal: orthonormal rows or columns; settings ``method`` and ``strength``.
        norm_ball: a bound of each unit's weights; settings ``radius``, ``norm`` and ``over``.
        simplex: weights of each unit that are not negative and have a fixed sum; settings ``total`` and ``over``.
        binary: weights of two values; setting ``scale``.
        inequality: a function c of the network that is to be at most 0, as an import path ``package.module:function``,
            several, or a table with the key ``function`` and the settings of :func:`descend.constraints.inequality`. It is
            met at the end, to a tolerance, and not at every step.
        equality: likewise a function that is to be 0.
    """

    orthogonal: Constrained | None = None
    norm_ball: Constrained | None = None
    simplex: Constrained | None = None
    binary: Constrained | None = None
    inequality: Conditioned | None = None
    equality: Conditioned | None = None


@dataclass(frozen=True, kw_only=True)
class InitSettings:
    """Keys of the init section that belong to no single scheme.

    Args:
        output_gain: factor of the output layer's initial weights; 0 starts every prediction at the same value, so
            that the first steps need not undo random ones.
        draw: which of the initial weights that the seed could give; split and order of the rows do not depend on it.
        restarts: networks trained from the draws 0, 1, ...; the one with the best monitored value on the validation
            rows is kept.
    """

    output_gain: NonNegative | Literal["auto"] = "auto"
    draw: Natural = 0
    restarts: Count = 1


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Keys of the optimizer section that belong to no single method.

    Args:
        groups: factors of the rate by pattern of the weights' names, such as {"conv*" = 0.1}; the first that matches a
            weight counts, and weights that none matches have the rate itself.
    """

    groups: Mapping[str, Positive] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StopSettings:
    """When to stop, and which weights to keep.

    The weights kept are those of the epoch with the best monitored value, the earliest of equals. Without
    validation rows there is nothing to choose by, and the last weights are kept.

    Args:
        max_epochs: passes over the training rows, at most.
        patience: epochs without a new best value after which training stops; "none" to never stop early.
        monitor: the value watched on the validation rows: "loss" or a metric of the task.
        max_seconds: training stops at the end of the epoch that passes this time.
        target: training stops once the monitored value is this good.
        gradient_tolerance: training stops once the norm of the gradient at an epoch's last step, before clipping, is at
            most this. With sampling = "full" it is the gradient of the objective; with batches that of one of them, whose noise
            keeps it from vanishing.
        min_improvement: a new best value must be better by this share of the old one. Above 0 it keeps earlier,
            simpler weights where later ones are hardly better.
        average: horizon, in epochs, of a moving average of the weights
            (:class:`descend.training.averaging.WeightAverage`) that is evaluated and kept in place of the last
            weights; 0 for none.
    """

    max_epochs: Count | Literal["auto"] = "auto"
    patience: Count | Literal["auto"] | None = "auto"
    monitor: str = "auto"
    max_seconds: Positive | None = None
    target: float | None = None
    gradient_tolerance: Positive | None = None
    min_improvement: Fraction | Literal["auto"] = "auto"
    average: NonNegative | Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How often the state of training is saved. A checkpoint is complete or absent, whatever happens.

    Args:
        every_epochs: a checkpoint is due at every so many epoch ends. One that would let checkpoints take
            more than a twentieth of the training time is put off, so that short epochs stay fast.
        every_seconds: a checkpoint is also due within an epoch once this much time has passed; 0 saves at
            every step.
    """

    every_epochs: Count = 1
    every_seconds: NonNegative = 60.0


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Where and how the arithmetic runs.

    Args:
        device: "auto" takes a CUDA device when there is one; else "cpu", "cuda", "cuda:1", ...
        precision: "float32", or "bfloat16" for automatic mixed precision (weights stay float32).
        threads: threads of the CPU's arithmetic; "auto" measures which number is fastest for this network
            and records it. A resumed run uses the recorded number: another one changes the last bits.
        products: the library that multiplies the matrices of large linear layers on the CPU, PyTorch's "blas" or
            "onednn"; "auto" takes the faster one for this processor and records it, as the last bits depend on it.
        denormals: "flush" takes numbers below the smallest normal one (1.2e-38 in float32) for zero on the CPU
            (:mod:`descend.training.denormals`): they are rounding left over, and slow on many processors. "keep" computes
            with them.
        workers: processes that load a torch ``Dataset``; 0 loads in the training process.
    """

    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Ge(1), Le(1024)] | Literal["auto"] = "auto"
    products: Library | Literal["auto"] = "auto"
    denormals: Denormals = "flush"
    workers: Natural = 0
