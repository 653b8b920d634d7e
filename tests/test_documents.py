"""The documents: their links lead somewhere, their lines are short, and the README's Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LONGEST = 120


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_lines_are_short(path):
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    # A row of a table cannot be broken.
    assert not [line for line in prose.splitlines() if len(line) > LONGEST and line[0] != "|"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_links_lead_to_files(path):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    own = [target for target in targets if "://" not in target]
    assert not [target for target in own if not (path.parent / target).exists()]


def test_the_readme_has_no_long_line_at_all():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= LONGEST


def test_the_folders_in_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("```\nsrc/descend/")[1].split("```")[0]
    inside = [line for line in block.splitlines() if line.startswith("  ")]
    listed = [word for line in inside for word in re.split(r" {2,}", line.strip())[0].split()]
    parts = [word for word in listed if re.fullmatch(r"\w+(/|\.py)", word)]
    assert len(parts) > 15
    assert not [part for part in parts if not (ROOT / "src" / "descend" / part).exists()]


@pytest.mark.slow
def test_the_python_of_the_readme_runs(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    accuracy, label = capsys.readouterr().out.split()
    assert float(accuracy) == pytest.approx(0.98, abs=0.015)
    assert re.fullmatch(r"\[\d\]", label)


@pytest.mark.slow
def test_the_python_of_resuming_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "resuming.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for block in blocks:
        exec(compile(block, "resuming.md", "exec"), {})
    expected = [
        line.rpartition("# ")[2] for block in blocks for line in block.splitlines() if "print(" in line
    ]
    assert capsys.readouterr().out.splitlines() == expected
    assert len(expected) == 3
