"""Milliseconds to augment a batch of images with descend's batched methods and with one image at a time on the CPU.

    python benchmarks/augmentation_speed.py [--reps 21] [--threads 1] [--out benchmarks/results]

The input is a batch of 256 RGB images of 32x32 pixels: uint8 for the pipelines that process one image at a time, encoded
float32 for descend. The output is a float32 batch for a network. Contenders are interleaved (A B C, A B C, …). A pipeline
consists of the same transforms with the same ranges for all contenders; each uses its own random numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage

from descend.augmentation import (
    Augmentation,
    Blur,
    Color,
    Crop,
    Cutmix,
    Deform,
    Flip,
    Mixing,
    Mixup,
    Noise,
    Occlude,
    Rotate,
    Translate,
)
from descend.augmentation.pipeline import Pipeline
from descend.augmentation.pixels import Pixels
from descend.data.batches import Batch
from instruments import machine
from instruments.interleaved import interleaved, timed
from instruments.quartiles import Quartiles
from instruments.results import add_out_option, report_table
from instruments.session import Session
from instruments.threads import threads

BATCH, SIDE = 256, 32
MEAN, STD = 120.0, 60.0
"""Mean and standard deviation that encode the pixels of every channel."""

Array = np.ndarray[Any, Any]
Step = Callable[[Any, np.random.Generator], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=21, help="batches per contender; default 21")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads; default 1")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    load_before = machine.load_average()
    with threads(options.threads):
        seconds = {name: interleaved(contenders(name), options.reps) for name in PIPELINES}
    session = Session.now(
        ["torch", "PIL", "scipy", "numpy"],
        repetitions=options.reps,
        threads=options.threads,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    rows, results = [], {}
    for name, samples in seconds.items():
        for contender, sample in samples.items():
            milliseconds = Quartiles.of([1000 * second for second in sample])
            ratio = Quartiles.of_ratios(sample, samples["descend"])
            rows.append([name, contender, milliseconds.text(2), ratio.text(2)])
            results[f"{name}: {contender}"] = {
                "milliseconds": asdict(milliseconds), "ratio": asdict(ratio), "seconds": sample
            }  # fmt: skip
    report_table(
        options.out,
        "augmentation_speed",
        session,
        {"batches": results},
        title="Augmentation",
        explanation=f"Batches of {BATCH} RGB images of {SIDE}x{SIDE} pixels. Medians, quartiles in brackets.",
        header=["pipeline", "contender", "ms per batch", "÷ descend"],
        rows=rows,
    )
    return 0


# One image at a time with Pillow, on bytes, like the first version of torchvision's transforms.


def _pil_flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def _pil_translate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    right, down = (int(by) for by in rng.integers(-2, 3, 2))
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))


def _pil_rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.rotate(rng.uniform(-15, 15), resample=Image.Resampling.BILINEAR)


def _pil_crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    area, ratio = rng.uniform(0.6, 1.0), np.exp(rng.uniform(-np.log(4 / 3), np.log(4 / 3)))
    width, height = min(SIDE, SIDE * np.sqrt(area * ratio)), min(SIDE, SIDE * np.sqrt(area / ratio))
    left, top = rng.uniform(0, SIDE - width), rng.uniform(0, SIDE - height)
    box = (left, top, left + width, top + height)
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)


def _pil_color(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.8, 1.2))
    return image


def _pil_blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))


PIL_STEPS: dict[str, Step] = {
    "flip": _pil_flip,
    "translate": _pil_translate,
    "rotate": _pil_rotate,
    "crop": _pil_crop,
    "color": _pil_color,
    "blur": _pil_blur,
}

# One image at a time with NumPy and SciPy, on arrays (height, width, channels) of float32 in [0, 1].


def _scipy_flip(image: Array, rng: np.random.Generator) -> Array:
    return image[:, ::-1] if rng.random() < 0.5 else image


def _scipy_translate(image: Array, rng: np.random.Generator) -> Array:
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    down, right = rng.integers(0, 5, 2)
    return padded[down : down + SIDE, right : right + SIDE]


def _scipy_rotate(image: Array, rng: np.random.Generator) -> Array:
    rotated: Array = ndimage.rotate(image, rng.uniform(-15, 15), reshape=False, order=1, prefilter=False)
    return rotated


def _scipy_crop(image: Array, rng: np.random.Generator) -> Array:
    area, ratio = rng.uniform(0.6, 1.0), np.exp(rng.uniform(-np.log(4 / 3), np.log(4 / 3)))
    height, width = min(1.0, np.sqrt(area / ratio)), min(1.0, np.sqrt(area * ratio))
    offset = (rng.uniform(0, SIDE * (1 - height)), rng.uniform(0, SIDE * (1 - width)), 0)
    enlarged: Array = ndimage.affine_transform(image, (height, width, 1), offset, order=1, mode="nearest")
    return enlarged


def _scipy_color(image: Array, rng: np.random.Generator) -> Array:
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3).astype(np.float32)
    image = image * brightness
    mean = (image @ weights).mean()
    image = mean + contrast * (image - mean)
    gray = (image @ weights)[:, :, None]
    saturated: Array = gray + saturation * (image - gray)
    return saturated


def _scipy_blur(image: Array, rng: np.random.Generator) -> Array:
    width = rng.uniform(0, 1)
    smooth: Array = ndimage.gaussian_filter(image, (width, width, 0))
    return smooth


def _scipy_deform(image: Array, rng: np.random.Generator) -> Array:
    field = ndimage.gaussian_filter(rng.uniform(-1, 1, (2, SIDE, SIDE)), (0, 4, 4))
    field /= field.std()
    positions = np.mgrid[:SIDE, :SIDE] + field
    channels = [ndimage.map_coordinates(image[:, :, channel], positions, order=1) for channel in range(3)]
    return np.stack(channels, -1)


# Pillow has no function for these transforms; its pipelines apply them with NumPy after conversion to an array.


def _noise(image: Array, rng: np.random.Generator) -> Array:
    return image + 0.05 * rng.standard_normal(image.shape, dtype=np.float32)


def _occlude(image: Array, rng: np.random.Generator) -> Array:
    if rng.random() >= 0.5:
        return image
    area, ratio = rng.uniform(0.02, 0.25), np.exp(rng.uniform(-np.log(3), np.log(3)))
    height = max(1, min(SIDE, round(SIDE * np.sqrt(area / ratio))))
    width = max(1, min(SIDE, round(SIDE * np.sqrt(area * ratio))))
    top, left = rng.integers(0, SIDE - height + 1), rng.integers(0, SIDE - width + 1)
    image = image.copy()
    image[top : top + height, left : left + width] = image.mean((0, 1))
    return image


ARRAY_STEPS: dict[str, Step] = {"noise": _noise, "occlude": _occlude}
SCIPY_STEPS: dict[str, Step] = {
    "flip": _scipy_flip,
    "translate": _scipy_translate,
    "rotate": _scipy_rotate,
    "crop": _scipy_crop,
    "color": _scipy_color,
    "blur": _scipy_blur,
    "deform": _scipy_deform,
    **ARRAY_STEPS,
}

DESCEND_METHODS: dict[str, Callable[[], Augmentation | Mixing]] = {
    "flip": Flip, "translate": Translate, "rotate": Rotate, "crop": Crop, "color": Color, "blur": Blur,
    "deform": Deform, "noise": Noise, "occlude": Occlude, "mixup": Mixup, "cutmix": Cutmix,
}  # fmt: skip

PIPELINES: dict[str, tuple[str, ...]] = {
    "flip + translate": ("flip", "translate"),
    "flip + crop + color": ("flip", "crop", "color"),
    "flip + translate + rotate + color + blur + noise + occlude": (
        "flip", "translate", "rotate", "color", "blur", "noise", "occlude"
    ),
    "deform + noise": ("deform", "noise"),
}  # fmt: skip
"""Transforms of each pipeline, in order. Pillow runs the pipelines that consist of its own and of array transforms."""


def contenders(name: str) -> dict[str, Callable[[int], Any]]:
    """Return timers of a pipeline, by name; each is called with the number of the batch."""
    steps = PIPELINES[name]
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    encoded = (torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() - MEAN) / STD
    scale = torch.full((3, 1, 1), STD / 255), torch.full((3, 1, 1), MEAN / 255)
    pipeline = Pipeline([DESCEND_METHODS[step]() for step in steps], pixels=Pixels(*scale))
    batch = Batch(encoded, torch.zeros(BATCH), None)
    timers: dict[str, Callable[[int], float]] = {
        "descend": lambda number: timed(lambda: pipeline(batch, 0, number).inputs)
    }
    if set(steps) <= set(PIL_STEPS) | set(ARRAY_STEPS):
        timers["Pillow, per image"] = lambda _: timed(
            lambda: stacked([_with_pil(image, steps) for image in images])
        )
    timers["SciPy, per image"] = lambda _: timed(
        lambda: stacked([_with_scipy(image, steps) for image in images])
    )
    return timers


def _with_pil(pixels: Array, steps: Sequence[str]) -> Array:
    image = Image.fromarray(pixels)
    for step in steps:
        image = PIL_STEPS[step](image, RNG) if step in PIL_STEPS else image
    values = np.asarray(image, dtype=np.float32) / 255
    for step in steps:
        values = ARRAY_STEPS[step](values, RNG) if step in ARRAY_STEPS else values
    return values


def _with_scipy(pixels: Array, steps: Sequence[str]) -> Array:
    values = pixels.astype(np.float32) / 255
    for step in steps:
        values = SCIPY_STEPS[step](values, RNG)
    return values


RNG = np.random.default_rng(1)


def stacked(images: Sequence[Array]) -> torch.Tensor:
    """Encode and stack images (height, width, channels) in [0, 1] into a batch (n, channels, height, width)."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().contiguous()
    return batch.mul_(255 / STD).sub_(MEAN / STD)


if __name__ == "__main__":
    raise SystemExit(main())
