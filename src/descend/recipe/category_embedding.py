"""Build the layer that embeds the categories of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from descend.errors import Problem, RecipeError, message_of
from descend.nn import CategoryEmbedding, LearnedCategories
from descend.recipe.catalogue import find
from descend.recipe.construct import call
from descend.recipe.facts import Facts
from descend.recipe.recipe import Recipe
from descend.rng import forked, key

__all__ = ["BuiltCategories", "build_category_embedding"]


class BuiltCategories(NamedTuple):
    """The layer in front of a network, and the number of its outputs."""

    layer: CategoryEmbedding
    outputs: int


def build_category_embedding(
    recipe: Recipe, facts: Facts, width: int, seed: int, draw: int
) -> BuiltCategories | None:
    """Return the layer that embeds the categories of a row, with its initial weights.

    It is None where the recipe has none, and for rows without a column that is embedded.

    Args:
        recipe: its key ``model.category_embedding``.
        facts: about the rows.
        width: the number of entries of a row, after the embedding of texts.
        seed: of the run.
        draw: index of the random sample of initial weights.

    Raises:
        RecipeError: the embedding cannot be built, or does not take the rows.
    """
    choice = recipe.model.get("category_embedding", "none")  # older recipes have no such key
    settings = {k: v for k, v in choice.items() if k != "name"} if isinstance(choice, Mapping) else {}
    name = choice["name"] if isinstance(choice, Mapping) else choice
    if name == "none":
        return None
    constructor = find("model", name, "category_embedding")
    levels = [each.levels for each in facts.categories]
    with forked():
        torch.default_generator.manual_seed(key(seed, "categories", draw))
        embedding = call("model", constructor, {"levels": levels}, settings)
    if not isinstance(embedding, nn.Module):
        raise _problem(f"expected a torch.nn.Module, '{name}' returned a {type(embedding).__name__}")
    if not levels or (isinstance(embedding, LearnedCategories) and not embedding.embedded):
        return None
    positions = [at for each in facts.categories for at in each.positions]
    layer = CategoryEmbedding(embedding, positions=positions, width=width)
    return BuiltCategories(layer, width - len(positions) + _size(embedding, len(positions), name))


def _size(embedding: nn.Module, count: int, name: object) -> int:
    """Return the number of outputs of an embedding, from a pass on two rows."""
    try:
        with torch.no_grad(), forked():
            outputs = embedding(torch.zeros(2, count))
    except Exception as cause:  # anyone's module may raise anything
        raise _problem(
            f"'{name}' cannot take rows of {count} one-hot entries: {message_of(cause)}"
        ) from cause
    if not isinstance(outputs, Tensor) or outputs.dim() < 2 or len(outputs) != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise _problem(f"expected outputs of shape (rows, ...) of '{name}' for two rows, got {got}")
    return outputs[0].numel()


def _problem(message: str) -> RecipeError:
    return RecipeError([Problem("model", "category_embedding", message)])
