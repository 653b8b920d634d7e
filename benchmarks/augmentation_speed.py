"""Milliseconds to augment a batch: descend's batched methods against one picture at a time on the CPU.

    python benchmarks/augmentation_speed.py [--reps 21] [--threads 1] [--out benchmarks/results/augmentation]

A batch of 256 RGB pictures of 32x32, as a training has it: uint8 for the pipelines that take one picture at a
time, encoded float32 for descend. Each gives float32 that a network can take. Contenders take turns A B C, A B C, ...
Each pipeline is of the same kinds of changes with the same ranges; the random numbers are each library's own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
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
from instruments.quartiles import Quartiles
from instruments.session import Session, write
from instruments.table import markdown, plain
from instruments.threads import threads

BATCH, SIDE = 256, 32
MEAN, SPREAD = 120.0, 60.0
"""What the pictures are scaled by, per channel."""

Array = np.ndarray[Any, Any]
Step = Callable[[Any, np.random.Generator], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=21, help="batches of each; default 21")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads; default 1")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "augmentation", help="file stem"
    )
    options = parser.parse_args(arguments)
    load_before = machine.load_average()
    with threads(options.threads):
        seconds = {name: take_turns(contenders(name), options.reps) for name in PIPELINES}
    session = Session.now(
        ["torch", "PIL", "scipy", "numpy"],
        repetitions=options.reps,
        threads=options.threads,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    header = ["pipeline", "contender", "ms a batch", "÷ descend"]
    rows, found = [], {}
    for name, samples in seconds.items():
        for contender, sample in samples.items():
            milliseconds = Quartiles.of([1000 * second for second in sample])
            ratio = Quartiles.of([a / b for a, b in zip(sample, samples["descend"], strict=True)])
            rows.append([name, contender, milliseconds.text(2), ratio.text(2)])
            found[f"{name}: {contender}"] = {
                "milliseconds": asdict(milliseconds), "ratio": asdict(ratio), "seconds": sample
            }  # fmt: skip
    print(plain(header, rows), "", session.line(), sep="\n")
    about = f"A batch of {BATCH} RGB pictures of {SIDE}x{SIDE}. Medians, quartiles in brackets."
    text = "\n\n".join(["# Augmentation", about, markdown(header, rows), f"- {session.line()}"])
    write(options.out, session, {"batches": found}, text)
    return 0


def take_turns(ways: Mapping[str, Callable[[int], Any]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each contender, batch by batch, after one batch that does not count."""
    for way in ways.values():
        way(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(1, repetitions + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way(repetition)
            seconds[name].append(time.perf_counter() - start)
    return seconds


# One picture at a time, with Pillow: pictures of bytes, as torchvision's classic transforms work.


def _pil_flip(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else picture


def _pil_translate(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    right, down = (int(by) for by in draw.integers(-2, 3, 2))
    return picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down))


def _pil_rotate(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    return picture.rotate(draw.uniform(-15, 15), resample=Image.Resampling.BILINEAR)


def _pil_crop(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    area, ratio = draw.uniform(0.6, 1.0), np.exp(draw.uniform(-np.log(4 / 3), np.log(4 / 3)))
    width, height = min(SIDE, SIDE * np.sqrt(area * ratio)), min(SIDE, SIDE * np.sqrt(area / ratio))
    left, top = draw.uniform(0, SIDE - width), draw.uniform(0, SIDE - height)
    box = (left, top, left + width, top + height)
    return picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)


def _pil_color(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(draw.uniform(0.8, 1.2))
    return picture


def _pil_blur(picture: Image.Image, draw: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(draw.uniform(0, 1)))


PIL_STEPS: dict[str, Step] = {
    "flip": _pil_flip,
    "translate": _pil_translate,
    "rotate": _pil_rotate,
    "crop": _pil_crop,
    "color": _pil_color,
    "blur": _pil_blur,
}

# One picture at a time, with NumPy and SciPy: arrays (height, width, channels) of float32 in [0, 1].


def _scipy_flip(picture: Array, draw: np.random.Generator) -> Array:
    return picture[:, ::-1] if draw.random() < 0.5 else picture


def _scipy_translate(picture: Array, draw: np.random.Generator) -> Array:
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)))
    down, right = draw.integers(0, 5, 2)
    return padded[down : down + SIDE, right : right + SIDE]


def _scipy_rotate(picture: Array, draw: np.random.Generator) -> Array:
    turned: Array = ndimage.rotate(picture, draw.uniform(-15, 15), reshape=False, order=1, prefilter=False)
    return turned


def _scipy_crop(picture: Array, draw: np.random.Generator) -> Array:
    area, ratio = draw.uniform(0.6, 1.0), np.exp(draw.uniform(-np.log(4 / 3), np.log(4 / 3)))
    tall, wide = min(1.0, np.sqrt(area / ratio)), min(1.0, np.sqrt(area * ratio))
    offset = (draw.uniform(0, SIDE * (1 - tall)), draw.uniform(0, SIDE * (1 - wide)), 0)
    enlarged: Array = ndimage.affine_transform(picture, (tall, wide, 1), offset, order=1, mode="nearest")
    return enlarged


def _scipy_color(picture: Array, draw: np.random.Generator) -> Array:
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    brightness, contrast, saturation = draw.uniform(0.8, 1.2, 3).astype(np.float32)
    picture = picture * brightness
    mean = (picture @ weights).mean()
    picture = mean + contrast * (picture - mean)
    grey = (picture @ weights)[:, :, None]
    lively: Array = grey + saturation * (picture - grey)
    return lively


def _scipy_blur(picture: Array, draw: np.random.Generator) -> Array:
    width = draw.uniform(0, 1)
    smooth: Array = ndimage.gaussian_filter(picture, (width, width, 0))
    return smooth


def _scipy_deform(picture: Array, draw: np.random.Generator) -> Array:
    field = ndimage.gaussian_filter(draw.uniform(-1, 1, (2, SIDE, SIDE)), (0, 4, 4))
    field /= field.std()
    places = np.mgrid[:SIDE, :SIDE] + field
    channels = [ndimage.map_coordinates(picture[:, :, at], places, order=1) for at in range(3)]
    return np.stack(channels, -1)


# What Pillow has no function for is done with NumPy in its pipelines too, after the pictures have become arrays.


def _noise(picture: Array, draw: np.random.Generator) -> Array:
    return picture + 0.05 * draw.standard_normal(picture.shape, dtype=np.float32)


def _occlude(picture: Array, draw: np.random.Generator) -> Array:
    if draw.random() >= 0.5:
        return picture
    area, ratio = draw.uniform(0.02, 0.25), np.exp(draw.uniform(-np.log(3), np.log(3)))
    tall = max(1, min(SIDE, round(SIDE * np.sqrt(area / ratio))))
    wide = max(1, min(SIDE, round(SIDE * np.sqrt(area * ratio))))
    top, left = draw.integers(0, SIDE - tall + 1), draw.integers(0, SIDE - wide + 1)
    picture = picture.copy()
    picture[top : top + tall, left : left + wide] = picture.mean((0, 1))
    return picture


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

OURS: dict[str, Callable[[], Augmentation | Mixing]] = {
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
"""Names of steps, in their order; Pillow takes part where it has a function for one of them at least."""


def contenders(name: str) -> dict[str, Callable[[int], Any]]:
    """The ways to do a pipeline, each a function of the number of the batch."""
    steps = PIPELINES[name]
    levels = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    encoded = (torch.from_numpy(levels).permute(0, 3, 1, 2).float().contiguous() - MEAN) / SPREAD
    scale = torch.full((3, 1, 1), SPREAD / 255), torch.full((3, 1, 1), MEAN / 255)
    pipeline = Pipeline([OURS[step]() for step in steps], pixels=Pixels(*scale))
    batch = Batch(encoded, torch.zeros(BATCH), None)
    ways: dict[str, Callable[[int], Any]] = {"descend": lambda number: pipeline(batch, 0, number).inputs}
    if set(steps) <= set(PIL_STEPS) | set(ARRAY_STEPS):
        ways["Pillow, one by one"] = lambda number: stacked([_with_pil(each, steps) for each in levels])
    ways["SciPy, one by one"] = lambda number: stacked([_with_scipy(each, steps) for each in levels])
    return ways


def _with_pil(levels: Array, steps: Sequence[str]) -> Array:
    picture = Image.fromarray(levels)
    for step in steps:
        picture = PIL_STEPS[step](picture, DRAW) if step in PIL_STEPS else picture
    values = np.asarray(picture, dtype=np.float32) / 255
    for step in steps:
        values = ARRAY_STEPS[step](values, DRAW) if step in ARRAY_STEPS else values
    return values


def _with_scipy(levels: Array, steps: Sequence[str]) -> Array:
    values = levels.astype(np.float32) / 255
    for step in steps:
        values = SCIPY_STEPS[step](values, DRAW)
    return values


DRAW = np.random.default_rng(1)


def stacked(pictures: Sequence[Array]) -> torch.Tensor:
    """A batch that a network can take, of pictures (height, width, channels) in [0, 1]."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().contiguous()
    return batch.mul_(255 / SPREAD).sub_(MEAN / SPREAD)


if __name__ == "__main__":
    raise SystemExit(main())
