"""No message is longer than a screen of 40 lines of 80 characters, however many faults the input has."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import descend
from descend.cli import main
from descend.errors import RecipeError, UserError, abridged, together

COLUMNS = 520


def height(message: str) -> int:
    return sum(max(1, -(-len(line) // 80)) for line in message.splitlines())


def table(path: Path, names: Sequence[str], cell: str | None = None) -> str:
    rng = random.Random(0)
    rows = [[cell or f"{rng.random():.4f}" for _ in names] + [str(at % 2)] for at in range(40)]
    path.write_text("\n".join(",".join(row) for row in [[*names, "y"], *rows]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables, recipes and a run."""
    folder = tmp_path_factory.mktemp("long")
    names = [f"column_{number}" for number in range(COLUMNS)]
    wide = table(folder / "wide.csv", names)
    table(folder / "narrow.csv", ["other"])
    table(folder / "words.csv", names, cell="oops")
    table(folder / "names.csv", ["a" * 5000, "b" * 3000])
    table(folder / "other.csv", [f"other_{number}" for number in range(COLUMNS)])
    keys = "\n".join(f"bad_key_{number} = {number}" for number in range(60))
    sections = "\n".join(f"[{section}]\n{keys}" for section in ("optimizer", "model", "stop", "data"))
    (folder / "keys.toml").write_text(sections)
    (folder / "sections.toml").write_text("\n".join(f"[section{number}]\nx = 1" for number in range(200)))
    quick = {"stop": {"max_epochs": 1}, "engine": {"threads": 1}}
    descend.train(wide, quick, target="y", out=folder / "run")
    return folder


def sets(key: str, value: str) -> list[str]:
    return [part for number in range(200) for part in ("--set", f"{key}{number}={value}")]


CASES = {
    "missing columns": ["predict", "run", "narrow.csv"],
    "other columns": ["predict", "run", "other.csv"],
    "strings for numbers": ["predict", "run", "words.csv"],
    "long columns": ["predict", "run", "names.csv"],
    "long key": ["train", "narrow.csv", "--target", "y", "--set", f"optimizer.{'k' * 9000}=1"],
    "long target": ["train", "narrow.csv", "--target", "t" * 9000],
    "keys": ["train", "narrow.csv", "--target", "y", "--recipe", "keys.toml"],
    "sections": ["train", "narrow.csv", "--target", "y", "--recipe", "sections.toml"],
    "assignments": ["train", "narrow.csv", "--target", "y", *sets("optimizer.k", "1")],
    "declared columns": ["train", "narrow.csv", "--target", "y", *sets("data.columns.c", "numeric")],
    "declared long column": ["train", "names.csv", "--target", "y", "--set", f"data.columns.{'a' * 5000}=date"],
    "target": ["train", "wide.csv", "--target", "z"],
    "targets": ["train", "wide.csv", "--target", ",".join(f"zz{number}" for number in range(300))],
    "kept columns": ["predict", "run", "wide.csv", "--keep", ",".join(f"k{at}" for at in range(300))],
    "varied": ["compare", "narrow.csv", "--target", "y", "--vary", f"optimizer.name={','.join(map(str, range(200)))}"],
    "option": ["train", "narrow.csv", "--" + "o" * 9000],
    "file": ["train", "f" * 200 + "/" + "g" * 200 + ".csv"],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_messages_of_many_faults_fit_on_a_screen(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    assert main(CASES[name]) == 2
    message = capsys.readouterr().err
    assert "Error: " in message
    assert 1 <= height(message) <= 40
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_exception_has_the_same_message_and_every_problem() -> None:
    keys = {f"bad_key_{number}": number for number in range(200)}
    with pytest.raises(RecipeError) as caught:
        descend.train("iris", {"optimizer": keys})
    message = str(caught.value)
    assert height(message) <= 36
    assert len(caught.value.problems) == 200
    shown = message.count("unknown key")
    assert shown > 10
    assert message.splitlines()[0] == "The recipe has 200 problems:"
    assert message.splitlines()[-1] == f"  and {200 - shown} more"
    assert message.count("one of: ") == 1  # the valid keys are listed once


def test_a_message_that_fits_is_unchanged() -> None:
    message = "\n".join(f"line {number} " + "w" * 60 for number in range(36))
    assert abridged(message) == str(UserError(message)) == message
    assert together("Head:", ["a"] * 34).count("  a") == 34
    assert together("Head:", ["a"] * 35).splitlines()[-1] == "  and 1 more"


@pytest.mark.parametrize(
    "message",
    [
        "x" * 9000,
        "word " * 2000,
        "line\n" * 500,
        "\n" * 500,
        ("y" * 500 + "\n") * 90,
        "line " * 60 + "\n" * 35,
    ],
)
def test_any_message_is_abridged_once(message: str) -> None:
    short = abridged(message)
    assert height(short) <= 36
    assert abridged(short) == short
    assert height(str(UserError(together("Head:", [message] * 300)))) <= 36


def test_the_end_of_a_long_line_is_kept() -> None:
    advice = "; use lbfgs instead"
    assert abridged("the matrix " + "is large " * 1000 + advice).endswith(advice)
    assert re.fullmatch(r"column 'b+\.\.\.b+' is empty", abridged(f"column '{'b' * 9000}' is empty"))
