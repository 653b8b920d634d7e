"""Images: folders with one subfolder per class, and single files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from descend.data.image_layout import ENDINGS, labeled_images, unlabeled_images
from descend.data.messages import listed
from descend.data.pixel_depth import LevelRange, eight_bits, is_deep, white_level
from descend.data.source import Array, Source
from descend.data.streaming import mapped
from descend.errors import DataError, require

__all__ = ["ENDINGS", "read_image_folder", "read_images"]

_MAX_UNCHANGED_SIDE = 256  # pixels; images that all have one size are not resized up to this side
_MAX_RESIZED_SIDE = 128  # pixels; other images are resized to at most this side
_GRAY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F")

T = TypeVar("T")


def read_image_folder(
    path: Path,
    *,
    size: int | Literal["auto"] = "auto",
    shape: tuple[int, int, int] | None = None,
    white: float | Literal["auto", "none"] = "auto",
    predicting: bool = False,
    stream: bool = False,
) -> Source:
    """Read the images in a folder as uint8 (n, channels, height, width).

    The layout is ``folder/CLASS/image.png``, or with a given split ``folder/train/CLASS/image.png``,
    ``folder/validation/...``, ``folder/test/...``. If all images are gray there is one channel, otherwise
    three (red, green, blue). Transparent pixels are white, the orientation in the EXIF data is applied, and of an animation
    the first frame is used. Images with more than 8 bits per pixel have one level of white, see
    :mod:`descend.data.pixel_depth`.

    Args:
        path: the folder.
        size: side in pixels; ``auto`` keeps images that all have the same size of at most 256 pixels, and
            resizes others to their median height and width, scaled down to at most 128.
        shape: (channels, height, width) of the training images; overrides ``size``.
        white: the level of white of images with more than 8 bits per pixel; ``auto`` finds it from all of them, and
            ``none`` refuses such images.
        predicting: whether the images have no class; they may then be anywhere in the folder.
        stream: whether the pixels are kept on disk, for images that do not fit into memory.

    Raises:
        DataError: there are no images or no class folders, or images cannot be decoded (the message names them).
    """
    try:
        files, labels, parts, notes = unlabeled_images(path) if predicting else labeled_images(path)
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    inputs, found, own_notes = _read(
        files, str(path), size=size, shape=shape, white=white, allocate=mapped if stream else np.empty
    )
    return Source(
        name=path.resolve().name,
        reference=str(path),
        kind="images",
        inputs=inputs,
        white=found,
        targets=None if labels is None else np.array(labels, dtype=object),
        target_names=() if labels is None else ("class",),
        split=None if parts is None else np.array(parts),
        row_names=tuple(str(file.relative_to(path)) for file in files),
        notes=(*notes, *own_notes),
    )


def read_images(
    images: Sequence[Any],
    *,
    shape: tuple[int, int, int] | None = None,
    white: float | Literal["auto", "none"] = "auto",
) -> Source:
    """Read some images for prediction, as :func:`read_image_folder` reads those of a folder.

    Args:
        images: paths, images of Pillow, or the content of files in memory.
        shape: (channels, height, width) of the training images.
        white: as in :func:`read_image_folder`.

    Raises:
        DataError: images cannot be decoded (the message names them).
    """
    files = [Path(image) if isinstance(image, str | os.PathLike) else image for image in images]
    names = [str(file) if isinstance(file, Path) else f"image {at}" for at, file in enumerate(files)]
    absent = [file for file in files if isinstance(file, Path) and not file.is_file()]
    if absent:
        raise DataError(f"no such file: {listed([str(file) for file in absent])}")
    inputs, found, notes = _read(files, names[0], names=names, shape=shape, white=white)
    return Source(
        name=names[0] if len(names) == 1 else f"{len(names)} images",
        reference=None,
        kind="images",
        inputs=inputs,
        white=found,
        targets=None,
        target_names=(),
        row_names=tuple(names),
        notes=notes,
    )


def is_images(data: object, *, by_name: bool = True) -> bool:
    """Return whether data are an image or a list of images: images of Pillow, or paths with the ending of an image.

    Args:
        data: the data.
        by_name: whether paths are recognized too.

    >>> is_images("cat.png"), is_images(["a.jpg", "b.jpg"]), is_images("cats.csv"), is_images([])
    (True, True, False, False)
    """
    if isinstance(data, list | tuple):
        return len(data) > 0 and all(is_images(one, by_name=by_name) for one in data)
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        return by_name and path.suffix.lower() in ENDINGS and not path.is_dir()
    return type(data).__module__.startswith("PIL.") and hasattr(data, "convert")


def _read(
    files: Sequence[Any],
    where: str,
    *,
    names: Sequence[str] | None = None,
    size: int | Literal["auto"] = "auto",
    shape: tuple[int, int, int] | None,
    white: float | Literal["auto", "none"],
    allocate: Callable[..., Array] = np.empty,
) -> tuple[Array, float | None, tuple[str, ...]]:
    """Return the pixels of some images, the level of white of those with more than 8 bits, and notes."""
    pil = require("PIL.Image", "images", "reading images")
    names = [str(file) for file in files] if names is None else names
    headers = _headers(pil, files, names)
    channels, height, width = shape or _shape(headers, size)
    notes = []
    if shape is None and any((one.height, one.width) != (height, width) for one in headers):
        notes.append(f"images are resized to {height} x {width} pixels (height x width)")
    animated = [name for name, one in zip(names, headers, strict=True) if one.animated]
    if animated:
        notes.append(
            f"the first frame of {len(animated)} images with several frames is used ({listed(animated, 2)})"
        )
    level = _white(pil, files, headers, names, white)
    if level is not None and white == "auto":
        notes.append(
            f"gray levels of images with more than 8 bits per pixel are scaled from 0..{level:g} to 0..255 "
            "(data.image_white)"
        )
    try:
        inputs = allocate((len(files), channels, height, width), dtype=np.uint8)
    except MemoryError as cause:
        raise DataError(
            f"{where}: {len(files)} images of {height} x {width} pixels do not fit into memory; "
            "choose a smaller data.image_size, or data.stream = true"
        ) from cause

    def load(at: int) -> None:
        inputs[at] = _pixels(pil, files[at], channels, height, width, level)

    _all(load, range(len(files)), names)
    return inputs, level, tuple(notes)


def _white(
    pil: Any,
    files: Sequence[Any],
    headers: Sequence[_Header],
    names: Sequence[str],
    specified: float | Literal["auto", "none"],
) -> float | None:
    """Return the level of white of the images with more than 8 bits per pixel; None if there are none."""
    deep = [at for at, one in enumerate(headers) if is_deep(one.mode)]
    if not deep:
        return None if isinstance(specified, str) else specified
    if specified == "none":
        raise DataError(
            f"{names[deep[0]]} has more than 8 bits per pixel (mode {headers[deep[0]].mode}), but no training image "
            "has, so its level of white is unknown; convert it to 8 bits, or train with data.image_white"
        )

    def measured(at: int) -> LevelRange:
        with _opened(pil, files[at]) as image:
            return LevelRange.of(names[at], np.asarray(image))

    ranges = _all(measured, deep, [names[at] for at in deep])
    return white_level(ranges, specified, mixed=len(deep) < len(files))


def _opened(pil: Any, file: Any) -> Any:
    """Open a file; an image that is already open stays open."""
    if isinstance(file, BytesIO):
        return pil.open(BytesIO(file.getvalue()))
    return pil.open(file) if isinstance(file, Path) else nullcontext(file)


@dataclass(frozen=True)
class _Header:
    """Height and width after rotation, the mode, and whether there are several frames."""

    height: int
    width: int
    mode: str
    animated: bool


def _headers(pil: Any, files: Sequence[Any], names: Sequence[str]) -> list[_Header]:
    try:
        return _all(lambda file: _header(pil, file), files, names)
    except DataError:
        _all(lambda file: _decoded(pil, file), files, names)  # also finds files whose pixel data are damaged
        raise


def _decoded(pil: Any, file: Any) -> None:
    with _opened(pil, file) as image:
        image.load()


def _all(work: Callable[[Any], T], items: Sequence[Any], names: Sequence[str]) -> list[T]:
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
        shown = "; ".join(f"{names[at]} ({_reason(results[at])})" for at in failed[:5])
        more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
        count = "an image" if len(failed) == 1 else f"{len(failed)} images"
        raise DataError(f"{count} of {len(items)} cannot be decoded: {shown}{more}; repair or remove them")
    return results  # type: ignore[return-value]  # none of them is an exception


def _reason(cause: object) -> str:
    message = str(cause) or type(cause).__name__
    return "it is not an image" if message.startswith("cannot identify image file") else message


def _header(pil: Any, file: Any) -> _Header:
    """Return what the file's header says."""
    with _opened(pil, file) as image:
        width, height = image.size
        exif = pil.Image.getexif(image)  # the method of PNG images would decode the whole file
        transposed = exif.get(0x0112, 1) in (5, 6, 7, 8)
        # The second frame of MPO files, which some cameras write, is a preview or the view of another lens.
        animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        mode = image.mode
    return _Header(*((width, height) if transposed else (height, width)), mode, animated)


