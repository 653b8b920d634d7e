"""Build the layer that looks up the n-grams of texts."""

from __future__ import annotations

from descend.nn import TextEmbedding
from descend.recipe.facts import Facts
from descend.recipe.recipe import Recipe
from descend.rng import generator

__all__ = ["build_text_embedding"]


def build_text_embedding(recipe: Recipe, facts: Facts, seed: int, sample: int) -> TextEmbedding | None:
    """Return the layer in front of a network whose rows contain texts, with its initial embeddings; None for other rows.

    Args:
        recipe: its key ``model.text_dimension``.
        facts: about the rows.
        seed: of the run.
        sample: index of the random sample of initial weights.
    """
    if not facts.texts:
        return None
    lengths = [each.length for each in facts.texts]
    return TextEmbedding(
        facts.input_shape[0] - sum(lengths),
        lengths=lengths,
        buckets=[each.buckets for each in facts.texts],
        dimension=int(recipe.model["text_dimension"]),
        generator=generator(seed, "text", sample),
    )
