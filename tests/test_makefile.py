"""The targets of the Makefile that a new user meets first, with an environment whose programs only report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from descend.cli import main

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment that is up to date, in which descend prints its arguments."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    program(folder / "bin" / "descend", 'echo "descend $@"')
    (folder / ".base").touch()
    return folder


def make(target: str, environment: Path, **variables: str) -> str:
    """Return what make prints; its own variables are those of a shell, not of a make that runs the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "--no-print-directory", target, f"VENV={environment}"],
        cwd=ROOT,
        env=own | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def commands_of(block: str) -> list[list[str]]:
    """Return the commands of descend in the lines that an explanation follows."""
    found = (re.fullmatch(r"  descend (.+?) {2,}\S.*", line) for line in block.splitlines())
    return [match[1].split() for match in found if match]


def test_the_demo_ends_with_what_to_do_next(environment: Path) -> None:
    out = make("demo", environment)
    first, _, block = out.partition("\n")
    assert first == "descend train digits"
    assert block.startswith("\nWhat to do next:\n  make shell")
    assert f". {environment}/bin/activate" in block
    assert len(commands_of(block)) == 3
    assert len(block.splitlines()) < 8


@pytest.mark.slow
def test_the_commands_of_the_demo_work(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = commands_of(make("demo", environment))
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{at},{at % 7}\n" for at in range(60))
    (tmp_path / "FILE.csv").write_text(f"area,COLUMN\n{rows}")
    for command in commands:
        assert main(command) == 0


def test_the_shell_has_the_environment_and_nothing_of_make(environment: Path, tmp_path: Path) -> None:
    shell = tmp_path / "my-shell"
    program(shell, 'descend works; echo "$VIRTUAL_ENV|$MAKEFLAGS|$MAKELEVEL"')
    out = make("shell", environment, SHELL=str(shell)).splitlines()
    assert out[1:] == ["descend works", f"{environment}||"]


def test_every_target_of_the_readme_is_listed_by_help(environment: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {"demo", "shell", "test"} <= targets
    listed = {line.split()[1] for line in make("help", environment).splitlines()}
    assert targets <= listed
