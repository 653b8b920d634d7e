"""Folders of images, one subfolder per class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from descend.data.messages import listed
from descend.data.source import Array, Source
from descend.data.split import PART_WORDS
from descend.data.streaming import mapped
from descend.errors import DataError, require

__all__ = ["ENDINGS", "read_image_folder"]

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
_MAX_UNCHANGED_SIDE = 256  # pixels; images that all have one size are not resized up to this side
_MAX_RESIZED_SIDE = 128  # pixels; other images are resized to at most this side
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")

T = TypeVar("T")


def read_image_folder(
    path: Path,
    *,
    size: int | Literal["auto"] = "auto",
    shape: tuple[int, int, int] | None = None,
    predicting: bool = False,
    stream: bool = False,
) -> Source:
    """Read the images in a folder as uint8 (n, channels, height, width).

    The layout is ``folder/CLASS/image.png``, or with a given split ``folder/train/CLASS/image.png``,
    ``folder/validation/...``, ``folder/test/...``. If all images are grey there is one channel, otherwise
    three (red, green, blue). Transparency is dropped, and the orientation in the EXIF data is applied.

    Args:
        path: the folder.
        size: side in pixels; ``auto`` keeps images that all have the same size of at most 256 pixels, and
            resizes others to their median height and width, scaled down to at most 128.
        shape: (channels, height, width) of the training images; overrides ``size``.
        predicting: whether the images have no class; they may then be anywhere in the folder.
        stream: whether the pixels are kept on disk, for images that do not fit into memory.

    Raises:
        DataError: there are no images or no class folders, or images cannot be decoded (the message names them).
    """
    try:
        files, labels, parts, notes = _unlabelled(path) if predicting else _labelled(path)
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    pil = require("PIL.Image", "images", "reading images")
    headers = _headers(pil, files)
    channels, height, width = shape or _shape(headers, size)
    if shape is None and any(header[:2] != (height, width) for header in headers):
        notes.append(f"images are resized to {height} x {width} pixels (height x width)")
    try:
        allocate = mapped if stream else np.empty
        inputs = allocate((len(files), channels, height, width), dtype=np.uint8)
    except MemoryError as cause:
        raise DataError(
            f"{path}: {len(files)} images of {height} x {width} pixels do not fit into memory; "
            "choose a smaller data.image_size, or data.stream = true"
        ) from cause

    def load(at: int) -> None:
        inputs[at] = _pixels(pil, files[at], channels, height, width)

    _all(load, range(len(files)), files)
    return Source(
        name=path.resolve().name,
        reference=str(path),
        kind="images",
        inputs=inputs,
        targets=None if labels is None else np.array(labels, dtype=object),
        target_names=() if labels is None else ("class",),
        split=None if parts is None else np.array(parts),
        row_names=tuple(str(file.relative_to(path)) for file in files),
        notes=tuple(notes),
    )


def _headers(pil: Any, files: Sequence[Path]) -> list[tuple[int, int, bool]]:
    try:
        return _all(lambda file: _header(pil, file), files)
    except DataError:
        _all(lambda file: _decoded(pil, file), files)  # also finds files whose pixel data are damaged
        raise


def _decoded(pil: Any, file: Path) -> None:
    with pil.open(file) as image:
        image.load()


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith((".", "__")))


def _images(path: Path) -> list[Path]:
    images = (one for one in path.rglob("*") if one.suffix.lower() in ENDINGS and one.is_file())
    return sorted(one for one in images if not one.name.startswith("."))


def _unlabelled(path: Path) -> tuple[list[Path], None, None, list[str]]:
    files = _images(path)
    if not files:
        raise DataError(f"{path} contains no images ({', '.join(ENDINGS)})")
    return files, None, None, []


def _labelled(path: Path) -> tuple[list[Path], list[str], list[str] | None, list[str]]:
    folders = _folders(path)
    parts = {PART_WORDS.get(folder.name.lower(), ""): folder for folder in folders}
    given = "train" in parts and "" not in parts
    files: list[Path] = []
    labels: list[str] = []
    part_labels: list[str] = []
    empty: list[str] = []
    for part, root in (parts if given else {"": path}).items():
        for folder in _folders(root):
            own = _images(folder)
            if not own:
                empty.append(str(folder.relative_to(path)))
            files += own
            labels += [folder.name] * len(own)
            part_labels += [part] * len(own)
    if not files:
        content = listed(sorted(one.name for one in path.iterdir()), 5) or "an empty folder"
        raise DataError(
            f"{path}: expected a folder with one subfolder of images per class (CLASS/image.png, or "
            f"train/CLASS/image.png), got {content}"
        )
    if empty:
        raise DataError(
            f"{path}: the folders {listed(empty)} contain no images; add some or remove the folders"
        )
    return files, labels, part_labels if given else None, []


def _all(work: Callable[[Any], T], items: Sequence[Any], names: Sequence[Path] | None = None) -> list[T]:
    """Apply ``work`` to every item, in threads; one message names all images that fail."""

    def attempt(item: Any) -> T | Exception:
        try:
            return work(item)
        except Exception as cause:  # decoders fail in many ways
            return cause

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        results = list(pool.map(attempt, items))
    failed = [at for at, one in enumerate(results) if isinstance(one, Exception)]
    if failed:
        names = items if names is None else names
        shown = "; ".join(f"{names[at]} ({_reason(results[at])})" for at in failed[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        count = "an image" if len(failed) == 1 else f"{len(failed)} images"
        raise DataError(f"{count} of {len(items)} cannot be decoded: {shown}{more}; repair or remove them")
    return results  # type: ignore[return-value]  # none of them is an exception


def _reason(cause: object) -> str:
    message = str(cause) or type(cause).__name__
    return "it is not an image" if message.startswith("cannot identify image file") else message


def _header(pil: Any, file: Path) -> tuple[int, int, bool]:
    """Return height, width and whether the image is grey, from the file's header."""
    with pil.open(file) as image:
        width, height = image.size
        exif = pil.Image.getexif(image)  # the method of PNG images would decode the whole file
        transposed = exif.get(0x0112, 1) in (5, 6, 7, 8)
        grey = image.mode in _GREY
    return (width, height, grey) if transposed else (height, width, grey)


def _shape(headers: Sequence[tuple[int, int, bool]], size: int | Literal["auto"]) -> tuple[int, int, int]:
    channels = 1 if all(grey for *_, grey in headers) else 3
    if size != "auto":
        return channels, size, size
    sizes = {header[:2] for header in headers}
    height, width = (float(np.median([header[axis] for header in headers])) for axis in (0, 1))
    if len(sizes) == 1 and max(height, width) <= _MAX_UNCHANGED_SIDE:
        return channels, round(height), round(width)
    factor = min(1.0, _MAX_RESIZED_SIDE / max(height, width))
    return channels, max(1, round(height * factor)), max(1, round(width * factor))


def _pixels(pil: Any, file: Path, channels: int, height: int, width: int) -> Array:
    from PIL import ImageOps

    with pil.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I") or image.mode == "F":
            image = _eight_bits(pil, image)
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), pil.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _eight_bits(pil: Any, image: Any) -> Any:
    """Convert an image with 16 bits per pixel, or floating-point grey levels, to 8 bits per pixel."""
    values = np.asarray(image, dtype=np.float64)
    top = (
        1.0
        if image.mode == "F" and values.max(initial=0) <= 1
        else 65535.0
        if values.max(initial=0) > 255
        else 255.0
    )
    return pil.fromarray(np.clip(np.nan_to_num(values) * (255.0 / top), 0, 255).round().astype(np.uint8))
