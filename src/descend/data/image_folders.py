"""Folders of images, one subfolder a class."""

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
_KEEP = 256  # images of one size are kept up to this side, in pixels
_SIDE = 128  # others are resized to at most this side
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
    """The images below a folder, as uint8 (n, channels, height, width).

    The layout is ``folder/CLASS/picture.png``, or with a given split ``folder/train/CLASS/picture.png``,
    ``folder/validation/...``, ``folder/test/...``. If all images are grey there is one channel, otherwise
    three (red, green, blue); transparency is dropped and a camera's orientation is applied.

    Args:
        path: the folder.
        size: side in pixels; ``auto`` keeps images that have one size of at most 256 pixels, and
            resizes others to their median height and width, scaled down to at most 128.
        shape: (channels, height, width) that training had; overrides ``size``.
        stream: whether the pixels are kept on disk, for images that do not fit into memory.
        predicting: images may lie anywhere below the folder, and have no class.

    Raises:
        DataError: no images, no class folders, or images that cannot be decoded (all of them are named).
    """
    try:
        files, labels, parts, notes = _unlabelled(path) if predicting else _labelled(path)
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    image = require("PIL.Image", "images", "reading images")
    heads = _heads(image, files)
    channels, height, width = shape or _shape(heads, size)
    if shape is None and any(head[:2] != (height, width) for head in heads):
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
        inputs[at] = _pixels(image, files[at], channels, height, width)

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


def _heads(image: Any, files: Sequence[Path]) -> list[tuple[int, int, bool]]:
    try:
        return _all(lambda file: _head(image, file), files)
    except DataError:
        _all(lambda file: _decoded(image, file), files)  # names those with a damaged body too
        raise


def _decoded(image: Any, file: Path) -> None:
    with image.open(file) as picture:
        picture.load()


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith((".", "__")))


def _images(path: Path) -> list[Path]:
    found = (one for one in path.rglob("*") if one.suffix.lower() in ENDINGS and one.is_file())
    return sorted(one for one in found if not one.name.startswith("."))


def _unlabelled(path: Path) -> tuple[list[Path], None, None, list[str]]:
    files = _images(path)
    if not files:
        raise DataError(f"{path} holds no images ({', '.join(ENDINGS)})")
    return files, None, None, []


def _labelled(path: Path) -> tuple[list[Path], list[str], list[str] | None, list[str]]:
    folders = _folders(path)
    parts = {PART_WORDS.get(folder.name.lower(), ""): folder for folder in folders}
    given = "train" in parts and "" not in parts
    files: list[Path] = []
    labels: list[str] = []
    marks: list[str] = []
    empty: list[str] = []
    for part, root in (parts if given else {"": path}).items():
        for folder in _folders(root):
            own = _images(folder)
            if not own:
                empty.append(str(folder.relative_to(path)))
            files += own
            labels += [folder.name] * len(own)
            marks += [part] * len(own)
    if not files:
        held = listed(sorted(one.name for one in path.iterdir()), 5) or "nothing"
        raise DataError(
            f"{path}: a folder of images by class was expected (CLASS/picture.png, or "
            f"train/CLASS/picture.png), found {held}"
        )
    if empty:
        raise DataError(f"{path}: the folders {listed(empty)} hold no images; add some or remove the folders")
    return files, labels, marks if given else None, []


def _all(work: Callable[[Any], T], items: Sequence[Any], names: Sequence[Path] | None = None) -> list[T]:
    """``work`` on every item, in threads; all images that fail are named in one message."""

    def attempt(item: Any) -> T | Exception:
        try:
            return work(item)
        except Exception as cause:  # decoders fail in many ways
            return cause

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        found = list(pool.map(attempt, items))
    failed = [at for at, one in enumerate(found) if isinstance(one, Exception)]
    if failed:
        names = items if names is None else names
        shown = "; ".join(f"{names[at]} ({_words(found[at])})" for at in failed[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        count = "an image" if len(failed) == 1 else f"{len(failed)} images"
        raise DataError(f"{count} of {len(items)} cannot be decoded: {shown}{more}; repair or remove them")
    return found  # type: ignore[return-value]  # none is None here


def _words(cause: object) -> str:
    text = str(cause) or type(cause).__name__
    return "it is not an image" if text.startswith("cannot identify image file") else text


def _head(image: Any, file: Path) -> tuple[int, int, bool]:
    """Height, width and whether it is grey, from the file's head."""
    with image.open(file) as picture:
        width, height = picture.size
        exif = image.Image.getexif(picture)  # a PNG's own method would decode all of it
        turned = exif.get(0x0112, 1) in (5, 6, 7, 8)
        grey = picture.mode in _GREY
    return (width, height, grey) if turned else (height, width, grey)


def _shape(heads: Sequence[tuple[int, int, bool]], size: int | Literal["auto"]) -> tuple[int, int, int]:
    channels = 1 if all(grey for *_, grey in heads) else 3
    if size != "auto":
        return channels, size, size
    sizes = {head[:2] for head in heads}
    height, width = (float(np.median([head[axis] for head in heads])) for axis in (0, 1))
    if len(sizes) == 1 and max(height, width) <= _KEEP:
        return channels, round(height), round(width)
    factor = min(1.0, _SIDE / max(height, width))
    return channels, max(1, round(height * factor)), max(1, round(width * factor))


def _pixels(image: Any, file: Path, channels: int, height: int, width: int) -> Array:
    from PIL import ImageOps

    with image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I") or picture.mode == "F":
            picture = _eight_bits(image, picture)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), image.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _eight_bits(image: Any, picture: Any) -> Any:
    """A picture of 16 bits a pixel, or of floating-point grey in [0, 1], with 8 bits a pixel."""
    values = np.asarray(picture, dtype=np.float64)
    top = (
        1.0
        if picture.mode == "F" and values.max(initial=0) <= 1
        else 65535.0
        if values.max(initial=0) > 255
        else 255.0
    )
    return image.fromarray(np.clip(np.nan_to_num(values) * (255.0 / top), 0, 255).round().astype(np.uint8))
