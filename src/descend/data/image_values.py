"""Files of images for a network that was trained on images: paths, patterns, content in memory, and lists of these."""

from __future__ import annotations

import glob
import os
from io import BytesIO
from pathlib import Path
from typing import Any

from descend.data.image_folders import is_images
from descend.data.image_layout import ENDINGS
from descend.data.table_files import TABLES
from descend.errors import DataError

__all__ = ["image_files"]


def image_files(data: Any) -> list[Any] | None:
    """Return paths, images of Pillow and streams of bytes, from any of these, encoded images, or a list of them.

    A path is that of an image unless its ending is one of a table or an archive; a pattern such as ``photos/*.png``
    stands for the files that it matches.

    Args:
        data: the data to predict.

    Returns: None for other data.

    >>> image_files("photo"), image_files(b"abc")[0].read(), image_files([[1, 2]])
    (None, b'abc', None)
    """
    if isinstance(data, list | tuple):
        found = [image_files(one) for one in data]
        if not data or any(one is None for one in found):
            return None
        return [one for part in found if part is not None for one in part]
    if isinstance(data, bytes | bytearray | memoryview):
        return [BytesIO(bytes(data))]
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        if path.suffix.lower() in ENDINGS and not path.exists() and glob.has_magic(str(data)):
            return [Path(one) for one in sorted(glob.glob(str(data)))] or [path]  # noqa: PTH207, a path may be absolute
        if is_images(data) or (
            path.is_file() and path.suffix.lower() not in (*TABLES, ".npz", ".npy", ".gz", ".zip")
        ):
            return [data]
        return None
    if is_images(data, by_name=False):
        return [data]
    if hasattr(data, "read") and hasattr(data, "seek"):
        content = data.read()
        if not isinstance(content, bytes):
            raise DataError("expected a file of an image opened in binary mode ('rb'), got one in text mode")
        return [BytesIO(content)]
    return None
