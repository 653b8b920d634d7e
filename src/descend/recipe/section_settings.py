"""Keys of the sections that choose a method by name, where the keys belong to no single method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from descend.param_types import Count, Natural, NonNegative, Positive

__all__ = ["InitSettings", "ModelSettings", "OptimizerSettings"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Keys of the model section that belong to no single architecture.

    Args:
        output: the output activation, which turns raw outputs into predictions; "auto" follows from the task.
        ensemble: the number of networks whose mean prediction is the prediction. Their initial weights are the random
            samples 0, 1, ... under the seed; with more ``init.restarts``, the best of these on the validation rows.
        pretrained: a file of weights, or the folder of a run, from which training starts. Tensors are matched by name; the
            inputs are scaled by the new data's statistics.
        pretrained_head: what happens to the last layer: "auto" initializes it again where its shape differs, as with
            other classes, "replace" always does, "keep" never.
        freeze: patterns of names of weights or modules that are not trained, such as "conv*"; running statistics of
            frozen modules are not updated either.
        text_dimension: the size of the learned embedding of a text column (:class:`descend.nn.TextEmbedding`).
    """

    output: str = "auto"
    ensemble: Count = 1
    pretrained: str | None = None
    pretrained_head: Literal["auto", "keep", "replace"] = "auto"
    freeze: str | tuple[str, ...] = ()
    text_dimension: Count = 32


@dataclass(frozen=True, kw_only=True)
class InitSettings:
    """Keys of the init section that belong to no single scheme.

    Args:
        output_gain: factor of the output layer's initial weights; 0 gives every prediction the same initial value, so
            that the first steps need not undo random ones.
        draw: index of the random sample of initial weights under this seed; the split and the order of the rows do
            not depend on it.
        restarts: the number of networks trained, from the samples 0, 1, ...; the one with the best monitored value
            on the validation rows is kept.
    """

    output_gain: NonNegative | Literal["auto"] = "auto"
    draw: Natural = 0
    restarts: Count = 1


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Keys of the optimizer section that belong to no single method.

    Args:
        groups: factors of the learning rate by pattern of the weights' names, such as {"conv*" = 0.1}; the first pattern
            that matches a weight applies, and weights that none matches have the learning rate itself.
        sam: sharpness-aware minimization with this distance rho, around the optimizer (:class:`descend.optim.SAM`), or a
            table such as {rho = 0.5, adaptive = true}; 0 is none. Each step costs two gradients.
        lookahead: Lookahead with this number of steps, around the optimizer (:class:`descend.optim.Lookahead`), or a table
            such as {steps = 5, alpha = 0.5}; 0 is none.
    """

    groups: Mapping[str, Positive] = field(default_factory=dict)
    sam: NonNegative | Mapping[str, Any] | None = None
    lookahead: Natural | Mapping[str, Any] | None = None
