"""The sections of a recipe, in the order in which the lecture asks the questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from descend.constraints.settings import ConstrainSettings
from descend.data.settings import DataSettings
from descend.param_types import Count, Natural, NonNegative, Positive
from descend.recipe.catalogue import CATALOGUE, Constructor, find
from descend.recipe.parameters import Parameter, of_constructor, of_settings
from descend.regularization.settings import RegularizeSettings
from descend.training.arithmetic import EngineSettings
from descend.training.checkpoint import CheckpointSettings
from descend.training.clipping import GradientSettings
from descend.training.stopping import StopSettings

__all__ = ["SECTIONS", "Section", "section_parameters"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Keys of the model section that belong to no single architecture.

    Args:
        output: what turns the last layer into a prediction; "auto" follows from the task.
        ensemble: networks, from as many draws of the initial weights, whose mean prediction is the prediction; with
            more ``init.restarts`` the best of these by validation.
        pretrained: a file of weights, or the folder of a run, that training starts from. Tensors are matched by name; the
            inputs are scaled by the new data's statistics.
        pretrained_head: what becomes of the last layer: "auto" starts it anew where its shape differs, as with other
            classes, "replace" always, "keep" never.
        freeze: patterns of names of weights or modules that are held fixed, such as "conv*"; running statistics of what
            is frozen are held fixed too.
    """

    output: str = "auto"
    ensemble: Count = 1
    pretrained: str | None = None
    pretrained_head: Literal["auto", "keep", "replace"] = "auto"
    freeze: str | tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InitSettings:
    """Keys of the init section that belong to no single scheme.

    Args:
        output_gain: factor of the output layer's initial weights; 0 gives every prediction the same initial value, so
            that the first steps need not undo random ones.
        draw: index of the random sample of initial weights under this seed; the split and the order of the rows do
            not depend on it.
        restarts: the number of networks trained, from the samples 0, 1, ...; the one with the best monitored value
            on the validation rows is kept.
    """

    output_gain: NonNegative | Literal["auto"] = "auto"
    draw: Natural = 0
    restarts: Count = 1


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Keys of the optimizer section that belong to no single method.

    Args:
        groups: factors of the learning rate by pattern of the weights' names, such as {"conv*" = 0.1}; the first pattern
            that matches a weight applies, and weights that none matches have the learning rate itself.
    """

    groups: Mapping[str, Positive] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """One design choice.

    Args:
        name: its name in a recipe.
        about: the question it answers.
        settings: the frozen dataclass that owns keys which do not depend on a name.
        context: parameters of its constructors that the builder supplies.
    """

    name: str
    about: str
    settings: type | None = None
    context: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the section chooses a constructor from the catalogue by ``name``."""
        return self.name in CATALOGUE


SECTIONS: Mapping[str, Section] = {
    section.name: section
    for section in [
        Section("data", "what is learned from, how it is split, scaled and batched", DataSettings),
        Section("model", "which network", ModelSettings, ("inputs", "outputs")),
        Section("loss", "what is minimised", None, ()),
        Section("init", "where to start", InitSettings),
        Section(
            "optimizer",
            "which direction",
            OptimizerSettings,
            ("params", "model", "likelihood", "seed", "products"),
        ),
        Section("schedule", "which step size", None, ("steps_per_epoch", "total_steps", "optimizer")),
        Section("gradient", "what happens to the gradient before the step", GradientSettings),
        Section("regularize", "what is held against overfitting", RegularizeSettings),
        Section("constrain", "which sets weights stay in", ConstrainSettings),
        Section("stop", "when to stop", StopSettings),
        Section("checkpoint", "how often the state is saved", CheckpointSettings),
        Section("engine", "where and how the arithmetic runs", EngineSettings),
    ]
}


def section_parameters(
    section: Section, name: str | Constructor | None = None
) -> dict[str, Parameter] | None:
    """Every key that a section takes besides ``name``; None where the constructor takes any key.

    >>> "lr" in section_parameters(SECTIONS["optimizer"], "adam")
    True
    """
    found: dict[str, Parameter] = of_settings(section.settings) if section.settings else {}
    if section.named and name is not None and name != "auto":
        of_name = of_constructor(find(section.name, name), section.context)
        if of_name is None:
            return None
        found |= of_name
    return found
