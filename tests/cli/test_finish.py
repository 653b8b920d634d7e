"""``descend finish``, and what other commands say of a run that was stopped."""

import json
import signal
import time

import pytest

from .conftest import write_houses

SMALL = [
    "--target",
    "band",
    "--set",
    "stop.patience=none",
    "--set",
    "engine.threads=1",
    "--set",
    "model.hidden=[8]",
]


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    return write_houses(tmp_path_factory.mktemp("data") / "houses.csv", 240)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, houses):
    """A run that was stopped in its fifth epoch."""
    from tests.support.stop_at import StopAt

    import descend
    from descend.errors import Interrupted

    folder = tmp_path_factory.mktemp("runs") / "houses"
    recipe = {
        "stop": {"patience": None, "max_epochs": 50},
        "engine": {"threads": 1},
        "model": {"hidden": [8]},
    }
    with pytest.raises(Interrupted):
        descend.train(houses, recipe, target="band", out=folder, observers=[StopAt(22)])
    return folder


@pytest.fixture
def folder(interrupted, tmp_path):
    import shutil

    return shutil.copytree(interrupted, tmp_path / "run")


def test_a_stopped_run_is_finished_and_used(descend, folder, houses):
    result = descend("finish", folder, "--json")
    assert result.status == 0, result.err
    answer = result.json
    assert (answer["stopped"], answer["epochs"]) == ("interrupted", 4)
    assert set(answer["metrics"]) == {"train", "validation", "test"}
    assert json.loads((folder / "metrics.json").read_text())["status"] == "stopped"
    assert (folder / "report.html").exists()
    assert descend("predict", folder, houses).status == 0
    assert descend("evaluate", folder, houses).status == 0
    assert descend("export", folder, "--format", "safetensors").status == 0
    assert descend("report", folder).err == ""


def test_people_read_what_it_is(descend, folder):
    shown = " ".join(descend("finish", folder).out.split())
    assert "4 epochs" in shown
    assert "stopped because training was interrupted; the weights of epoch" in shown
    assert f"not trained to its end; continue it with descend train --resume --out {folder}" in shown
    again = descend("finish", folder, "--quiet")
    assert (again.status, again.out) == (0, f"{folder}\n")
    assert "is already finished" in descend("finish", folder).out


def test_it_continues_afterwards(descend, folder):
    assert descend("finish", folder, "--quiet").status == 0
    result = descend("train", "--resume", "--out", folder, "--set", "stop.max_epochs=6", "--json")
    assert result.json["epochs"] == 6
    assert result.json["recipe"]["stop"]["max_epochs"] == 6
    result = descend("train", "--resume", "--out", folder, "--set", "stop.max_epochs=8", "--json")
    assert result.json["epochs"] == 8


@pytest.mark.parametrize("command", [["predict"], ["evaluate"], ["export", "--format", "safetensors"]])
def test_other_commands_name_both_ways_on(descend, folder, houses, command):
    data = [houses] if command[0] != "export" else []
    result = descend(command[0], folder, *data, *command[1:])
    assert (result.status, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert f"descend finish {folder}" in result.err
    assert f"descend train --resume --out {folder}" in result.err


def test_its_report_is_written_with_a_note(descend, folder):
    result = descend("report", folder)
    assert result.status == 0
    assert result.out == f"{folder / 'report.html'}\n"
    assert result.err.startswith("Note: the run in ")
    assert f"descend finish {folder}" in result.err


def test_data_that_were_moved(descend, folder, houses, tmp_path):
    environment = json.loads((folder / "environment.json").read_text())
    environment["data"] |= {"reference": "gone.csv", "path": "/gone.csv"}
    (folder / "environment.json").write_text(json.dumps(environment))
    result = descend("finish", folder)
    assert result.status == 2
    assert "are not at /gone.csv any more; specify them" in result.err
    assert descend("finish", folder, "--data", houses, "--quiet").status == 0


def test_folders_without_a_run(descend, tmp_path):
    assert descend("finish", "nowhere").err == "Error: no such run folder: nowhere\n"
    (tmp_path / "empty").mkdir()
    assert descend("finish", "empty").err == "Error: empty is not a run folder: it has no manifest.json\n"
    assert descend("train", "iris", "--resume", "--out", "empty").status == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # fewer epochs than done are reported
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_was_ended(descend, process, houses, tmp_path, how):
    child = process("train", houses, *SMALL, "--set", "stop.max_epochs=100000", "--out", tmp_path / "run")
    while not (tmp_path / "run" / "checkpoints" / "best.safetensors").exists():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)
    child.send_signal(how)
    child.wait()
    assert descend("predict", tmp_path / "run", houses).status == 2
    result = descend("finish", tmp_path / "run", "--json")
    assert result.status == 0, result.err
    assert result.json["metrics"]["test"]["accuracy"] >= 0.2
    assert descend("predict", tmp_path / "run", houses).status == 0
    resumed = descend("train", "--resume", "--out", tmp_path / "run", "--set", "stop.max_epochs=2", "--json")
    assert resumed.status == 0, resumed.err
