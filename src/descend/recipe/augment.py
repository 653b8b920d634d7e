"""From the recipe's ``data.augment`` to the methods that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from descend.augmentation import AUGMENTATIONS, Mixing
from descend.augmentation.base import Layout
from descend.errors import Problem, RecipeError, UserError, message_of
from descend.recipe.catalogue import find
from descend.recipe.defaults import Facts
from descend.recipe.recipe import Recipe

__all__ = ["build_augmentations"]


def build_augmentations(recipe: Recipe, layout: Layout, facts: Facts, loss: Any = None) -> list[Any]:
    """The methods in their order, for rows of a layout.

    Args:
        recipe: resolved.
        layout: what the rows are.
        facts: of the data.
        loss: of the training; where given, that it takes mixed targets is tried out.

    Raises:
        RecipeError: methods that do not fit the rows, their settings or the loss, all of them.
    """
    made, problems = [], []
    for choice in chosen(recipe.data.get("augment", ())):
        name, settings = choice["name"], {key: value for key, value in choice.items() if key != "name"}
        try:
            constructor = find("data", name, "augment")
            fits = getattr(constructor, "fits", None)
            if fits is not None and layout.kind not in fits:
                others = [
                    each for each, other in AUGMENTATIONS.items() if layout.kind in getattr(other, "fits", ())
                ]
                message = f"'{name}' is for {' and '.join(sorted(fits))}; {layout.why or f'these are {layout.kind}'}"
                problems.append(Problem("data", "augment", message, f"what fits: {', '.join(others)}"))
                continue
            method = constructor(**settings)
            made.append(method.on(layout) if hasattr(method, "on") else method)
        except RecipeError:
            raise
        except UserError as cause:
            problems.append(Problem("data", "augment", str(cause)))
        except Exception as cause:  # anyone's constructor may raise anything
            problems.append(Problem("data", "augment", f"'{name}': {message_of(cause)}"))
    if loss is not None and facts.task == "multiclass" and any(isinstance(each, Mixing) for each in made):
        problems += _loss_problems(loss, facts.outputs)
    if problems:
        raise RecipeError(problems)
    return made


def chosen(said: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What ``data.augment`` says, as tables with a name.

    >>> chosen("flip"), chosen(["flip", {"name": "translate", "pixels": 3}])
    ([{'name': 'flip'}], [{'name': 'flip'}, {'name': 'translate', 'pixels': 3}])
    """
    listed = [said] if isinstance(said, str | Mapping) or callable(said) else list(said)
    return [each if isinstance(each, Mapping) else {"name": each} for each in listed]


def _loss_problems(loss: Any, classes: int) -> list[Problem]:
    """One call on mixed targets, so that a loss which takes class numbers only is a message and not a crash."""
    outputs = torch.linspace(-1.0, 1.0, 2 * classes).reshape(2, classes)
    try:
        loss(outputs, torch.full((2, classes), 1.0 / classes))
    except Exception as cause:  # anyone's loss may raise anything
        message = (
            f"mixtures give targets that are distributions, which the loss does not take: {message_of(cause)}"
        )
        return [Problem("data", "augment", message, "use cross_entropy, kl or squared")]
    return []
