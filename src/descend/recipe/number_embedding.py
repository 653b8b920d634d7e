"""Build the layer that embeds the numbers of a row, and fit it on the training rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from descend.data.preparation import Part
from descend.errors import Problem, RecipeError, message_of
from descend.nn import NUMBER_EMBEDDINGS, NumberEmbedding
from descend.process.memory import size_text, total_memory
from descend.recipe.catalogue import Constructor, find
from descend.recipe.construct import call
from descend.recipe.facts import Facts
from descend.recipe.memory import BYTES_PER_PARAMETER, integers
from descend.recipe.recipe import Recipe
from descend.rng import forked, key

__all__ = ["MOST_ROWS", "BuiltNumbers", "build_number_embedding"]

MOST_ROWS = 100_000
"""An embedding is fitted on at most this many training rows, which are evenly spaced."""


LARGEST_DEFAULT = 64
"""A bound on the default sizes of embeddings. The tensors of a number have at most 4 n² entries for the largest size n."""


class BuiltNumbers(NamedTuple):
    """The layer in front of a network, and the number of its outputs."""

    layer: NumberEmbedding
    outputs: int


def build_number_embedding(
    recipe: Recipe, facts: Facts, width: int, seed: int, sample: int, train: Part | None
) -> BuiltNumbers | None:
    """Return the layer that embeds the numbers of a row, with its initial weights; None where the recipe has none.

    Args:
        recipe: its key ``model.number_embedding``.
        facts: about the rows.
        width: the number of entries of a row, after the embedding of texts.
        seed: of the run.
        sample: index of the random sample of initial weights.
        train: the training rows, on which an embedding with a method ``fit`` is fitted; None for one that is loaded.

    Raises:
        RecipeError: the rows have no numbers, or cannot be used to fit the embedding.
    """
    choice = recipe.model.get("number_embedding", "none")  # older recipes have no such key
    settings = {k: v for k, v in choice.items() if k != "name"} if isinstance(choice, Mapping) else {}
    name = choice["name"] if isinstance(choice, Mapping) else choice
    if name == "none":
        return None
    if not facts.numbers:
        raise _problem(_why_no_numbers(facts), "use number_embedding = 'none'")
    count = len(facts.numbers)
    constructor = find("model", name, "number_embedding")
    if name in NUMBER_EMBEDDINGS:
        _check_size(constructor, count, settings)
    with forked():
        torch.default_generator.manual_seed(key(seed, "numbers", sample))
        embedding = call("model", constructor, {"numbers": count}, settings)
    if not isinstance(embedding, nn.Module):
        raise _problem(f"expected a torch.nn.Module, '{name}' returned a {type(embedding).__name__}")
    fit = getattr(embedding, "fit", None)
    if train is not None and callable(fit):
        _fit(fit, facts, train, name)
    layer = NumberEmbedding(embedding, positions=[each.position for each in facts.numbers], width=width)
    return BuiltNumbers(layer, width - count + _size(embedding, count, name))


def _check_size(constructor: Constructor, count: int, settings: Mapping[str, Any]) -> None:
    """Refuse an embedding that does not fit into the memory of this machine, before it is built."""
    memory = total_memory()
    # Sampling without storage imports PyTorch's compiler, which takes seconds, so it is skipped if a bound is small.
    largest = max(LARGEST_DEFAULT, *integers(settings), 0)
    if memory is None or BYTES_PER_PARAMETER * count * 4 * largest**2 < memory / 8:
        return
    with torch.device("meta"), forked():
        module: nn.Module = call("model", constructor, {"numbers": count}, settings)
    size = sum(t.numel() for t in module.state_dict().values()) * BYTES_PER_PARAMETER
    if size > memory:
        text = f"embeddings of {count:,} numbers need {size_text(size)}, and this machine has {size_text(memory)}"
        raise _problem(text, "use fewer bins or frequencies, or a smaller dimension")


def _fit(fit: Any, facts: Facts, train: Part, name: Any) -> None:
    """Fit an embedding on the training rows, in which missing numbers are NaN."""
    if train.inputs is None:
        raise _problem(
            f"'{name}' is fitted on the training rows, and these are loaded one by one",
            "use 'periodic' or 'linear', or data in memory",
        )
    rows = slice(None, None, math.ceil(len(train) / MOST_ROWS))
    inputs = train.inputs[rows]
    numbers = inputs[:, [each.position for each in facts.numbers]].clone()
    for at, each in enumerate(facts.numbers):
        if each.missing is not None:
            numbers[inputs[:, each.missing] > 0, at] = math.nan
    weights = None if train.weights is None else train.weights[rows]
    try:
        fit(numbers, train.targets[rows], classes=facts.task in ("binary", "multiclass"), weights=weights)
    except Exception as cause:  # anyone's module may raise anything
        raise _problem(f"'{name}' cannot be fitted on the training rows: {message_of(cause)}") from cause


def _size(embedding: nn.Module, count: int, name: Any) -> int:
    """Return the number of outputs of an embedding, from a pass on two rows."""
    try:
        with torch.no_grad(), forked():
            outputs = embedding(torch.zeros(2, count))
    except Exception as cause:
        raise _problem(f"'{name}' cannot take rows of {count} numbers: {message_of(cause)}") from cause
    if not isinstance(outputs, Tensor) or outputs.dim() < 2 or len(outputs) != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise _problem(f"expected outputs of shape (rows, ...) of '{name}' for two rows, got {got}")
    return outputs[0].numel()


def _why_no_numbers(facts: Facts) -> str:
    if len(facts.input_shape) == 1:
        return "it embeds numbers, and no input of these rows is one"
    return f"it embeds the numbers of a row, and a row here has the shape {facts.input_shape}"


def _problem(message: str, hint: str = "") -> RecipeError:
    return RecipeError([Problem("model", "number_embedding", message, hint)])
