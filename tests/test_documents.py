"""The documents: their links lead somewhere, their lines are short, and the README's Python runs."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from descend.cards import card
from descend.metrics import METRICS, find_metric

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


def test_every_metric_is_documented_with_its_formula():
    table = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    documented = {row[0].strip("| `"): row for row in rows}
    families = {"top_K": "top_5", "pinball_Q": "pinball_0.9"}
    assert set(documented) == {*METRICS, *families}
    for name, row in documented.items():
        metric = find_metric(families.get(name, name))
        function = metric.function
        own = card(function.func if isinstance(function, functools.partial) else function)
        assert own is not None
        assert row[2] == metric.better, name
        assert row[4].replace("\\|", "|") == own.formula, name
        assert (row[3] == "each epoch") == metric.each_epoch, name


def test_the_python_of_the_page_on_metrics_runs():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, "metrics.md", "exec"), names)
    assert isinstance(names["run"].metrics["test"]["profit"], float)


def test_the_tables_on_comparing_are_those_of_the_newest_measurement():
    """Figures of the page come from benchmarks/documented_comparisons.py, and its sentences from their tests."""
    text = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    results = sorted((ROOT / "benchmarks" / "results" / "documented_comparisons").glob("*.json"))
    record = json.loads(results[-1].read_text(encoding="utf-8"))
    page = results[-1].with_suffix(".md").read_text(encoding="utf-8")
    assert f"Measured on {record['session']['date']} at commit {record['commit']}" in text
    rows = [
        line for line in page.splitlines() if line.startswith("|") and "---" not in line and ":-" not in line
    ]
    assert len(rows) == 2 * (4 + 4)
    assert not [row for row in rows if row not in text]
    flat = " ".join(text.split())
    for name in ("sizes", "optimizers"):
        significant = [test for test in record[name]["tests"] if test["adjusted"] < 0.05]
        if not significant:
            assert "No difference is significant" in flat
        for test in significant:
            pair = (test["first"], test["second"])
            better, worse = pair if test["difference"] > 0 else pair[::-1]
            assert f"{better} is significantly better than {worse}." in flat


@pytest.mark.parametrize("name", ["compare", "defaults", "gallery", "optimizers"])
def test_pages_with_figures_state_when_they_were_measured(name):
    text = " ".join((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").split())
    assert re.search(r"[Mm]easured on \d{4}-\d\d-\d\d at commit [0-9a-f]{7}", text)


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


def test_the_python_of_the_data_formats_runs(capsys):
    text = (ROOT / "docs" / "data-formats.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "data-formats.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "['id', 'prediction']",
        "('area', 'city: mean target')",
        "('crime', 'war') (1, 2)",
    ]


def test_every_format_of_tables_is_documented():
    from descend.data.compression import COMPRESSED
    from descend.data.table_files import TABLES

    text = (ROOT / "docs" / "data-formats.md").read_text(encoding="utf-8")
    assert not [suffix for suffix in (*TABLES, ".npz") if f"`{suffix}`" not in text]
    assert not [suffix for suffix in COMPRESSED if suffix not in text and suffix not in (".bz2", ".xz")]


@pytest.mark.slow
def test_the_python_of_dates_runs(capsys):
    text = (ROOT / "docs" / "dates.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for block in blocks:
        exec(compile(block, "dates.md", "exec"), {})
    assert float(capsys.readouterr().out) == 1.0


@pytest.mark.slow
def test_the_python_of_the_page_on_tables_runs(capsys):
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        names: dict[str, Any] = {}
        exec(compile(block, "tables.md", "exec"), names)
    assert float(capsys.readouterr().out) > 0.9
    # The recipe uses each method of the page by its name.
    assert not [
        name for name in ("robust", "periodic", "data_driven", "coslog4", "flat_cosine") if name not in text
    ]
    run = names["run"]
    assert [name for name, _ in run.model.named_children()][:3] == ["numbers", "scale", "linear1"]
    assert run.metrics["epochs"] == 256


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


@pytest.mark.slow
def test_the_python_of_numbers_runs():
    text = (ROOT / "docs" / "numbers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "numbers.md", "exec"), {})


@pytest.mark.slow
def test_the_python_of_losses_runs(capsys):
    text = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile("\n".join(blocks), "losses.md", "exec"), {})
    expected = [
        line.rpartition("  # ")[2] for block in blocks for line in block.splitlines() if "print(" in line
    ]
    assert capsys.readouterr().out.splitlines() == expected
    assert len(expected) == 7