def _shape(headers: Sequence[_Header], size: int | Literal["auto"]) -> tuple[int, int, int]:
    channels = 1 if all(one.mode in _GRAY for one in headers) else 3
    if size != "auto":
        return channels, size, size
    sizes = {(one.height, one.width) for one in headers}
    height, width = (
        float(np.median([getattr(one, side) for one in headers])) for side in ("height", "width")
    )
    if len(sizes) == 1 and max(height, width) <= _MAX_UNCHANGED_SIDE:
        return channels, round(height), round(width)
    factor = min(1.0, _MAX_RESIZED_SIDE / max(height, width))
    return channels, max(1, round(height * factor)), max(1, round(width * factor))


def _opaque(pil: Any, image: Any) -> Any:
    """Return an image on a white background where it is transparent; the colors stored there are often arbitrary."""
    if not image.has_transparency_data:
        return image
    layered = image.convert("RGBA")
    background = pil.new("RGBA", layered.size, (255, 255, 255, 255))
    return pil.alpha_composite(background, layered)


def _pixels(pil: Any, file: Any, channels: int, height: int, width: int, white: float | None) -> Array:
    from PIL import ImageOps

    with _opened(pil, file) as opened:
        image = ImageOps.exif_transpose(opened)
        if is_deep(image.mode):
            assert white is not None
            image = pil.fromarray(eight_bits(np.asarray(image), white))
        image = _opaque(pil, image).convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), pil.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
