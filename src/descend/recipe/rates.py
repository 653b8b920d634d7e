"""Learning-rate groups: parts of a network that step at a share of the base rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from descend.errors import Problem, RecipeError, UserError
from descend.training.transfer import matching

__all__ = ["apply_factors", "split_by_factor"]

Group = dict[str, Any]


def split_by_factor(
    groups: Sequence[Group], model: nn.Module, factors: Mapping[str, float]
) -> tuple[list[Group], list[float]]:
    """Parameter groups in which all parameters have one factor, and that factor of each.

    Args:
        groups: dicts with ``params``, a list, and settings of their own, which the pieces keep.
        model: where the parameters have their names.
        factors: pattern → factor, as of :func:`descend.training.transfer.matching`. Of several that match a parameter the
            first counts; what none matches has factor 1 and comes first.

    Raises:
        RecipeError: a pattern matches no parameter that is trained.

    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> groups, found = split_by_factor([{"params": list(model.parameters())}], model, {"0": 0.1})
    >>> [len(group["params"]) for group in groups], found
    ([2, 2], [1.0, 0.1])
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    factor_of: dict[int, float] = {}
    for pattern, factor in factors.items():
        try:
            names = matching(pattern, list(trained))
        except UserError as cause:
            raise RecipeError(
                [Problem("optimizer", "groups", f"{cause}, of those that are trained")]
            ) from cause
        for name in names:
            factor_of.setdefault(id(trained[name]), float(factor))
    pieces: list[tuple[float, Group]] = []
    for group in groups:
        members: dict[float, list[Any]] = {}
        for p in group["params"]:
            members.setdefault(factor_of.get(id(p), 1.0), []).append(p)
        pieces += [(factor, {**group, "params": params}) for factor, params in members.items()]
    # The first group's rate is the one that the history shows.
    pieces.sort(key=lambda piece: piece[0] != 1.0)
    return [group for _, group in pieces], [factor for factor, _ in pieces]


def apply_factors(optimizer: torch.optim.Optimizer, factors: Sequence[float]) -> None:
    """Multiply the rate of each group of a fresh optimizer by its factor.

    Raises:
        RecipeError: the optimizer has no rate, or made other groups of its own.
    """
    if all(factor == 1.0 for factor in factors):
        return
    name = type(optimizer).__name__
    if len(optimizer.param_groups) != len(factors) or not all(
        "lr" in group for group in optimizer.param_groups
    ):
        raise RecipeError(
            [Problem("optimizer", "groups", f"{name} has no rate for each group of parameters")]
        )
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        group["lr"] = group["lr"] * factor
