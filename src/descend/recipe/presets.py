"""Presets: the networks that are trained where a recipe leaves the model open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["GOOD_FOR_TABLES", "members_of_preset", "specifies"]

_PIECEWISE: Mapping[str, Any] = {"model.number_embedding": "piecewise_linear"}
_PERIODIC: Mapping[str, Any] = {"model.number_embedding": "periodic"}
_LIGHT: Mapping[str, Any] = {
    "model.dropout": 0.1,
    "regularize.weight_decay": 0.02,
    "optimizer.lr": 0.002,
}
_FAST: Mapping[str, Any] = {"model.dropout": 0.2, "regularize.weight_decay": 0.01, "optimizer.lr": 0.004}

GOOD_FOR_TABLES: Sequence[Mapping[str, Any]] = (
    {},
    _PIECEWISE,
    _LIGHT,
    {**_PIECEWISE, **_LIGHT},
    {**_PIECEWISE, **_FAST},
    {**_PERIODIC, **_LIGHT},
)
"""The members of the preset "good" on tables: with and without embeddings of numbers, and with three strengths of
regularization and learning rates."""


def members_of_preset(
    specified: Mapping[str, Mapping[str, Any]], *, numbers: bool = True
) -> tuple[dict[str, Any], ...]:
    """Return the members of the preset "good", each once, without the keys that the recipe specifies.

    Args:
        specified: the specified values by section.
        numbers: whether the rows contain numbers, which can be embedded. Default True.

    >>> len(members_of_preset({})), members_of_preset({"optimizer": {"lr": 0.1}})[2]
    (6, {'model.dropout': 0.1, 'regularize.weight_decay': 0.02})
    """
    open_keys = [
        {
            path: value
            for path, value in member.items()
            if not specifies(specified, path) and (numbers or path != "model.number_embedding")
        }
        for member in GOOD_FOR_TABLES
    ]
    return tuple(each for at, each in enumerate(open_keys) if each not in open_keys[:at])


def specifies(specified: Mapping[str, Mapping[str, Any]], path: str) -> bool:
    """Return whether a recipe specifies a key, by its path, and not only as "auto"."""
    section, _, key = path.partition(".")
    value = specified.get(section, {}).get(key, "auto")
    return not (isinstance(value, str) and value == "auto")
