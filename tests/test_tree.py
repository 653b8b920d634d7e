"""The repository contains text that people wrote: no archives, compiled files, weights or data, and no large files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST = 300_000
"""Bytes."""

PICTURES = {"docs/report.png"}
"""Binary files that documents show."""


def tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def is_binary(content: bytes) -> bool:
    return b"\0" in content


def test_no_binary_files_but_pictures_of_the_documents() -> None:
    assert {name for name in tracked() if is_binary((ROOT / name).read_bytes())} == PICTURES


def test_no_large_files() -> None:
    assert not [name for name in tracked() if (ROOT / name).stat().st_size > LARGEST]


@pytest.mark.parametrize("suffix", [".npz", ".pt2", ".png", ".parquet"])
def test_a_binary_file_is_recognized(suffix: str, tmp_path: Path) -> None:
    import numpy as np
    import polars as pl
    import torch
    from PIL import Image

    path = tmp_path / f"file{suffix}"
    writers = {
        ".npz": lambda: np.savez(path, x=np.arange(3)),
        ".pt2": lambda: torch.save(torch.ones(3), path),
        ".png": lambda: Image.new("L", (2, 2)).save(path),
        ".parquet": lambda: pl.DataFrame({"x": [1]}).write_parquet(path),
    }
    writers[suffix]()
    assert is_binary(path.read_bytes())
