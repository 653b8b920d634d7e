"""The size of the default network for images and the number of epochs, from the images and their number.

The choice depends on counted multiplications instead of measured times, so that it is the same on every machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descend.nn import convnet
from descend.nn._image_resnet import SMALLEST_HALVED, SMALLEST_HALVED_FIRST
from descend.optim import COMPOSITIONAL, TRUNCATED_NEWTON, WHOLE_DATA

__all__ = ["ImageNetwork", "epochs_of", "image_model", "image_network", "multiplications", "plain_network"]

CHANNELS = ((32, 64, 128), (16, 32, 64), (8, 16, 32))
"""The channels of the stages, from the largest network to the smallest."""

LARGEST_SIDE = 64
"""Pixels: larger images are halved by the network until their shorter side is at most this, or the longer one twice it."""

BUDGET = {"cpu": 3e12}
"""Multiplications of a training, about two minutes of one CPU core, up to which a larger network is chosen."""
BUDGET_OF_ACCELERATORS = 1e15

FEWEST_EPOCHS, MOST_EPOCHS = 16, 60
ROWS_TIMES_EPOCHS = 80_000
"""Training images seen in a training, within the limits of the number of epochs."""


@dataclass(frozen=True)
class ImageNetwork:
    """Settings of :func:`descend.nn.image_resnet`, and the multiplications of one training.

    Args:
        channels: the channels of the stages.
        reduce: how often the image is halved before the first convolution.
        total: multiplications of a training, with backpropagation counted as two forward passes.
        budget: the number up to which a larger network is chosen.
    """

    channels: tuple[int, ...]
    reduce: int
    total: float
    budget: float


def plain_network(own_model: bool, model: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why a recipe that does not name its model gets a plain ``convnet``; "" if it gets an ``image_resnet``.

    Args:
        own_model: whether a module is trained that the recipe does not describe.
        model: the specified keys of the model.
        others: the specified keys of the other sections.

    >>> plain_network(False, {"dense": (64,)}, {"optimizer": {}, "regularize": {}})
    'model.dense is specified'
    """
    if own_model:
        return "the network is a module of its own"
    known = inspect.signature(convnet).parameters
    for key in model:
        if key in known:
            return f"model.{key} is specified"
    name = others["optimizer"].get("name")
    if name in (*WHOLE_DATA, *TRUNCATED_NEWTON, *COMPOSITIONAL):
        return f"{name} takes the outputs of a row to depend on no other row, unlike with batch normalization"
    for key in ("jacobian", "gradient_penalty"):
        if others["regularize"].get(key):
            return f"regularize.{key} takes the outputs of a row to depend on no other row"
    return ""


def image_model(shape: tuple[int, ...], rows: int, device: str, plain: str) -> dict[str, tuple[Any, str]]:
    """Return values of the section ``model`` for images, each with its reason.

    Args:
        shape: (channels, height, width) of the images.
        rows: the number of training images.
        device: where training runs.
        plain: the reason for a plain network, as of :func:`plain_network`.
    """
    if plain:
        return {"name": ("convnet", f"the inputs are images, and {plain}")}
    network = image_network(shape, rows, device)
    cost = f"{network.total:.1e} multiplications in the training"
    seen = f"convolutions see at most about {LARGEST_SIDE} pixels along the shorter side"
    return {
        "name": ("image_resnet", "the inputs are images"),
        "channels": (
            network.channels,
            f"{cost}; of three sizes the largest with at most {network.budget:.0e}",
        ),
        "reduce": (network.reduce, seen),
    }


def epochs_of(rows: int) -> int:
    """Return the number of epochs for a number of training images.

    >>> [epochs_of(rows) for rows in (40, 3000, 50_000)]
    [60, 27, 16]
    """
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(ROWS_TIMES_EPOCHS / max(rows, 1))))


def image_network(shape: tuple[int, ...], rows: int, device: str = "cpu") -> ImageNetwork:
    """Return the largest network whose training stays within the budget, or the smallest one.

    Args:
        shape: (channels, height, width) of the images.
        rows: the number of training images.
        device: where training runs.

    >>> image_network((1, 28, 28), 3000).channels, image_network((3, 256, 256), 200).reduce
    ((32, 64, 128), 2)
    """
    _, height, width = shape
    reduce = 0
    while min(height, width) >> reduce > LARGEST_SIDE or max(height, width) >> reduce > 2 * LARGEST_SIDE:
        reduce += 1
    budget = BUDGET.get(device.partition(":")[0], BUDGET_OF_ACCELERATORS)
    choices = [
        ImageNetwork(
            channels, reduce, 3.0 * rows * epochs_of(rows) * multiplications(shape, channels, reduce), budget
        )
        for channels in CHANNELS
    ]
    return next((each for each in choices if each.total <= budget), choices[-1])


def multiplications(shape: tuple[int, ...], channels: tuple[int, ...], reduce: int = 0) -> int:
    """Return the multiplications of the convolutions of :func:`descend.nn.image_resnet` for one image.

    >>> multiplications((1, 8, 8), (4,))  # 9 weights, 1 to 4 channels, 64 positions
    2304
    """
    depth, height, width = shape
    for _ in range(reduce):
        height, width = _halved(height, width, SMALLEST_HALVED)
    total = 0
    for number, units in enumerate(channels):
        if number:
            height, width = _halved(height, width, SMALLEST_HALVED)
        weights = 9 * units * (depth if number == 0 else depth + 2 * units)
        total += weights * height * width
        if number == 0:
            height, width = _halved(height, width, SMALLEST_HALVED_FIRST)
        depth = units
    return total


def _halved(height: int, width: int, smallest: int) -> tuple[int, int]:
    return (height // 2, width // 2) if min(height, width) >= smallest else (height, width)
