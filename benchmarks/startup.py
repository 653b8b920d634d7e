"""Seconds to start ``descend --help`` and ``import descend``, compared with ``import torch`` and other libraries.

    python benchmarks/startup.py [--reps 11] [--out benchmarks/results]

Every start is a new interpreter. Starts are interleaved (A B C, A B C, …), after one start of each that fills the
caches of disk and Python. ``--help`` runs the installed program, as a user does. Whether a start imports torch is
checked once, in an additional start that is not timed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from instruments import machine
from instruments.interleaved import interleaved, timed
from instruments.quartiles import Quartiles
from instruments.results import add_out_option, report_table
from instruments.session import Session

PACKAGES = ("descend", "torch", "sklearn", "lightning", "skorch", "keras")
"""Packages whose import is timed, if they are installed."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reps", type=int, default=11, help="starts of each command; default 11")
    add_out_option(parser)
    options = parser.parse_args(arguments)

    commands, missing = starts()
    load_before = machine.load_average()
    for name, command in list(commands.items()):
        warm_up = run(command)
        if warm_up.returncode:
            del commands[name]
            missing[name] = f"failed: {(warm_up.stderr.strip().splitlines() or ['no message'])[-1]}"
    timers = {
        name: lambda _, command=command: timed(partial(run, command)) for name, command in commands.items()
    }
    seconds = interleaved(timers, options.reps, warm_up=0)
    session = Session.now(
        PACKAGES,
        repetitions=options.reps,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    loads_torch = {name: imports_torch(command) for name, command in commands.items()}
    rows = [
        [
            name,
            Quartiles.of(sample).text(3),
            Quartiles.of_ratios(sample, seconds["import torch"]).text(2),
            "yes" if loads_torch[name] else "no",
        ]
        for name, sample in seconds.items()
    ]
    results = {
        name: {**asdict(Quartiles.of(sample)), "imports_torch": loads_torch[name], "seconds": sample}
        for name, sample in seconds.items()
    }
    report_table(
        options.out,
        "startup",
        session,
        {"starts": results, "missing": missing},
        title="Startup time",
        explanation="Medians, quartiles in brackets.",
        header=["start", "seconds", "÷ import torch", "imports torch"],
        rows=rows,
        remarks=[f"{name}: {reason}" for name, reason in missing.items()],
    )
    return 0


def starts() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the commands to time, and the reasons why others are omitted, by name."""
    commands: dict[str, list[str]] = {"python": [sys.executable, "-c", "pass"]}
    missing: dict[str, str] = {}
    program = shutil.which("descend", path=sysconfig.get_path("scripts"))
    if program:
        commands["descend --help"] = [sys.executable, program, "--help"]
    elif machine.installed("descend"):
        commands["python -m descend --help"] = [sys.executable, "-m", "descend", "--help"]
        missing["descend --help"] = (
            "program not installed with this Python; python -m descend is timed instead"
        )
    else:
        missing["descend --help"] = "not installed"
    for package in PACKAGES:
        if machine.installed(package):
            commands[f"import {package}"] = [sys.executable, "-c", f"import {package}"]
        else:
            missing[f"import {package}"] = "not installed"
    return commands, missing


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to completion. Keras uses its torch backend, as in the benchmark of training steps."""
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def imports_torch(command: Sequence[str]) -> bool:
    """Return whether a start imports torch, according to ``python -X importtime``."""
    interpreter, *rest = command
    completed = run([interpreter, "-X", "importtime", *rest])
    imported = {line.rpartition("|")[2].strip() for line in completed.stderr.splitlines()}
    return "torch" in imported


if __name__ == "__main__":
    sys.exit(main())
