"""Arrays of images for a network that was trained on images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.data.frames import as_array
from descend.data.pixel_depth import eight_bits
from descend.data.source import Array
from descend.errors import DataError

__all__ = ["as_images", "image_arrays"]


def image_arrays(data: Any, shape: Sequence[int]) -> Any:
    """Return an array of images for one image, a list of images, or booleans; other data as they are.

    Args:
        data: an array (height, width), (channels, height, width) or (height, width, channels), a list of such arrays, or
            an array of several images.
        shape: (channels, height, width) of the training images.

    >>> image_arrays(np.zeros((2, 3)), (1, 2, 3)).shape, image_arrays([np.zeros((2, 3))] * 4, (1, 2, 3)).shape
    ((1, 2, 3), (4, 2, 3))
    """
    channels, height, width = shape
    single = {(channels, height, width), (height, width, channels)} | (
        {(height, width)} if channels == 1 else set()
    )
    if isinstance(data, list) and data and all(tuple(getattr(one, "shape", ())) in single for one in data):
        return np.concatenate([image_arrays(one, shape) for one in data])
    if not hasattr(data, "shape") or not hasattr(data, "dtype"):
        return data
    array = as_array(data)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)  # black and white, as images of one bit per pixel
    if array.shape in single and array.ndim == 3 and array.shape != (channels, height, width):
        return array.transpose(2, 0, 1)[None]
    return array[None] if array.shape in single else array


def as_images(data: Any, shape: tuple[int, ...], white: float | None = None) -> Array:
    """Return images as uint8 (n, *shape), shape = (channels, height, width).

    Args:
        data: the images; those of another dtype than uint8 have gray levels up to ``white``, or integers from 0 to 255.
        shape: shape of one image.
        white: the gray level of white of the training images, if they have more than 8 bits per pixel.

    Raises:
        DataError: the type or shape is different.
    """
    array = as_array(data)
    if array.ndim == 3:
        array = array[None] if array.shape == shape else array[:, None]
    if array.ndim == 4 and array.shape[1:] != shape and (array.shape[3], *array.shape[1:3]) == shape:
        array = array.transpose(0, 3, 1, 2)
    if array.shape[1:] != shape:
        raise DataError(f"expected images of shape (n, {', '.join(map(str, shape))}), got {array.shape}")
    if array.dtype != np.uint8 and white is not None and array.dtype.kind in "iuf":
        if array.size and not bool((array >= 0).all()):  # also false for NaN
            raise DataError(f"images must hold gray levels from 0 to {white:g}, got negative levels or NaN")
        return eight_bits(array, white)
    if array.dtype != np.uint8:
        are_bytes = array.dtype.kind in "iuf" and bool(
            ((array >= 0) & (array <= 255) & (array == np.round(array))).all()
        )
        if not are_bytes:
            raise DataError(f"images must hold integers from 0 to 255, {_levels(array)}")
    return np.ascontiguousarray(array, dtype=np.uint8)


def _levels(array: Array) -> str:
    """Return the values of an array that is no image of 8 bits, and how to convert it, for a message."""
    if array.dtype.kind not in "iuf" or not array.size or not np.isfinite(array).all():
        return (
            f"got {array.dtype} with values that are not finite"
            if array.dtype.kind == "f"
            else f"got {array.dtype}"
        )
    low, high = float(array.min()), float(array.max())
    found = f"got numbers from {low:g} to {high:g}"
    if low >= 0 and high <= 1:
        return f"{found}; if 1 is white, pass (255 * X).round().astype('uint8')"
    return (
        f"{found}; if 65535 is white, pass (X // 257).astype('uint8')"
        if 255 < high <= 65535 and low >= 0
        else found
    )
