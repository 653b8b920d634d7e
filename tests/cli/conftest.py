import contextlib
import csv
import io
import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from descend.cli import main


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object that is all of standard output."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


def call(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(each) for each in arguments])
    return Result(status, out.getvalue(), err.getvalue())


@pytest.fixture
def descend(tmp_path, monkeypatch):
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return call


@pytest.fixture
def process():
    """Start a command as a process of its own, with one thread."""
    started = []

    def start(*arguments, **options):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        command = [sys.executable, "-m", "descend", *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        child = subprocess.Popen(command, env=environment, **options)
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def write_houses(path, rows, *, band=True, seed=1):
    """Houses of three bands, mostly determined by size and city, with gaps."""
    drawn = random.Random(seed)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "city", "garden", *(["band"] if band else [])])
        for _ in range(rows):
            size, city = drawn.gauss(100, 30), drawn.choice(["Aachen", "Bonn", "Köln"])
            worth = size / 30 + {"Aachen": 0, "Bonn": 1, "Köln": 2}[city]
            label = "cheap" if worth < 3.5 else "fair" if worth < 5 else "dear, very"
            shown = "" if drawn.random() < 0.05 else f"{size:.1f}"
            writer.writerow([shown, city, drawn.choice(["true", "false"]), *([label] if band else [])])
    return Path(path)


@pytest.fixture(scope="session")
def houses(tmp_path_factory):
    return write_houses(tmp_path_factory.mktemp("data") / "houses.csv", 240)


@pytest.fixture(scope="session")
def new_houses(tmp_path_factory):
    """Houses without their band."""
    return write_houses(tmp_path_factory.mktemp("data") / "new.csv", 7, band=False, seed=2)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, houses):
    """A run that took a second, and what training it printed; it must not be changed."""
    folder = tmp_path_factory.mktemp("runs") / "houses"
    result = call(
        "train", houses, "--target", "band", "--out", folder, "--set", "stop.max_epochs=6",
        "--set", "engine.threads=1", "--seed", "3", "--json",
    )  # fmt: skip
    assert result.status == 0, result.err
    return folder, result
