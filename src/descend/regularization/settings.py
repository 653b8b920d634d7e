"""The [regularize] section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from descend.nn.choice import Choice
from descend.param_types import Count, NonNegative

__all__ = ["RegularizeSettings", "SettingSchedule"]

SettingSchedule = Literal["constant", "flat_cosine", "cosine", "coslog4"]
"""The schedule of a setting, by its name: a function of the share of the training that is done."""


@dataclass(frozen=True, kw_only=True)
class RegularizeSettings:
    """Penalties added to the loss, and shrinkage applied to the weights, against overfitting.

    None of them applies to biases or to the weights of normalization layers.

    Args:
        weight_decay: decoupled decay: before each step w <- (1 - lr * weight_decay) w (AdamW's rule).
        weight_decay_schedule: a schedule of weight_decay over the training, of ``stop.max_epochs`` epochs: "constant",
            "flat_cosine", "cosine" or "coslog4", each as the schedule of that name. The learning rate multiplies it as well.
        l2: adds l2 * sum ||W||_F^2 to the loss; its gradient is 2 * l2 * W.
        l1: adds l1 * sum |W| to the loss.
        l1_prox: after each step W <- sign(W) max(|W| - t * l1_prox, 0), which makes weights exactly zero; t is the learning
            rate, for adaptive optimizers divided by the root of the average squared gradient.
        jacobian: adds jacobian * mean over rows of ||J||_F^2, where J is the Jacobian of the outputs with respect to the
            inputs.
        jacobian_projections: the number of random projections that estimate it without bias, each of which costs one
            backward pass, or "exact".
        gradient_penalty: adds gradient_penalty * mean over rows of ||d loss / d x||^2.
        orthogonality: "so", "dso", "mc" or "srip", or a table with ``name`` and settings: a penalty on the deviation of
            the layers' weights from orthonormality.
        orthogonality_strength: its factor.
    """

    weight_decay: NonNegative | Literal["auto"] = "auto"
    weight_decay_schedule: SettingSchedule = "constant"
    l2: NonNegative = 0.0
    l1: NonNegative = 0.0
    l1_prox: NonNegative = 0.0
    jacobian: NonNegative = 0.0
    jacobian_projections: Count | Literal["exact"] = 1
    gradient_penalty: NonNegative = 0.0
    orthogonality: Choice = "none"
    orthogonality_strength: NonNegative = 0.01
