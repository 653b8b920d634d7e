"""Seconds to start: ``descend --help`` and ``import descend``, against ``import torch`` and peers.

    python benchmarks/startup.py [--reps 11] [--out benchmarks/results/startup]

Every start is a fresh interpreter, in turns A B C, A B C, …, after one start of each that fills the disk's
and Python's caches. ``--help`` runs the installed program, as a user does. Where a start is meant not to
import torch, that is checked once, outside the clock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from instruments import machine
from instruments.quartiles import Quartiles
from instruments.session import Session, write
from instruments.table import markdown, plain

PEERS = ("descend", "torch", "sklearn", "lightning", "skorch", "keras")
"""Packages whose import is timed, if they are installed."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=11, help="starts of each; default 11")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "startup", help="file stem"
    )
    options = parser.parse_args(arguments)

    commands, missing = starts()
    load_before = machine.load_average()
    seconds, failures = take_turns(commands, options.reps)
    missing |= failures
    session = Session.now(
        PEERS,
        repetitions=options.reps,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    loads_torch = {name: imports_torch(commands[name]) for name in seconds}
    header = ["start", "seconds", "÷ import torch", "imports torch"]
    rows = []
    for name, sample in seconds.items():
        pairs = zip(sample, seconds["import torch"], strict=True)
        ratio = Quartiles.of([ours / torch for ours, torch in pairs])
        torch_too = "yes" if loads_torch[name] else "no"
        rows.append([name, Quartiles.of(sample).text(3), ratio.text(2), torch_too])
    remarks = [*(f"{name}: {reason}" for name, reason in missing.items()), session.line()]
    print(plain(header, rows), "", *remarks, sep="\n")

    found = {
        name: {**asdict(Quartiles.of(sample)), "imports_torch": loads_torch[name], "seconds": sample}
        for name, sample in seconds.items()
    }
    points = "\n".join(f"- {remark}" for remark in remarks)
    text = "\n\n".join(["# Time to start", "Medians, quartiles in brackets.", markdown(header, rows), points])
    write(options.out, session, {"starts": found, "missing": missing}, text)
    return 0


def starts() -> tuple[dict[str, list[str]], dict[str, str]]:
    """The commands to time, by name, and why others are left out."""
    commands: dict[str, list[str]] = {"python": [sys.executable, "-c", "pass"]}
    missing: dict[str, str] = {}
    program = shutil.which("descend", path=sysconfig.get_path("scripts"))
    if program:
        commands["descend --help"] = [sys.executable, program, "--help"]
    elif machine.installed("descend"):
        commands["python -m descend --help"] = [sys.executable, "-m", "descend", "--help"]
        missing["descend --help"] = "no program of this name beside this Python; -m descend instead"
    else:
        missing["descend --help"] = "not installed"
    for package in PEERS:
        if machine.installed(package):
            commands[f"import {package}"] = [sys.executable, "-c", f"import {package}"]
        else:
            missing[f"import {package}"] = "not installed"
    return commands, missing


def take_turns(
    commands: Mapping[str, list[str]], repetitions: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Wall seconds of each command, repetition by repetition, and the last words of those that fail."""
    seconds: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    for name, command in commands.items():
        done = run(command)
        if done.returncode == 0:
            seconds[name] = []
        else:
            failures[name] = f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    for _ in range(repetitions):
        for name, sample in seconds.items():
            start = time.perf_counter()
            run(commands[name])
            sample.append(time.perf_counter() - start)
    return seconds, failures


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a fresh process. Keras is told to use torch, as in the speed benchmark."""
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def imports_torch(command: Sequence[str]) -> bool:
    """Whether torch itself was imported, by Python's own account of its imports."""
    interpreter, *rest = command
    done = run([interpreter, "-X", "importtime", *rest])
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    return "torch" in imported


if __name__ == "__main__":
    sys.exit(main())
