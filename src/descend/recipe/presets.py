"""Presets: the networks that are trained where a recipe leaves the model open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from descend.constraints.settings import ConstrainSettings
from descend.recipe.parameters import of_settings
from descend.recipe.section_settings import InitSettings, ModelSettings, OptimizerSettings
from descend.regularization.settings import RegularizeSettings
from descend.training.clipping import GradientSettings
from descend.training.stopping import StopSettings

__all__ = ["GOOD_FOR_TABLES", "default_preset", "members_of_preset", "specifies"]

_LIGHT: Mapping[str, Any] = {
    "model.dropout": 0.1,
    "regularize.weight_decay": 0.02,
    "optimizer.lr": 0.002,
}
_FAST: Mapping[str, Any] = {"model.dropout": 0.2, "regularize.weight_decay": 0.01, "optimizer.lr": 0.004}

GOOD_FOR_TABLES: Sequence[Mapping[str, Any]] = (
    {},
    {"model.number_embedding": "piecewise_linear", **_FAST},
    {"model.number_embedding": "periodic", **_LIGHT},
)
"""The members of the preset "good" on tables: the numbers as they are, in bins, and as waves, with three learning rates."""

MANY_NUMBERS = 32
"""Numbers per row from which on their embeddings are half as wide, since they would cost more than the network."""

_NARROW: Mapping[str, Mapping[str, Any]] = {
    "piecewise_linear": {"name": "piecewise_linear", "bins": 8},
    "periodic": {"name": "periodic", "frequencies": 8, "dimension": 2},
}

TRAINING = ("loss", "init", "optimizer", "schedule", "gradient", "regularize", "constrain", "stop")
"""Sections about the network's training, in addition to ``model``. The others are about the data and the machine."""

_SETTINGS: Mapping[str, Any] = {
    "model": ModelSettings,
    "init": InitSettings,
    "optimizer": OptimizerSettings,
    "gradient": GradientSettings,
    "regularize": RegularizeSettings,
    "constrain": ConstrainSettings,
    "stop": StopSettings,
}

OPEN = ("model.preset", "model.calibration", "model.distill", "stop.metrics", "stop.refit")
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
        for key, value in specified.get(section, {}).items():
            path = f"{section}.{key}"
            if path not in OPEN and specifies(specified, path) and not _is_default(section, key, value):
                return (
                    "quick",
                    f"the recipe specifies {path}, and the one network that it describes is trained",
                )
    if specifies(specified, "data.augment") and specified["data"]["augment"]:
        return "quick", "the recipe specifies data.augment, and the one network that it describes is trained"
    if not validated:
        return "quick", "there are no validation rows on which the networks of an ensemble are selected"
    return (
        "good",
        "the recipe leaves the network and its training open, and a mean of different networks is better",
    )


def ensemble_proposals(
    preset: str, specified: Mapping[str, Mapping[str, Any]], *, numbers: int
) -> dict[str, tuple[Any, str]]:
    """Return the networks of a preset and how they are combined: the values of the keys of ``model``, each with its reason.

    Args:
        preset: "quick", "good" or "best".
        specified: the specified values by section. Members that are specified are those of the ensemble.
        numbers: how many numbers a row has that can be embedded.

    >>> ensemble_proposals("quick", {}, numbers=4)["ensemble"][0], ensemble_proposals("good", {}, numbers=4)["ensemble"][0]
    (1, 3)
    """
    own = specified.get("model", {}).get("members", ()) if specifies(specified, "model.members") else None
    if preset not in ("good", "best") or own is not None:
        count = len(own or ())
        return {
            "members": ((), "one network"),
            "ensemble": (count or 1, "as many as there are members, or one network"),
            "ensemble_shrinkage": (0.0, "the weights as selected"),
        }
    members = members_of_preset(specified, numbers=numbers)
    why = f"the preset {preset}: networks that differ, selected on the validation rows"
    return {
        "members": (members, why),
        "ensemble": (len(members), why),
        "ensemble_shrinkage": (
            0.5,
            "weights selected on few validation rows are noisy; equal weights are not",
        ),
    }


def members_of_preset(
    specified: Mapping[str, Mapping[str, Any]], *, numbers: int = 1
) -> tuple[dict[str, Any], ...]:
    """Return the members of the preset "good", each once, without the keys that the recipe specifies.

    Args:
        specified: the specified values by section.
        numbers: how many numbers a row has that can be embedded. Default 1.

    >>> len(members_of_preset({})), members_of_preset({"optimizer": {"lr": 0.1}}, numbers=0)[1]
    (3, {'model.dropout': 0.2, 'regularize.weight_decay': 0.01})
    """
    open_keys = [
        {
            path: _NARROW[value] if path == "model.number_embedding" and numbers > MANY_NUMBERS else value
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


def _is_default(section: str, key: str, value: Any) -> bool:
    """Whether a value is the one that the key has anyway, whatever the data."""
    own = of_settings(_SETTINGS[section]).get(key) if section in _SETTINGS else None
    return own is not None and type(own.default) is type(value) and bool(own.default == value)
