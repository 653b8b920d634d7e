"""Images with more than 8 bits per pixel: one scale from their gray levels to 0..255 for all images of a data set.

A gray level g becomes 255 g / w, where w is the level of white. A single image does not determine w, since it may be
dark, so w is found from all images of a folder, stored in the schema, and used for every image that is predicted later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from descend.data.messages import listed
from descend.errors import DataError
from descend.interface import setting

__all__ = ["LevelRange", "eight_bits", "is_deep", "white_level"]


@dataclass(frozen=True)
class LevelRange:
    """The gray levels of one image.

    Args:
        name: the file.
        low, high: the smallest and the largest level; NaN if a level is not finite.
        integer: whether all levels are integers.
        floating: whether the file stores them as floating-point numbers.
    """

    name: str
    low: float
    high: float
    integer: bool
    floating: bool

    @classmethod
    def of(cls, name: str, levels: Any) -> LevelRange:
        """Return the range of an array of levels.

        >>> LevelRange.of("a.tif", np.array([[0, 700]], dtype="uint16"))
        LevelRange(name='a.tif', low=0.0, high=700.0, integer=True, floating=False)
        """
        values = np.asarray(levels)
        floating = values.dtype.kind == "f"
        if not np.isfinite(values).all():
            return cls(name, math.nan, math.nan, False, floating)
        integer = not floating or bool((values == np.round(values)).all())
        return cls(name, float(values.min()), float(values.max()), integer, floating)


def is_deep(mode: str) -> bool:
    """Return whether images of a Pillow mode have more than 8 bits per pixel.

    >>> is_deep("I;16"), is_deep("F"), is_deep("RGB")
    (True, True, False)
    """
    return mode.startswith("I") or mode == "F"


def white_level(
    ranges: Sequence[LevelRange], specified: float | Literal["auto"] = "auto", *, mixed: bool = False
) -> float:
    """Return the level of white of some images.

    Levels from 0 to 1 with fractions have white at 1. For integers, white is the largest number of the smallest bit
    depth that holds all of them, at least 8 bits: 255, 511, ..., 4095, ..., 65535.

    Args:
        ranges: the range of each image.
        specified: the level, if it is specified.
        mixed: whether there are images with 8 bits per pixel too. Integers up to 32767 then do not tell which level
            corresponds to 255 in these.

    >>> dark = [LevelRange.of("a", np.array([0, 40])), LevelRange.of("b", np.array([9, 300]))]
    >>> white_level(dark), white_level(dark, 4095)
    (511.0, 4095)

    Raises:
        DataError: the level cannot be decided: there are negative or infinite levels, fractions above 1, or different
            kinds of images.
    """
    for one in ranges:
        if math.isnan(one.low):
            raise DataError(f"{one.name}: some gray levels are NaN or infinite; correct or remove the image")
        if one.low < 0:
            raise DataError(
                f"{one.name}: gray levels from {one.low:g} to {one.high:g}; levels below 0 are not supported: shift the "
                "levels of all images, or pass them as an array (X, y)"
            )
    if specified != "auto":
        return specified
    unit = [one for one in ranges if one.floating and one.high <= 1]
    others = [one for one in ranges if not (one.floating and one.high <= 1)]
    fraction = next((one for one in others if not one.integer), None)
    if fraction is not None:
        raise DataError(
            f"{fraction.name}: gray levels from {fraction.low:g} to {fraction.high:g} with fractions do not tell which "
            f"level is white; specify it for all images: {setting('data.image_white', 'LEVEL')}"
        )
    if unit and others and max(one.high for one in unit) > 0:
        raise DataError(
            f"{listed([unit[0].name])} has gray levels from 0 to 1, and {listed([others[0].name])} up to "
            f"{others[0].high:g}, so one level of white does not fit both; convert the images to one form, or specify "
            f"{setting('data.image_white', 'LEVEL')}"
        )
    if not others:
        return 1.0
    high = max(one.high for one in others)
    bits = max(8, math.ceil(math.log2(high + 1)))
    if mixed and 8 < bits < 16:
        raise DataError(
            f"some images have 8 bits per pixel, and others such as {listed([others[0].name])} have more, with levels up "
            f"to {high:g}; it is unknown which of their levels is white; specify "
            f"{setting('data.image_white', 'LEVEL')}, or convert them to one form"
        )
    return float(2**bits - 1)


def eight_bits(levels: Any, white: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return gray levels as integers from 0 to 255; levels above white become 255.

    >>> eight_bits(np.array([0, 257, 70000]), 65535.0).tolist()
    [0, 1, 255]
    """
    values = np.asarray(levels, dtype=np.float64)
    return np.clip(values * (255.0 / white), 0, 255).round().astype(np.uint8)
