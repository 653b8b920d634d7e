"""Compressed files: gzip, bzip2, xz, Zstandard and zip, recognized by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType

from descend.data.messages import listed
from descend.errors import DataError, MissingExtraError, require

__all__ = ["COMPRESSED", "compression_of", "decompress", "inner_suffix"]

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Suffixes of compressed files, which follow that of the table: ``data.csv.gz``."""

_MAGIC = {
    ".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00", ".zst": b"\x28\xb5\x2f\xfd", ".zip": b"PK\x03\x04",
}  # fmt: skip


def inner_suffix(path: Path) -> str:
    """Return the suffix of a file in lower case, without that of its compression.

    >>> inner_suffix(Path("houses.CSV.gz")), inner_suffix(Path("houses.csv")), inner_suffix(Path("houses.zip"))
    ('.csv', '.csv', '')
    """
    name = path.name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return Path(name).suffix


def compression_of(head: bytes) -> str | None:
    """Return the suffix of the compression that the first bytes of a file belong to, or None.

    >>> compression_of(gzip.compress(b"a,b")), compression_of(b"a,b")
    ('.gz', None)
    """
    return next((suffix for suffix, magic in _MAGIC.items() if head.startswith(magic)), None)


def decompress(name: str, content: bytes, compression: str) -> tuple[bytes, str]:
    """Return the content of a compressed file, and the name of the file within a zip archive.

    Args:
        name: the file, for messages.
        content: all of its bytes.
        compression: one of :data:`COMPRESSED`.

    Raises:
        DataError: the content is damaged or encrypted, or an archive contains several files.
        MissingExtraError: the file is compressed by Zstandard, and no package reads it.
    """
    if compression_of(content[:8]) != compression:
        raise DataError(
            f"{name} is not compressed as its suffix {compression} says; rename it or save it again"
        )
    try:
        if compression == ".zip":
            return _only_member(name, content)
        return _DECOMPRESS[compression](content), ""
    except (MissingExtraError, DataError):
        raise
    except MemoryError as cause:
        raise DataError(f"{name}: the decompressed content does not fit into memory") from cause
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
    ) as cause:
        raise DataError(f"{name} cannot be decompressed: {cause}; is it damaged?") from cause
    except Exception as cause:  # zipfile.BadZipFile, and the error classes of each Zstandard package
        raise DataError(f"{name} cannot be decompressed: {cause}; is it damaged?") from cause


def _only_member(name: str, content: bytes) -> tuple[bytes, str]:
    """Return the only file of a zip archive; folders, hidden files and those of macOS do not count."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = [
            member for member in archive.namelist()
            if not member.endswith("/") and not member.startswith("__MACOSX/") and not Path(member).name.startswith(".")
        ]  # fmt: skip
        if len(members) != 1:
            raise DataError(
                f"{name}: expected an archive with one table, got {listed(members) or 'no files'}; "
                "extract the archive and specify one of the files"
            )
        return archive.read(members[0]), members[0]


def _zstandard(content: bytes) -> bytes:
    """Decompress Zstandard by the standard library (Python 3.14), its backport, or ``zstandard``."""
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return bytes(importlib.import_module(module).decompress(content))
        except ModuleNotFoundError:
            continue
    zstandard: ModuleType = require("zstandard", "zstd", "reading a file compressed by Zstandard (.zst)")
    with zstandard.ZstdDecompressor().stream_reader(BytesIO(content), read_across_frames=True) as reader:
        return bytes(reader.read())


_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress, ".zst": _zstandard,
}  # fmt: skip
