"""The sections of a recipe, each with the settings dataclass or the family of constructors that declares its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, get_origin

from descend.constraints.settings import ConstrainSettings
from descend.data.settings import DataSettings
from descend.param_types import MISSING, Parameter, of_constructor
from descend.recipe.catalogue import CATALOGUE, Constructor, find
from descend.recipe.defaults import DEFAULTS
from descend.recipe.parameters import of_settings
from descend.recipe.section_settings import InitSettings, ModelSettings, OptimizerSettings
from descend.regularization.settings import RegularizeSettings
from descend.training.arithmetic import EngineSettings
from descend.training.checkpoint import CheckpointSettings
from descend.training.clipping import GradientSettings
from descend.training.stopping import StopSettings

__all__ = [
    "SECTIONS",
    "Section",
    "any_parameters",
    "choice_parameters",
    "constructor_parameters",
    "section_parameters",
]


@dataclass(frozen=True)
class Section:
    """One design choice of training.

    Args:
        name: its name in a recipe.
        about: a short description.
        settings: the frozen dataclass that declares the keys which do not depend on ``name``.
        context: parameters of its constructors that the builder supplies.
        catalogue_context: further parameters that it supplies to constructors of the catalogue, but not to those of an import
            path.
    """

    name: str
    about: str
    settings: type | None = None
    context: tuple[str, ...] = ()
    catalogue_context: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the section chooses a constructor from the catalogue by ``name``."""
        return self.name in CATALOGUE


SECTIONS: Mapping[str, Section] = {
    section.name: section
    for section in [
        Section("data", "the data, and how they are split, scaled and batched", DataSettings),
        Section("model", "which network", ModelSettings, ("inputs", "outputs"), ("link",)),
        Section("loss", "what is minimized", None, ()),
        Section("init", "how the weights are initialized", InitSettings),
        Section(
            "optimizer",
            "which direction a step takes",
            OptimizerSettings,
            ("params", "model", "likelihood", "seed", "products"),
            (
                "weight_decay",
                "maximize",
                "foreach",
                "capturable",
                "differentiable",
                "decoupled_weight_decay",
                "orthonormal",
                "use_muon",
            ),
        ),
        Section(
            "schedule",
            "how the learning rate changes during training",
            None,
            ("steps_per_epoch", "total_steps", "optimizer"),
        ),
        Section("gradient", "what is done to the gradient before the step", GradientSettings),
        Section("regularize", "what counters overfitting", RegularizeSettings),
        Section("constrain", "which sets the weights stay in", ConstrainSettings),
        Section("stop", "when training stops, and which weights are kept", StopSettings),
        Section("checkpoint", "how often the state is saved", CheckpointSettings),
        Section("engine", "where and how the arithmetic runs", EngineSettings),
    ]
}
"""The sections by name, in the order in which a recipe is written and resolved."""


def section_parameters(
    section: Section, name: str | Constructor | None = None
) -> dict[str, Parameter] | None:
    """Return every key of a section except ``name``; None where the constructor takes any key.

    >>> "lr" in section_parameters(SECTIONS["optimizer"], "adam")
    True
    """
    parameters: dict[str, Parameter] = of_settings(section.settings) if section.settings else {}
    if section.named and name is not None and name != "auto":
        method_parameters = constructor_parameters(section, name)
        if method_parameters is None:
            return None
        parameters |= method_parameters
    return parameters


def constructor_parameters(section: Section, name: str | Constructor) -> dict[str, Parameter] | None:
    """Return the keys of a section that belong to the constructor of a name, with a recipe's own defaults.

    None where the constructor takes any key.

    >>> parameters = constructor_parameters(SECTIONS["optimizer"], "sgd")
    >>> parameters["lr"].default, "weight_decay" in parameters
    (0.05, False)
    """
    constructor = find(section.name, name)
    known = next((key for key, each in CATALOGUE[section.name].items() if each is constructor), None)
    parameters = of_constructor(constructor, section.context + (section.catalogue_context if known else ()))
    if parameters is None:
        return None
    defaults = DEFAULTS.get((section.name, known), {})
    return {
        key: replace(each, default=defaults[key]) if key in defaults else each
        for key, each in parameters.items()
    }


def any_parameters(section: Section) -> dict[str, Parameter]:
    """Return the keys of every method of a section: those that may be set while ``name`` is left to "auto"."""
    parameters = section_parameters(section) or {}
    for name in CATALOGUE.get(section.name, {}):
        for key, parameter in (section_parameters(section, name) or {}).items():
            known = parameters.setdefault(key, parameter)
            # Methods may give a key other choices; where only the bounds of a number differ, the first ones are used.
            if known.annotation != parameter.annotation and get_origin(parameter.annotation) is not Annotated:
                parameters[key] = replace(known, annotation=known.annotation | parameter.annotation)
    return parameters


def choice_parameters(constructor: Constructor) -> dict[str, Parameter] | None:
    """Return the settings of a method that a key of a section names; None where the constructor takes any key.

    Parameters without a default are supplied by the builder.
    """
    parameters = of_constructor(constructor, ())
    if parameters is None:
        return None
    return {key: parameter for key, parameter in parameters.items() if parameter.default is not MISSING}
