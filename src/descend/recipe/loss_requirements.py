"""What the loss of a recipe requires of the data and the network: known before the data are encoded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descend.losses import LOSSES, Loss
from descend.losses.base import TargetSpace
from descend.losses.conventions import convention_of
from descend.param_types import of_constructor
from descend.process import exclusive
from descend.recipe.catalogue import find

__all__ = ["LossRequirements", "loss_requirements"]


@dataclass(frozen=True)
class LossRequirements:
    """What a loss requires for regression.

    Args:
        name: the loss, for messages; empty if it is the default loss of the task.
        target_space: whether it takes targets standardized or in their own units.
        output: the output activation.
        blocks: the number of outputs of the network per target.
        levels: the levels of its quantiles, if these are its outputs.
        declared: whether this is known or was declared, rather than assumed of a loss that declares nothing.
        known: whether it is a loss of descend or PyTorch; others may take the logarithm of predictions, with the output
            activation ``exp``.
    """

    name: str = ""
    target_space: TargetSpace = "standardized"
    output: str = "identity"
    blocks: int = 1
    levels: tuple[float, ...] = ()
    declared: bool = True
    known: bool = True

    @property
    def why_target_space(self) -> str:
        """The reason for the scale of the targets."""
        if self.target_space == "raw":
            return f"the loss {self.name} takes targets in their own units"
        if not self.declared:
            return f"the loss {self.name} declares no target_space; 'none' learns targets in their own units"
        return "targets of any size are learned equally well"

    @property
    def why_output(self) -> str:
        """The reason for the output activation."""
        return f"the output of the loss {self.name}"


def loss_requirements(values: Mapping[str, Any]) -> LossRequirements:
    """Return what the loss of a recipe requires; the default for a loss that cannot be built, which is reported elsewhere.

    Args:
        values: the ``[loss]`` section, complete or not.

    >>> loss_requirements({"name": "poisson"}).output, loss_requirements({"level": 0.9}).name
    ('exp', 'quantile')
    """
    settings = {key: value for key, value in values.items() if key != "name" and value != "auto"}
    name = values.get("name", "auto")
    if name == "auto":
        name = next((each for each in LOSSES if settings and _takes(each, settings)), None)
    if name is None:
        return LossRequirements()
    try:
        with exclusive(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = find("loss", name)(**settings)
            shown = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
            if isinstance(loss, Loss):
                levels = tuple(getattr(loss, "levels", ()))
                return LossRequirements(shown, loss.target_space, loss.output, loss.blocks, levels)
            known = convention_of(loss)
    except Exception:  # anyone's constructor may raise anything; building the loss reports it
        return LossRequirements()
    return LossRequirements(
        shown, known.target_space, known.output, known.blocks, declared=known.declared, known=known.known
    )


def _takes(name: str, settings: Mapping[str, Any]) -> bool:
    return set(settings) <= set(of_constructor(LOSSES[name], ()) or {})
