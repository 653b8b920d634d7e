"""Presets: the networks that are trained where a recipe leaves the model open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["GOOD_FOR_TABLES", "default_preset", "members_of_preset"]

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


TRAINING = ("loss", "init", "optimizer", "schedule", "gradient", "regularize", "constrain", "stop")
"""Sections about the network's training, in addition to ``model``. The others are about the data and the machine."""

OPEN = ("model.preset", "model.calibration", "stop.metrics", "stop.refit")
"""Keys of these sections that do not change how a network is trained."""


def default_preset(
    specified: Mapping[str, Mapping[str, Any]], *, rows_are_vectors: bool, validated: bool
) -> tuple[str, str]:
    """Return the preset of a recipe that does not specify one, and the reason.

    Nothing that a recipe specifies is replaced: a recipe with a setting of the network or of its training trains the one
    network that it describes.

    Args:
        specified: the specified values by section.
        rows_are_vectors: whether the rows are a table or vectors in memory.
        validated: whether there are validation rows.

    >>> default_preset({"data": {"scale": "robust"}}, rows_are_vectors=True, validated=True)[0]
    'good'
    >>> default_preset({"optimizer": {"lr": 0.1}}, rows_are_vectors=True, validated=True)
    ('quick', 'the recipe specifies optimizer.lr, and the one network that it describes is trained')
    """
    if not rows_are_vectors:
        return "quick", "ensembles are chosen by default for tables and vectors in memory only"
    for section in ("model", *TRAINING):
        for key in specified.get(section, {}):
            path = f"{section}.{key}"
            if path not in OPEN and _specifies(specified, path):
                return (
                    "quick",
                    f"the recipe specifies {path}, and the one network that it describes is trained",
                )
    if _specifies(specified, "data.augment") and specified["data"]["augment"]:
        return "quick", "the recipe specifies data.augment, and the one network that it describes is trained"
    if not validated:
        return "quick", "there are no validation rows on which the networks of an ensemble are selected"
    return (
        "good",
        "the recipe leaves the network and its training open, and a mean of different networks is better",
    )


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
            if not _specifies(specified, path) and (numbers or path != "model.number_embedding")
        }
        for member in GOOD_FOR_TABLES
    ]
    return tuple(each for at, each in enumerate(open_keys) if each not in open_keys[:at])


def _specifies(specified: Mapping[str, Mapping[str, Any]], path: str) -> bool:
    section, _, key = path.partition(".")
    value = specified.get(section, {}).get(key, "auto")
    return not (isinstance(value, str) and value == "auto")
