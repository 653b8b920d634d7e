"""Where the images of a folder are: one subfolder per class, possibly in folders of parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from descend.data.messages import listed
from descend.data.split import PART_WORDS
from descend.errors import DataError

__all__ = ["ENDINGS", "labeled_images", "unlabeled_images"]

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".tga",
    ".jp2", ".avif",
)  # fmt: skip
_OF_SYSTEMS = ("Thumbs.db", "desktop.ini")
_UNREAD = (".heic", ".heif", ".svg", ".ico", ".psd", ".raw", ".cr2", ".nef", ".arw", ".dng", ".dcm", ".nii", ".pdf",
           ".mp4", ".mov", ".jxl", ".exr", ".hdr")  # fmt: skip


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith((".", "__")))


def _files(path: Path) -> list[Path]:
    """Return the files in a folder and its subfolders, without hidden ones and those in hidden folders."""
    return sorted(
        one for one in path.rglob("*")
        if not any(part.startswith(".") or part == "__MACOSX" for part in one.relative_to(path).parts)
        and one.name not in _OF_SYSTEMS and one.is_file()
    )  # fmt: skip


def _images(path: Path) -> list[Path]:
    return [one for one in _files(path) if one.suffix.lower() in ENDINGS]


def unlabeled_images(path: Path) -> tuple[list[Path], None, None, list[str]]:
    """Return the images in a folder, at any depth, without classes, parts and notes."""
    files = _images(path)
    if not files:
        raise DataError(f"{path} contains no images ({', '.join(ENDINGS)})")
    return files, None, None, []


def labeled_images(path: Path) -> tuple[list[Path], list[str], list[str] | None, list[str]]:
    """Return the images in a folder of classes, the class and the part of each (None without parts), and notes.

    Raises:
        DataError: there are no folders of classes, or some have no images.
    """
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
    if not files and (other := _other_formats(path)):
        raise DataError(
            f"{path} contains no images that can be read, but {other}; convert them to PNG or JPEG"
        )
    if not files:
        content = listed(sorted(one.name for one in path.iterdir()), 5) or "an empty folder"
        hint = f"; the folder above, {path.parent}, may be meant" if _images(path) else ""
        raise DataError(
            f"{path}: expected a folder with one subfolder of images per class (CLASS/image.png, or "
            f"train/CLASS/image.png), got {content}{hint}"
        )
    if empty:
        raise DataError(
            f"{path}: the folder {listed(empty)} contains no images; add some or remove the folder"
            if len(empty) == 1
            else f"{path}: the folders {listed(empty)} contain no images; add some or remove the folders"
        )
    _refuse_outer_folder(path, sorted(set(labels)), files)
    return files, labels, part_labels if given else None, _skipped(path, files)


def _other_formats(path: Path) -> str:
    """Return what a folder contains files of, if these may be images in another format, otherwise ``""``."""
    endings = [one.suffix.lower() for one in _files(path)]
    found = [ending for ending in sorted(set(endings)) if ending in _UNREAD]
    return " and ".join(f"{endings.count(ending)} {ending}" for ending in found)


def _refuse_outer_folder(path: Path, classes: Sequence[str], files: Sequence[Path]) -> None:
    """Raise a DataError if the only class is a folder that only contains the folders of the classes."""
    if len(classes) != 1 or any(len(file.relative_to(path).parts) < 3 for file in files):
        return
    outer = path / files[0].relative_to(path).parts[0]
    inner = sorted({file.relative_to(outer).parts[0] for file in files if file.is_relative_to(outer)})
    if len(inner) > 1 and outer.name == classes[0]:
        raise DataError(
            f"{path} has only one folder of a class, {outer.name!r}, with the folders {listed(inner, 5)} in it; if "
            f"these are the classes, specify {outer}"
        )


def _skipped(path: Path, used: Sequence[Path]) -> list[str]:
    """Return notes on the files of a folder that are not used."""
    known = set(used)
    others = [one for one in _files(path) if one not in known]
    outside = [str(one.relative_to(path)) for one in others if one.suffix.lower() in ENDINGS]
    formats = sorted({one.suffix.lower() or one.name for one in others if one.suffix.lower() not in ENDINGS})
    notes = []
    if outside:
        notes.append(
            f"{len(outside)} images are not in a folder of a class, and are not used ({listed(outside, 2)})"
        )
    if formats:
        count = len(others) - len(outside)
        notes.append(
            f"{count} {'file is' if count == 1 else 'files are'} not read as {'an image' if count == 1 else 'images'} "
            f"({', '.join(formats[:5])}{', ...' if len(formats) > 5 else ''})"
        )
    return notes
