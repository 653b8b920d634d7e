from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from tests.support import run_folders, sample_runs

from descend.report.context import data_section, environment_section, recipe_section, reproduce_section
from descend.report.run_files import read


def row(markup: str, name: str) -> list[str]:
    """The cells of the column's row, as text."""
    match = re.search(rf"<tr><th[^>]*>{name}</th>(.*?)</tr>", markup, re.DOTALL)
    assert match is not None
    return [
        unescape(re.sub("<[^>]+>", "", cell))
        for cell in re.findall(r"<td[^>]*>(.*?)</td>", match[1], re.DOTALL)
    ]


def test_columns(tmp_path: Path) -> None:
    markup = data_section(read(run_folders.save(sample_runs.wine(), tmp_path)))
    assert row(markup, "ash") == [
        "numeric",
        "1.36 to 3.23",
        "2.367 ± 0.2736",
        "7 (4 %)",
        "2.36, with an indicator input",
        "",
    ]
    assert row(markup, "bottled")[:2] == ["date", "2009-01-01 to 2018-12-25"]
    assert row(markup, "cellar") == ["constant", "", "", "0", "", "one value only: left out"]
    region = row(markup, "region")
    assert region[0] == "categorical"
    assert region[1] == "8 categories: Asti, Alba, Cuneo, Torino, Novara, Biella, …Vercelli, Verbania"
    assert region[4] == "no category, with an indicator input"


def test_source_parts_and_fingerprint(tmp_path: Path) -> None:
    markup = data_section(read(run_folders.save(sample_runs.wine(), tmp_path)))
    page_text = unescape(re.sub("<[^>]+>", "", markup))
    assert "training 106 (60 %)" in page_text
    assert "validation 27 (15 %)" in page_text
    assert "test 45 (25 %)" in page_text
    assert "blake2b:5f1d7d84db00d2fce00b31a7fc73224f" in page_text
    assert "multiclass classification (the target has 3 distinct strings)" in page_text
    assert "cultivar, 3 classes: barolo, grignolino and barbera" in page_text


def test_the_recipe_is_verbatim(tmp_path: Path) -> None:
    files = sample_runs.wine()
    markup = recipe_section(read(run_folders.save(files, tmp_path)))
    code = re.search(r'<code id="recipe-text">(.*?)</code>', markup, re.DOTALL)
    assert code is not None
    assert unescape(re.sub("<[^>]+>", "", code[1])) == files["recipe.toml"]


def test_the_command_is_verbatim(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["environment.json"]["command"] = "descend train 'my data.csv' --set 'data.columns.\"a b\"=ignore'"
    markup = reproduce_section(read(run_folders.save(files, tmp_path)))
    assert (
        "descend train &#x27;my data.csv&#x27; --set &#x27;data.columns.&quot;a b&quot;=ignore&#x27;"
        in markup
    )


def test_the_environment_is_complete(tmp_path: Path) -> None:
    files = sample_runs.wine()
    markup = unescape(environment_section(read(run_folders.save(files, tmp_path))))
    facts = {
        key: value
        for key, value in files["environment.json"].items()
        if key not in ("command", "data", "model")
    }
    assert all(str(value) in markup for value in facts.values())


def test_absent_files_yield_no_sections(tmp_path: Path) -> None:
    run = read(run_folders.save({"metrics.json": {"status": "failed"}}, tmp_path))
    assert (recipe_section(run), reproduce_section(run), environment_section(run)) == ("", "", "")
