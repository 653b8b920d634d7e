"""How the targets of a regression are learned: fitted on the training rows."""

from __future__ import annotations

import dataclasses

import numpy as np

from descend.data.fitting import row_weights
from descend.data.scaling import standard
from descend.data.schema import Schema
from descend.data.source import Array
from descend.data.target_transform import TARGET_SCALES, TRANSFORMS
from descend.data.task import target_numbers
from descend.errors import DataError, Problem, RecipeError, did_you_mean
from descend.interface import setting

__all__ = ["with_target_scale"]


def with_target_scale(
    schema: Schema, targets: Array, train: Array, weights: Array | None, choice: str
) -> Schema:
    """Return the schema with the scale of its targets; unchanged for classes and labels.

    Args:
        schema: with the task.
        targets: all raw targets.
        train: numbers of the training rows.
        weights: a weight for each row, or None.
        choice: ``data.target_scale``; ``auto`` is ``standard``.

    Raises:
        DataError: the targets do not fit the scale.
        RecipeError: there is no such scale.
    """
    if choice not in (*TARGET_SCALES, "auto"):
        hint = did_you_mean(choice, TARGET_SCALES)
        raise RecipeError([Problem("data", "target_scale", f"unknown scale {choice!r}", hint=hint)])
    if schema.classes:
        if choice in TRANSFORMS:
            raise DataError(
                f"data.target_scale = '{choice}' is for regression, and the task is {schema.task} ({schema.why}); if the "
                f"targets are numbers to predict: {setting('data.task', 'regression')}"
            )
        return schema
    numbers = target_numbers(targets, schema.decimal).reshape(len(targets), -1)
    own = row_weights(weights, train)
    if choice in TRANSFORMS:
        transforms = tuple(TRANSFORMS[choice](column, train, own) for column in numbers.T)
        numbers = np.stack([each(column) for each, column in zip(transforms, numbers.T, strict=True)], axis=1)
        schema = dataclasses.replace(schema, target_transforms=transforms)
    mean, scale = standard(numbers[train], own)
    if choice == "none":
        average, count = tuple(mean.tolist()), len(mean)
        return dataclasses.replace(
            schema, target_mean=(0.0,) * count, target_scale=(1.0,) * count, target_average=average
        )
    return dataclasses.replace(schema, target_mean=tuple(mean.tolist()), target_scale=tuple(scale.tolist()))
