"""The catalogue: for each section of the recipe, the names of methods and their constructors.

A method is one file and one line: the file contains the constructor with its defaults and its card
(:mod:`descend.cards`), and the family's dict, collected here, gives it a name. Everything else is derived: the valid
keys of a recipe, the output of ``descend methods``, the dimensions of a search.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from descend.arguments import kind_of
from descend.augmentation import AUGMENTATIONS
from descend.cards import Card, card
from descend.constraints import CONDITIONS, CONSTRAINTS
from descend.data.category_encoding import CATEGORY_ENCODINGS
from descend.data.scaling import SCALES
from descend.data.target_transform import TARGET_SCALES
from descend.errors import UserError, did_you_mean
from descend.losses import LOSSES
from descend.losses.functions import constructor_of
from descend.nn import (
    ACTIVATIONS,
    CATEGORY_EMBEDDINGS,
    INITS,
    MODELS,
    NORMS,
    NUMBER_EMBEDDINGS,
    OUTPUTS,
    TextEmbedding,
)
from descend.nn.calibration import CALIBRATIONS
from descend.nn.greedy import greedy
from descend.optim import OPTIMIZERS, WRAPPERS
from descend.regularization import (
    ORTHOGONALITIES,
    gradient_penalty,
    jacobian_penalty,
    l1_penalty,
    l1_prox,
    l2_penalty,
    weight_decay,
)
from descend.schedules import SCHEDULES

__all__ = [
    "CATALOGUE",
    "CHOICES",
    "KEYS",
    "PENALTIES",
    "Entry",
    "entries",
    "find",
    "import_object",
    "is_import_path",
]

Constructor = Callable[..., Any]

CATALOGUE: Mapping[str, Mapping[str, Constructor]] = {
    "model": MODELS,
    "loss": LOSSES,
    "init": INITS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""Sections in which ``name`` chooses a constructor."""

CHOICES: Mapping[tuple[str, str], Mapping[str, Constructor]] = {
    ("data", "scale"): SCALES,
    ("data", "categories"): CATEGORY_ENCODINGS,
    ("data", "target_scale"): TARGET_SCALES,
    ("data", "augment"): AUGMENTATIONS,
    ("model", "activation"): ACTIVATIONS,
    ("model", "norm"): NORMS,
    ("model", "output"): OUTPUTS,
    ("model", "calibration"): CALIBRATIONS,
    ("model", "number_embedding"): NUMBER_EMBEDDINGS,
    ("model", "category_embedding"): CATEGORY_EMBEDDINGS,
    ("regularize", "orthogonality"): ORTHOGONALITIES,
}
"""Keys of a section, other than ``name``, whose value is a name from a family, or a list of such names."""

PENALTIES: Mapping[str, Constructor] = {
    "weight_decay": weight_decay,
    "l2": l2_penalty,
    "l1": l1_penalty,
    "l1_prox": l1_prox,
    "jacobian": jacobian_penalty,
    "gradient_penalty": gradient_penalty,
}

KEYS: Mapping[str, Mapping[str, Constructor]] = {
    "model": {"text_dimension": TextEmbedding, "ensemble_selection": greedy},
    "optimizer": WRAPPERS,
    "regularize": PENALTIES,
    "constrain": {**CONSTRAINTS, **CONDITIONS},
}
"""Sections in which a key is itself a method; its value is the strength or size, or what the method is applied to."""


@dataclass(frozen=True)
class Entry:
    """One method of the catalogue: the section and key that choose it, its name and its constructor."""

    section: str
    key: str
    name: str
    constructor: Constructor

    @property
    def is_key(self) -> bool:
        """Whether the method is itself a key of its section, rather than a value of one."""
        return self.key in KEYS.get(self.section, {})

    @property
    def card(self) -> Card:
        """The method's card; an empty one where the constructor has none."""
        return card(self.constructor) or Card(row="", reference="")


def entries() -> Iterator[Entry]:
    """Yield every entry of the catalogue, section by section.

    >>> any(entry.name == "adam" and entry.section == "optimizer" for entry in entries())
    True
    """
    families = {(section, "name"): family for section, family in CATALOGUE.items()} | dict(CHOICES)
    for (section, key), family in families.items():
        for name, constructor in family.items():
            yield Entry(section, key, name, constructor)
    for section, methods in KEYS.items():
        for name, constructor in methods.items():
            yield Entry(section, name, name, constructor)


def is_import_path(name: str) -> bool:
    """Whether a name is the path of an importable object, ``package.module:Class`` or ``package.Class``.

    >>> is_import_path("torch.optim.NAdam"), is_import_path("mine:Net"), is_import_path("adam")
    (True, True, False)
    """
    head, _, tail = name.replace(":", ".", 1).rpartition(".")
    return bool(head) and all(part.isidentifier() for part in [*head.split("."), tail])


def import_object(path: str) -> Any:
    """Import the object at an import path; the current directory is searched as well.

    Raises:
        UserError: the module or the object in it does not exist, or importing it fails.

    >>> import_object("torch.nn:Linear").__name__
    'Linear'
    """
    module_name, _, attribute = path.rpartition(":") if ":" in path else path.rpartition(".")
    searched = "" in sys.path
    if not searched:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except Exception as cause:
        raise UserError(
            f"cannot import '{module_name}' for '{path}': {type(cause).__name__}: {cause}"
        ) from cause
    finally:
        if not searched and "" in sys.path:
            sys.path.remove("")
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            public = [name for name in vars(module) if not name.startswith("_")]
            raise UserError(f"'{module_name}' has no '{attribute}'; {did_you_mean(attribute, public)}")
        target = getattr(target, part)
    return target


def _family(section: str, key: str) -> Mapping[str, Constructor]:
    if key in KEYS.get(section, {}):
        return KEYS[section]
    return CATALOGUE[section] if key == "name" else CHOICES[section, key]


def find(section: str, name: str | Constructor, key: str = "name") -> Constructor:
    """Return the constructor for a name of the catalogue, an import path, or a callable, which is returned itself.

    A function that computes a loss is returned as a constructor of it (:func:`descend.losses.functions.constructor_of`).

    Raises:
        UserError: there is no such name.
    """
    if callable(name):
        return constructor_of(name) if section == "loss" else name
    family = _family(section, key)
    if name in family:
        return family[name]
    if is_import_path(name):
        imported = import_object(name)
        if not callable(imported):
            raise UserError(f"'{name}' is {kind_of(imported)}, not a class or function")
        constructor: Constructor = constructor_of(imported) if section == "loss" else imported
        return constructor
    raise UserError(f"no such {section if key == 'name' else key} '{name}'; {did_you_mean(name, family)}")
