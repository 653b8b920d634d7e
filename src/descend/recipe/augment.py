"""Build the augmentation methods that ``data.augment`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from descend.augmentation import AUGMENTATIONS, Mixing
from descend.augmentation.base import Layout
from descend.errors import Problem, RecipeError, UserError, message_of
from descend.recipe.catalogue import find
from descend.recipe.facts import Facts
from descend.recipe.recipe import Recipe

__all__ = ["build_augmentations"]


def build_augmentations(recipe: Recipe, layout: Layout, facts: Facts, loss: Any = None) -> list[Any]:
    """Build the methods, in their order, for rows of a layout.

    Args:
        recipe: a resolved recipe.
        layout: the kind and shape of the rows.
        facts: about the data.
        loss: the loss of the training; where given, it is tried on mixed targets if a method mixes rows.

    Raises:
        RecipeError: lists every method that does not fit the rows, its settings or the loss.
    """
    methods, problems = [], []
    for choice in as_tables(recipe.data.get("augment", ())):
        name, settings = choice["name"], {key: value for key, value in choice.items() if key != "name"}
        try:
            constructor = find("data", name, "augment")
            fits = getattr(constructor, "fits", None)
            if fits is not None and layout.kind not in fits:
                others = [
                    each for each, other in AUGMENTATIONS.items() if layout.kind in getattr(other, "fits", ())
                ]
                message = f"'{name}' is for {' and '.join(sorted(fits))}; {layout.why or f'these are {layout.kind}'}"
                problems.append(Problem("data", "augment", message, f"methods that fit: {', '.join(others)}"))
                continue
            method = constructor(**settings)
            if layout.has_texts and isinstance(method, Mixing):
                message = f"'{name}' computes means of rows, and texts have no mean"
                problems.append(Problem("data", "augment", message, "use noise or feature_dropout"))
                continue
            methods.append(method.on(layout) if hasattr(method, "on") else method)
        except RecipeError:
            raise
        except UserError as cause:
            problems.append(Problem("data", "augment", str(cause)))
        except Exception as cause:  # anyone's constructor may raise anything
            problems.append(Problem("data", "augment", f"'{name}': {message_of(cause)}"))
    if loss is not None and facts.task == "multiclass" and any(isinstance(each, Mixing) for each in methods):
        problems += _loss_problems(loss, facts.outputs)
    if problems:
        raise RecipeError(problems)
    return methods


def as_tables(
    choices: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    """Return the value of ``data.augment`` as a list of tables with a name.

    >>> as_tables("flip"), as_tables(["flip", {"name": "translate", "pixels": 3}])
    ([{'name': 'flip'}], [{'name': 'flip'}, {'name': 'translate', 'pixels': 3}])
    """
    listed = [choices] if isinstance(choices, str | Mapping) or callable(choices) else list(choices)
    return [each if isinstance(each, Mapping) else {"name": each} for each in listed]


def _loss_problems(loss: Any, classes: int) -> list[Problem]:
    """Call the loss on mixed targets, to report one that takes class indices only before training."""
    outputs = torch.linspace(-1.0, 1.0, 2 * classes).reshape(2, classes)
    try:
        loss(outputs, torch.full((2, classes), 1.0 / classes))
    except Exception as cause:  # anyone's loss may raise anything
        message = (
            f"mixing rows makes the targets distributions, which the loss does not take: {message_of(cause)}"
        )
        return [Problem("data", "augment", message, "use cross_entropy, kl or squared")]
    return []
