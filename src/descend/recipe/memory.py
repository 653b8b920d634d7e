"""Whether the networks of a recipe fit into memory."""

from __future__ import annotations

from torch import nn

from descend.errors import Problem, RecipeError
from descend.process.memory import size_text, total_memory

__all__ = ["check_memory"]

BYTES_PER_PARAMETER = 16
"""Weight, gradient, and two moments of Adam in float32."""

BYTES_PER_NETWORK = 10_000
"""The least size of a network as Python objects."""


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
