"""Learning-rate factors: groups of parameters whose learning rate is a multiple of the base rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from descend.errors import Problem, RecipeError, UserError
from descend.training.transfer import matching

__all__ = ["apply_lr_factors", "split_by_lr_factor"]

Group = dict[str, Any]


def split_by_lr_factor(
    groups: Sequence[Group], model: nn.Module, factors: Mapping[str, float]
) -> tuple[list[Group], list[float]]:
    """Split parameter groups so that all parameters of a group have one factor; return the groups and their factors.

    Args:
        groups: dicts with the key ``params``, a list, and settings, which the pieces keep.
        model: the network, for the names of the parameters.
        factors: pattern → factor; patterns as in :func:`descend.training.transfer.matching`. The first pattern that matches a
            parameter applies; parameters that none matches have factor 1 and come first.

    Raises:
        RecipeError: a pattern matches no trainable parameter.

    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> groups, factors = split_by_lr_factor([{"params": list(model.parameters())}], model, {"0": 0.1})
    >>> [len(group["params"]) for group in groups], factors
    ([2, 2], [1.0, 0.1])
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    factor_of: dict[int, float] = {}
    for pattern, factor in factors.items():
        try:
            names = matching(pattern, list(trained))
        except UserError as cause:
            raise RecipeError(
                [Problem("optimizer", "groups", f"{cause}, among the trainable parameters")]
            ) from cause
        for name in names:
            factor_of.setdefault(id(trained[name]), float(factor))
    pieces: list[tuple[float, Group]] = []
    for group in groups:
        members: dict[float, list[Any]] = {}
        for p in group["params"]:
            members.setdefault(factor_of.get(id(p), 1.0), []).append(p)
        pieces += [(factor, {**group, "params": params}) for factor, params in members.items()]
    # The history records the learning rate of the first group.
    pieces.sort(key=lambda piece: piece[0] != 1.0)
    return [group for _, group in pieces], [factor for factor, _ in pieces]


def apply_lr_factors(optimizer: torch.optim.Optimizer, factors: Sequence[float]) -> None:
    """Multiply the learning rate of each group of a new optimizer by its factor.

    Raises:
        RecipeError: the optimizer has no learning rate, or changed the groups.
    """
    if all(factor == 1.0 for factor in factors):
        return
    name = type(optimizer).__name__
    if len(optimizer.param_groups) != len(factors) or not all(
        "lr" in group for group in optimizer.param_groups
    ):
        raise RecipeError(
            [Problem("optimizer", "groups", f"{name} does not have a learning rate for each parameter group")]
        )
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group["lr"] = group["lr"] * factor
