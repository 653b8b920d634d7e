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


def test_limits_of_years_numbers_dates_and_times_differ_and_are_readable(tmp_path: Path) -> None:
    common = {"missing": 0, "fill": 0.0, "mean": 0.0, "scale": 1.0}
    files = sample_runs.wine()
    files["schema.json"]["columns"] = [
        {
            **common,
            "name": "year",
            "kind": "numeric",
            "low": 2015.0,
            "high": 2023.0,
            "mean": 2019.09,
            "scale": 2.5,
        },
        {**common, "name": "stamp", "kind": "numeric", "low": 1.7e9, "high": 1.7e9 + 10, "mean": 1.7e9 + 4.5},
        {
            **common,
            "name": "at",
            "kind": "date",
            "low": 18687.25,
            "high": 18687.75,
            "mean": 18687.5,
            "scale": 0.125,
        },
        {**common, "name": "opens", "kind": "time", "low": 0.25, "high": 0.75, "mean": 0.5, "scale": 0.0625},
        {
            **common,
            "name": "stay",
            "kind": "duration",
            "low": 0.03125,
            "high": 12.0,
            "mean": 3.5,
            "scale": 2.25,
        },
        {**common, "name": "price", "kind": "numeric", "low": 0.5, "high": 9.0, "unit": "€"},
    ]
    markup = data_section(read(run_folders.save(files, tmp_path)))
    assert row(markup, "year")[1:3] == ["2015 to 2023", "2019.09 ± 2.5"]
    assert row(markup, "stamp")[1:3] == ["1700000000 to 1700000010", "1700000004.5 ± 1"]
    assert row(markup, "at")[1:3] == ["2021-03-01 06:00 to 2021-03-01 18:00", "2021-03-01 12:00 ± 3 h"]
    assert row(markup, "opens")[1:3] == ["06:00 to 18:00", "12:00 ± 1 h 30 min"]
    assert row(markup, "stay")[1:3] == ["45 min to 12 days", "3.5 days ± 2.25 days"]
    assert row(markup, "price")[1] == "0.5 to 9 €"
