"""The space that is searched when none is given: the keys that matter most, around what the recipe resolves to."""

from __future__ import annotations

from typing import Any

from descend.experiments.search.space import Space
from descend.recipe import Recipe

__all__ = ["default_space"]

_ANY: dict[str, Any] = {
    "regularize.weight_decay": {"log_uniform": [1e-4, 0.3]},
    # A few sizes, and not all between: trials of one size are trained together.
    "data.batch_size": [32, 64, 128, 256],
}
_OF_MLP: dict[str, Any] = {
    "model.hidden": [(64, 64), (128, 128), (256, 256), (512, 512), (256, 256, 256)],
    "model.activation": ["relu", "silu", "gelu", "tanh"],
    "model.dropout": {"uniform": [0.0, 0.6]},
}
_REACH = 30.0
"""How far the rate goes up and down from the resolved one, as a factor."""


def default_space(asked: Recipe, resolved: Recipe) -> Space:
    """The learning rate, the weight decay and the batch size; of an MLP also widths, activation and dropout.

    Keys that the recipe says are left as they are said.

    Args:
        asked: what the recipe says.
        resolved: the same with every key filled in for the data.

    Raises:
        UserError: the recipe leaves nothing open that the default space would vary.
    """
    said: dict[str, Any] = {}
    rate = resolved.get("optimizer.lr")
    if isinstance(rate, float) and rate > 0:
        said["optimizer.lr"] = {"log_uniform": [rate / _REACH, rate * _REACH]}
    said |= _ANY
    if resolved.get("model.name") == "mlp":
        said |= _OF_MLP
    taken = asked.specified()
    return Space.of({key: value for key, value in said.items() if key not in taken}, source="default space")
