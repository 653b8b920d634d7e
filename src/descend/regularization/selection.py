"""The parameters of an optimizer that a regularizer applies to, by parameter group."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.optim import Optimizer

from descend.errors import UserError

__all__ = ["selected_by_group"]


def selected_by_group(
    optimizer: Optimizer, params: Iterable[Tensor], strength: float, name: str
) -> list[list[Tensor]]:
    """Return the selected parameters of each parameter group, in the order of the groups.

    Loading a state gives an optimizer new group dictionaries with the same parameters, so a step hook keeps these lists and
    reads the learning rates from the current groups.

    Args:
        optimizer: any optimizer.
        params: the selected parameters, each of which must be one of the optimizer's.
        strength: the strength of the regularizer, which must be at least 0.
        name: of the regularizer, for messages.

    Raises:
        UserError: ``strength`` is negative, or a parameter is not one of the optimizer's.
    """
    if not strength >= 0:
        raise UserError(f"{name} must be at least 0, got {strength}")
    selected = {id(p) for p in params}
    groups = [[p for p in group["params"] if id(p) in selected] for group in optimizer.param_groups]
    if sum(map(len, groups)) != len(selected):
        raise UserError(f"{name}: some of the parameters are not among the optimizer's")
    return groups
