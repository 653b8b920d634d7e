"""The default search space: the most influential keys, around the values that the recipe resolves to."""

from __future__ import annotations

from typing import Any

from descend.experiments.search.space import Space
from descend.recipe import Recipe

__all__ = ["default_space"]

_GENERAL: dict[str, Any] = {
    "regularize.weight_decay": {"log_uniform": [1e-4, 0.3]},
    # A few sizes rather than a range: only trials of equal batch size can be trained together.
    "data.batch_size": [32, 64, 128, 256],
}
_MLP: dict[str, Any] = {
    "model.hidden": [(64, 64), (128, 128), (256, 256), (512, 512), (256, 256, 256)],
    "model.activation": ["relu", "silu", "gelu", "tanh"],
    "model.dropout": {"uniform": [0.0, 0.6]},
}
_LR_FACTOR = 30.0
"""The learning rate varies from 1/30 to 30 times its resolved value."""


def default_space(specified: Recipe, resolved: Recipe) -> Space:
    """Return the default space: learning rate, weight decay and batch size; for MLPs also widths, activation, dropout.

    Keys that the recipe sets are not varied.

    Args:
        specified: the recipe as the user gave it.
        resolved: the same recipe with every key resolved for the data.

    Raises:
        UserError: the recipe sets every key that the default space would vary.
    """
    entries: dict[str, Any] = {}
    lr = resolved.get("optimizer.lr")
    if isinstance(lr, float) and lr > 0:
        entries["optimizer.lr"] = {"log_uniform": [lr / _LR_FACTOR, lr * _LR_FACTOR]}
    entries |= _GENERAL
    if resolved.get("model.name") == "mlp":
        entries |= _MLP
    fixed = specified.specified()
    return Space.of(
        {key: entry for key, entry in entries.items() if key not in fixed}, source="default space"
    )
