from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import run_folders, sample_runs
from tests.support.examples import examples

from descend.data.schema import Schema
from descend.errors import RunError
from descend.report.page import render
from descend.report.run_files import read


@pytest.mark.parametrize("name", [name for name in sample_runs.RUNS if not name.startswith("hostile")])
def test_the_sample_runs_have_a_valid_schema(name: str) -> None:
    Schema.from_json(json.dumps(sample_runs.RUNS[name]()["schema.json"]))


def test_time_per_epoch_is_the_difference_between_lines(tmp_path: Path) -> None:
    lines = [
        {"epoch": 1, "seconds": 0.5},
        {"epoch": 2, "seconds": 0.75},
        {"epoch": 3},
        {"epoch": 4, "seconds": 2},
    ]
    run = read(run_folders.save({"history.jsonl": lines}, tmp_path))
    assert run.seconds == [0.5, 0.25, None, None]


def test_an_incomplete_last_line_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo', encoding="utf-8")
    assert read(tmp_path).epochs == [1, 2]


def test_the_best_epoch_without_metrics_is_the_last_one_marked(tmp_path: Path) -> None:
    lines = [{"epoch": 1, "best": True}, {"epoch": 2, "best": True}, {"epoch": 3, "best": False}]
    run = read(run_folders.save({"history.jsonl": lines}, tmp_path))
    assert run.best_epoch == 2
    assert run.status == "unfinished"


def test_counts_that_are_not_square_are_ignored(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["evaluation.json"]["confusion"][1].pop()
    assert read(run_folders.save(files, tmp_path)).confusion == ([], [])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "contains no run"),
        ({"metrics.json": "{"}, "metrics.json is damaged"),
        ({"metrics.json": "[1]"}, "expected a JSON object, got list"),
        ({"metrics.json": {}, "history.jsonl": [[1]]}, "is damaged in line 1"),
        ({"metrics.json": "[" * 100_000}, "metrics.json is damaged"),
    ],
)
def test_damaged_files(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message.replace(".", r"\.")):
        read(run_folders.save(files, tmp_path))


def test_damage_in_the_middle_of_the_history(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"ep\n{"epoch": 3}\n', encoding="utf-8")
    with pytest.raises(RunError, match="is damaged in line 2"):
        read(tmp_path)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"cannot read .*recipe\.toml"):
        read(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        read(tmp_path / "nowhere")


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 1e308, 5e-324, 10**400])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All paths in a JSON value; of arrays, only the first two items."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value[:2])) if isinstance(value, list) else []
    return [path, *(deeper for key, item in inner for deeper in paths(item, (*path, key)))]


JSON_FILES = ["schema.json", "history.jsonl", "metrics.json", "evaluation.json", "environment.json"]
# Files and lines of the history remain objects; the tests above cover other values there.
PATHS = [
    (run, (file, *path))
    for run in ("wine", "diabetes")
    for file in JSON_FILES
    for path in paths(sample_runs.RUNS[run]()[file])
    if len(path) > (file == "history.jsonl")
]


@pytest.mark.slow
@given(st.sampled_from(PATHS), ANY_JSON)
@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_value_anywhere_still_yields_a_report(
    tmp_path: Path, place: tuple[str, tuple[Any, ...]], value: Any
) -> None:
    name, path = place
    files = sample_runs.RUNS[name]()
    inner: Any = files
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    page = render(read(run_folders.save(files, tmp_path)))
    assert page.rstrip().endswith("</html>")
