"""Files are complete or absent, and damage is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from descend.errors import RunError
from descend.files import (
    check_unused,
    json_bytes,
    make_folder,
    read_json,
    read_json_lines,
    read_text,
    write_atomically,
)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    write_atomically(path, b"before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"No space left on device; the previous content is unchanged"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["last.safetensors"]


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = {"name": "Zürich", "values": [1, 2.5, None], "inner": {"flag": True}}
    write_atomically(tmp_path / "x.json", json_bytes(content))
    assert read_json(tmp_path / "x.json") == content
    assert "Zürich" in read_text(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "x.json is damaged: "),
        (b"[1]", "x.json is damaged: expected a JSON object, got list"),
        (b"1" * 5000, "x.json is damaged: "),
        (b"[" * 100_000, "x.json is damaged: "),
        (b"\xff", "cannot read .*x.json"),
        (None, "cannot read .*x.json"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_json(tmp_path / "x.json")


class TestLines:
    def test_the_damaged_one_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n{"a"')
        with pytest.raises(RunError, match="damaged in line 4"):
            read_json_lines(tmp_path / "x.jsonl")

    def test_of_a_growing_file_end_before_the_incomplete_one(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n{"a"')
        assert read_json_lines(tmp_path / "x.jsonl", growing=True) == [{"a": 1}, {"a": 2}]


class TestFolders:
    def test_an_empty_or_absent_one_is_unused(self, tmp_path: Path) -> None:
        check_unused(tmp_path)
        check_unused(tmp_path / "new")
        make_folder(tmp_path / "a" / "b")
        make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()

    def test_one_in_use_is_refused_in_the_words_of_its_purpose(self, tmp_path: Path) -> None:
        (tmp_path / "search.json").write_text("{}")
        with pytest.raises(RunError, match="holds another search; continue it with resume=True"):
            check_unused(tmp_path, what="search", markers=("search.json",))
        with pytest.raises(RunError, match="is not empty and holds no run"):
            check_unused(tmp_path)
        with pytest.raises(RunError, match="is a file; a run needs a folder of its own"):
            check_unused(tmp_path / "search.json")
        with pytest.raises(RunError, match=r"cannot create the run folder .*: Not a directory"):
            make_folder(tmp_path / "search.json" / "run")


def test_a_folder_that_was_removed_is_named_instead_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=rf"the folder {tmp_path}/run does not exist any more; it was moved or removed$"
    ):
        write_atomically(tmp_path / "run" / "metrics.json", b"{}")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="the system has no such device")
def test_a_device_is_not_a_folder() -> None:
    with pytest.raises(RunError, match="/dev/null is a file; a run needs a folder of its own"):
        check_unused(Path("/dev/null"))
