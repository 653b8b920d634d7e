import json
import os
import resource
import subprocess
import sys
import warnings

import pytest

from descend._version import __version__
from descend.errors import DivergedError, Interrupted, MissingExtraError

COMMANDS = ["train", "predict", "evaluate", "report", "export", "recipe", "methods"]
HEAVY = {"torch", "polars", "sklearn", "pydantic", "numpy", "rich", "plotly"}


def test_the_version(descend):
    result = descend("--version")
    assert (result.status, result.out) == (0, f"descend {__version__}\n")


def test_nothing_at_all_shows_the_help(descend):
    result = descend()
    assert result.status == 0
    assert result.out == descend("--help").out
    for command in COMMANDS:
        assert f"\n  {command}  " in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(descend, command):
    result = descend(command, "--help")
    assert result.status == 0
    assert f"  descend {command}" in result.out.partition("Example")[2]
    assert "..." not in result.out.partition("Arguments:")[0].replace("{DATA}...", "")  # several arguments


@pytest.mark.slow
def test_no_help_imports_anything_heavy():
    code = (
        "import sys\nfrom descend.cli import main\n"
        f"for command in [[], *([each] for each in {COMMANDS})]:\n"
        "    assert main([*command, '--help']) == 0\n"
        f"print(*[name for name in {sorted(HEAVY)} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


@pytest.mark.slow
def test_help_takes_less_than_three_tenths_of_a_second():
    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "descend", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    seconds()  # writes the compiled files
    # Time of the processor, the least of a few: what else the machine does is not the program's.
    assert min(seconds() for _ in range(5)) < 0.3


def test_an_unknown_command_is_the_users_mistake(descend):
    result = descend("trian")
    assert (result.status, result.out) == (2, "")
    assert result.err == "Error: No such command 'trian'. Did you mean 'train'? See: descend --help\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "iris", "--sede", "3"], ["--sede", "--seed", "descend train --help"]),
        (["train", "iris", "--seed", "three"], ["--seed", "three"]),
        (["predict"], ["RUN"]),
        (
            ["export", "somewhere", "--format", "pickle"],
            ["'pickle' is not one of 'pt2', 'onnx', 'safetensors'"],
        ),
    ],
)
def test_mistakes_in_the_options(descend, arguments, words):
    result = descend(*arguments, "--json") if arguments[0] == "train" else descend(*arguments)
    assert result.status == 2
    for word in words:
        assert word in result.err
    assert result.err.count("\n") == 1
    if arguments[0] == "train":
        assert result.json == {"error": {"kind": "UsageError", "message": result.err[len("Error: ") : -1]}}


def failing(error):
    def plan_run(*arguments, **more):
        raise error

    return plan_run


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (MissingExtraError("install it"), 2, "Error: install it\n"),
        (DivergedError("Training diverged.\nWhat helps"), 3, "Error: Training diverged.\nWhat helps\n"),
        (Interrupted("stopped in epoch 3"), 130, "Stopped in epoch 3\n"),
        (KeyboardInterrupt(), 130, "Stopped before anything was saved\n"),
        (PermissionError(13, "Permission denied", "runs"), 2, "Error: runs: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "Error: No space left on device\n"),
        (MemoryError(), 3, "Error: not enough memory; use smaller batches"),
    ],
)
def test_errors_become_words_and_a_status(descend, monkeypatch, error, status, words):
    monkeypatch.setattr("descend.runs.plan.plan_run", failing(error))
    result = descend("train", "iris", "--json")
    assert result.status == status
    assert result.err.startswith(words)
    assert "Traceback" not in result.err
    assert set(result.json) == {"error"}
    assert set(result.json["error"]) == {"kind", "message"}


@pytest.mark.parametrize("how", ["option", "variable", None])
def test_a_fault_of_our_own_asks_for_a_report(descend, monkeypatch, how):
    monkeypatch.setattr("descend.runs.plan.plan_run", failing(ZeroDivisionError("by zero")))
    if how == "variable":
        monkeypatch.setenv("DESCEND_TRACEBACK", "1")
    result = descend("train", "iris", *(["--traceback"] if how == "option" else []))
    assert (result.status, result.out) == (1, "")
    assert "internal error of descend: ZeroDivisionError: by zero" in result.err
    assert "--traceback" in result.err
    assert ("Traceback (most recent call last)" in result.err) == (how is not None)


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_for_people(descend, monkeypatch):
    def plan_run(*arguments, **more):
        warnings.warn("weights all zero never move", stacklevel=2)
        warnings.warn("old", DeprecationWarning, stacklevel=2)
        raise Interrupted("stopped")

    monkeypatch.setattr("descend.runs.plan.plan_run", plan_run)
    assert descend("train", "iris").err.splitlines()[0] == "Note: weights all zero never move"


@pytest.mark.slow
def test_a_reader_that_goes_away_does_no_harm(process):
    child = process("methods")
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait() == 0


def test_json_is_ascii_whatever_the_terminal(descend, houses, monkeypatch):
    text = descend("evaluate", "nowhere-Köln", houses, "--json").out
    assert text.isascii()
    assert "Köln" in json.loads(text)["error"]["message"]


def test_the_environment_is_left_alone(descend):
    before = dict(os.environ), warnings.showwarning, sys.stdout
    descend("--version")
    assert before == (dict(os.environ), warnings.showwarning, sys.stdout)
