"""Options and commands that do not exist: one line that names the right one, if there is one."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train iris --sed 3", "No such option: --sed. Did you mean --seed? See: descend train --help"),
        (
            "train iris --epochs 5",
            "No such option: --epochs. Did you mean --set stop.max_epochs=VALUE? See: descend train --help",
        ),
        (
            "train iris --lr 5",
            "No such option: --lr. Did you mean --set optimizer.lr=VALUE? See: descend train --help",
        ),
        (
            "train iris --batch-size 5",
            "No such option: --batch-size. Did you mean --set data.batch_size=VALUE? See: descend train --help",
        ),
        (
            "train iris --verbosity",
            "No such option: --verbosity. Settings of the recipe are set by --set SECTION.KEY=VALUE. See: descend train --help",
        ),
        (
            "train iris.csv price",
            "Unexpected argument: price. Did you mean --target price? See: descend train --help",
        ),
        ("train iris --preset fine", "--preset fine: expected quick, good or best"),
        ("predict run rows.csv --target y", "No such option: --target. See: descend predict --help"),
        (
            "export run",
            "Missing option '--format'. One of: pt2, onnx, safetensors. See: descend export --help",
        ),
        (
            "search iris --trials x",
            "Invalid value for '--trials': expected an integer. See: descend search --help",
        ),
        (
            "compare iris --goal x",
            "Invalid value for '--goal': expected a number. See: descend compare --help",
        ),
        ("trian iris", "No such command 'trian'. Did you mean 'train'? See: descend --help"),
        (
            "check gradient iris",
            "No such command 'gradient'. Did you mean 'gradients'? See: descend check --help",
        ),
    ],
)
def test_usage(descend, line, message):
    result = descend(*line.split())
    assert result.status == 2
    assert result.err == f"Error: {message}\n"
    assert result.out == ""


def test_a_group_without_a_command_shows_its_help(descend):
    result = descend("check")
    assert "gradients" in result.out
    assert result.err == ""


def test_folders_that_are_not_runs(descend, tmp_path):
    descend(
        "train", "iris", "--set", "stop.max_epochs=1", "--set", "model.hidden=[4]", "--out", "runs/houses"
    )
    for line in ("predict runs/house iris", "report runs/house", "predict house iris"):
        result = descend(*line.split())
        assert result.err.endswith("; did you mean 'runs/houses'?\n")
    assert "no such run folder: elsewhere\n" in descend("report", "elsewhere").err
    (tmp_path / "runs" / "houses" / "comparison_settings.json").touch()
    assert "is a folder of results" in descend("train", "runs/houses").err
