"""Recipes: one frozen, validated object with a section per design choice of training."""

from descend.recipe.recipe import Recipe

__all__ = ["Recipe"]
