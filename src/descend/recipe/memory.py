"""Whether the networks of a recipe fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from descend.errors import Problem, RecipeError
from descend.process.memory import size_text, total_memory
from descend.recipe.catalogue import Constructor
from descend.recipe.construct import call

__all__ = ["check_memory", "check_size", "integers"]

BYTES_PER_PARAMETER = 16
"""Weight, gradient, and two moments of Adam in float32."""

BYTES_PER_WEIGHT = 4

BYTES_PER_NETWORK = 10_000
"""The least size of a network as Python objects."""


def check_size(
    constructor: Constructor, context: Mapping[str, Any], settings: Mapping[str, Any], device: str
) -> None:
    """Refuse a model of the catalogue that does not fit into the memory of this machine, before it is built.

    A system that promises more memory than it has ends the process when the memory is used, without a message. So the
    weights are counted first, by building the model without storage. This is skipped if a bound on their number is small.

    Args:
        constructor: the constructor of the model.
        context: the arguments that the data determine.
        settings: the settings of the recipe.
        device: where training runs; gradients and moments are there.

    Raises:
        RecipeError: the model needs more than there is.
    """
    memory = total_memory()
    if memory is None:
        return
    widths = [*integers(settings), math.prod(context["inputs"]), context["outputs"]]
    if BYTES_PER_PARAMETER * len(widths) * max(widths) ** 2 < memory / 8:
        return
    with torch.device("meta"):
        weights = sum(p.numel() for p in call("model", constructor, context, settings).parameters())
    each = BYTES_PER_PARAMETER if device == "cpu" else BYTES_PER_WEIGHT
    if each * weights > memory:
        needed = f"a network of {weights:,} parameters needs {size_text(each * weights)}"
        message = f"{needed}, and this machine has {size_text(memory)}"
        raise RecipeError([Problem("model", None, message, "use smaller or fewer layers")])


def integers(settings: object) -> Iterator[int]:
    """Yield the integers in settings, also within tables and lists."""
    if isinstance(settings, Mapping):
        for value in settings.values():
            yield from integers(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from integers(value)
    elif isinstance(settings, int):
        yield settings


def check_memory(network: nn.Module, count: int, section: str, key: str) -> None:
    """Refuse more networks than fit into the memory of this machine.

    Args:
        network: one of the networks.
        count: the number of networks.
        section: the section of the recipe that specifies the number.
        key: the key in this section.

    Raises:
        RecipeError: the networks need more than there is.
    """
    memory = total_memory()
    weights = sum(p.numel() for p in network.parameters())
    size = count * max(BYTES_PER_NETWORK, BYTES_PER_PARAMETER * weights)
    if memory is not None and size > memory:
        message = (
            f"{count:,} networks need {size_text(size)} or more, and this machine has {size_text(memory)}"
        )
        raise RecipeError([Problem(section, key, message, "use fewer or smaller networks")])
