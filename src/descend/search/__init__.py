"""Hyperparameter search."""

from descend.search.sampling import grid_points, quasi_random_points, random_points
from descend.search.space import Point, Space

__all__ = ["Point", "Space", "grid_points", "quasi_random_points", "random_points"]
